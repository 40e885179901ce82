"""The HTML page of a report: one file, no script, nothing loaded from elsewhere."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby

from jinja2 import Environment, StrictUndefined

from probes.report.cards import Card
from probes.report.table import Table

_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<link rel="icon" href="data:,">
<title>{{ title }}</title>
<style>
:root { --text: #1c2126; --page: #fbfbfa; --line: #d5d8db; --warn: #a3341f; --box: #eef3f1; }
@media (prefers-color-scheme: dark) {
  :root { --text: #dfe3e6; --page: #16191c; --line: #3a4046; --warn: #f0907c; --box: #1f2725; }
}
* { box-sizing: border-box; }
body { color: var(--text); background: var(--page); font: 16px/1.5 system-ui, sans-serif;
  max-width: 70rem; margin: 2rem auto; padding: 0 1rem; overflow-wrap: anywhere; }
h1 { line-height: 1.2; }
h2 { margin-top: 2.5rem; }
p { max-width: 48rem; }
.verdict { background: var(--box); border-left: 4px solid #2a9d8f; padding: 0.6rem 1.2rem; }
.verdict p:first-child { font-size: 1.15rem; font-weight: 600; }
.scroll { overflow: auto; max-height: 36rem; }
table { border-collapse: separate; border-spacing: 0; font-size: 0.85rem;
  font-variant-numeric: tabular-nums; }
th, td { border-bottom: 1px solid var(--line); padding: 0.3rem 0.9rem 0.3rem 0;
  text-align: left; white-space: nowrap; overflow-wrap: normal; vertical-align: top; }
thead th { position: sticky; top: 0; background: var(--page); }
tbody th { font-weight: inherit; }
@media print { .scroll { max-height: none; } }
.plots { display: grid; gap: 1.5rem;
  grid-template-columns: repeat(auto-fit, minmax(min(22rem, 100%), 1fr)); }
.cards { display: grid; gap: 1.5rem;
  grid-template-columns: repeat(auto-fill, minmax(min(24rem, 100%), 1fr)); }
figure { margin: 0; min-width: 0; }
figcaption { font-weight: 600; }
svg { width: 100%; height: auto; }
.card { border: 1px solid var(--line); padding: 0.8rem; }
.card p { margin: 0.2rem 0; }
.pictures { display: flex; flex-wrap: wrap; gap: 0.5rem; margin-bottom: 0.4rem; }
.pictures img { flex: 1 1 8rem; min-width: 0; max-width: 13.75rem; height: auto;
  align-self: flex-start; image-rendering: pixelated; }
.small { font-size: 0.85rem; }
.warning { color: var(--warn); font-weight: 600; }
nav a { color: inherit; margin-right: 1rem; display: inline-block; }
</style>
</head>
<body>
<h1>{{ title }}</h1>
{% for text in warnings -%}
<p class="warning">{{ text }}</p>
{% endfor -%}
<div class="verdict">
{% for text in verdict %}<p>{{ text }}</p>
{% endfor -%}
</div>
{% for text in paragraphs -%}
<p>{{ text }}</p>
{% endfor -%}
<nav class="small" aria-label="Tables">{% for table in tables -%}
<a href="#table-{{ loop.index }}">{{ table.title }}</a>
{%- endfor %}</nav>
<h2>Plots</h2>
<div class="plots">
{% for name, svg in plots.items() -%}
<figure role="img" aria-label="{{ name }}">
<figcaption>{{ name }}</figcaption>{{ svg | safe }}
</figure>
{% endfor -%}
</div>
{% for group, cards in groups -%}
<h2>{{ group }}</h2>
<div class="cards">
{% for card in cards -%}
<figure class="card">
<div class="pictures"><img src="{{ card.image }}" alt="the image asked about">
{%- if card.attention %}<img src="{{ card.attention }}" alt="attention of the answer to the image">
{%- endif %}</div>
<figcaption>{{ card.question }}</figcaption>
<p>Answered <b>{{ card.answer or "(nothing)" }}</b>, right is <b>{{ card.reference }}</b>.</p>
<p class="small">{{ card.facts }}
{%- if card.no_attention %}; no attention map: {{ card.no_attention }}{% endif %}</p>
</figure>
{% endfor -%}
</div>
{% endfor -%}
{% for table in tables -%}
<h2 id="table-{{ loop.index }}">{{ table.title }}</h2>
{% for note in table.notes %}<p>{{ note }}</p>
{% endfor -%}
<div class="scroll" tabindex="0" role="region" aria-labelledby="table-{{ loop.index }}"><table>
<thead><tr>{% for cell in table.head %}<th scope="col">{{ cell }}</th>{% endfor %}</tr></thead>
<tbody>
{% for row in table.rows -%}
<tr><th scope="row">{{ row[0] }}</th>{% for cell in row[1:] %}<td>{{ cell }}</td>{% endfor %}</tr>
{% endfor -%}
</tbody>
</table></div>
{% endfor -%}
</body>
</html>
"""


def render_page(
    title: str,
    warnings: Sequence[str],
    verdict: Sequence[str],
    paragraphs: Sequence[str],
    tables: Sequence[Table],
    plots: Mapping[str, str],
    cards: Sequence[Card] = (),
) -> str:
    """Render the whole page. Text is escaped; ``plots`` must be this project's own SVG."""
    environment = Environment(autoescape=True, undefined=StrictUndefined)
    return environment.from_string(_PAGE).render(
        title=title,
        warnings=warnings,
        verdict=verdict,
        paragraphs=paragraphs,
        tables=tables,
        plots=plots,
        groups=[(name, list(of)) for name, of in groupby(cards, lambda card: card.group)],
    )
