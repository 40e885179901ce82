from __future__ import annotations

import json
import multiprocessing
import shutil
from pathlib import Path

import pytest

from probes.errors import StoreError
from probes.guarantee.ledger import ANCHORS, LEDGER, Ledger, anchors

IMAGES = [f"image-{number}" for number in range(500)]


def claim(seed: int) -> dict[str, object]:
    return {"bundle": f"b-{seed}", "alpha": 0.05, "delta": 0.05}


def test_the_first_claim_may_spend_most_and_each_later_half_of_what_is_left(tmp_path: Path) -> None:
    ledger = Ledger("data", [tmp_path])
    shares = [ledger.share(claim(seed)) for seed in range(6)]
    assert shares == pytest.approx([0.8, 0.1, 0.05, 0.025, 0.0125, 0.00625])
    assert sum(ledger.share(claim(seed)) for seed in range(40)) <= 1


def test_an_equal_claim_spends_nothing_new(tmp_path: Path) -> None:
    ledger = Ledger("data", [tmp_path])
    assert ledger.share({"a": 1, "b": [1, 2]}) == 0.8
    assert ledger.share({"b": (1, 2), "a": 1}) == 0.8
    assert ledger.share({"a": 1, "b": [2, 1]}) == pytest.approx(0.1)
    assert [one.share for one in ledger.tries] == pytest.approx([0.8, 0.1])
    assert [dict(one.claim)["b"] for one in ledger.tries] == [[1, 2], [2, 1]]


def test_other_data_has_a_delta_of_its_own(tmp_path: Path) -> None:
    assert Ledger("data", [tmp_path]).share(claim(0)) == 0.8
    assert Ledger("other", [tmp_path]).share(claim(0)) == 0.8
    assert Ledger("other", [tmp_path]).share(claim(1)) == pytest.approx(0.1)
    assert len(Ledger("data", [tmp_path]).tries) == 1


def test_the_same_images_are_the_same_data_whatever_was_asked() -> None:
    assert anchors(IMAGES, "m") == anchors([*reversed(IMAGES), *IMAGES], "m")
    assert len(anchors(IMAGES, "m")) == ANCHORS
    assert len(anchors(IMAGES[:3], "m")) == 3
    assert set(anchors(IMAGES, "m")).isdisjoint(anchors(IMAGES, "another model"))


@pytest.mark.parametrize(
    "images",
    [
        IMAGES[1:],
        [*IMAGES, "one more"],
        IMAGES[:250],
        [*IMAGES, *(f"new-{i}" for i in range(1500))],
    ],
)
def test_some_images_more_or_less_are_the_same_data(tmp_path: Path, images: list[str]) -> None:
    Ledger(anchors(IMAGES, "m"), [tmp_path]).share(claim(0))
    assert Ledger(anchors(images, "m"), [tmp_path]).share(claim(1)) == pytest.approx(0.1)


def test_fresh_images_are_other_data(tmp_path: Path) -> None:
    Ledger(anchors(IMAGES, "m"), [tmp_path]).share(claim(0))
    fresh = anchors((f"new-{number}" for number in range(500)), "m")
    assert Ledger(fresh, [tmp_path]).share(claim(1)) == 0.8


def test_it_survives_that_a_run_is_copied_or_collected_anew(tmp_path: Path) -> None:
    run, state = tmp_path / "run", tmp_path / "state"
    run.mkdir()
    Ledger("data", [run, state]).share(claim(0))
    shutil.copytree(run, tmp_path / "copy")  # on another machine, say: no state there
    assert Ledger("data", [tmp_path / "copy", tmp_path / "their"]).share(claim(1)) == (
        pytest.approx(0.1)
    )
    shutil.rmtree(run)  # collected anew: only the state knows
    run.mkdir()
    assert Ledger("data", [run, state]).share(claim(2)) == pytest.approx(0.1)
    assert (run / LEDGER).read_text() == (state / LEDGER).read_text()
    union = Ledger("data", [run, state, tmp_path / "copy"])
    assert union.share(claim(3)) == pytest.approx(0.025)  # after three others
    assert len(union.tries) == 4


def test_a_folder_that_cannot_be_written_is_told_and_another_counts(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    told: list[str] = []
    ledger = Ledger("data", [tmp_path / "file" / "run", tmp_path / "state"], told.append)
    assert [ledger.share(claim(0)), ledger.share(claim(1))] == pytest.approx([0.8, 0.1])
    assert len(told) == 2
    assert str(tmp_path / "file" / "run") in told[0]


def test_nowhere_to_write_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match="VLM_GATE_TRIES_FOLDER"):
        Ledger("data", [tmp_path / "file" / "run"]).share(claim(0))


@pytest.mark.parametrize("line", ["{", "[]", '{"claim": {}}', '{"more": 1}', "\x00"])
def test_a_line_that_cannot_be_read_is_named(tmp_path: Path, line: str) -> None:
    Ledger("data", [tmp_path]).share(claim(0))
    with (tmp_path / LEDGER).open("a") as file:
        file.write(line)
    with pytest.raises(StoreError, match="line 2 cannot be read"):
        Ledger("data", [tmp_path]).share(claim(1))


def test_a_last_line_without_its_end_keeps_what_comes_after(tmp_path: Path) -> None:
    Ledger("data", [tmp_path]).share(claim(0))
    path = tmp_path / LEDGER
    path.write_text(path.read_text().rstrip("\n"))
    Ledger("data", [tmp_path]).share(claim(1))
    assert len(Ledger("data", [tmp_path]).tries) == 2


def test_what_is_no_number_is_no_claim(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON"):
        Ledger("data", [tmp_path]).share({"alpha": float("nan")})
    assert Ledger("data", [tmp_path]).tries == ()


def _try(folder: str, seeds: range) -> list[float]:
    ledger = Ledger("data", [Path(folder) / "run", Path(folder) / "state"])
    return [ledger.share(claim(seed)) for seed in seeds]


def test_writers_at_the_same_time_never_spend_the_same(tmp_path: Path) -> None:
    parts = [range(start, start + 5) for start in (0, 5, 10, 15)]
    with multiprocessing.get_context("spawn").Pool(4) as pool:
        shares = pool.starmap(_try, [(str(tmp_path), part) for part in parts])
    flat = sorted((share for part in shares for share in part), reverse=True)
    assert flat == pytest.approx([0.8, *(0.2 / 2**n for n in range(1, 20))])
    for folder in ("run", "state"):
        lines = (tmp_path / folder / LEDGER).read_text().splitlines()
        assert len([json.loads(line) for line in lines]) == 20
