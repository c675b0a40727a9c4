"""Corrupted crops: what a network sees in training, while the loss compares with the clean ones.

A network that fits good material very well breaks down as a whole at a defect, since its latent
vector is one that it never met. Having seen spoilt crops, it redraws the good rest.
"""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

# Share of the crops that are corrupted, and ellipses in one of them at most.
_SHARE = 0.7
_MOST = 3
# Semi-axes of the ellipses: the least in pixels, the greatest as a share of the crop's side.
_LEAST_RADIUS = 1.5
_GREATEST_RADIUS = 0.3
# Change of brightness, at least and at most.
_STEP = (0.1, 0.5)


class Corruption:
    """Draws ellipses into crops: of one colour, of another crop turned, or brighter or darker.

    Parameters
    ----------
    rng : numpy Generator
    """

    def __init__(self, rng: np.random.Generator) -> None:
        self._rng = rng

    def __call__(self, patches: Tensor) -> Tensor:
        """A copy of patches (n, c, p, p) in [0, 1], most of them corrupted."""
        corrupted = patches.clone()
        for index in np.flatnonzero(self._rng.random(len(patches)) < _SHARE).tolist():
            other = patches[(index + 1) % len(patches)]
            for _ in range(self._rng.integers(1, _MOST + 1)):
                self._spoil(corrupted[index], other)
        return corrupted

    def _spoil(self, patch: Tensor, other: Tensor) -> None:
        """Fill one ellipse of a patch (c, p, p), in place."""
        rows, columns, inside = self._ellipse(patch.shape[-1])
        region = patch[:, rows, columns]
        kind = self._rng.integers(3)
        if kind == 0:
            colour = self._rng.random((len(patch), 1, 1), dtype=np.float32)
            fill = torch.from_numpy(colour).expand_as(region)
        elif kind == 1:
            turns = int(self._rng.integers(1, 4))
            fill = torch.rot90(other, turns, (1, 2))[:, rows, columns]
        else:
            step = self._rng.choice([-1, 1]) * self._rng.uniform(*_STEP)
            fill = (region + float(step)).clamp(0, 1)
        region.copy_(torch.where(inside, fill, region))

    def _ellipse(self, side: int) -> tuple[slice, slice, Tensor]:
        """The rows and columns that hold an ellipse, and which of their pixels it covers."""
        rng = self._rng
        centre = rng.uniform(0, side, 2)
        low, high = np.log([_LEAST_RADIUS, max(_LEAST_RADIUS, _GREATEST_RADIUS * side)])
        radii = np.exp(rng.uniform(low, high, 2))
        angle = rng.uniform(0, math.pi)
        first = np.maximum(0, (centre - radii.max()).astype(int))
        last = np.minimum(side, (centre + radii.max()).astype(int) + 2)
        y, x = (np.arange(start, stop) for start, stop in zip(first, last, strict=True))
        dy, dx = (y - centre[0])[:, None], x - centre[1]
        along = dx * math.cos(angle) + dy * math.sin(angle)
        across = dy * math.cos(angle) - dx * math.sin(angle)
        inside = torch.from_numpy((along / radii[0]) ** 2 + (across / radii[1]) ** 2 <= 1)
        return slice(first[0], last[0]), slice(first[1], last[1]), inside

    def state_dict(self) -> dict[str, Any]:
        return {"rng": json.dumps(self._rng.bit_generator.state)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._rng.bit_generator.state = json.loads(state["rng"])
