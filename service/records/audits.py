"""Audited answers with what they turned out to be, read on as the records grow."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cached_property
from hashlib import sha256

from sqlalchemy import Connection, RowMapping, Table, func, insert, select

from probes.types import Missing
from service.records.answer import AnswerRecord, answer_record
from service.records.canonical import microseconds, moment
from service.records.outcome import Outcome, outcome_of
from service.records.store import RecordStore
from service.records.tables import DRAWN, answers, heads, outcomes, past_audits, tails, totals
from service.records.words import Ruling, rule_on

Tally = tuple[float, int, int, int]
"""Inclusion probability; audits found wrong, found right, and not judged."""
Claim = tuple[str, str | None]
"""What an answer was accepted under: ids of the bundle and of the certificate, None without one."""


@dataclass(frozen=True, slots=True)
class Sample:
    """What the test of the promise needs of an audit, for as long as it needs it.

    Args:
        id: the answer's. claim: that it was accepted under. created: when that was.
        image: a hash of its image's hash, which names no file.
        named_group: a hash of the group that the caller named; None where none was.
        probability: with which it was drawn.
        reference: fixed at the draw; None in records of versions before 0006.
        wrong: None while that is not known.
        confirmed: two reviewers did not find it right.
        corrected: the first word did not find it right, and the one that counts does.
        chain: where its record stands, or stood. sequence: likewise. None in lines that retention
            left before 0007.
    """

    id: str
    claim: Claim
    created: datetime
    image: str
    named_group: str | None
    probability: float
    reference: float | None
    wrong: bool | None
    confirmed: bool
    corrected: bool
    chain: str | None
    sequence: int | None

    def known(self, read: Mapping[str, int]) -> bool:
        """Whether it was, when the chains were read up to these numbers."""
        if self.chain is None or self.sequence is None:
            return True
        return self.sequence <= read.get(self.chain, 0)


@dataclass(frozen=True, eq=False)
class Audit:
    """An audited answer, and the words on it.

    Args:
        chain: where its record stands. sequence: likewise.
        record: the answer; its inclusion probability is ``record.audit_probability``.
        words: what reviewers said.
    """

    chain: str
    sequence: int
    record: AnswerRecord
    words: tuple[Outcome, ...] = ()

    def told(self, word: Outcome) -> Audit:
        """The same with one word more."""
        return replace(self, words=(*self.words, word))

    @cached_property
    def ruling(self) -> Ruling | None:
        """What the words come to; None while nobody has judged it."""
        return rule_on(self.record.answer, True, self.words)

    @property
    def wrong(self) -> bool | Missing:
        """Whether the answer was wrong, ``Missing("not_judged")`` or ``Missing("no_answer")``."""
        ruling = self.ruling
        return Missing("not_judged") if ruling is None else ruling.wrong

    @property
    def claim(self) -> Claim:
        """What the answer was accepted under."""
        return self.record.bundle, self.record.certificate

    @cached_property
    def sample(self) -> Sample:
        """What the test needs of it."""
        record, ruling = self.record, self.ruling
        assert record.audit_probability is not None  # recorded with every draw
        known = ruling is not None and not isinstance(ruling.wrong, Missing)
        return Sample(
            id=record.id,
            claim=self.claim,
            created=record.created,
            image=sha256(f"audit group {record.image_sha256}".encode()).hexdigest(),
            named_group=None if record.group is None else _hashed(record.group),
            probability=record.audit_probability,
            reference=record.audit_reference,
            wrong=bool(ruling.wrong) if ruling is not None and known else None,
            confirmed=ruling is not None and ruling.confirmed,
            corrected=ruling is not None and ruling.corrected,
            chain=self.chain,
            sequence=self.sequence,
        )


class AuditTrail:
    """The audits of one promise. :meth:`read` waits for the database: use a thread.

    Args:
        store: the records, of all writers.
        bundle: id of the bundle that decided.
        certificates: ids of the certificates that the audited answers were accepted under; None
            stands for none.
        siblings: other claims, whose audits are read with them. Of what a version before 0006
            deleted only the counts of ``certificates`` are read.
    """

    def __init__(
        self,
        store: RecordStore,
        bundle: str,
        certificates: Iterable[str | None],
        siblings: Iterable[Claim] = (),
    ) -> None:
        self._store = store
        self._bundle = bundle
        self._certificates = frozenset(certificates)
        self._claims = {*((bundle, name) for name in self._certificates), *siblings}
        self.ends: Mapping[str, int] = {}
        """Number of the last row of each chain that was read."""
        self._audits: dict[str, Audit] = {}
        self._gone: dict[str, int] | None = None
        self.past: list[Sample] = []
        """Audits whose records retention deleted."""
        self.counts: list[Tally] = []
        """Those that a version before 0006 deleted, of which only counts are left."""
        self.now = datetime.now(UTC)
        """When it was last read, by the database's clock: the same for all replicas."""
        self.changes = 0
        """Grows with every audit and every outcome of one."""

    def read(self) -> list[Audit]:
        """All audits in the order in which they were accepted. Raises RecordsUnavailable."""
        with self._store.reading() as connection:
            ends = {row.chain: row.sequence for row in connection.execute(select(tails))}
            for table, take in ((answers, self._take_answer), (outcomes, self._take_outcome)):
                for chain, end in ends.items():
                    if chain.startswith(f"{table.name}:"):
                        for row in _new(connection, table, chain, self.ends.get(chain, 0), end):
                            take(row)
            self._forget(connection)
            now = connection.scalar(select(func.now()))
        assert now is not None
        self.now = now if now.tzinfo is not None else now.replace(tzinfo=UTC)
        self.ends = ends
        return sorted(self._audits.values(), key=lambda a: (a.record.created, a.record.id))

    @property
    def samples(self) -> list[Sample]:
        """All audits, those among them whose records are gone too, in the same order."""
        found = (*self.past, *(audit.sample for audit in self._audits.values()))
        return sorted(found, key=lambda sample: (sample.created, sample.id))

    def _take_answer(self, row: RowMapping) -> None:
        if (row["bundle"], row["certificate"]) in self._claims:
            self._audits[row["id"]] = Audit(row["chain"], row["sequence"], answer_record(row))
            self.changes += 1

    def _take_outcome(self, row: RowMapping) -> None:
        audit = self._audits.get(row["answer_id"])
        if audit is not None:
            self._audits[row["answer_id"]] = audit.told(outcome_of(row))
            self.changes += 1

    def _forget(self, connection: Connection) -> None:
        """What retention deleted stands among the past audits from then on, and no more here."""
        last = select(heads.c.chain, func.max(heads.c.sequence).label("last"))
        last = last.where(heads.c.kind == "retention").group_by(heads.c.chain)
        gone = {row.chain: row.last for row in connection.execute(last)}
        if gone == self._gone:
            return
        self._gone = gone
        self.changes += 1
        self._audits = {
            name: audit
            for name, audit in self._audits.items()
            if audit.sequence > gone.get(audit.chain, 0)
        }
        bundles = sorted({bundle for bundle, _ in self._claims})
        wanted = select(past_audits).where(past_audits.c.bundle.in_(bundles))
        self.past = [
            _sample(row)
            for row in connection.execute(wanted).mappings()
            if (row["bundle"], row["certificate"]) in self._claims
        ]
        counted: dict[float, list[int]] = {}
        for row in connection.execute(select(totals).where(totals.c.bundle == self._bundle)):
            if (row.certificate or None) in self._certificates:
                sums = counted.setdefault(row.probability, [0, 0, 0])
                for index, count in enumerate((row.wrong, row.correct, row.awaiting)):
                    sums[index] += count
        self.counts = [(p, sums[0], sums[1], sums[2]) for p, sums in sorted(counted.items())]


def keep_audits(connection: Connection, chain: str, last: int) -> None:
    """Keep what the test needs of a chain's audits, in the transaction that deletes the answers."""
    here = (answers.c.chain == chain, answers.c.sequence <= last)
    drawn = connection.execute(select(answers).where(*here, DRAWN)).mappings().all()
    audits = {row["id"]: Audit(chain, row["sequence"], answer_record(row)) for row in drawn}
    if not audits:
        return
    said = select(outcomes).where(outcomes.c.answer_id.in_(audits))
    for row in connection.execute(said).mappings():
        audits[row["answer_id"]] = audits[row["answer_id"]].told(outcome_of(row))
    kept = [(audit.record, audit.sample) for audit in audits.values()]
    rows = [
        {
            "id": sample.id,
            "created_us": microseconds(sample.created),
            "bundle": record.bundle,
            "certificate": record.certificate,
            "audit_group": sample.image,
            "named_group": sample.named_group,
            "probability": sample.probability,
            "reference": sample.reference,
            "wrong": sample.wrong,
            "confirmed": sample.confirmed,
            "corrected": sample.corrected,
            "chain": sample.chain,
            "sequence": sample.sequence,
        }
        for record, sample in kept
    ]
    connection.execute(insert(past_audits), rows)


def _sample(row: RowMapping) -> Sample:
    return Sample(
        id=row["id"],
        claim=(row["bundle"], row["certificate"]),
        created=moment(row["created_us"]),
        image=row["audit_group"],
        named_group=row["named_group"],
        probability=row["probability"],
        reference=row["reference"],
        wrong=row["wrong"],
        confirmed=row["confirmed"],
        corrected=bool(row["corrected"]),
        chain=row["chain"],
        sequence=row["sequence"],
    )


def _hashed(group: str) -> str:
    """Names no scene, and is no image's hash."""
    return sha256(b"named group\0" + group.encode("utf-8", "replace")).hexdigest()


def _new(
    connection: Connection, table: Table, chain: str, seen: int, end: int
) -> Iterable[RowMapping]:
    wanted = select(table).where(table.c.chain == chain)
    wanted = wanted.where(table.c.sequence > seen, table.c.sequence <= end)
    if table is answers:
        wanted = wanted.where(DRAWN)
    return connection.execute(wanted.order_by(table.c.sequence)).mappings()
