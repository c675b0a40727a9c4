"""What good material shows at each distance from the image's border.

A network knows least where the image ends: what it would have to go on lies outside. So the
residual of good material grows towards the border, and a threshold that holds everywhere has
to be taken from the border's values, however small the inner ones are. Divided by what good
material shows at the same distance, and at the same side if enough images tell, all pixels count
alike.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Self

import numpy as np
import torch
from scipy.ndimage import gaussian_filter1d
from scipy.optimize import isotonic_regression
from torch import Tensor

#: The quantile of the good residuals that a relative map calls 1.
QUANTILE = 0.95
# Values that one map gives at one distance, at most: no more tell more, since neighbours are alike.
_VALUES = 512
# σ, in pixels of distance, of the Gaussian that takes the chance out of the profile.
_SMOOTH = 2.0
#: Residuals are differences of float32 numbers about 1: what is smaller is rounding.
LEAST = 1e-6


class BorderProfile:
    """A high quantile of good material's residual as a function of the distance to the border.

    Parameters
    ----------
    values : array of shape (k,)
        The quantile at pixels that 0, 1, … k − 1 others separate from the nearest border. It never
        rises towards the inside; the last one holds for all that lie farther in.
    logarithmic : bool, default=False
        Whether residuals are logarithms. They are then compared by difference, not by ratio,
        and good material's quantile lies at 0, not at 1.
    """

    def __init__(self, values: np.ndarray, *, logarithmic: bool = False) -> None:
        # A copy: torch takes no memory that cannot be written to, such as a mapped file's.
        self.values = np.array(values, dtype=np.float32)
        self.logarithmic = logarithmic

    @classmethod
    def fit(cls, maps: Iterable[Tensor], *, reach: int, logarithmic: bool = False) -> Self:
        """Learn the profile from residual maps of good images that were not trained on.

        Parameters
        ----------
        maps : iterable of Tensor (h, w)
            At least one; taken one at a time, of any sizes. Values that are not a number do not
            count.
        reach : int
            Distance in pixels, at least 1, beyond which the border has no effect: half a patch.
        logarithmic : bool, default=False
            Whether the maps are logarithms.

        Notes
        -----
        At each distance the 95 % quantile of the values of all maps together; then the closest
        sequence that does not rise inwards (isotonic regression, weighted by the number of
        values), smoothed. Where the maps show no effect of the border, the profile is flat.
        """
        samples: list[list[np.ndarray]] = [[] for _ in range(reach + 1)]
        for residual in maps:
            for values, sample in zip(_values_by_distance(residual, reach), samples, strict=True):
                sample.append(values)
        values = _falling(samples)
        return cls(values if logarithmic else values.clip(LEAST), logarithmic=logarithmic)

    def relative(self, residual: Tensor) -> Tensor:
        """Maps (..., h, w) relative to the profile, of the same shape.

        The ratio to what good material shows at that distance, 1 = its 95 % quantile; for
        logarithms the difference from it. Operations that an exporter can follow.
        """
        expected = self.expected(residual.shape[-2], residual.shape[-1]).to(residual)
        return residual - expected if self.logarithmic else residual / expected

    def expected(self, height: int, width: int) -> Tensor:
        """The profile laid out over an image: (height, width)."""
        values = torch.from_numpy(self.values)
        # It falls: the nearest border's is the greatest.
        return torch.maximum(_laid_out(values, height)[:, None], _laid_out(values, width))


def _laid_out(values: Tensor, size: int) -> Tensor:
    """The profile (k,) by the distance to the nearer end of an axis: (size,)."""
    index = torch.arange(size)
    return values[torch.minimum(index, size - 1 - index).clamp(max=len(values) - 1)]


def _falling(samples: list[list[np.ndarray]]) -> np.ndarray:
    """The quantile at each distance (k,), made to fall; where nothing is known the nearest."""
    pools = [np.concatenate(values) for values in samples]
    counting = [values[~np.isnan(values)] for values in pools]
    known = [distance for distance, values in enumerate(counting) if len(values)]
    quantiles = [np.quantile(counting[distance], QUANTILE) for distance in known]
    counts = [len(counting[distance]) for distance in known]
    falling = isotonic_regression(quantiles, weights=counts, increasing=False).x
    smooth = gaussian_filter1d(falling, _SMOOTH, mode="nearest")
    return np.interp(np.arange(len(samples)), known, smooth)


def _values_by_distance(residual: Tensor, reach: int) -> list[np.ndarray]:
    """Values of a map (h, w) at the distances 0, 1, … `reach` − 1, and of those farther in."""
    array = residual.cpu().numpy()
    rings = []
    for distance in range(reach):
        inner = array[distance : len(array) - distance, distance : array.shape[1] - distance]
        # Of a small map, the rings end before.
        ring = [inner[:1], inner[1:][-1:], inner[1:-1, :1], inner[1:-1, 1:][:, -1:]]
        values = np.concatenate([side.ravel() for side in ring]) if inner.size else inner.ravel()
        rings.append(_thinned(values))
    inside = array[reach : len(array) - reach, reach : array.shape[1] - reach]
    step = max(1, int(np.sqrt(inside.size / (4 * _VALUES))))
    return [*rings, inside[::step, ::step].flatten()]


def _thinned(values: np.ndarray) -> np.ndarray:
    """A copy of evenly spaced ones, `_VALUES` or somewhat more: of a view all would be kept."""
    return values[:: max(1, len(values) // _VALUES)].copy()
