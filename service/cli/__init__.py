"""The command line: ``vlm-gate``."""

from service.cli.main import app

__all__ = ["app"]
