"""A file is written whole or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest

from probes.atomic_write import replacing


def test_the_draft_takes_the_place_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "name.json"
    path.write_text("old")
    with replacing(path) as draft:
        draft.write_text("new")
        assert path.read_text() == "old"
    assert [one.name for one in tmp_path.iterdir()] == ["name.json"]
    assert path.read_text() == "new"


def test_a_block_that_raises_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "name.json"
    path.write_text("old")

    def fill() -> None:
        with replacing(path) as draft:
            draft.write_text("half")
            raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        fill()
    assert [one.name for one in tmp_path.iterdir()] == ["name.json"]
    assert path.read_text() == "old"


def test_a_link_in_the_drafts_place_is_not_followed(tmp_path: Path) -> None:
    path, other = tmp_path / "name.json", tmp_path / "other"
    other.write_text("of somebody else")
    (tmp_path / ".name.json.part").symlink_to(other)
    with replacing(path) as draft:
        draft.write_text("new")
    assert (path.read_text(), path.is_symlink()) == ("new", False)
    assert other.read_text() == "of somebody else"


def test_a_draft_of_a_killed_process_is_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "name.json"
    (tmp_path / ".name.json.part").write_text("half of another")
    with replacing(path) as draft:
        draft.write_text("new")
    assert path.read_text() == "new"
