"""Damaged images: answered and escalated for that reason, or refused where the operator says so."""

from __future__ import annotations

import io

import pytest
from PIL import Image

from probes.model.policy import Policy
from tests.probes.pictures.cases import cases
from tests.probes.pictures.damaged import damaged

pytestmark = pytest.mark.anyio
SOME = (
    "jpeg cut in half, and ended",
    "jpeg zeroed",
    "png checksum of the rows",
    "png without its end",
    "tiff jpeg zeroed",
    "bmp run-length without an end",
    "webp profile of rubbish",
    "png of 12 bits in 16",
)
EASY = Policy(mode="manual", accept_below=1.0)
QUESTION = {"question": "Is it whole?"}


@pytest.mark.parametrize("processes", [0, 1])
async def test_they_are_escalated_with_the_reason(serve, bundled, processes):
    async with serve(bundled(policy=EASY), decode_processes=processes) as client:
        for name in SOME:
            files = {"image": damaged()[name]}
            told = (await client.post("/v1/answer", data=QUESTION, files=files)).json()
            assert (told["decision"], told["reason"]) == ("escalate", "damaged_image"), name
            assert told["signals"]["image"]["damaged"] is True
            assert told["signals"]["image"]["detail"]
        whole = cases()["jpeg plain"].file
        told = (await client.post("/v1/answer", data=QUESTION, files={"image": whole})).json()
        assert told["decision"] == "accept"
        assert told["signals"]["image"] == {"damaged": False, "detail": ""}
        counted = (await client.get("/metrics")).text
    assert f"vlm_gate_damaged_images_total {len(SOME)}.0" in counted
    escalated = (
        'vlm_gate_decisions_total{decision="escalate",mode="enforce",reason="damaged_image"}'
    )
    assert f"{escalated} {len(SOME)}.0" in counted


@pytest.mark.parametrize("processes", [0, 1])
async def test_they_are_refused_where_the_operator_says_so(serve, bundled, processes):
    settings = {"damaged_images": "refuse", "decode_processes": processes}
    async with serve(bundled(policy=EASY), **settings) as client:
        for name in SOME:
            files = {"image": damaged()[name]}
            told = await client.post("/v1/answer", data=QUESTION, files=files)
            assert (told.status_code, told.json()["field"]) == (422, "image"), name
            assert told.json()["type"].endswith(":damaged_image")
        whole = cases()["jpeg plain"].file
        told = await client.post("/v1/answer", data=QUESTION, files={"image": whole})
        assert told.status_code == 200


async def test_no_samples_are_drawn_for_them(serve, bundled):
    """Nothing that they could say would change the decision."""
    strict = Policy(mode="manual", accept_below=0.0, self_consistency="auto")
    async with serve(bundled(policy=strict)) as client:
        files = {"image": damaged()["jpeg zeroed"]}
        told = (await client.post("/v1/answer", data=QUESTION, files=files)).json()
    assert told["reason"] == "damaged_image"
    assert told["signals"]["self_consistency"] == {"missing": "not_requested"}


async def test_a_damaged_picture_is_never_rejected_for_its_risk(serve, bundled):
    harsh = Policy(mode="manual", accept_below=0.0, reject_above=0.0)
    async with serve(bundled(policy=harsh)) as client:
        files = {"image": damaged()["png without its end"]}
        told = (await client.post("/v1/answer", data=QUESTION, files=files)).json()
    assert told["decision"] == "escalate"


async def test_what_no_decoder_reads_is_still_refused(serve):
    cut = io.BytesIO()
    Image.new("RGB", (64, 64), "red").save(cut, "JPEG")
    async with serve() as client:
        files = {"image": cut.getvalue()[:300]}
        told = await client.post("/v1/answer", data=QUESTION, files=files)
    assert told.status_code == 422
    assert told.json()["type"].endswith(":undecodable_image")
