from __future__ import annotations

import hashlib
import json
import pickle
import re
import shutil
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from probes.data.columns import StoreView
from probes.errors import BundleError
from probes.fit.calibrate import fit_isotonic, fit_platt, fit_venn_abers
from probes.fit.train import train
from probes.guarantee.certify import certify
from probes.guarantee.composed import policy_risk, stage_risks
from probes.model import folder as bundle_folder
from probes.model.bundle import check_identity
from probes.model.certificate import Certificate
from probes.model.folder import FORMAT, read_bundle, with_questions, write_bundle
from probes.model.policy import Policy
from probes.signals.question import QuestionModel
from probes.types import (
    Domain,
    HiddenStateProbe,
    ImageDomain,
    Missing,
    SelfConsistency,
    Signals,
    TokenConfidence,
)

SHARES = {"fit": 0.15, "select": 0.27, "calibrate": 0.4, "test": 0.18}
FILES = ["manifest.json", "tensors.safetensors", "SHA256SUMS", "golden/0.png", "golden/7.png"]


@pytest.fixture
def folder(run: Any, tmp_path: Path) -> Path:
    return Path(shutil.copytree(run.root / "certified", tmp_path / "bundle"))


def rehash(folder: Path) -> None:
    """Write the sums again, as someone would who changes a bundle on purpose."""
    names = sorted(
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*")
        if path.is_file() and path.name != "SHA256SUMS"
    )
    lines = [f"{hashlib.sha256((folder / n).read_bytes()).hexdigest()}  {n}\n" for n in names]
    (folder / "SHA256SUMS").write_text("".join(lines))


def signals(consistency: SelfConsistency | Missing, probe: Any = None) -> Signals:
    return Signals(
        hidden_state_probe=probe or HiddenStateProbe(-1.0, (2,)),
        token_confidence=TokenConfidence(-0.1, 0.2, 3.0),
        self_consistency=consistency,
        attention=Missing("not_requested"),
        evidence=Missing("not_requested"),
        domain=Domain((ImageDomain(1.0, True),)),
    )


def test_equal_trainings_give_equal_ids_and_certificates_do_not_change_it(
    run: Any, tmp_path: Path
) -> None:
    again = train(run.store, tmp_path / "again", shares=SHARES)  # type: ignore[arg-type]
    assert again.id == run.trained.id == run.certified.id
    other = train(run.store, tmp_path / "other", shares=SHARES, seed=1)  # type: ignore[arg-type]
    assert other.id != again.id


def test_a_loaded_bundle_says_what_the_saved_one_said(run: Any, folder: Path) -> None:
    loaded = read_bundle(folder)
    assert loaded.attempts == run.certified.attempts
    assert loaded.policy == run.certified.policy
    np.testing.assert_array_equal(loaded.probe.projection, run.certified.probe.projection)
    one = signals(Missing("not_requested"))
    assert loaded.assess(one).score == run.certified.assess(one).score


@pytest.mark.parametrize("fit", [fit_platt, fit_isotonic, fit_venn_abers])
def test_every_calibration_map_survives(run: Any, tmp_path: Path, fit: Any) -> None:
    rng = np.random.default_rng(0)
    score = rng.normal(size=300)
    fitted = fit(score, rng.random(300) < 1 / (1 + np.exp(-score)))
    bundle = replace(run.trained, stage_one=replace(run.trained.stage_one, calibration=fitted))
    again = write_bundle(bundle, tmp_path / "bundle").stage_one.calibration
    assert type(again) is type(fitted)
    np.testing.assert_array_equal(again.predict(score), fitted.predict(score))


def test_format_1_is_still_read(run: Any, tmp_path: Path) -> None:
    """It had no kind of calibration, which was Platt's, and knew no slices."""
    platt = fit_platt(np.arange(40.0), np.arange(40) % 3 > 0)
    bundle = replace(run.trained, stage_one=replace(run.trained.stage_one, calibration=platt))
    bundle = replace(bundle, stage_two=replace(bundle.stage_two, calibration=platt))
    write_bundle(bundle, tmp_path / "bundle")
    path = tmp_path / "bundle" / "manifest.json"
    manifest = json.loads(path.read_text())
    content = manifest["content"]
    for stage in ("stage_one", "stage_two"):
        assert content[stage]["calibration"].pop("kind") == "platt"
    del manifest["certificates"]["slicing"]
    whole = bundle_folder._canonical(content)
    whole += (tmp_path / "bundle" / "tensors.safetensors").read_bytes()
    manifest["id"] = "b-" + hashlib.sha256(whole).hexdigest()[:12]
    manifest["format"] = 1
    path.write_bytes(bundle_folder._canonical(manifest))
    rehash(tmp_path / "bundle")
    loaded = read_bundle(tmp_path / "bundle")
    assert loaded.stage_one.calibration == platt
    assert loaded.slicing is None


def test_format_2_is_still_read_and_has_no_question_side(run: Any, tmp_path: Path) -> None:
    bundle = replace(run.trained, questions=Missing("no_question_side"))
    old = write_bundle(bundle, tmp_path / "bundle")
    path = tmp_path / "bundle" / "manifest.json"
    manifest = json.loads(path.read_text())
    assert "questions" not in manifest["content"]
    path.write_bytes(bundle_folder._canonical(manifest | {"format": 2}))
    rehash(tmp_path / "bundle")
    loaded = read_bundle(tmp_path / "bundle")
    assert (loaded.id, loaded.questions) == (old.id, Missing("no_question_side"))
    assert stage_risks(StoreView(run.store, loaded)).inside.mean() > 0.8
    with pytest.raises(BundleError, match="train the bundle again"):
        with_questions(loaded, "exact")


def test_the_question_side_survives_and_is_part_of_the_id(run: Any, tmp_path: Path) -> None:
    kept = run.trained.questions
    assert isinstance(kept, QuestionModel)
    assert (kept.mode, len(kept.questions)) == ("template", 3)  # few distinct questions
    certified = certify(
        run.store,
        run.trained,
        tmp_path / "any",
        created=datetime(2026, 1, 1, tzinfo=UTC),
        questions="any",
    )
    assert certified.id != run.trained.id
    assert isinstance(certified.questions, QuestionModel)
    assert (certified.questions.mode, certified.questions.limit) == ("any", kept.limit)
    assert certified.questions.same_questions(kept)
    assert all(
        one.outcome.bundle == certified.id
        for one in certified.attempts
        if isinstance(one.outcome, Certificate)
    )
    assert with_questions(run.trained, "template") is run.trained


def test_what_the_questions_shut_out_the_certificate_does_not_count(run: Any) -> None:
    asked = np.array([record.question for record in run.store.records])
    kept = run.trained.questions
    narrow = replace(
        run.trained,
        questions=replace(kept, questions=kept.questions[:1], counts=(1,), mode="exact"),
    )
    inside = stage_risks(StoreView(run.store, narrow)).inside
    assert not inside[asked != kept.questions[0]].any()
    assert inside[asked == kept.questions[0]].mean() > 0.8


def test_a_degenerate_answer_is_never_accepted_offline(run: Any) -> None:
    records = [replace(one, answer="yes yes yes") for one in run.store.records[:5]]
    store = replace(run.store, records=(*records, *run.store.records[5:]))
    stages = stage_risks(StoreView(store, run.trained))
    assert not stages.inside[:5].any()
    assert np.isinf(policy_risk(stages, run.trained, "never")[:5]).all()


@pytest.mark.parametrize(
    ("field", "value"), [("mode", "some"), ("counts", [1]), ("limit", "high"), ("more", 1)]
)
def test_an_edited_question_side_is_refused(
    run: Any, folder: Path, field: str, value: object
) -> None:
    path = folder / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["content"]["questions"][field] = value
    whole = bundle_folder._canonical(manifest["content"])
    whole += (folder / "tensors.safetensors").read_bytes()
    manifest["id"] = "b-" + hashlib.sha256(whole).hexdigest()[:12]
    manifest["certificates"]["attempts"] = []
    path.write_bytes(bundle_folder._canonical(manifest))
    rehash(folder)
    with pytest.raises(BundleError, match="questions"):
        read_bundle(folder)


def test_it_is_small(folder: Path) -> None:
    size = sum(p.stat().st_size for p in folder.iterdir() if p.is_file())
    assert size < 1_000_000


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("share", [0.0, 0.3, 0.5, 0.8, 1.0])
@pytest.mark.parametrize("bit", [0x01, 0x20])
def test_a_flipped_bit_is_refused(folder: Path, name: str, share: float, bit: int) -> None:
    data = bytearray((folder / name).read_bytes())
    data[int(share * (len(data) - 1))] ^= bit
    (folder / name).write_bytes(data)
    with pytest.raises(BundleError) as refused:
        read_bundle(folder)
    if name != "SHA256SUMS":
        assert refused.value.field == name


class Trap:
    """Unpickling this writes a file."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.target,))


@pytest.mark.parametrize("name", ["tensors.safetensors", "manifest.json", "golden/0.png"])
def test_a_pickle_is_never_loaded(folder: Path, tmp_path: Path, name: str) -> None:
    target = tmp_path / "pwned"
    (folder / name).write_bytes(pickle.dumps(Trap(target)))
    rehash(folder)
    with pytest.raises(BundleError):
        read_bundle(folder)
    assert not target.exists()


def test_the_trap_would_have_worked(tmp_path: Path) -> None:
    pickle.loads(pickle.dumps(Trap(tmp_path / "pwned")))  # noqa: S301
    assert (tmp_path / "pwned").exists()


def test_a_planted_extra_file_is_refused_by_name(folder: Path) -> None:
    (folder / "probe.pkl").write_bytes(b"\x80\x04.")
    with pytest.raises(BundleError, match=r"probe\.pkl"):
        read_bundle(folder)
    rehash(folder)
    with pytest.raises(BundleError, match=r"probe\.pkl"):
        read_bundle(folder)


def test_an_unknown_format_is_named(folder: Path) -> None:
    manifest = folder / "manifest.json"
    changed = manifest.read_text().replace(f'"format": {FORMAT}', '"format": 99')
    manifest.write_text(changed)
    rehash(folder)
    with pytest.raises(BundleError) as refused:
        read_bundle(folder)
    assert refused.value.field == "format"


def test_an_edited_threshold_is_refused_even_with_new_hashes(folder: Path) -> None:
    manifest = folder / "manifest.json"
    text, count = re.subn(r'"threshold": [0-9.e-]+', '"threshold": 0.999', manifest.read_text())
    assert count > 0
    manifest.write_text(text)
    rehash(folder)
    with pytest.raises(BundleError, match=r"certificate\.seal"):
        read_bundle(folder)


def test_an_edited_field_does_not_fit_the_id(folder: Path) -> None:
    manifest = folder / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"layers": 2', '"layers": 3'))
    rehash(folder)
    with pytest.raises(BundleError) as refused:
        read_bundle(folder)
    assert refused.value.field == "id"


def test_a_missing_folder_is_no_bundle(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="is not a bundle"):
        read_bundle(tmp_path)


def test_a_bundle_is_never_overwritten(run: Any) -> None:
    with pytest.raises(BundleError, match="exists already"):
        write_bundle(run.trained, run.root / "trained")


@pytest.mark.parametrize(
    ("field", "value"), [("layers", 3), ("dtype", "float16"), ("chat_template_hash", "t2")]
)
def test_another_model_is_named_by_its_field(run: Any, field: str, value: object) -> None:
    with pytest.raises(BundleError) as refused:
        check_identity(run.trained, replace(run.trained.model, **{field: value}))
    assert refused.value.field == f"model.{field}"
    check_identity(run.trained, run.trained.model)


def test_golden_examples_are_of_the_select_split_with_their_readouts(run: Any) -> None:
    assert len(run.certified.golden) == 8
    place = (run.certified.probe.layer, run.certified.probe.position)
    for golden in run.certified.golden:
        assert golden.answer == "yes"
        assert golden.readouts[place].shape == (run.certified.probe.projection.shape[1],)


def test_self_consistency_that_failed_leaves_no_score(run: Any) -> None:
    bundle = run.certified
    assert bundle.assess(signals(Missing("not_requested"))).stage == 1
    failed = bundle.assess(signals(Missing("engine_error")))
    assert (failed.stage, failed.score) == (2, Missing("engine_error"))
    agreed = bundle.assess(signals(SelfConsistency(1.0, 6, False, 1.0, 0.0))).score
    split = bundle.assess(signals(SelfConsistency(0.0, 6, False, 1.0, 0.0))).score
    assert agreed < split


def test_a_certificate_covers_what_was_certified_and_nothing_else(run: Any) -> None:
    bundle, policy = run.certified, run.certified.policy
    now = datetime.fromisoformat(bundle.certificates["auto"].created) + timedelta(days=1)

    def given(**changes: Any) -> Any:
        asked = {"policy": policy, "mode": "auto", "samples": 6, "shortened": False, "now": now}
        asked |= changes
        return bundle.certificate_for(
            asked["policy"],
            asked["mode"],
            asked["samples"],
            shortened=asked["shortened"],
            now=asked["now"],
        )

    assert given() == bundle.certificates["auto"]
    assert given(mode="never", samples=99) == bundle.certificates["never"]
    uncovered = Missing("no_certificate")
    assert given(samples=5) == uncovered
    assert given(shortened=True) == uncovered
    assert given(policy=replace(policy, reject_above=0.9)) == uncovered
    assert given(policy=Policy(required=())) == uncovered
    assert given(policy=replace(policy, required=(*policy.required, "attention"))) == uncovered
    assert given(policy=replace(policy, required=policy.required[::-1])) == given()
    assert given(now=now + timedelta(days=400)) == Missing("certificate_void")
