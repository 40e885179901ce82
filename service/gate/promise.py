"""Whether the promise on accepted answers still stands, from the audits in the records.

Every replica reads the same records and comes to the same state, within :data:`READ_SECONDS`. The
state is computed from the audits as they are known now. A void stays until words that it rested on
are corrected, whatever comes later, and every certificate on the same data is void with it: what
lifts it is corrected words, or a certificate from other data. What changed and when stays in the
records.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Literal

import structlog

from probes.model.bundle import Bundle
from probes.monitor.drift import WINDOW, DriftMonitor, RiskHistogram
from probes.monitor.error_rate import ErrorMonitor
from probes.signals.codec import signals_of
from probes.types import Missing, PolicyMode
from service.gate.audit_replay import (
    Rates,
    ends,
    newest_carrier,
    replay,
    still_rests,
    with_overdue,
    without_single_words,
)
from service.gate.promised import Promised
from service.gate.standing import Standing, auroc_of
from service.records.audits import Audit, AuditTrail, Claim, Sample
from service.records.certificates import loaded, write_loaded
from service.records.store import RecordStore
from service.records.voids import (
    Basis,
    Change,
    Finding,
    Kind,
    last_changes,
    was_audited,
    write_change,
)

log = structlog.get_logger("service.gate.promise")
READ_SECONDS = 10.0
"""Between two looks at the records."""
UNREAD_SECONDS = 300.0
"""Where the last look is longer ago, the promise does not count: thirty looks in a row failed, so
this is no restart of the database, and what others found since then nobody here knows."""

State = Literal["unread", "stands", "suspected", "void"]
"""``suspected``: void by single words, of which a second reviewer has to confirm some."""


@dataclass(frozen=True, slots=True, eq=False)
class _Found:
    """What the audits come to.

    Args:
        test: that decides. told: the audits as it counts them, overdue ones as wrong.
        suspected: by single words they break the promise.
    """

    test: ErrorMonitor
    told: list[Sample]
    suspected: bool


class Promise:
    """The state of the bundle's certificates, tested together as one promise.

    They share alpha and delta, and each says that of the answers accepted under it at most alpha
    are wrong: so one test over all accepted answers voids them with chance at most delta while
    they hold. Answers accepted under other certificates on the same data are in the test too, each
    at the alpha that was promised of it: what nobody has read of a certificate that is served no
    more counts against the next one.

    Args:
        store: the records.
        bundle: what decides.
        deadline_days: an audit that nobody has judged by then counts as wrong; 0: never.
        confirmed: words that a second reviewer confirmed void it, single ones make it suspected.
        window: answers whose risks are compared with the bundle's reference.
        mode: of the policy in force; by default the bundle's. A manual one promises nothing.
    """

    def __init__(
        self,
        store: RecordStore,
        bundle: Bundle,
        *,
        deadline_days: float = 0,
        confirmed: bool = False,
        window: int = WINDOW,
        mode: PolicyMode | None = None,
    ) -> None:
        self._store = store
        self._deadline = timedelta(days=deadline_days) if deadline_days else None
        self._confirmed = confirmed
        self.bundle = bundle.id
        self._bundle = bundle
        self._promised = Promised.of(bundle, mode)
        self._certificates = self._promised.certificates
        self._alpha, self._delta = self._promised.rates
        self._data, self._own = self._promised.data, self._promised.claims
        self._siblings: dict[Claim, float] = {}  # loaded before, on the same data: their alphas
        self._trail = AuditTrail(store, bundle.id, self._certificates or {None})
        self._others: dict[frozenset[Claim], AuditTrail] = {}
        self._audited: dict[str, bool] = {}
        self._state: State = "unread"
        self._looked = time.monotonic()  # when the state was last that of the records
        self._counted: tuple[list[Change], list[int]] = ([], [])
        self._due: datetime | None = None  # when the next audit counts as wrong, unless judged
        self._lock = threading.Lock()
        self.standing = Standing(Missing("no_outcomes"), {}, 0, 0)
        self.drift = _drift(bundle, window)

    @property
    def state(self) -> State:
        """``unread`` too where the records could not be read for :data:`UNREAD_SECONDS`."""
        state = self._state
        return "unread" if state == "stands" and self.age > UNREAD_SECONDS else state

    @state.setter
    def state(self, state: State) -> None:
        self._state = state

    @property
    def age(self) -> float:
        """Seconds since the records were last read, or else since there is a promise."""
        return time.monotonic() - self._looked

    @property
    def void(self) -> bool:
        """Whether no certificate counts: found void, or the records are unread."""
        return self.state != "stands"

    @property
    def tested(self) -> frozenset[Claim]:
        """The claims whose audits are in the test, as of the last read."""
        return self._own | self._siblings.keys()

    def read(self) -> None:
        """Take in what is new in the records. Waits for the database: use a thread.

        Raises RecordsUnavailable; the state is then as it was.
        """
        with self._lock:
            began = time.monotonic()
            self._read()
            self._looked = began

    def _read(self) -> None:
        if self.state == "unread":
            self._recall()
        if self._certificates:
            self._find_siblings()
        last = last_changes(self._store)  # first: the audits are newer then
        audits = self._trail.read()
        voids = self._voids(last)
        trails = {id(trail): trail for trail in (self._trail, *map(self._trail_of, voids))}
        for trail in trails.values():
            if trail is not self._trail:
                trail.read()
        changes = (voids, [trail.changes for trail in trails.values()])
        overdue = self._due is not None and self._due <= self._trail.now
        if self.state == "unread" or changes != self._counted or overdue:
            self._settle(self._judge(audits), voids, last)
            self._counted = changes

    def _find_siblings(self) -> None:
        """Other certificates on the same data that a service has loaded; tells of these first."""
        known = loaded(self._store)
        if self.state == "unread":
            write_loaded(self._store, self._promised.loaded(known.keys()))
        siblings = self._promised.siblings(known)
        if siblings != self._siblings:
            self._siblings = siblings
            self._trail = AuditTrail(self._store, self.bundle, self._certificates, siblings)
            self._counted = ([], [])

    def _voids(self, last: Mapping[str, Change]) -> list[Change]:
        """The voids in force of these certificates, and of others that stand or fall with them."""
        if not self._certificates:
            return []
        return [void for void in last.values() if void.kind == "void" and self._concerns(void)]

    def _concerns(self, void: Change) -> bool:
        """As :meth:`Promised.concerned_by`; where it does not know, the records say."""
        if (concerned := self._promised.concerned_by(void)) is not None:
            return concerned
        if void.certificate not in self._audited:
            self._audited[void.certificate] = was_audited(
                self._store, void.certificate, self.bundle
            )
        return self._audited[void.certificate]

    def _trail_of(self, void: Change) -> AuditTrail:
        """The audits that a void rests on."""
        own, siblings = self._tested(void)
        if own <= self._own and siblings.keys() <= self._siblings.keys():
            return self._trail
        claims = frozenset((*own, *siblings))
        if claims not in self._others:
            names = [name for _, name in own]
            bundle = void.bundle or self.bundle
            self._others[claims] = AuditTrail(self._store, bundle, names, siblings)
        return self._others[claims]

    def _tested(self, void: Change) -> tuple[frozenset[Claim], Rates]:
        """The claims that a void was found of, and others that were tested with them."""
        bundle = void.bundle or self.bundle
        if void.basis is None:
            claim = (bundle, void.certificate)
            return self._own if claim in self._own else frozenset({claim}), {}
        own = frozenset((bundle, name) for name in void.basis["certificates"])
        return own, {(of, name): alpha for of, name, alpha in void.basis.get("siblings", ())}

    def _judge(self, audits: list[Audit]) -> _Found:
        """The test over all audits, by the words of one reviewer each."""
        trail = self._trail
        samples = trail.samples
        waits = [
            end
            for one in samples
            if one.wrong is None and (end := ends(one, self._deadline)) is not None
        ]
        self._due = min((end for end in waits if end > trail.now), default=None)
        told = with_overdue(samples, self._deadline, trail.now)
        found = agreed = self._test(told)
        mine = [sample for sample in told if sample.claim in self._own]
        known = sum(one.wrong is not None for one in samples if one.claim in self._own)
        counts = trail.counts
        self.standing = Standing(
            (self._test(mine) if self._siblings else found).interval(),
            auroc_of([audit for audit in audits if audit.claim in self._own]),
            known + sum(wrong + right for _, wrong, right, _ in counts),
            len(mine) - known + sum(awaiting for *_, awaiting in counts),
            found.evidence if self._certificates else None,
        )
        if self._confirmed and found.void:
            told = with_overdue(without_single_words(samples), self._deadline, trail.now)
            agreed = self._test(told)
        return _Found(agreed, told, found.void)

    def _test(self, samples: list[Sample]) -> ErrorMonitor:
        return replay(samples, self._trail.counts, self._alpha, self._delta, self._siblings)

    def _settle(self, found: _Found, voids: list[Change], last: Mapping[str, Change]) -> None:
        """Come to a state, and write down where it is another than the records have it."""
        if not self._certificates:
            self.state = "stands"
            return
        held = {void.certificate: void for void in voids if self._rests(void)}
        lifted = {void.certificate for void in voids} - set(held)
        if found.test.void:
            self.state = "void"  # whether or not it can be written down
            explained = {name for name, void in held.items() if void.basis is not None}
            self._write("void", self._certificates - explained, last, self._finding(found))
            lifted -= self._certificates
        self._write("lifted", lifted, last, self._finding(found))
        if held:
            self._hold(held, last, found)
        elif not found.test.void:
            self.state = "suspected" if found.suspected else "stands"

    def _hold(self, held: Mapping[str, Change], last: Mapping[str, Change], found: _Found) -> None:
        """Stay void, by what was found before, here or of another certificate on the same data."""
        others = sorted(set(held) - self._certificates)
        if others and self.state != "void":
            log.error("certificate_void_by_its_data", void=others, mend="recertify, or new data")
        self.state = "void"
        shown = max(1.0, *(void.evidence for void in held.values()))
        self.standing = replace(self.standing, evidence=max(shown, self.standing.evidence or 0))
        for name, void in held.items():
            if void.bundle is None and not (found.test.void and name in self._certificates):
                finding = replace(self._finding(found), basis=None, until=void.until)
                self._write("void", {name}, last, finding)

    def _rests(self, void: Change) -> bool:
        trail, (own, siblings) = self._trail_of(void), self._tested(void)
        samples = [one for one in trail.samples if one.claim in own or one.claim in siblings]
        return still_rests(void, samples, trail.counts, siblings)

    def _finding(self, found: _Found) -> Finding:
        test, trail = found.test, self._trail
        basis: Basis = {
            "certificates": sorted(self._certificates),
            "read": {name: end for name, end in trail.ends.items() if name.startswith("answers:")},
            "wrong": [sample.id for sample in found.told if sample.wrong],
        }
        if self._siblings:
            basis["siblings"] = [
                (bundle, name or "", alpha)
                for (bundle, name), alpha in sorted(self._siblings.items())
            ]
        if self._confirmed:
            basis["confirmed"] = True
        until = newest_carrier(found.told, test, trail.now)
        return Finding(
            self._alpha, self._delta, test.evidence, test.wrong, test.audits,
            self.bundle, self._data, until, basis,
        )  # fmt: skip

    def _write(
        self, kind: Kind, names: AbstractSet[str], last: Mapping[str, Change], finding: Finding
    ) -> None:
        if not names:
            return
        tell = log.error if kind == "void" else log.warning
        tell(f"certificate_{kind}", certificates=sorted(names), evidence=finding.evidence)
        write_change(self._store, {name: last.get(name) for name in names}, kind, finding)

    def observe(self, risk: float | Missing, group: str) -> None:
        """Add one answer's stage-one risk, with its group or its image's hash."""
        if self.drift is not None and not isinstance(risk, Missing):
            self.drift.update(risk, group)

    def _recall(self) -> None:
        """Fill the drift's window with this replica's answers from before a restart."""
        if self.drift is None or not self.drift.empty:
            return
        filled = DriftMonitor(self.drift.reference, self.drift.window)
        for record in self._store.own_latest(self.bundle, filled.window):
            risk = record.risk
            if record.stage == 2:
                risk = self._bundle.assess(signals_of(record.signals, self._bundle)).score
            if not isinstance(risk, Missing):
                filled.update(risk, record.group or record.image_sha256)
        if self.drift.empty:
            self.drift = filled


def _drift(bundle: Bundle, window: int) -> DriftMonitor | None:
    """None where the bundle holds no reference."""
    reference = bundle.training.get("risk_reference")
    return None if reference is None else DriftMonitor(RiskHistogram.from_dict(reference), window)
