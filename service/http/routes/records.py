"""``/v1/answers`` and ``/v1/outcomes``: read recorded answers, tell what they turned out to be."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from typing import Annotated, Any, TypeVar

from fastapi import APIRouter, Query, Request
from pydantic import AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field

from probes.types import Reason, Verdict
from service.access.authenticator import ANONYMOUS, Caller
from service.errors import Invalid, NotFound
from service.gate.gate import Gate
from service.http.body import read_small_body
from service.http.json_body import read_model
from service.http.openapi import request_body
from service.http.problems import problem_responses
from service.http.translate_records import to_outcome, to_recorded_answer
from service.records.answer import AnswerRecord
from service.records.errors import InvalidRecord, UnknownAnswer
from service.records.listing import Filter
from service.records.outcome import Outcome
from service.records.store import RecordStore
from service.records.words import rule_on
from service.schemas.records import (
    MOST_PER_PAGE,
    AnswerList,
    OutcomeRequest,
    OutcomeResponse,
    RecordedAnswer,
)

router = APIRouter(tags=["records"])
Result = TypeVar("Result")
PROBLEMS = problem_responses((400, 404, 413, 422, 503, 504))


def _written_out(value: Any) -> Any:
    """Only a time as RFC 3339 writes it; pydantic would take a bare number too."""
    if isinstance(value, str) and not re.match(r"\d{4}-\d\d-\d\dT", value):
        raise ValueError("is no time; write it as 2026-01-31T12:00:00Z")
    return value


Moment = Annotated[AwareDatetime, BeforeValidator(_written_out)]


class ListQuery(BaseModel):
    """Which answers; what is left out does not restrict."""

    model_config = ConfigDict(extra="forbid")

    since: Moment | None = Field(None, description="not older than this")
    until: Moment | None = Field(None, description="older than this")
    decision: Verdict | None = None
    reason: Reason | None = None
    audit: bool | None = Field(None, description="drawn for an audit, or not")
    slice: list[str] = Field(
        default_factory=list, max_length=16, description="metadata that it has, as name:value"
    )
    second_word: bool = Field(
        False,
        description="audits that a second reviewer is to judge, you for one, without what was said "
        "so far; a page may hold fewer than 'limit'",
    )
    limit: int = Field(100, ge=1, le=MOST_PER_PAGE)
    after: str = Field("", max_length=64, description="the 'next' of the page before")

    def to_filter(self) -> Filter:
        """Raises Invalid: a slice without a colon."""
        pairs = [part.partition(":") for part in self.slice]
        if not all(colon for _, colon, _ in pairs):
            raise Invalid(
                "'slice' has no colon; write name:value, such as slice=camera:A",
                field="slice",
                kind="invalid_field",
            )
        return Filter(
            since=self.since,
            until=self.until,
            decision=self.decision,
            reason=self.reason,
            audit=True if self.second_word else self.audit,
            slice={name: value for name, _, value in pairs},
        )


@router.post(
    "/v1/outcomes",
    response_model=OutcomeResponse,
    responses=PROBLEMS,
    openapi_extra=request_body({"application/json": OutcomeRequest}),
    summary="Tell what an answer turned out to be",
)
async def post_outcome(request: Request) -> OutcomeResponse:
    """The same word twice from one reviewer is kept once; another word is kept beside it."""
    body = await read_small_body(request, request.app.state.gate)
    told = read_model(OutcomeRequest, body or b"null")
    outcome = to_outcome(told, _subject(request))

    def tell(store: RecordStore) -> OutcomeResponse:
        status = store.add_outcome(outcome)
        record = store.get(outcome.answer_id)
        ruling = None if record is None else store.rulings([record]).get(record.id)
        word = None if ruling is None else ruling.outcome
        counts = (
            word is not None and word.reviewer == outcome.reviewer and word.says == outcome.says
        )
        return OutcomeResponse(id=told.id, status=status, counts=counts)

    return await _read(request, tell)


def _subject(request: Request) -> str | None:
    """The caller's subject; None where the service asks for no keys."""
    caller: Caller = request.state.caller
    return None if caller is ANONYMOUS else caller.owner or caller.id


@router.get("/v1/answers/{id}", responses=PROBLEMS, summary="One recorded answer, with outcomes")
async def get_answer(request: Request, id: str) -> RecordedAnswer:
    """404 also for an answer past its retention."""

    def find(store: RecordStore) -> RecordedAnswer:
        record = store.get(id) if id.isalnum() and len(id) <= 26 else None
        if record is None:
            raise UnknownAnswer(f"there is no answer {id[:26]!r} in the records")
        return to_recorded_answer(record, store.outcomes_of([id]))

    return await _read(request, find)


@router.get("/v1/answers", responses=PROBLEMS, summary="Recorded answers, newest first")
async def list_answers(request: Request, query: Annotated[ListQuery, Query()]) -> AnswerList:
    """Pages by a cursor: answers that come meanwhile shift nothing."""
    where, second, me = query.to_filter(), query.second_word, _subject(request)

    def find(store: RecordStore) -> AnswerList:
        page = store.page(where, limit=query.limit, after=query.after)
        told: dict[str, list[Outcome]] = {record.id: [] for record in page.answers}
        for outcome in store.outcomes_of(list(told)):
            told[outcome.answer_id].append(outcome)
        answers = [
            to_recorded_answer(record, told[record.id], blind=second)
            for record in page.answers
            if not second or _due(record, told[record.id], me)
        ]
        return AnswerList(answers=answers, next=page.next)

    return await _read(request, find)


def _due(record: AnswerRecord, words: list[Outcome], me: str | None) -> bool:
    ruling = rule_on(record.answer, record.audit, words)
    return ruling is not None and ruling.due and all(word.reviewer != me for word in words)


async def _read(request: Request, work: Callable[[RecordStore], Result]) -> Result:
    """Read the records, and wait for an answer that is just being written."""
    gate: Gate = request.app.state.gate
    record_keeping = gate.record_keeping
    if record_keeping is None:
        raise NotFound(
            "this service keeps no records; its operator sets VLM_GATE_RECORDS_URL",
            kind="records_off",
        )

    def patient(store: RecordStore) -> Result:
        try:
            return work(store)
        except UnknownAnswer:
            record_keeping.settle()
            return work(store)

    try:
        async with asyncio.timeout(gate.settings.deadline_seconds):
            return await record_keeping.read(patient)
    except TimeoutError as error:
        raise gate.deadline() from error
    except UnknownAnswer as error:
        raise NotFound(f"{error}; check the id", field="id", kind="unknown_answer") from error
    except InvalidRecord as error:
        raise Invalid(str(error), kind="invalid_field") from error
