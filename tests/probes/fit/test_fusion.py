"""What the fusion is made of, and that kinds of question take part only where they tell more."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from probes.data.columns import StoreView, measure_risk
from probes.data.store import Store
from probes.fit.fusion import BY_KIND, CANDIDATES, by_kind, choose_fusion, fit_risk_model
from probes.fit.train import train
from probes.model.bundle import Bundle
from probes.report.risk_words import has_probe, made_of
from probes.signals.catalogue import FEATURES
from probes.stats.metrics import auroc
from probes.types import (
    Domain,
    HiddenStateProbe,
    ImageDomain,
    Missing,
    QuestionKind,
    Signals,
    TokenConfidence,
)

BOTH = CANDIDATES["probe_and_token_confidence"]
KINDS = ("count", "presence")
SHARES = {"fit": 0.15, "select": 0.27, "calibrate": 0.4, "test": 0.18}


def made(seed: int, *, kinds_matter: bool) -> tuple[dict[str, Any], np.ndarray, np.ndarray]:
    """Columns of 2,400 answers on 800 images, which are wrong, and their images.

    Where kinds matter, the probe tells errors of presence alone and the margin those of count.
    """
    rng = np.random.default_rng(seed)
    count = rng.random(2400) < 0.5
    plain = {name: rng.normal(size=2400) for name in BOTH}
    logit = plain["probe_logit"] - plain["margin"]
    if kinds_matter:
        logit = 2 * np.where(count, 0.5 - plain["margin"], plain["probe_logit"] - 0.5)
    wrong = rng.random(2400) < 1 / (1 + np.exp(1.0 - logit))
    columns = dict(plain)
    for kind, of_kind in zip(KINDS, (count, ~count), strict=True):
        columns[f"kind@{kind}"] = of_kind.astype(float)
        columns |= {f"{name}@{kind}": plain[name] * of_kind for name in BOTH}
    return columns, wrong, np.repeat(np.arange(800), 3).astype(str)


def test_kinds_are_weighed_where_that_tells_more_beyond_noise() -> None:
    columns, wrong, groups = made(0, kinds_matter=True)
    features, table = choose_fusion(columns, wrong, groups, kinds=KINDS, resamples=200)
    assert features == by_kind(BOTH, KINDS)
    assert [row.name for row in table] == [*CANDIDATES, BY_KIND]
    assert [row.name for row in table if row.chosen] == [BY_KIND]
    plain, _ = choose_fusion(columns, wrong, groups, resamples=200)
    assert plain == BOTH
    fresh, wrong_too, _ = made(1, kinds_matter=True)
    scores = [
        fit_risk_model(columns, chosen, wrong, groups)[0].raw(fresh) for chosen in (features, plain)
    ]
    ahead, behind = (auroc(score, wrong_too) for score in scores)
    assert isinstance(ahead, float)
    assert isinstance(behind, float)
    assert ahead > behind + 0.03


@pytest.mark.parametrize("seed", range(4))
def test_kinds_that_tell_nothing_are_left_out(seed: int) -> None:
    columns, wrong, groups = made(seed, kinds_matter=False)
    features, _ = choose_fusion(columns, wrong, groups, kinds=KINDS, resamples=200)
    assert features == BOTH


def test_a_kind_of_few_answers_keeps_near_the_weights_of_all() -> None:
    columns, wrong, groups = made(2, kinds_matter=False)
    rare = np.zeros(2400)
    rare[:4] = 1.0
    columns |= {"kind@rare": rare, **{f"{name}@rare": columns[name] * rare for name in BOTH}}
    wrong = wrong.copy()
    wrong[:4] = True
    features = by_kind(BOTH, ("rare",))
    model, _ = fit_risk_model(columns, features, wrong, groups)
    weights = dict(zip(model.features, model.weights, strict=True))
    for name in ("probe_logit", "margin"):
        assert abs(weights[f"{name}@rare"]) < 0.5 * abs(weights[name])


def test_of_one_answer_it_is_what_the_columns_say() -> None:
    columns, wrong, groups = made(3, kinds_matter=True)
    model, _ = fit_risk_model(columns, by_kind(BOTH, KINDS), wrong, groups)
    assert model.required == ("hidden_state_probe", "token_confidence", "question_kind")
    risks = model.score(columns)
    for row in range(0, 2400, 241):
        kind = KINDS[int(columns["kind@presence"][row])]
        one = signals(columns, row, QuestionKind(kind))
        assert model.assess(one) == pytest.approx(risks[row])
    assert model.assess(signals(columns, 0, Missing("unknown_words"))) == Missing("unknown_words")
    # A kind that this model does not know has the weights of all.
    plain = {name: columns[name][:1] if "@" not in name else np.zeros(1) for name in columns}
    other = model.assess(signals(columns, 0, QuestionKind("defect")))
    assert other == pytest.approx(float(model.score(plain)[0]))


def signals(columns: dict[str, Any], row: int, kind: QuestionKind | Missing) -> Signals:
    return Signals(
        hidden_state_probe=HiddenStateProbe(columns["probe_logit"][row], (1,)),
        token_confidence=TokenConfidence(*(columns[name][row] for name in BOTH[1:])),
        self_consistency=Missing("not_requested"),
        attention=Missing("not_requested"),
        evidence=Missing("not_requested"),
        domain=Domain((ImageDomain(1.0, True),)),
        question_kind=kind,
    )


@pytest.fixture(scope="module")
def by_kinds(
    run: Any, relabelled: Any, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Store, Bundle]:
    """A run whose answers about defects are wrong three times in four, and a bundle of it."""
    rng, root = np.random.default_rng(4), tmp_path_factory.mktemp("kinds")
    defect = np.array([record.kind == "defect" for record in run.store.records])
    logit = rng.normal(-1.5, 1.0, size=defect.size) + 3.0 * defect
    wrong = rng.random(defect.size) < 1 / (1 + np.exp(-logit))
    store = relabelled(run.store, root / "store", wrong, logit - 3.0 * defect)
    return store, train(store, root / "bundle", shares=SHARES)  # type: ignore[arg-type]


def test_training_keeps_what_tells_the_kinds(by_kinds: tuple[Store, Bundle]) -> None:
    _, bundle = by_kinds
    assert bundle.kinds is not None
    assert bundle.kinds.kinds == ("defect", "presence")
    assert "question_kind" in bundle.policy.required
    assert "question_kind" in bundle.stage_two.required  # type: ignore[union-attr]
    tried = bundle.training["question_kinds"]
    assert tried["told"] == 1.0
    assert tried["auroc_alone"] > 0.6
    assert [row["name"] for row in bundle.training["fusion_candidates"] if row["chosen"]] == [
        BY_KIND
    ]


def test_offline_and_in_service_the_same(by_kinds: tuple[Store, Bundle]) -> None:
    """Of a loaded bundle, with the kind told from the question by the call that serves."""
    store, bundle = by_kinds
    assert bundle.kinds is not None
    columns = StoreView(store, bundle).columns
    risk = measure_risk(columns, bundle.stage_one)
    assert np.isfinite(risk).all()
    for row in range(0, len(store.records), 97):
        record = store.records[row]
        values = {name: columns.values[name] for name in FEATURES}
        one = signals(values, row, bundle.kinds.tell(record.question))
        assert bundle.assess(one).score == pytest.approx(risk[row])


def test_a_question_of_unknown_words_is_never_accepted(by_kinds: tuple[Store, Bundle]) -> None:
    store, bundle = by_kinds
    assert bundle.kinds is not None
    values = StoreView(store, bundle).columns.values
    one = signals(dict(values), 0, bundle.kinds.tell("xyzzy"))
    assessment = bundle.assess(one)
    assert assessment.score == Missing("unknown_words")
    decision = bundle.policy.decide(assessment, Missing("no_certificate"))
    assert (decision.decision, decision.reason) == ("escalate", "signal_unavailable")


def test_a_bundle_where_kinds_tell_nothing_has_none_of_it(run: Any) -> None:
    assert run.trained.kinds is None
    assert "question_kind" not in run.trained.policy.required
    assert run.trained.training["question_kinds"]["kinds"] == ["defect", "presence"]
    manifest = (run.root / "trained" / "manifest.json").read_text(encoding="utf-8")
    assert '"kinds": {' not in manifest.replace('"question_kinds": {', "")


def test_the_risk_in_words() -> None:
    consistency = "the hidden-state probe and self-consistency"
    assert made_of(("probe_logit",)) == "the hidden-state probe"
    assert made_of(("probe_logit", "agreement")) == consistency
    assert made_of(CANDIDATES["token_confidence"]) == (
        "token confidence (mean_logprob, first_token_entropy, margin)"
    )
    assert made_of((*by_kind(("probe_logit",), KINDS), "agreement")) == (
        f"{consistency}, weighed by the kind of question"
    )
    assert has_probe(BOTH)
    assert not has_probe(CANDIDATES["token_confidence"])
