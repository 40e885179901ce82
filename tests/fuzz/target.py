"""One reader under atheris, until libFuzzer ends: ``python -m tests.fuzz.target picture ...``.

What follows the name is libFuzzer's: folders of inputs, and options such as ``-max_total_time=60``.
"""

from __future__ import annotations

import logging
import sys

import atheris
import structlog

with atheris.instrument_imports(
    include=["probes", "service", "jwt", "multipart", "python_multipart"]
):
    from tests.fuzz.readers import READERS


def main() -> None:
    """Feed a reader what libFuzzer makes."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    reader = READERS[sys.argv.pop(1)]
    atheris.Setup(sys.argv, reader.read)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
