"""Examples of the images of a fit: a few crops, and kept images or windows of them.

A detector holds them as arrays of bytes or of half floats, at the network's scale, so that it can
learn more good images later without forgetting the earlier ones.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TypedDict

import numpy as np
import torch
from torch import Tensor

from sklearn_ssimae._training.crops import stacked, turned

# Bytes of either kind, 3 MB together.
_BYTES = 1_480_000
# Crops at most, of small patches.
_MOST_CROPS = 256
# Mean deviation within the planes below which steps of 1 / 255 would be seen: bits of a camera of
# 12 bits whose values are stored in 16, say.
_FLAT = 0.03
_GREATEST = float(np.finfo(np.float16).max)


class Examples(TypedDict):
    """What is stored: crops (n, c, p, p), and planes (c, h, w) of kept images.

    Planes have one plane more, the last, where some of them does not count.
    """

    crops: np.ndarray
    kept: list[np.ndarray]


def as_stored(planes: Tensor, n_channels: int) -> np.ndarray:
    """Planes (..., c, h, w) as bytes, or as half floats if they need finer or other values."""
    values = planes.numpy()
    shown = values[..., :n_channels, :, :]
    if shown.min() >= 0 and shown.max() <= 1 and shown.std(axis=(-2, -1)).mean() >= _FLAT:
        return np.rint(255 * values).astype(np.uint8)
    return values.clip(-_GREATEST, _GREATEST).astype(np.float16)


def as_planes(stored: np.ndarray) -> Tensor:
    """Undo `as_stored`."""
    factor = np.float32(1 / 255 if stored.dtype == np.uint8 else 1)
    return torch.from_numpy(stored.astype(np.float32) * factor)


def n_crops(patch_size: int, n_channels: int) -> int:
    """How many crops are worth drawing; 0 if one is too large to be stored."""
    return min(_MOST_CROPS, _BYTES // (n_channels * patch_size**2))


def stored_crops(crops: Sequence[Tensor], n_channels: int, rng: np.random.Generator) -> np.ndarray:
    """As many of the crops (c, p, p) as there is room for, by chance."""
    stored = as_stored(stacked(list(crops), n_channels), n_channels)
    room = min(_MOST_CROPS, _BYTES // stored[:1].nbytes)
    return stored[np.sort(rng.permutation(len(stored))[:room])]


def stored_windows(
    images: Iterator[Tensor], n_images: int, patch_size: int, n_channels: int,
    rng: np.random.Generator,
) -> list[np.ndarray]:  # fmt: skip
    """Kept images (c, h, w), one at a time, whole if all fit; else windows of them.

    A window has a patch's area at least. If there is no room for one of each, some have none.
    """
    n_windows = min(n_images, _BYTES // (2 * (n_channels + 1) * patch_size**2))
    chosen = set(rng.permutation(n_images)[:n_windows].tolist())
    return [
        _window(as_stored(planes, n_channels), _BYTES // n_windows, patch_size, rng)
        for index, planes in enumerate(images)
        if index in chosen
    ]


def _window(
    stored: np.ndarray, n_bytes: int, patch_size: int, rng: np.random.Generator
) -> np.ndarray:
    """Rows and columns of the image's proportions, as far as they reach a patch's side."""
    n_planes, height, width = stored.shape
    area = n_bytes // (n_planes * stored.itemsize)
    rows = min(height, max(patch_size, math.isqrt(area * height // width)))
    columns = min(width, max(patch_size, area // rows))
    rows = min(height, area // columns)
    top, left = rng.integers(height - rows + 1), rng.integers(width - columns + 1)
    return stored[:, top : top + rows, left : left + columns].copy()


def mixed_batches(
    new: Sequence[Tensor], earlier: Sequence[Tensor], *, n_batches: int, batch_size: int,
    n_channels: int, augment: bool, rng: np.random.Generator,
) -> Iterator[Tensor]:  # fmt: skip
    """Batches (n, c, p, p), as of `CropSampler`; half of each are new crops, half earlier ones."""
    n_new = math.ceil(batch_size / 2)
    for _ in range(n_batches):
        chosen = [
            *(new[index] for index in rng.integers(len(new), size=n_new)),
            *(earlier[index] for index in rng.integers(len(earlier), size=batch_size - n_new)),
        ]
        if augment:
            chosen = [turned(crop, int(rng.integers(8))) for crop in chosen]
        # Corruption takes texture from the next crop: from those of the other half as well.
        yield stacked([chosen[index] for index in rng.permutation(len(chosen))], n_channels)


def crops_around(
    planes: Tensor, marked: np.ndarray, n_crops: int, patch_size: int, rng: np.random.Generator
) -> list[Tensor]:
    """Crops (c, p, p): three quarters of them show a marked pixel, the others lie anywhere.

    Parameters
    ----------
    planes : Tensor (c, h, w)
        At least as large as a patch.
    marked : array of bool (h, w)
    """
    sides = np.array(marked.shape)
    places = np.flatnonzero(marked)
    crops = []
    for number in range(n_crops):
        centre = rng.integers(sides)
        if len(places) and number % 4:
            centre = np.array(divmod(int(places[rng.integers(len(places))]), int(sides[1])))
            centre = centre + rng.integers(-patch_size // 3, patch_size // 3 + 1, size=2)
        y, x = (centre - patch_size // 2).clip(0, sides - patch_size)
        crops.append(planes[:, y : y + patch_size, x : x + patch_size].clone())
    return crops
