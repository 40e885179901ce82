"""An evaluation's examples with their images, asked again so that their attention can be shown."""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from pathlib import Path

from probes.data.images import load_image
from probes.data.record import Record
from probes.data.store import load
from probes.errors import StoreError
from probes.report.cards import Shown
from probes.report.report import load_evaluation
from probes.types import AttentionMaps, Generation, Missing, Query, Readout
from service.engines.build import collection_engine


async def show_examples(evaluation_folder: Path, store_folder: Path) -> tuple[Shown, ...]:
    """Ask an evaluation's examples again, of the model that the settings name.

    Raises StoreError when run or model are not the evaluation's, DataError when an image is gone,
    EngineError when the model cannot be asked.
    """
    evaluation, _ = load_evaluation(evaluation_folder)
    store = load(store_folder)
    if store.fingerprint != evaluation["fingerprints"]["store"]:
        raise StoreError(f"{store_folder}: is not the run that was evaluated; give that one")
    records = {record.id: record for record in store.records}
    engine = collection_engine()
    await engine.start()
    try:
        found, expected = asdict(engine.identity), evaluation["model"]
        if found != expected:
            field = next(name for name in found if found[name] != expected.get(name))
            raise StoreError(
                f"model: {field} is {found[field]!r}, that of the evaluation is "
                f"{expected.get(field)!r}; set VLM_GATE_MODEL to the model that was evaluated"
            )
        layers = tuple(range(1, engine.identity.layers + 1))
        readout = Readout(attention_layers=layers)
        limit = evaluation["generation"]["max_tokens"]
        examples = evaluation["examples"]
        images = [load_image(Path(records[one["id"]].image_path)) for one in examples]
        generations = await asyncio.gather(
            *(
                engine.generate(Query(image, one["question"], max_tokens=limit), readout)
                for one, image in zip(examples, images, strict=True)
            )
        )
    finally:
        await engine.close()
    return tuple(
        Shown(one, image, _attention(records[one["id"]], generation))
        for one, image, generation in zip(examples, images, generations, strict=True)
    )


def _attention(record: Record, generation: Generation) -> AttentionMaps | Missing:
    """What was read, if the model gave the stored answer again: else it belongs to another."""
    if generation.answer != record.answer:
        return Missing("other_answer")
    return generation.trace.attention
