from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest

from service.records.answer import AnswerRecord
from service.records.errors import InvalidRecord
from service.records.listing import Filter
from service.records.store import RecordStore

Make = Callable[..., AnswerRecord]
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.fixture
def filled(store: RecordStore, record: Make) -> RecordStore:
    """Ten answers, A0 to A9, a minute apart but for the last two, which share a time."""
    store.append_answers(
        [
            record(
                id=f"A{index}",
                created=NOON + timedelta(minutes=min(index, 8)),
                decision="accept" if index % 2 else "escalate",
                reason="risk_below_threshold" if index % 2 else "out_of_domain",
                metadata={"camera": "A" if index < 5 else 'B\'s "2"', "line": str(index % 3)},
                audit=index == 7,
            )
            for index in range(10)
        ]
    )
    return store


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        (Filter(), "9876543210"),
        (Filter(since=NOON + timedelta(minutes=3), until=NOON + timedelta(minutes=5)), "43"),
        (Filter(decision="accept"), "97531"),
        (Filter(reason="out_of_domain"), "86420"),
        (Filter(slice={"camera": 'B\'s "2"'}), "98765"),
        (Filter(slice={"camera": "A", "line": "0"}), "30"),
        (Filter(slice={"shift": "night"}), ""),
        (Filter(audit=True), "7"),
        (Filter(audit=False, decision="accept"), "9531"),
    ],
)
@pytest.mark.parametrize("limit", [1, 3, 100])
def test_pages_hold_what_the_filter_lets_through(
    filled: RecordStore, where: Filter, expected: str, limit: int
) -> None:
    seen, after = "", ""
    while True:
        page = filled.page(where, limit=limit, after=after)
        assert len(page.answers) <= limit
        seen += "".join(one.id[1:] for one in page.answers)
        if page.next is None:
            break
        after = page.next
    assert seen == expected


def test_answers_that_come_meanwhile_do_not_shift_the_pages(
    filled: RecordStore, record: Make
) -> None:
    first = filled.page(limit=4)
    filled.append_answers([record()])
    assert first.next is not None
    assert [one.id for one in filled.page(limit=4, after=first.next).answers] == [
        "A5",
        "A4",
        "A3",
        "A2",
    ]


@pytest.mark.parametrize(
    "cursor", ["x", "1.", ".A1", "1.' OR 1=1", "9" * 30 + ".A", "-1.A", "²7.A"]
)
def test_a_cursor_that_is_none_is_refused(filled: RecordStore, cursor: str) -> None:
    with pytest.raises(InvalidRecord, match="after"):
        filled.page(after=cursor)
