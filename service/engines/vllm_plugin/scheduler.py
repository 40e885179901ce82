"""The scheduler's part: rows of the steps become one record per request, handed out at its end.

A request that is preempted keeps its record: its answer tokens are recomputed as a prompt, and only
steps that yield a token add a row.
"""

from __future__ import annotations

from functools import wraps
from typing import Any

from service.engines.vllm_plugin import compat
from service.engines.vllm_plugin.record import KEY, Record, StepRows


class Records:
    """The records of the requests that run."""

    def __init__(self) -> None:
        self._open: dict[str, Record] = {}

    def __len__(self) -> int:
        return len(self._open)

    def keep(self, rows: StepRows, outputs: Any) -> None:
        """Add a step.

        Args:
            rows: of the step.
            outputs: the step's EngineCoreOutput objects; a finished one gets its record.
        """
        for output in outputs:
            name = output.request_id
            row = rows.rows.get(name)
            if row is not None and output.new_token_ids:
                self._row(rows, row, name)
            if output.finish_reason is not None:
                record = self._open.pop(name, None)
                if record is not None:
                    output.kv_transfer_params = {KEY: record.pack()}

    def forget(self, names: set[str]) -> None:
        """Requests that ended without an output: aborted ones."""
        for name in names:
            self._open.pop(name, None)

    def _row(self, rows: StepRows, row: int, name: str) -> None:
        record = self._open.get(name)
        if record is None:
            self._open[name] = Record.begin(rows, row)
        else:
            record.add(rows, row)


def install() -> None:
    """Wrap the scheduler's method that turns a step into outputs."""
    scheduler = compat.scheduler_class()
    original = scheduler.update_from_output
    if getattr(original, KEY, False):
        return

    @wraps(original)
    def update_from_output(self: Any, scheduled: Any, result: Any) -> Any:
        records: Records | None = self.__dict__.get(KEY)
        if records is not None:
            records.forget(set(scheduled.finished_req_ids))
        rows: StepRows | None = getattr(result, KEY, None)
        if rows is None:
            return original(self, scheduled, result)
        if records is None:
            records = self.__dict__[KEY] = Records()
        outputs = original(self, scheduled, result)
        for each in outputs.values():
            records.keep(rows, each.outputs)
        return outputs

    setattr(update_from_output, KEY, True)
    scheduler.update_from_output = update_from_output
