"""The HTML page of a report: one file, no script, nothing loaded from elsewhere."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from jinja2 import Environment, StrictUndefined

from probes.report_tables import Table

_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{{ title }}</title>
<style>
:root { --text: #1c2126; --page: #fbfbfa; --line: #d5d8db; --warn: #a3341f; }
@media (prefers-color-scheme: dark) {
  :root { --text: #dfe3e6; --page: #16191c; --line: #3a4046; --warn: #f0907c; }
}
body { color: var(--text); background: var(--page); font: 16px/1.5 system-ui, sans-serif;
  max-width: 70rem; margin: 2rem auto; padding: 0 1rem; }
h1 { line-height: 1.2; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: 0.85rem; font-variant-numeric: tabular-nums; }
th, td { border-bottom: 1px solid var(--line); padding: 0.3rem 0.7rem 0.3rem 0;
  text-align: left; white-space: nowrap; }
.plots { display: grid; gap: 1rem; grid-template-columns: repeat(auto-fit, minmax(20rem, 1fr)); }
figure { margin: 0; }
figcaption { font-weight: 600; }
svg { width: 100%; height: auto; }
.warning { color: var(--warn); font-weight: 600; }
</style>
</head>
<body>
<h1>{{ title }}</h1>
{% for text in paragraphs -%}
<p{% if text.startswith("Warning") %} class="warning"{% endif %}>{{ text }}</p>
{% endfor -%}
<div class="plots">
{% for name, svg in plots.items() -%}
<figure role="img" aria-label="{{ name }}">
<figcaption>{{ name }}</figcaption>{{ svg | safe }}
</figure>
{% endfor -%}
</div>
{% for table in tables -%}
<h2>{{ table.title }}</h2>
<div class="scroll"><table>
<thead><tr>{% for cell in table.head %}<th>{{ cell }}</th>{% endfor %}</tr></thead>
<tbody>
{% for row in table.rows -%}
<tr>{% for cell in row %}<td>{{ cell }}</td>{% endfor %}</tr>
{% endfor -%}
</tbody>
</table></div>
{% for note in table.notes %}<p>{{ note }}</p>{% endfor %}
{% endfor -%}
</body>
</html>
"""


def render_page(
    title: str, paragraphs: Sequence[str], tables: Sequence[Table], plots: Mapping[str, str]
) -> str:
    """The whole page. Text is escaped; ``plots`` are SVG of our own making."""
    environment = Environment(autoescape=True, undefined=StrictUndefined)
    return environment.from_string(_PAGE).render(
        title=title, paragraphs=paragraphs, tables=tables, plots=plots
    )
