"""What a loaded checkpoint is: hashes of its weights, its processor and its template."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from transformers.utils import cached_file

from probes.types import ModelIdentity
from service.engines.base import EngineError

PROCESSOR_FILES = (
    "preprocessor_config.json",
    "processor_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
)


def identify(
    source: str, config: Any, processor: Any, *, dtype: str, family: str, engine: str
) -> ModelIdentity:
    """Identity of a model loaded from a folder or by its hub name.

    The revision is sha256 over the weights' files for a folder, the commit for a hub name. Files
    are hashed as they are on disk, so a newer library does not make another model.
    """
    folder = Path(source)
    local = folder.is_dir()
    text = config.get_text_config()
    return ModelIdentity(
        name=folder.resolve().name if local else source,
        revision=_weights(folder) if local else str(config._commit_hash),
        family=family,
        layers=text.num_hidden_layers,
        hidden_size=text.hidden_size,
        dtype=dtype,
        engine=engine,
        processor_hash=_sha256(_processor_files(source)),
        chat_template_hash=hashlib.sha256(
            (getattr(processor, "chat_template", None) or family).encode()
        ).hexdigest(),
    )


def _weights(folder: Path) -> str:
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise EngineError(f"model: {folder.name} holds no .safetensors weights")
    return _sha256(files)


def _processor_files(source: str) -> list[Path]:
    found = (
        cached_file(
            source,
            name,
            _raise_exceptions_for_missing_entries=False,
            _raise_exceptions_for_connection_errors=False,
        )
        for name in PROCESSOR_FILES
    )
    return [Path(path) for path in found if path is not None]


def _sha256(files: Iterable[Path]) -> str:
    """One hash over the files' names and bytes, in their order."""
    whole = hashlib.sha256()
    for path in files:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        whole.update(f"{path.name} {digest}\n".encode())
    return whole.hexdigest()
