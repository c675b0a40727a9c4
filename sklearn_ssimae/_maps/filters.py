"""What makes a residual map a finished one: smoothing, opening, resizing.

All operations can be traced, so that the exported graph holds the same code.
"""

from __future__ import annotations

import math
from functools import reduce

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from sklearn_ssimae._maps.windows import make_window_mean


def gaussian_smoothing(residuals: Tensor, smoothing: float) -> Tensor:
    """Finite maps (..., h, w) convolved with a Gaussian; `smoothing` is σ in pixels, 0 for none.

    The noise of a reconstruction is independent from pixel to pixel, a defect is not. Beyond
    the border the map is mirrored: its outermost pixels, which the network draws worst, would
    weigh much more if they were repeated.
    """
    if smoothing == 0:
        return residuals
    # 3e-4 of the Gaussian lies farther out than 3.6 σ.
    return make_window_mean(2 * math.ceil(3.6 * smoothing) + 1, "gaussian", smoothing)(residuals)


def grey_opening(residuals: Tensor, diameter: int | None) -> Tensor:
    """Grey-scale opening of maps (..., h, w) with a disk.

    It removes what is brighter than its surroundings and smaller than the disk. The disk
    is flat, so that the opening commutes with thresholding, and pixels outside the map
    take no part.
    """
    if diameter is None:
        return residuals
    # The dilation that belongs to the erosion mirrors its disk: an even one is anchored on the
    # other side of its centre.
    after = (diameter - 1) // 2
    before = diameter - 1 - after
    eroded = -_grey_dilation(-residuals, diameter, before, after)
    return _grey_dilation(eroded, diameter, after, before)


def _grey_dilation(maps: Tensor, diameter: int, before: int, after: int) -> Tensor:
    """Maximum over a disk that reaches `before` pixels up and left, and `after` down and right."""
    height, width = maps.shape[-2:]
    maxima = {1: F.pad(maps, (before, after, before, after), value=-torch.inf)}
    rows = []
    for top, length in enumerate(disk(diameter).sum(axis=1).tolist()):
        left = (diameter - length) // 2
        along = _running_maximum(maxima, length)
        rows.append(along[..., top : top + height, left : left + width])
    return reduce(torch.maximum, rows)


def _running_maximum(maxima: dict[int, Tensor], length: int) -> Tensor:
    """Maxima over `length` columns from each column on; `maxima` keeps them by their length."""
    if length not in maxima:
        half = _running_maximum(maxima, (length + 1) // 2)
        rest = length // 2
        maxima[length] = torch.maximum(half[..., :-rest], half[..., rest:])
    return maxima[length]


def disk(diameter: int) -> np.ndarray:
    """Pixels of a square whose centres lie within half the diameter of the square's: 12 for 4."""
    offsets = np.arange(diameter) - (diameter - 1) / 2
    return np.hypot(offsets[:, None], offsets) <= diameter / 2


def resize(planes: Tensor, size: tuple[int, int], *, antialias: bool = False) -> Tensor:
    """Planes (k, h, w) resized bilinearly to (k, *size)."""
    if planes.shape[1:] == size:
        return planes
    return F.interpolate(planes[None], size=size, mode="bilinear", antialias=antialias)[0]
