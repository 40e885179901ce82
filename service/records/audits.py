"""Audited answers with what they turned out to be, read on as the records grow."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, RowMapping, Table, select
from sqlalchemy.dialects import postgresql, sqlite

from probes.errors import DataError
from probes.labels import judge as judge_answer
from probes.labels.text import match_form
from probes.types import Missing
from service.records.answer import AnswerRecord, answer_record
from service.records.outcome import Outcome, outcome_of
from service.records.store import RecordStore
from service.records.tables import DRAWN, answers, heads, outcomes, tails, totals

Tally = tuple[float, int, int, int]
"""Inclusion probability; audits found wrong, found right, and not judged."""


@dataclass(slots=True)
class Audit:
    """An audited answer, and the latest word on it.

    Args:
        chain: where its record stands. sequence: likewise.
        record: the answer; its inclusion probability is ``record.audit_probability``.
        outcome: None while nobody has judged it.
    """

    chain: str
    sequence: int
    record: AnswerRecord
    outcome: Outcome | None = None

    @property
    def wrong(self) -> bool | Missing:
        """Whether the answer was wrong, ``Missing("not_judged")`` or ``Missing("no_answer")``."""
        if self.outcome is None:
            return Missing("not_judged")
        return judge(self.record.answer, self.outcome)


def judge(answer: str | None, outcome: Outcome) -> bool | Missing:
    """Whether an answer was wrong: as the reviewer says, or by comparison with the reference.

    The outcome names the rule. Where an earlier version kept none, that version's documents said:
    "yes" and "no" by ``yes_no``, any other reference by ``match`` (docs/decisions/0012).
    ``Missing("no_answer")`` when there is no text to compare.
    """
    if outcome.correct is not None:
        return not outcome.correct
    if answer is None or outcome.reference is None:
        return Missing("no_answer")
    rule = outcome.rule
    if rule is None:
        rule = "yes_no" if match_form(outcome.reference) in ("yes", "no") else "match"
    try:
        return judge_answer(answer, [outcome.reference], rule).wrong
    except DataError:  # of that time: a reference without a word, which nothing equals
        return True


class AuditTrail:
    """The audits of one promise. :meth:`read` waits for the database: use a thread.

    Args:
        store: the records, of all writers.
        bundle: id of the bundle that decided.
        certificates: ids of the certificates that the audited answers were accepted under; None
            stands for none.
    """

    def __init__(self, store: RecordStore, bundle: str, certificates: Iterable[str | None]) -> None:
        self._store = store
        self._bundle = bundle
        self._certificates = frozenset(certificates)
        self._seen: dict[str, int] = {}
        self._audits: dict[str, Audit] = {}
        self.deleted: list[Tally] = []
        """Audits that retention deleted, counted."""
        self.changes = 0
        """Grows with every audit and every outcome of one."""

    def read(self) -> list[Audit]:
        """All audits in the order in which they were accepted. Raises RecordsUnavailable."""
        with self._store.reading() as connection:
            ends = {row.chain: row.sequence for row in connection.execute(select(tails))}
            for table, take in ((answers, self._take_answer), (outcomes, self._take_outcome)):
                for chain, end in ends.items():
                    if chain.startswith(f"{table.name}:"):
                        for row in _new(connection, table, chain, self._seen.get(chain, 0), end):
                            take(row)
            self._forget(connection)
        self._seen = ends
        return sorted(self._audits.values(), key=lambda a: (a.record.created, a.record.id))

    def _take_answer(self, row: RowMapping) -> None:
        if row["bundle"] == self._bundle and row["certificate"] in self._certificates:
            self._audits[row["id"]] = Audit(row["chain"], row["sequence"], answer_record(row))
            self.changes += 1

    def _take_outcome(self, row: RowMapping) -> None:
        audit = self._audits.get(row["answer_id"])
        if audit is not None and _is_later(row, audit.outcome):
            audit.outcome = outcome_of(row)
            self.changes += 1

    def _forget(self, connection: Connection) -> None:
        """What retention deleted is counted in the totals from then on, and no more here."""
        gone = select(heads.c.chain, heads.c.sequence).where(heads.c.kind == "retention")
        last: dict[str, int] = {}
        for row in connection.execute(gone):
            last[row.chain] = max(row.sequence, last.get(row.chain, 0))
        self._audits = {
            name: audit
            for name, audit in self._audits.items()
            if audit.sequence > last.get(audit.chain, 0)
        }
        wanted = select(totals).where(totals.c.bundle == self._bundle)
        counted: dict[float, list[int]] = {}
        for row in connection.execute(wanted):
            if (row.certificate or None) in self._certificates:
                sums = counted.setdefault(row.probability, [0, 0, 0])
                for index, count in enumerate((row.wrong, row.correct, row.awaiting)):
                    sums[index] += count
        deleted = [(p, sums[0], sums[1], sums[2]) for p, sums in sorted(counted.items())]
        self.changes += deleted != self.deleted
        self.deleted = deleted


def add_to_totals(connection: Connection, chain: str, last: int) -> None:
    """Count the audits of a chain of answers up to a row, in the transaction that deletes them."""
    here = (answers.c.chain == chain, answers.c.sequence <= last)
    drawn = connection.execute(select(answers).where(*here, DRAWN)).mappings().all()
    if not drawn:
        return
    told: dict[str, Outcome] = {}
    said = select(outcomes).where(outcomes.c.answer_id.in_([row["id"] for row in drawn]))
    for row in connection.execute(said).mappings():
        if _is_later(row, told.get(row["answer_id"])):
            told[row["answer_id"]] = outcome_of(row)
    counts: Counter[tuple[str, str, float, bool | None]] = Counter()
    for row in drawn:
        outcome = told.get(row["id"])
        wrong = None if outcome is None else judge(row["answer"], outcome)
        known = None if isinstance(wrong, Missing) else wrong
        place = (row["certificate"] or "", row["bundle"], row["audit_probability"])
        counts[(*place, known)] += 1
    dialect: Any = postgresql if connection.dialect.name == "postgresql" else sqlite
    for (certificate, bundle, probability, known), count in counts.items():
        found = {"wrong": 0, "correct": 0, "awaiting": 0}
        found[{True: "wrong", False: "correct", None: "awaiting"}[known]] = count
        added = dialect.insert(totals).values(
            certificate=certificate, bundle=bundle, probability=probability, **found
        )
        sums = {name: totals.c[name] + added.excluded[name] for name in found}
        keys = [totals.c.certificate, totals.c.bundle, totals.c.probability]
        connection.execute(added.on_conflict_do_update(index_elements=keys, set_=sums))


def _new(
    connection: Connection, table: Table, chain: str, seen: int, end: int
) -> Iterable[RowMapping]:
    wanted = select(table).where(table.c.chain == chain)
    wanted = wanted.where(table.c.sequence > seen, table.c.sequence <= end)
    if table is answers:
        wanted = wanted.where(DRAWN)
    return connection.execute(wanted.order_by(table.c.sequence)).mappings()


def _is_later(row: Mapping[Any, Any], said: Outcome | None) -> bool:
    if said is None:
        return True
    told = outcome_of(row)  # type: ignore[arg-type]
    return (told.created, told.version) > (said.created, said.version)
