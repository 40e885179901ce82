"""A bundle bound to another engine: only if its golden examples come out the same."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from probes.errors import BundleError
from probes.model.bundle import Bundle
from probes.model.folder import read_bundle
from probes.types import Generation, Missing, ModelIdentity, Query, Readout, Trace
from service.engines.fake import FakeEngine
from service.offline.rebind import rebind
from service.settings import embedded


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    return read_bundle(Path(embedded("bundles", "llava")))


class Replay(FakeEngine):
    """Answers the golden examples as another engine would: a little off."""

    def __init__(self, bundle: Bundle, *, off: float = 0.0, **identity: str) -> None:
        super().__init__()
        self.identity: ModelIdentity = replace(bundle.model, **{"engine": "vllm", **identity})
        self._known = {golden.query.image.tobytes(): golden for golden in bundle.golden}
        self._off = off
        self.wrong = ""
        self.missing = False

    async def generate(self, query: Query, readout: Readout) -> Generation:
        golden = self._known[query.image.tobytes()]
        return Generation(
            answer=self.wrong or golden.answer,
            token_ids=(1,),
            finish_reason="stop",
            trace=Trace(
                logprobs=np.zeros(1),
                first_token_entropy=0.0,
                first_token_margin=0.0,
                readouts={
                    place: Missing("empty_answer")
                    if self.missing
                    else value + self._off * max(1.0, np.abs(value).max())
                    for place, value in golden.readouts.items()
                },
            ),
        )


def test_the_new_bundle_is_the_old_one_without_its_promise(bundle: Bundle, tmp_path: Path) -> None:
    engine = Replay(bundle, off=5e-4)
    rebound = asyncio.run(rebind(bundle, engine, tmp_path / "new"))
    loaded = read_bundle(tmp_path / "new")
    assert loaded.id == rebound.bundle.id != bundle.id
    assert loaded.model == engine.identity
    assert loaded.certificates == {}
    assert loaded.alpha is None
    assert loaded.training["rebound_from"] == bundle.id
    assert rebound.deviation == pytest.approx(5e-4, rel=1e-3)
    (place,) = bundle.golden[0].readouts
    was, now = bundle.golden[0].readouts[place], loaded.golden[0].readouts[place]
    assert np.abs(now - was).max() > 0
    np.testing.assert_array_equal(loaded.probe.weights, bundle.probe.weights)


def test_less_exact_arithmetic_has_more_room(bundle: Bundle, tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"golden: readouts deviate by 0\.03"):
        asyncio.run(rebind(bundle, Replay(bundle, off=0.03), tmp_path / "exact"))
    half = Replay(bundle, off=0.03, dtype="bfloat16+fp8")
    assert asyncio.run(rebind(bundle, half, tmp_path / "half")).tolerance == 6e-2
    assert not (tmp_path / "exact").exists()


def test_another_model_another_answer_or_nothing_read_is_refused(
    bundle: Bundle, tmp_path: Path
) -> None:
    out = tmp_path / "never"
    with pytest.raises(BundleError, match=r"model\.revision"):
        asyncio.run(rebind(bundle, Replay(bundle, revision="other"), out))
    engine = Replay(bundle)
    engine.wrong = "perhaps"
    with pytest.raises(BundleError, match="is answered 'perhaps'"):
        asyncio.run(rebind(bundle, engine, out))
    engine = Replay(bundle)
    engine.missing = True
    with pytest.raises(BundleError, match=r"nothing was read .*empty_answer"):
        asyncio.run(rebind(bundle, engine, out))
    with pytest.raises(BundleError, match="no golden examples"):
        asyncio.run(rebind(replace(bundle, golden=()), Replay(bundle), out))
    assert not out.exists()
