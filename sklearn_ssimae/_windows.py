"""Weighted means over a window around every pixel.

Products with a banded matrix that holds the window's weights and the mirrored border. No
running sum is kept, so nothing drifts, and every window shape costs the same.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

Window = Literal["uniform", "gaussian"]
_Block = tuple[int, int, int, int, Tensor]

# Outputs of one banded matrix. Small blocks waste less on the zeros beside the band, large
# ones make better matrix products, and strips that share fewer rows with their neighbours.
_ROWS = 64
_COLUMNS = 32
# The same elsewhere than on a CPU, where a product more costs more than products with zeros.
_BLOCK_ELSEWHERE = 256
# Pixels of a strip on a CPU, about: what is computed of one stays in the cache.
_STRIP_PIXELS = 2**17


class Strip(NamedTuple):
    """Some rows of some images, and what they are the window means of."""

    images: slice
    rows: slice
    #: Rows of the images that the windows of `rows` reach.
    source: slice
    matrix: Tensor


class WindowMean:
    """Weighted mean over a window around every pixel; a linear map of images.

    It is its own adjoint: a symmetric window between mirrors is a symmetric matrix.

    One axis is filtered by products of banded matrices with blocks of the image. A block
    (start, stop, low, high, matrix) means ``out[start:stop] = matrix @ in[low:high]``.
    Images lie row by row, (h, ..., w): then one product filters all of them.
    """

    def __init__(self, window_size: int, window: Window, sigma: float) -> None:
        self.weights = _window_weights(window_size, window, sigma)

    def __call__(self, images: Tensor) -> Tensor:
        """Filter the last two axes; not seen by autograd."""
        planes = by_rows(images)
        out = torch.empty_like(images, memory_format=torch.contiguous_format)
        for strip in self.strips(planes):
            source = planes[strip.source, strip.images].contiguous()
            by_rows(out)[strip.rows, strip.images] = self.strip(source, strip)
        return out

    def strips(self, planes: Tensor) -> Iterator[Strip]:
        """What makes up planes (h, n, w)."""
        height, n_images, width = planes.shape
        on_cpu = planes.device.type == "cpu"
        n_together = max(1, _STRIP_PIXELS // (_ROWS * width)) if on_cpu else n_images
        for first in range(0, n_images, n_together):
            for start, stop, low, high, matrix in self._blocks(height, _ROWS, planes):
                images = slice(first, first + n_together)
                yield Strip(images, slice(start, stop), slice(low, high), matrix)

    def strip(self, source: Tensor, strip: Strip) -> Tensor:
        """Window means (rows, ..., w) of contiguous source rows (source, ..., w)."""
        width = source.shape[-1]
        across = torch.empty_like(source)
        for start, stop, low, high, matrix in self._blocks(width, _COLUMNS, source):
            torch.mm(
                source.view(-1, width)[:, low:high],
                matrix.T,
                out=across.view(-1, width)[:, start:stop],
            )
        means = source.new_empty(len(strip.matrix), *source.shape[1:])
        # Written to, since autocast then leaves the product in full precision.
        torch.mm(strip.matrix, across.view(len(source), -1), out=means.view(len(means), -1))
        return means

    def _blocks(self, size: int, block: int, like: Tensor) -> list[_Block]:
        block = block if like.device.type == "cpu" else _BLOCK_ELSEWHERE
        return _banded(self.weights, size, block, like.dtype, like.device)


def by_rows(images: Tensor) -> Tensor:
    """Images (..., h, w) as planes (h, n, w); a view where the memory allows it."""
    return images.reshape(-1, *images.shape[-2:]).transpose(0, 1)


class TraceableWindowMean(WindowMean):
    """The same in operations that an exporter can follow: no buffer is written to."""

    def __call__(self, images: Tensor) -> Tensor:
        """Filter the last two axes."""
        height, width = images.shape[-2:]
        columns = self._blocks(width, _COLUMNS, images)
        rows = self._blocks(height, _ROWS, images)
        parts = [images[..., low:high] @ matrix.T for *_, low, high, matrix in columns]
        across = torch.cat(parts, dim=-1)
        parts = [matrix @ across[..., low:high, :] for *_, low, high, matrix in rows]
        return torch.cat(parts, dim=-2)

    def _blocks(self, size: int, block: int, like: Tensor) -> list[_Block]:
        # The cache must not keep a tracer's tensors.
        return _banded.__wrapped__(self.weights, size, block, like.dtype, like.device)


def make_window_mean(window_size: int, window: Window, sigma: float) -> WindowMean:
    """The window mean that suits where it is called: in a model that is being traced, or not."""
    kind = TraceableWindowMean if torch.compiler.is_compiling() else WindowMean
    return kind(window_size, window, sigma)


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
    block: int,
    dtype: torch.dtype,
    device: torch.device,
) -> list[_Block]:
    radius = len(weights) // 2
    blocks = []
    inner: Tensor | None = None  # that of all blocks which no border is near
    for start in range(0, size, block):
        stop = min(start + block, size)
        low, high = max(0, start - radius), min(size, stop + radius)
        is_inner = high - low == block + 2 * radius
        if is_inner and inner is not None:
            tensor = inner
        else:
            matrix = _window_rows(weights, size, start, stop)[:, low:high]
            tensor = torch.from_numpy(np.ascontiguousarray(matrix)).to(device, dtype)
            inner = tensor if is_inner else inner
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
