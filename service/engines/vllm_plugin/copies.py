"""Copies of a step's values to the host, in buffers that are used again and again."""

from __future__ import annotations

import torch
from torch import Tensor

from probes.types import FloatArray


class Copies:
    """Starts copies from one device.

    A buffer is taken again only after its copy was waited for. A copy that nobody waits for takes
    its buffer along, and a new one is made when none is free.

    Args:
        device: where the values lie.
    """

    def __init__(self, device: torch.device) -> None:
        self._cuda = device.type == "cuda"
        self._free: list[_Buffer] = []
        """Given back by the thread that waits; taking and giving back are one operation each."""

    def __len__(self) -> int:
        return len(self._free)

    def start(self, values: Tensor) -> Copy:
        """Start a copy, in the order of the current stream.

        Args:
            values: (entries,), float32.
        """
        size = values.numel()
        try:
            buffer = self._free.pop()
        except IndexError:
            buffer = _Buffer(size, self._cuda)
        if len(buffer) < size:
            buffer = _Buffer(size, self._cuda)
        buffer.fill(values)
        return Copy(buffer, size, self._free)


class Copy:
    """A copy on its way; :meth:`wait` once."""

    def __init__(self, buffer: _Buffer, size: int, free: list[_Buffer]) -> None:
        self._buffer: _Buffer | None = buffer
        self._size = size
        self._free = free

    @property
    def done(self) -> bool:
        """Whether :meth:`wait` has nothing to wait for."""
        return self._buffer is not None and self._buffer.done

    def wait(self) -> FloatArray:
        """The values, (entries,), float32, in memory of their own."""
        buffer, self._buffer = self._buffer, None
        assert buffer is not None, "waited for twice"
        found = buffer.values(self._size)
        self._free.append(buffer)
        return found


class _Buffer:
    """Memory of the host that a GPU writes to by itself, and the event that ends its writing."""

    def __init__(self, size: int, cuda: bool) -> None:
        # Sizes of steps differ: a power of two fits most of those to come.
        room = 1 << max(size - 1, 0).bit_length()
        self._memory = torch.empty(room, dtype=torch.float32, pin_memory=cuda)
        self._array: FloatArray = self._memory.numpy()
        self._copied: torch.cuda.Event | None = None
        if cuda:
            self._copied = torch.cuda.Event(blocking=True)  # type: ignore[no-untyped-call]

    def __len__(self) -> int:
        return len(self._array)

    def fill(self, values: Tensor) -> None:
        self._memory[: values.numel()].copy_(values, non_blocking=True)
        if self._copied is not None:
            self._copied.record()

    @property
    def done(self) -> bool:
        return self._copied is None or bool(self._copied.query())  # type: ignore[no-untyped-call]

    def values(self, size: int) -> FloatArray:
        if self._copied is not None:
            self._copied.synchronize()
        return self._array[:size].copy()
