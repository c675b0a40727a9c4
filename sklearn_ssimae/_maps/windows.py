"""Weighted means over a window around every pixel.

Products with a banded matrix that holds the window's weights and the mirrored border. No
running sum is kept, so nothing drifts, and every window shape costs the same.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import lru_cache
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

Window = Literal["uniform", "gaussian"]

# Rows and columns that one banded matrix puts out: small blocks waste less on the zeros
# beside the band, large ones make better matrix products. Elsewhere than on a CPU, where a
# product more costs more than products with zeros, they are large.
_ROWS = 16
_COLUMNS = 32
_BLOCK_ELSEWHERE = 256
# Pixels of a strip for each thread of a CPU, about: the eight maps that SSIM takes of them, 4 MiB,
# stay in its caches.
_STRIP_PIXELS = 2**17


class _Block(NamedTuple):
    """``out[block.out] = block.matrix @ in[block.source]`` along one axis."""

    out: slice
    source: slice
    matrix: Tensor


class Strip:
    """Some rows of some images, with room for `n_maps` maps of them.

    Memory that was written to a moment ago is in the cache: the maps, their window means and
    what is computed of these take two buffers, (2, ...), that all strips share.
    """

    def __init__(
        self, images: slice, rows: list[_Block], columns: list[_Block], buffers: Tensor, n_maps: int
    ) -> None:
        self.images = images
        self.rows = slice(rows[0].out.start, rows[-1].out.stop)
        #: Rows of the images that the windows of `rows` reach.
        self.source = slice(rows[0].source.start, rows[-1].source.stop)
        self._blocks = rows, columns
        self._others = (n_maps, images.stop - images.start, columns[-1].out.stop)
        self._buffers = buffers

    @property
    def maps(self) -> Tensor:
        """What the window means are taken of, to be filled: (source, n_maps, n, w)."""
        return self._view(0, self.source)

    def filter(self) -> tuple[Tensor, Tensor]:
        """The window means of `maps`, in their place, and free memory of the same shape.

        Both are of shape (rows, n_maps, n, w).
        """
        rows, columns = self._blocks
        width = self._others[-1]
        maps, across = self.maps.view(-1, width), self._view(1, self.source).view(-1, width)
        for block in columns:
            # Written to, since autocast then leaves the product in full precision.
            torch.mm(maps[:, block.source], block.matrix.T, out=across[:, block.out])
        across = across.view(self.source.stop - self.source.start, -1)
        means = self._view(0, self.rows)
        flat = means.view(len(means), -1)
        for block in rows:
            torch.mm(
                block.matrix,
                across[_moved(block.source, self.source)],
                out=flat[_moved(block.out, self.rows)],
            )
        return means, self._view(1, self.rows)

    def _view(self, buffer: int, rows: slice) -> Tensor:
        shape = (rows.stop - rows.start, *self._others)
        return self._buffers[buffer, : math.prod(shape)].view(shape)


def _moved(rows: slice, origin: slice) -> slice:
    return slice(rows.start - origin.start, rows.stop - origin.start)


class WindowMean:
    """Weighted mean over a window around every pixel; a linear map of images.

    It is its own adjoint: a symmetric window between mirrors is a symmetric matrix.

    One axis is filtered by products of banded matrices with blocks of the image. Images lie
    row by row, (h, ..., w): then one product filters all of them.
    """

    def __init__(self, window_size: int, window: Window, sigma: float) -> None:
        self.weights = _window_weights(window_size, window, sigma)

    def __call__(self, images: Tensor) -> Tensor:
        """Filter the last two axes; not seen by autograd."""
        out = torch.empty_like(images, memory_format=torch.contiguous_format)
        planes, filtered = by_rows(images), by_rows(out)
        for strip in self.strips(planes, 1):
            strip.maps[:, 0] = planes[strip.source, strip.images]
            filtered[strip.rows, strip.images] = strip.filter()[0][:, 0]
        return out

    def strips(self, planes: Tensor, n_maps: int) -> Iterator[Strip]:
        """What makes up planes (h, n, w), with room for maps of them."""
        height, n_images, width = planes.shape
        rows = self._blocks(height, _ROWS, planes)
        columns = self._blocks(width, _COLUMNS, planes)
        n_blocks, n_together = len(rows), n_images
        if planes.device.type == "cpu":
            n_pixels = _STRIP_PIXELS * torch.get_num_threads()
            n_blocks = max(1, min(n_blocks, n_pixels // (_ROWS * width)))
            n_together = max(1, min(n_images, n_pixels // (n_blocks * _ROWS * width)))
        strips = [rows[i : i + n_blocks] for i in range(0, len(rows), n_blocks)]
        n_rows = max(strip[-1].source.stop - strip[0].source.start for strip in strips)
        buffers = planes.new_empty(2, n_rows * n_maps * n_together * width)
        for first in range(0, n_images, n_together):
            images = slice(first, min(first + n_together, n_images))
            for strip in strips:
                yield Strip(images, strip, columns, buffers, n_maps)

    def _blocks(self, size: int, block: int, like: Tensor) -> list[_Block]:
        return _banded(self.weights, size, block, like.dtype, like.device)


def by_rows(images: Tensor) -> Tensor:
    """Images (..., h, w) as planes (h, n, w); a view where the memory allows it."""
    return images.reshape(-1, *images.shape[-2:]).transpose(0, 1)


class TraceableWindowMean(WindowMean):
    """The same in operations that torch can follow: no buffer is written to."""

    def __call__(self, images: Tensor) -> Tensor:
        """Filter the last two axes."""
        height, width = images.shape[-2:]
        rows = self._blocks(height, _ROWS, images)
        columns = self._blocks(width, _COLUMNS, images)
        parts = [images[..., block.source] @ block.matrix.T for block in columns]
        across = torch.cat(parts, dim=-1)
        parts = [block.matrix @ across[..., block.source, :] for block in rows]
        return torch.cat(parts, dim=-2)

    def _blocks(self, size: int, block: int, like: Tensor) -> list[_Block]:
        # The cache must not keep a tracer's tensors.
        return _banded.__wrapped__(self.weights, size, block, like.dtype, like.device)


def make_window_mean(window_size: int, window: Window, sigma: float) -> WindowMean:
    """The window mean that suits where it is called: followed by torch, or not.

    Exporters, compilers and the transforms of `torch.func` follow neither buffers that are
    written to nor the package's autograd functions.
    """
    # torch has no public name for the second; torch.autograd.Function asks the same.
    followed = torch.compiler.is_compiling() or torch._C._are_functorch_transforms_active()
    return (TraceableWindowMean if followed else WindowMean)(window_size, window, sigma)


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
    if device.type != "cpu":
        block = _BLOCK_ELSEWHERE
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
        blocks.append(_Block(slice(start, stop), slice(low, high), tensor))
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
