"""The dashboards that there are."""

from __future__ import annotations

from deploy.grafana import risk, service, signals

BOARDS = (risk.BOARD, signals.BOARD, service.BOARD)
