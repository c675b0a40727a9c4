"""Weighted means over a window around every pixel.

Products with a banded matrix that holds the window's weights and the mirrored border. No
running sum is kept, so nothing drifts, and every window shape costs the same.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import Literal

import numpy as np
import torch
from torch import Tensor

Window = Literal["uniform", "gaussian"]
_Block = tuple[int, int, int, int, Tensor]

# Outputs of one banded matrix. Small blocks waste less on the zeros beside the band, large
# ones make better matrix products.
_BLOCK = 64


class WindowMean:
    """Weighted mean over a window around every pixel; a linear map of images.

    It is its own adjoint: a symmetric window between mirrors is a symmetric matrix.

    One axis is filtered by products of banded matrices with blocks of the image. A block
    (start, stop, low, high, matrix) means ``out[start:stop] = matrix @ in[low:high]``.
    """

    def __init__(self, window_size: int, window: Window, sigma: float) -> None:
        self.weights = _window_weights(window_size, window, sigma)

    def __call__(self, images: Tensor) -> Tensor:
        """Filter the last two axes of a contiguous tensor; not seen by autograd."""
        height, width = images.shape[-2:]
        planes = images.reshape(-1, height, width)
        across = self._along_width(planes)
        out = torch.empty_like(planes)
        for start, stop, low, high, matrix in self._blocks(height, planes):
            torch.bmm(
                matrix.expand(len(planes), *matrix.shape),
                across[:, low:high],
                out=out[:, start:stop],
            )
        return out.view(images.shape)

    def strips(self, images: Tensor) -> Iterator[tuple[slice, slice, Tensor]]:
        """Rows of the result, the rows of images that they come from, and what `strip` needs."""
        for start, stop, low, high, matrix in self._blocks(images.shape[-2], images):
            yield slice(start, stop), slice(low, high), matrix

    def strip(self, rows: Tensor, matrix: Tensor) -> Tensor:
        """One strip of the result, from contiguous rows (..., high - low, w)."""
        planes = rows.reshape(-1, *rows.shape[-2:])
        out = torch.bmm(matrix.expand(len(planes), *matrix.shape), self._along_width(planes))
        return out.view(*rows.shape[:-2], *out.shape[-2:])

    def _along_width(self, planes: Tensor) -> Tensor:
        width = planes.shape[-1]
        across = torch.empty_like(planes)
        for start, stop, low, high, matrix in self._blocks(width, planes):
            torch.mm(
                planes.view(-1, width)[:, low:high],
                matrix.T,
                out=across.view(-1, width)[:, start:stop],
            )
        return across

    def _blocks(self, size: int, like: Tensor) -> list[_Block]:
        return _banded(self.weights, size, like.dtype, like.device)


class TraceableWindowMean(WindowMean):
    """The same in operations that an exporter can follow: no buffer is written to."""

    def __call__(self, images: Tensor) -> Tensor:
        """Filter the last two axes."""
        height, width = images.shape[-2:]
        columns, rows = self._blocks(width, images), self._blocks(height, images)
        parts = [images[..., low:high] @ matrix.T for *_, low, high, matrix in columns]
        across = torch.cat(parts, dim=-1)
        parts = [matrix @ across[..., low:high, :] for *_, low, high, matrix in rows]
        return torch.cat(parts, dim=-2)

    def _blocks(self, size: int, like: Tensor) -> list[_Block]:
        # The cache must not keep a tracer's tensors.
        return _banded.__wrapped__(self.weights, size, like.dtype, like.device)


def _window_weights(window_size: int, window: Window, sigma: float) -> tuple[float, ...]:
    if window == "uniform":
        return (1 / window_size,) * window_size
    offsets = np.arange(window_size) - window_size // 2
    weights = np.exp(-0.5 * (offsets / sigma) ** 2)
    return tuple((weights / weights.sum()).tolist())


@lru_cache(maxsize=64)
def _banded(
    weights: tuple[float, ...],
    size: int,
    dtype: torch.dtype,
    device: torch.device,
) -> list[_Block]:
    radius = len(weights) // 2
    blocks = []
    for start in range(0, size, _BLOCK):
        stop = min(start + _BLOCK, size)
        low, high = max(0, start - radius), min(size, stop + radius)
        matrix = _window_rows(weights, size, start, stop)[:, low:high]
        tensor = torch.from_numpy(np.ascontiguousarray(matrix)).to(device, dtype)
        blocks.append((start, stop, low, high, tensor))
    return blocks


def _window_rows(weights: tuple[float, ...], size: int, start: int, stop: int) -> np.ndarray:
    """Rows start to stop of the (size, size) matrix of the window mean along one axis."""
    radius = len(weights) // 2
    output = np.arange(start, stop)[:, None]
    # Mirrored coordinates repeat with period 2 * size: 0 .. size-1, size-1 .. 0.
    source = (output + np.arange(-radius, radius + 1)) % (2 * size)
    source = np.minimum(source, 2 * size - 1 - source)
    rows = np.zeros((stop - start, size))
    np.add.at(rows, (output - start, source), weights)
    return rows
