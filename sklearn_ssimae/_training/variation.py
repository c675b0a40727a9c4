"""Images in other light, turned and zoomed a little, as those to come may be."""

from __future__ import annotations

import math
from collections.abc import Mapping
from numbers import Real
from typing import NamedTuple, Self

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from sklearn_ssimae._maps.counting import WHOLLY, split_counts

#: Rows and columns.
Pair = tuple[float, float]


class Change(NamedTuple):
    """Of one image.

    Parameters
    ----------
    brightness, contrast : float
        Factors of the mean, and of the differences from it.
    turn : float
        In degrees.
    zoom : float
        Above 1 for larger.
    """

    brightness: float = 1.0
    contrast: float = 1.0
    turn: float = 0.0
    zoom: float = 1.0


class Variation(NamedTuple):
    """How much images vary, at most.

    Parameters
    ----------
    light : float
        Of brightness and of contrast, as a share.
    turn : float
        In degrees, either way.
    zoom : float
        Larger or smaller, as a share.
    """

    light: float = 0.0
    turn: float = 0.0
    zoom: float = 0.0

    @classmethod
    def of(cls, vary: Mapping[str, float]) -> Self:
        """That of the detectors' parameter `vary`."""
        unknown = sorted(map(str, set(vary) - set(cls._fields)))
        if unknown:
            raise ValueError(f"vary takes light, turn and zoom, got {', '.join(unknown)}.")
        for name, value in vary.items():
            most = 45 if name == "turn" else 0.5
            if not (isinstance(value, Real) and 0 <= value <= most):
                unit = "degrees from 0 to 45" if name == "turn" else "a share from 0 to 0.5"
                raise ValueError(f"vary[{name!r}] must be {unit}, got {value!r}.")
        return cls(**vary)

    def draw(self, n: int, rng: np.random.Generator) -> list[Change]:
        """So many changes, uniform up to the greatest in either direction."""
        most = np.array([math.log1p(self.light)] * 2 + [self.turn, math.log1p(self.zoom)])
        drawn = most * rng.uniform(-1, 1, size=(n, 4))
        drawn[:, [0, 1, 3]] = np.exp(drawn[:, [0, 1, 3]])
        return [Change(*row) for row in drawn.tolist()]


def varied(
    planes: Tensor, n_channels: int, change: Change, centre: Pair, size: tuple[int, int]
) -> Tensor:
    """A region of an image after a change.

    Parameters
    ----------
    planes : Tensor (c, h, w)
        In [0, 1], as of `with_counts`.
    n_channels : int
    change : Change
    centre : (row, column)
        Where the middle of the region lies, about which it is turned.
    size : (h, w)
        Of the region. What is needed from beyond the image is its mirror image.
    """
    image, counts = split_counts(planes, n_channels)
    grid = _grid(change, centre, size, planes.shape[1:])
    moved = _sample(image, grid, "bicubic")
    mean = moved.mean()
    # As a camera does, values end at black and white, unless the image went beyond already.
    low, high = min(0.0, float(image.min())), max(1.0, float(image.max()))
    lit = (change.contrast * (moved - mean) + change.brightness * mean).clamp(low, high)
    if counts is None:
        return lit
    return torch.cat([lit, (_sample(counts.float(), grid, "bilinear") > WHOLLY).to(lit)])


def _sample(planes: Tensor, grid: Tensor, mode: str) -> Tensor:
    return F.grid_sample(planes[None], grid, mode, "reflection", align_corners=True)[0]


def _grid(change: Change, centre: Pair, size: tuple[int, int], of: tuple[int, ...]) -> Tensor:
    """Where each pixel of the region lies in the image, as `grid_sample` takes it."""
    angle = math.radians(change.turn)
    along, across = math.cos(angle) / change.zoom, math.sin(angle) / change.zoom
    y, x = (torch.arange(side) - (side - 1) / 2 for side in size)
    rows = centre[0] + along * y[:, None] + across * x
    columns = centre[1] + along * x - across * y[:, None]
    ends = [max(1, side - 1) for side in of]
    return torch.stack([2 * columns / ends[1] - 1, 2 * rows / ends[0] - 1], dim=-1)[None]
