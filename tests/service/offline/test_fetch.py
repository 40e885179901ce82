"""`vlm-gate fetch`: what arrives is what was named, or nothing counts."""

from __future__ import annotations

import hashlib
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from service.cli import app
from service.offline.fetch import FetchError, fetch

FILES = {"config.json": b"{}", "golden/1.png": b"picture", "tensors.safetensors": b"numbers" * 999}


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: Any) -> None:
        """Nothing on the terminal."""


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def publish(folder: Path, lines: str | None = None) -> str:
    """A folder with its SHA256SUMS; gives the hash of that."""
    for name, content in FILES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    sums = lines or "".join(f"{digest(content)}  {name}\n" for name, content in FILES.items())
    (folder / "SHA256SUMS").write_text(sums)
    return digest(sums.encode())


def test_it_brings_the_folder_and_goes_on_where_it_was_cut_off(tmp_path: Path) -> None:
    source, out = tmp_path / "source", tmp_path / "out"
    named = publish(source)
    assert fetch(source.as_uri(), out, named) == len(FILES)
    assert {name: (out / name).read_bytes() for name in FILES} == FILES

    (out / "SHA256SUMS").unlink()
    (out / "golden/1.png").unlink()
    (out / "config.json").write_bytes(b"damaged")
    assert fetch(source.as_uri(), out, named) == 2
    assert {name: (out / name).read_bytes() for name in FILES} == FILES

    (source / "SHA256SUMS").unlink()  # whole: the source is not needed any more
    assert fetch(source.as_uri(), out, named) == 0


def test_it_fetches_over_http(tmp_path: Path) -> None:
    named = publish(tmp_path / "source")
    handler = partial(Quiet, directory=str(tmp_path / "source"))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        serving = threading.Thread(target=server.serve_forever)
        serving.start()
        url = f"http://127.0.0.1:{server.server_port}"
        try:
            assert fetch(url, tmp_path / "out", named) == len(FILES)
            with pytest.raises(FetchError, match="404"):
                fetch(f"{url}/nowhere", tmp_path / "other", named)
        finally:
            server.shutdown()
            serving.join()
    assert {name: (tmp_path / "out" / name).read_bytes() for name in FILES} == FILES


@pytest.mark.parametrize("changed", ["config.json", "tensors.safetensors", "SHA256SUMS"])
def test_a_changed_file_is_refused_by_name(tmp_path: Path, changed: str) -> None:
    source, out = tmp_path / "source", tmp_path / "out"
    named = publish(source)
    (source / changed).write_bytes(b"other")
    with pytest.raises(FetchError, match=changed):
        fetch(source.as_uri(), out, named)
    assert not (out / "SHA256SUMS").exists()
    assert not list(out.rglob("*.part"))


@pytest.mark.parametrize(
    ("lines", "told"),
    [
        (f"{'0' * 64}  ../outside\n", "leads outside"),
        (f"{'0' * 64}  /etc/passwd\n", "leads outside"),
        ("config.json\n", "no line of sha256sum"),
    ],
)
def test_sums_that_are_none_are_refused(tmp_path: Path, lines: str, told: str) -> None:
    named = publish(tmp_path / "source", lines)
    with pytest.raises(FetchError, match=told):
        fetch((tmp_path / "source").as_uri(), tmp_path / "out", named)


def test_the_command_says_what_it_did_or_why_not(tmp_path: Path) -> None:
    named = publish(tmp_path / "source")
    run = CliRunner()
    words = ["fetch", str(tmp_path / "source"), "--out", str(tmp_path / "out"), "--sha256"]
    assert "3 files fetched" in run.invoke(app, [*words, named]).stdout
    refused = run.invoke(app, ["fetch", str(tmp_path / "gone"), *words[2:], "0" * 64])
    assert refused.exit_code == 1
    assert refused.stderr.startswith("error: ")
