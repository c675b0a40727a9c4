"""Pixels that do not count: outside the region, transparent, or marked as defects in training.

Planes (c, h, w) of an image of which some pixels do not count have one plane more, the last: 1
where a pixel counts and 0 elsewhere. The others then hold, at pixels that do not count, the value
of the nearest one that does: what lies outside has no influence at all.
"""

from __future__ import annotations

import numpy as np
import torch
from scipy.ndimage import distance_transform_edt
from torch import Tensor

from sklearn_ssimae._maps.filters import gaussian_smoothing, resize

# A resized pixel of which so large a share counts counts.
WHOLLY = 1 - 1e-3
# A weight of the Gaussian below this is rounding.
_LEAST_WEIGHT = 1e-6


def with_counts(planes: Tensor, counts: np.ndarray) -> Tensor:
    """Planes (c, h, w) and what counts of them, (h, w), as planes (c + 1, h, w)."""
    rows, columns = nearest_counting(counts)
    return torch.cat([planes[:, rows, columns], torch.from_numpy(counts).to(planes)[None]])


def nearest_counting(counts: np.ndarray) -> tuple[Tensor, Tensor]:
    """Row and column (h, w) of the nearest pixel that counts; of itself where none does."""
    if not counts.any():
        counts = ~counts
    rows, columns = distance_transform_edt(~counts, return_distances=False, return_indices=True)
    return torch.from_numpy(rows).long(), torch.from_numpy(columns).long()


def split_counts(planes: Tensor, n_channels: int) -> tuple[Tensor, Tensor | None]:
    """Planes (..., c, h, w), and which of their pixels count, (..., 1, h, w); None for all."""
    if planes.shape[-3] == n_channels:
        return planes, None
    return planes[..., :n_channels, :, :], planes[..., n_channels:, :, :] > 0


def smooth_counting(residuals: Tensor, counts: Tensor | None, smoothing: float) -> Tensor:
    """Maps (..., h, w) convolved with a Gaussian, of pixels that count alone."""
    if counts is None:
        return gaussian_smoothing(residuals, smoothing)
    weights = counts.to(residuals)
    total = gaussian_smoothing(residuals * weights, smoothing)
    return total / gaussian_smoothing(weights, smoothing).clamp(min=_LEAST_WEIGHT)


def resized_counts(counts: Tensor, size: tuple[int, int], *, antialias: bool = False) -> Tensor:
    """What counts (k, h, w), boolean, at another size: pixels in which nothing else takes part."""
    return resize(counts.float(), size, antialias=antialias) > WHOLLY


def unknown(maps: Tensor, counts: Tensor | None) -> Tensor:
    """Maps (..., h, w), not a number where pixels do not count: nothing is learnt from these."""
    return maps if counts is None else torch.where(counts, maps, torch.nan)


def blank(maps: Tensor, counts: Tensor | None, *, logarithmic: bool = False) -> Tensor:
    """Maps (n, h, w), 0 where pixels do not count; of logarithms, the least that counts."""
    if counts is None:
        return maps
    if not logarithmic:
        return torch.where(counts, maps, torch.zeros_like(maps))
    least = torch.where(counts, maps, torch.full_like(maps, torch.inf)).amin((-2, -1), keepdim=True)
    return torch.where(counts, maps, least)
