"""Structured logs: one JSON object per line on standard error.

No image, no question, no answer, no key.
"""

from __future__ import annotations

import logging
import re
import sys
from typing import Any

import structlog

TOO_TALKATIVE = ("httpx", "httpcore", "PIL")
"""They log addresses with their query, headers, and what image files say about places."""
SECRETS = re.compile(
    r"(vg_[0-9a-f]{12}_)[\w-]{20,}|(eyJ[\w-]+\.)[\w-]+\.[\w-]*|((?i:bearer|basic) )[\w.~+/=-]{8,}"
)


def hide(_logger: object, _method: str, line: Any) -> str:
    """Cut short whatever looks like a key or a token. The last of the processors."""
    return SECRETS.sub(lambda found: f"{found[1] or found[2] or found[3]}[hidden]", line)


def configure(level: str) -> None:
    """Log from ``level`` up; the server's own lines take the same form."""
    shared: list[structlog.typing.Processor] = [
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
    ]
    least = logging.getLevelNamesMapping()[level.upper()]
    structlog.configure(  # straight to standard error: a line per request has to be cheap
        processors=[*shared, structlog.processors.JSONRenderer(), hide],
        logger_factory=structlog.WriteLoggerFactory(sys.stderr),
        wrapper_class=structlog.make_filtering_bound_logger(least),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.JSONRenderer(),
                hide,
            ],
            foreign_pre_chain=shared,
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(least)
    for name in TOO_TALKATIVE:
        logging.getLogger(name).setLevel(logging.WARNING)
