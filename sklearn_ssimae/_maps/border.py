"""What good material shows at each distance from the image's border.

A network knows least where the image ends: what it would have to go on lies outside. So the
residual of good material grows towards the border, and a threshold that holds everywhere has
to be taken from the border's values, however small the inner ones are. Divided by what good
material shows at the same distance, all pixels count alike.
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
        The quantile at pixels that 0, 1, … k − 1 others separate from the nearest border. It
        never rises towards the inside; the last one holds for all that lie farther in.
    logarithmic : bool, default=False
        Whether residuals are logarithms. They are then compared by difference, not by ratio,
        and good material's quantile lies at 0, not at 1.
    """

    def __init__(self, values: np.ndarray, *, logarithmic: bool = False) -> None:
        self.values = np.asarray(values, dtype=np.float32)
        self.logarithmic = logarithmic

    @classmethod
    def fit(cls, maps: Iterable[Tensor], *, reach: int, logarithmic: bool = False) -> Self:
        """Learn the profile from residual maps of good images that were not trained on.

        Parameters
        ----------
        maps : iterable of Tensor (h, w)
            At least one; taken one at a time, of any sizes.
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
            for distance, values in enumerate(_values_by_distance(residual, reach)):
                samples[distance].append(values)
        pooled = [np.concatenate(values) for values in samples if values]
        quantiles = [np.quantile(values, QUANTILE) for values in pooled]
        counts = [len(values) for values in pooled]
        falling = isotonic_regression(quantiles, weights=counts, increasing=False).x
        smooth = gaussian_filter1d(falling, _SMOOTH, mode="nearest")
        return cls(smooth if logarithmic else smooth.clip(LEAST), logarithmic=logarithmic)

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
        rows, columns = (values[_distances(side, len(values))] for side in (height, width))
        # The nearest border is the one where the falling profile is greatest.
        return torch.maximum(rows[:, None], columns)


def _distances(size: int, n: int) -> Tensor:
    """Distances (size,) of the pixels of an axis to its nearer end, none beyond n − 1."""
    index = torch.arange(size)
    return torch.minimum(index, size - 1 - index).clamp(max=n - 1)


def _values_by_distance(residual: Tensor, reach: int) -> list[np.ndarray]:
    """Values of a map (h, w) at the distances 0, 1, … `reach`; those farther in count as `reach`.

    As many lists as the map has distances. Each holds values from all along the border, evenly
    spaced, `_VALUES` or somewhat more.
    """
    array = residual.cpu().numpy()
    samples = []
    for distance in range(min(reach, (min(array.shape) + 1) // 2)):
        inner = array[distance : len(array) - distance, distance : array.shape[1] - distance]
        ring = np.concatenate([inner[0], inner[1:-1, -1], inner[-1], inner[1:-1, 0]])
        samples.append(ring[:: max(1, len(ring) // _VALUES)])
    inside = array[reach : len(array) - reach, reach : array.shape[1] - reach]
    if inside.size:
        step = max(1, int(np.sqrt(inside.size / (4 * _VALUES))))
        samples.append(inside[::step, ::step].ravel())
    return samples
