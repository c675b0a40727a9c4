"""Whole images through a network of patches: cut, run in batches, average the overlaps.

Twice, on the same positions and weights. `map_patches` takes images of any sizes as a stream: all
of them share batches, and of an image nothing but sums is kept. `GridAxis` cuts and joins all
patches of images of one size by lists of indices, which an exporter can trace; to score that way
would keep every patch until its image is done.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from typing import Generic, TypeVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

Tag = TypeVar("Tag")

# Every batch has exactly this many patches, the last one filled up: the kernels that torch
# picks, and with them the last bits of a result, depend on the batch's shape. Larger batches are
# hardly faster and waste more on the filling.
BATCH_SIZE = 16


def positions(size: int, patch_size: int, stride: int) -> list[int]:
    """Starts of the patches along one axis; the last patch ends at the border."""
    last = size - patch_size
    return [*range(0, last, stride), last]


@lru_cache(maxsize=16)
def overlap_weights(patch_size: int) -> np.ndarray:
    """What each pixel of a patch weighs in the average, along one axis; float64.

    A Hann window: a network knows least at the patch's border, where what it would have to
    go on lies outside. At half pixels, so that no weight is 0.
    """
    return np.asarray(np.sin(np.pi * (np.arange(patch_size) + 0.5) / patch_size) ** 2)


def total_weights(size: int, patch_size: int, stride: int) -> np.ndarray:
    """Weights at each pixel of an axis, summed over the patches that cover it."""
    totals = np.zeros(size)
    for start in positions(size, patch_size, stride):
        totals[start : start + patch_size] += overlap_weights(patch_size)
    return totals


def pad_to_patch(planes: Tensor, patch_size: int) -> Tensor:
    """Planes (c, h, w), replicated outwards on all sides until both are a patch long."""
    top, left = _margins(planes.shape[1:], patch_size)
    bottom = max(0, patch_size - planes.shape[1] - top)
    right = max(0, patch_size - planes.shape[2] - left)
    if top == left == bottom == right == 0:
        return planes
    return F.pad(planes[None], (left, right, top, bottom), mode="replicate")[0]


def _margins(size: Iterable[int], patch_size: int) -> tuple[int, int]:
    top, left = (max(0, patch_size - side) // 2 for side in size)
    return top, left


class _Overlap(Generic[Tag]):
    """One image while its patches are on their way, and the average of what came back."""

    def __init__(
        self, tag: Tag, image: Tensor, patch_size: int, stride: int, log_mean: bool
    ) -> None:
        self.tag = tag
        self.image = image
        self.padded = pad_to_patch(image, patch_size)
        self.patch_size = patch_size
        height, width = self.padded.shape[1:]
        self.corners = [
            (y, x)
            for y in positions(height, patch_size, stride)
            for x in positions(width, patch_size, stride)
        ]
        self.missing = len(self.corners)
        self.log_mean = log_mean
        self.total: Tensor | None = None
        weights = np.outer(overlap_weights(patch_size), overlap_weights(patch_size))
        self.weights = torch.from_numpy(np.log(weights) if log_mean else weights).to(image)
        self.sums = [total_weights(side, patch_size, stride) for side in (height, width)]

    def patch(self, y: int, x: int) -> Tensor:
        return self.padded[:, y : y + self.patch_size, x : x + self.patch_size]

    def add(self, y: int, x: int, values: Tensor) -> None:
        if self.total is None:
            empty = -torch.inf if self.log_mean else 0.0
            shape = (len(values), *self.padded.shape[1:])
            self.total = torch.full(shape, empty, dtype=torch.float32, device=values.device)
        window = (slice(y, y + self.patch_size), slice(x, x + self.patch_size))
        covered = self.total[:, *window]
        if self.log_mean:
            torch.logaddexp(covered, values + self.weights, out=covered)
        else:
            covered.addcmul_(values, self.weights)
        self.missing -= 1

    def result(self) -> Tensor:
        assert self.total is not None
        mean = self.total
        for sums, shape in zip(self.sums, ((-1, 1), (1, -1)), strict=True):
            along = torch.from_numpy(np.log(sums) if self.log_mean else sums).to(mean).view(shape)
            mean = mean.sub_(along) if self.log_mean else mean.div_(along)
        top, left = _margins(self.image.shape[1:], self.patch_size)
        height, width = self.image.shape[1:]
        return mean[:, top : top + height, left : left + width]


def map_patches(
    images: Iterable[tuple[Tag, Tensor]],
    function: Callable[[Tensor], Tensor],
    *,
    patch_size: int,
    stride: int,
    log_mean: bool = False,
) -> Iterator[tuple[Tag, Tensor, Tensor]]:
    """Apply a function of patches to overlapping patches of whole images.

    Parameters
    ----------
    images : iterable of pairs (object, Tensor (c, h, w))
        Each with a tag that comes back with it. Taken one at a time, as patches are needed.
    function : callable
        Patches (BATCH_SIZE, c, p, p) to values (BATCH_SIZE, k, p, p).
    patch_size, stride : int
        Side of the patches and step between them, in pixels.
    log_mean : bool, default=False
        Values are logarithms, and what they are logarithms of is averaged.

    Yields
    ------
    tag, image, mean : object, Tensor (c, h, w) and Tensor (k, h, w)
        The tag and the image, and the weighted mean (`overlap_weights`) of the values of the
        patches that cover each pixel.
    """
    waiting: deque[_Overlap[Tag]] = deque()
    batch: list[tuple[_Overlap[Tag], int, int]] = []
    for tag, image in images:
        overlap = _Overlap(tag, image, patch_size, stride, log_mean)
        waiting.append(overlap)
        for y, x in overlap.corners:
            batch.append((overlap, y, x))
            if len(batch) == BATCH_SIZE:
                _run(batch, function)
                batch.clear()
        while waiting and waiting[0].missing == 0:
            done = waiting.popleft()
            yield done.tag, done.image, done.result()
    if batch:
        _run(batch, function)
    for done in waiting:
        yield done.tag, done.image, done.result()


def _run(batch: list[tuple[_Overlap[Tag], int, int]], function: Callable[[Tensor], Tensor]) -> None:
    patches = torch.stack([overlap.patch(y, x) for overlap, y, x in batch])
    filling = BATCH_SIZE - len(patches)
    if filling:
        patches = torch.cat([patches, patches[-1:].expand(filling, -1, -1, -1)])
    values = function(patches)
    for (overlap, y, x), value in zip(batch, values, strict=False):
        overlap.add(y, x, value)


class GridAxis(nn.Module):
    """The patches along one axis of an image, as lists of indices.

    Parameters
    ----------
    size : int
        Length of the axis. Less than a patch is replicated outwards on both sides.
    patch_size, stride : int
    """

    source: Tensor
    places: Tensor
    shares: Tensor

    def __init__(self, size: int, patch_size: int, stride: int) -> None:
        super().__init__()
        self.size = size
        margin, _ = _margins((size, size), patch_size)
        starts = np.array(positions(max(size, patch_size), patch_size, stride)) - margin
        self.n_patches = len(starts)
        source = np.clip(starts[:, None] + np.arange(patch_size), 0, size - 1)
        self.register_buffer("source", torch.from_numpy(source.ravel()))
        # Where a pixel lies in the patches laid end to end; those that do not cover it
        # have the one place after the end.
        offset = np.arange(size)[:, None] - starts
        covers = (offset >= 0) & (offset < patch_size)
        weights = np.where(covers, overlap_weights(patch_size)[offset.clip(0, patch_size - 1)], 0)
        shares = weights / weights.sum(axis=1, keepdims=True)
        places = np.where(covers, np.arange(self.n_patches) * patch_size + offset, source.size)
        # Those that cover it first, up to as many as cover any pixel.
        order = np.argsort(~covers, axis=1, kind="stable")[:, : covers.sum(axis=1).max()]
        places, shares = (np.take_along_axis(array, order, axis=1) for array in (places, shares))
        self.register_buffer("places", torch.from_numpy(places.ravel()))
        self.register_buffer("shares", torch.from_numpy(shares.astype(np.float32)))

    def cut(self, planes: Tensor, dim: int) -> Tensor:
        """Axis `dim` of the planes becomes two: patches, and pixels in a patch."""
        return planes.index_select(dim, self.source).unflatten(dim, (self.n_patches, -1))

    def join(self, grid: Tensor, dim: int, log_mean: bool) -> Tensor:
        """Undo `cut`: the weighted mean, for each pixel, of what the patches say of it."""
        values = grid.flatten(dim, dim + 1).movedim(dim, -1)
        values = F.pad(values, (0, 1), value=-torch.inf if log_mean else 0.0)
        values = values.index_select(-1, self.places).unflatten(-1, (self.size, -1))
        if log_mean:
            means = (values + self.shares.log()).logsumexp(-1)
        else:
            means = (values * self.shares).sum(-1)
        return means.movedim(-1, dim)
