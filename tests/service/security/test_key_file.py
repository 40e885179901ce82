"""Keys: shown once, kept as hashes, found in constant time, revoked while the service runs."""

from __future__ import annotations

import hashlib
import hmac
import json
import stat
from datetime import timedelta

import pytest
from typer.testing import CliRunner

from service.access import key_file
from service.access.key_file import (
    KeyFileError,
    KeyRing,
    load_keys,
    new_key,
    revoke,
    save_keys,
    utc_now,
)
from service.cli import app

NOW = utc_now()


def test_the_file_holds_a_hash_and_only_its_owner_reads_it(keys_file):
    whole, kept = new_key("line 3", ["answer"], NOW)
    save_keys(keys_file, [kept])
    text = keys_file.read_text()
    _, _, secret = whole.split("_", 2)  # the secret may hold "_" itself
    assert len(secret) == 43
    assert secret not in text
    assert hashlib.sha256(whole.encode()).hexdigest() in text
    assert stat.S_IMODE(keys_file.stat().st_mode) == 0o600
    assert load_keys(keys_file).keys == (kept,)


def test_several_keys_are_active_and_each_ends_by_itself():
    (old, first), (new, second) = (new_key("line 3", ["answer"], NOW) for _ in range(2))
    short, third = new_key("visitor", ["answer"], NOW, NOW + timedelta(days=1))
    ring = KeyRing([first, second, third])
    assert [ring.find(key, NOW) for key in (old, new, short)] == [first, second, third]
    later = NOW + timedelta(days=1)
    ring = KeyRing(revoke(ring.keys, first.id, NOW))
    assert [ring.find(key, later) for key in (old, new, short)] == [None, second, None]
    assert ring.active(later) == 1


@pytest.mark.parametrize("change", ["secret", "case", "id", "blank", "cut", "empty"])
def test_what_is_almost_a_key_is_none(change):
    whole, kept = new_key("line 3", ["answer"], NOW)
    other, _ = new_key("line 4", ["answer"], NOW)
    sent = {
        "secret": whole[:15] + other[15:],
        "case": whole.swapcase(),
        "id": other[:15] + whole[15:],
        "blank": whole + " ",
        "cut": whole[:-1],
        "empty": "",
    }[change]
    assert KeyRing([kept]).find(sent, NOW) is None
    assert KeyRing([kept]).find(whole, NOW) is kept


def test_hashes_are_compared_in_constant_time_for_known_and_unknown_ids(monkeypatch):
    """The one comparison is hmac.compare_digest on two hashes of one length, whatever is sent."""
    compared, real = [], hmac.compare_digest

    def compare(a: str, b: str) -> bool:
        compared.append((len(a), len(b)))
        return real(a, b)

    monkeypatch.setattr(key_file.hmac, "compare_digest", compare)
    whole, kept = new_key("line 3", ["answer"], NOW)
    unknown, _ = new_key("line 4", ["answer"], NOW)
    ring = KeyRing([kept])
    for sent in (whole, whole[:-1] + "A", unknown, "", "x" * 5000):
        ring.find(sent, NOW)
    assert compared == [(64, 64)] * 5


BROKEN = {
    "no JSON": "keys",
    "another format": json.dumps({"format": 2, "keys": []}),
    "no keys": json.dumps({"format": 1}),
    "a list": "[]",
    "nesting bomb": "[" * 100_000,
    "an unknown scope": {"scopes": ["root"]},
    "a plain key for a hash": {"sha256": "vg_0123"},
    "a time without zone": {"expires": "2030-01-01T00:00:00"},
    "an unknown field": {"hash": ""},
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_file_is_refused_by_its_name(keys_file, name):
    _, kept = new_key("line 3", ["answer"], NOW)
    save_keys(keys_file, [kept])
    broken = BROKEN[name]
    if isinstance(broken, dict):
        held = json.loads(keys_file.read_text())
        held["keys"][0] |= broken
        broken = json.dumps(held)
    keys_file.write_text(broken)
    with pytest.raises(KeyFileError, match=keys_file.name):
        load_keys(keys_file)


def test_a_file_that_everybody_may_write_is_refused(keys_file, make_key):
    make_key()
    keys_file.chmod(0o666)
    with pytest.raises(KeyFileError, match="chmod o-w"):
        load_keys(keys_file)


def test_two_keys_of_one_id_are_refused(keys_file):
    _, kept = new_key("line 3", ["answer"], NOW)
    save_keys(keys_file, [kept, kept])
    with pytest.raises(KeyFileError, match="share an id"):
        load_keys(keys_file)


def test_the_command_line_makes_lists_and_revokes(keys_file, monkeypatch):
    run = CliRunner()
    monkeypatch.setenv("VLM_GATE_API_KEYS_FILE", str(keys_file))
    make = ["keys", "create", "--name", "line 3", "--scope", "answer"]
    first = run.invoke(app, make)
    second = run.invoke(app, [*make, "--scope", "admin", "--days", "30"])
    assert (first.exit_code, second.exit_code) == (0, 0), first.output + second.output
    whole = first.stdout.strip()
    ring = load_keys(keys_file)
    found = ring.find(whole, utc_now())
    assert found is not None
    assert ring.find(second.stdout.strip(), utc_now()).scopes == ("answer", "admin")

    assert run.invoke(app, ["keys", "revoke", found.id]).exit_code == 0
    listed = run.invoke(app, ["keys", "list"]).stdout
    assert "line 3" in listed
    assert "revoked" in listed
    assert "active" in listed
    assert whole[16:] not in listed
    assert load_keys(keys_file).find(whole, utc_now()) is None

    assert run.invoke(app, ["keys", "revoke", "0"]).exit_code == 1
    assert run.invoke(app, [*make, "--scope", "root"]).exit_code == 1
