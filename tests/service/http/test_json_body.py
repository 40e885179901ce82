"""A long text is taken out before json reads the rest: what is read is what json reads."""

from __future__ import annotations

import json

import pytest

from service.errors import Malformed, ServiceError
from service.http.json_body import read_json

LONG = "A" * 200_000
URI = "data:image/png;base64," + LONG
SAME: dict[str, str] = {
    "the last of an object": f'{{"question": "a?", "image": "{LONG}"}}',
    "the first": f'{{"image": "{LONG}", "question": "a?"}}',
    "a data URI": f'{{"question": "a?", "image": "{URI}"}}',
    "no blanks": f'{{"image":"{LONG}","question":"a?"}}',
    "in a list of objects": f'{{"a": [{{"b": {{"url": "{LONG}"}}}}, {{"url": "c"}}]}}',
    "two long ones": f'{{"a": "{LONG}", "b": "{URI}{LONG}"}}',
    "two alike": f'{{"a": "{LONG}", "b": "{LONG}"}}',
    "escapes in it": f'{{"a": "{LONG}\\n{LONG}\\/"}}',
    "blanks in it": f'{{"a": "{LONG} {LONG}"}}',
    "blanks only": f'{{"a": "{" " * 200_000}"}}',
    "blanks between": f'{{"a":{" " * 200_000}"b"{" " * 200_000}}}',
    "blanks between, after a text that ends like a name": f'["a:"{" " * 200_000}, "b"]',
    "brackets in it": f'{{"a": "{LONG}[]{{}},:"}}',
    "beyond ASCII beside it": f'{{"a": "ä{LONG}ß", "b": "é"}}',
    "a slice": f'{{"a": "{"B" * 65_536}"}}',
    "nearly two slices": f'{{"a": "{"B" * 131_071}"}}',
}
BROKEN: dict[str, str] = {
    "no text but letters": f'{{"a": {LONG}}}',
    "letters between two texts": f'{{"a": "b"{LONG}"c"}}',
    "letters before a name": f'{{{LONG}"a": 1}}',
    "without an end": f'{{"a": "{LONG}',
    "without an end of the object": f'{{"a": "{LONG}"',
    "two ends": f'{{"a": "{LONG}""}}',
    "digits": f'{{"a": {"9" * 200_000}}}',
    "as a name, without a value": f'{{"{LONG}"}}',
    "as a name": f'{{"{LONG}": 1}}',
    "a control character in it": f'{{"a": "{LONG}\x01{LONG}"}}',
    "nothing but letters": LONG,
}


@pytest.mark.parametrize("name", SAME)
def test_what_is_read_is_what_json_reads(name):
    assert read_json(SAME[name].encode()) == json.loads(SAME[name])


@pytest.mark.parametrize("name", BROKEN)
def test_what_is_no_json_stays_none(name):
    with pytest.raises(Malformed):
        read_json(BROKEN[name].encode())


def test_a_long_text_twice_under_one_name():
    with pytest.raises(ServiceError, match="'a' was sent twice"):
        read_json(f'{{"a": "{LONG}", "a": "{LONG}"}}'.encode())
