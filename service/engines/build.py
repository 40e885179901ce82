"""The engine by its name in the settings."""

from __future__ import annotations

from probes.model.bundle import Bundle
from probes.readouts import default_layers
from service.engines.base import Engine, EngineError
from service.engines.fake import FakeEngine
from service.engines.vllm.options import VllmOptions
from service.settings import Settings, load_settings

ENGINES: tuple[str, ...] = ("transformers", "vllm", "fake")
COLLECT_BATCH = 64
"""Rows generated together while collecting: nobody waits for a single answer."""
COLLECT_WAIT_SECONDS = 0.1
"""A batch waits so long for questions that are being prepared, to be a full one."""
CALLS_PER_QUESTION = 64
"""Room in the engine's queue for a question's samples and masked images: more than any has."""


def build_engine(
    engine: str,
    model: str,
    *,
    device: str = "auto",
    dtype: str = "auto",
    max_batch_size: int = 16,
    batch_wait_seconds: float = 0.004,
    queue_size: int = 256,
    vllm: VllmOptions | None = None,
    layers: tuple[int, ...] | None = None,
    attention_layers: tuple[int, ...] | None = None,
) -> Engine:
    """An engine that is not started yet; the model is loaded by ``start()``.

    Args:
        engine: one of :data:`ENGINES`.
        model: folder or hub name; the fake engine has none and ignores it.
        vllm: arguments of vLLM.
        layers: hidden-state indices that vLLM is to be able to read; ``None``: those that
            collection reads unless told otherwise.
        attention_layers: decoder layers likewise; ``None``: all.

    The rest are TransformersEngine's. Raises EngineError for another name, or when the engine's
    packages are not installed.
    """
    if engine == "fake":
        return FakeEngine(capacity=queue_size)
    if engine == "transformers":
        try:
            from service.engines.transformers.engine import TransformersEngine
        except ImportError as error:
            raise EngineError(
                f"engine: transformers needs the package {error.name}; "
                "install vlm-gate with the extra 'transformers'"
            ) from error
        return TransformersEngine(
            model,
            device=device,
            dtype=dtype,
            max_batch_size=max_batch_size,
            batch_wait_seconds=batch_wait_seconds,
            queue_size=queue_size,
        )
    if engine == "vllm":
        try:
            from service.engines.vllm.engine import VllmEngine
        except ImportError as error:
            raise EngineError(
                f"engine: vllm needs the package {error.name}; "
                "install vlm-gate with the extra 'vllm'"
            ) from error
        return VllmEngine(
            model,
            dtype=dtype.partition("+")[0],
            options=vllm,
            layers=layers,
            attention_layers=attention_layers,
            queue_size=queue_size,
        )
    raise EngineError(f"engine: {engine!r} is not one of {', '.join(ENGINES)}")


def serving_engine(settings: Settings, bundle: Bundle) -> Engine:
    """The engine of the settings, for a bundle: as it computes and reads. Raises EngineError.

    vLLM is armed for the layers that collection reads as well, so that a bundle trained on another
    of them can take this one's place without a restart.
    """
    own = bundle.readout
    layers = tuple(sorted({*own.layers, *default_layers(bundle.model.layers)}))
    return build_engine(
        settings.engine,
        settings.model,
        device=settings.device,
        dtype=bundle.model.dtype if settings.dtype == "auto" else settings.dtype,
        queue_size=CALLS_PER_QUESTION * settings.max_inflight,  # who was admitted is answered
        vllm=vllm_options(settings),
        layers=layers,
        attention_layers=own.attention_layers,
    )


def collection_engine(
    model: str | None = None,
    *,
    batch: int = COLLECT_BATCH,
    in_flight: int = COLLECT_BATCH,
    layers: tuple[int, ...] | None = None,
) -> Engine:
    """The engine of the settings as the offline commands use it: large batches.

    The transformers engine computes in float32 unless told otherwise, vLLM as the checkpoint says.

    Args:
        model: folder or hub name; the settings' if None.
        batch: most rows generated together.
        in_flight: most questions that will be asked at once.
        layers: hidden-state indices that will be read, see :func:`build_engine`.

    Raises EngineError, and SettingsError for a setting that cannot be used.
    """
    settings = load_settings()
    exact = settings.dtype == "auto" and settings.engine != "vllm"
    return build_engine(
        settings.engine,
        model or settings.model,
        device=settings.device,
        dtype="float32" if exact else settings.dtype,
        max_batch_size=batch,
        batch_wait_seconds=COLLECT_WAIT_SECONDS,
        queue_size=CALLS_PER_QUESTION * in_flight,
        vllm=vllm_options(settings),
        layers=layers,
    )


def vllm_options(settings: Settings) -> VllmOptions:
    """vLLM's arguments as the settings have them."""
    return VllmOptions(
        quantization=settings.vllm_quantization,
        tensor_parallel_size=settings.vllm_tensor_parallel_size,
        gpu_memory_utilization=settings.vllm_gpu_memory_utilization,
        max_model_len=settings.vllm_max_model_len,
        max_num_seqs=settings.vllm_max_num_seqs,
        enforce_eager=settings.vllm_enforce_eager,
        arguments=settings.vllm_arguments,
    )
