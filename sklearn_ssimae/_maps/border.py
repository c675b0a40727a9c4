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
# Images in which each side has to be seen to be told from the others: with fewer, chance would make
# more of a difference than sides do.
_SEEN = 5
# σ, in pixels of distance, of the Gaussian that takes the chance out of the profile.
_SMOOTH = 2.0
#: Whether the map of an image, or of a region of one, ends where the image does: at the top, at the
#: right, at the bottom, at the left.
Sides = tuple[bool, bool, bool, bool]
NO_SIDES: Sides = (False, False, False, False)
# Values of maps at the distances 0, 1, …
Samples = list[list[np.ndarray]]
#: Residuals are differences of float32 numbers about 1: what is smaller is rounding.
LEAST = 1e-6


class BorderProfile:
    """A high quantile of good material's residual as a function of the distance to the border.

    Parameters
    ----------
    values : array of shape (4, k)
        The quantile at pixels that 0, 1, … k − 1 others separate from the nearest border: the
        upper, the right, the lower, the left one. It never rises towards the inside; the last one
        holds for all that lie farther in.
    logarithmic : bool, default=False
        Whether residuals are logarithms. They are then compared by difference, not by ratio,
        and good material's quantile lies at 0, not at 1.
    """

    def __init__(self, values: np.ndarray, *, logarithmic: bool = False) -> None:
        self.values = np.asarray(values, dtype=np.float32)
        self.logarithmic = logarithmic

    @property
    def by_side(self) -> bool:
        """Whether sides are told apart."""
        return bool((self.values != self.values[0]).any())

    @classmethod
    def fit(
        cls,
        maps: Iterable[tuple[Tensor, Sides]],
        *,
        reach: int,
        logarithmic: bool = False,
        by_side: bool | None = None,
    ) -> Self:
        """Learn the profile from residual maps of good images that were not trained on.

        Parameters
        ----------
        maps : iterable of (Tensor (h, w), Sides)
            At least one; taken one at a time, of any sizes. Values that are not a number do not
            count.
        reach : int
            Distance in pixels, at least 1, beyond which the border has no effect: half a patch.
        logarithmic : bool, default=False
            Whether the maps are logarithms.
        by_side : bool, default=None
            Whether each side has a profile of its own, if all were seen. None: if each was seen
            in five maps.

        Notes
        -----
        At each distance the 95 % quantile of the values of all maps together; then the closest
        sequence that does not rise inwards (isotonic regression, weighted by the number of
        values), smoothed. Where the maps show no effect of the border, the profile is flat.

        The same for each side by itself, if there are maps enough: a selvage at the left, a rail
        at the bottom show what no other side does.
        """
        common: Samples = [[] for _ in range(reach + 1)]
        of_sides: list[Samples] = [[[] for _ in common] for _ in range(4)]
        seen = np.zeros(4, dtype=int)
        for residual, sides in maps:
            rings, inside = _values_by_distance(residual, reach)
            whole = [_thinned(np.concatenate(ring)) for ring in rings]
            _add(common, whole, inside)
            for side in np.flatnonzero(sides):
                # Towards the middle of a small map a side is too short to tell much.
                near = rings[: (min(residual.shape) + 1) // 4]
                outer = [
                    _thinned(_without_ends(ring[side], reach - distance))
                    for distance, ring in enumerate(near)
                ]
                _add(of_sides[side], [*outer, *whole[len(outer) :]], inside)
            seen += sides
        least = _SEEN if by_side is None else 1
        if by_side is not False and (seen >= least).all():
            values = np.stack([_falling(samples) for samples in of_sides])
        else:
            values = np.tile(_falling(common), (4, 1))
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
        top, right, bottom, left = torch.tensor(self.values)
        # Profiles fall: where borders are alike, the nearest one's is the greatest.
        return torch.maximum(_laid_out(top, bottom, height)[:, None], _laid_out(left, right, width))


def _laid_out(first: Tensor, last: Tensor, size: int) -> Tensor:
    """The greater of the profiles (k,) from either end of an axis: (size,)."""
    index = torch.arange(size)
    from_start = first[index.clamp(max=len(first) - 1)]
    return torch.maximum(from_start, last[(size - 1 - index).clamp(max=len(last) - 1)])


def _add(samples: Samples, rings: list[np.ndarray], inside: np.ndarray) -> None:
    """Add the values of a map at the distances that it has, and those farther in."""
    for values, sample in zip(rings, samples, strict=False):
        sample.append(values)
    samples[-1].append(inside)


def _falling(samples: Samples) -> np.ndarray:
    """The quantile at each distance (k,), made to fall; where nothing is known the nearest."""
    pools = [np.concatenate(values or [np.empty(0)]) for values in samples]
    counting = [values[~np.isnan(values)] for values in pools]
    known = [distance for distance, values in enumerate(counting) if len(values)]
    pooled = [counting[distance] for distance in known]
    quantiles = [np.quantile(values, QUANTILE) for values in pooled]
    counts = [len(values) for values in pooled]
    falling = isotonic_regression(quantiles, weights=counts, increasing=False).x
    smooth = gaussian_filter1d(falling, _SMOOTH, mode="nearest")
    return np.interp(np.arange(len(samples)), known, smooth)


def _values_by_distance(residual: Tensor, reach: int) -> tuple[list[list[np.ndarray]], np.ndarray]:
    """Values of a map (h, w) at the distances 0, 1, … `reach` − 1, and of those farther in.

    The former by sides: top, right, bottom, left. As many as the map has distances.
    """
    array = residual.cpu().numpy()
    rings = []
    for distance in range(min(reach, (min(array.shape) + 1) // 2)):
        inner = array[distance : len(array) - distance, distance : array.shape[1] - distance]
        rings.append([inner[0], inner[1:-1, -1], inner[-1], inner[1:-1, 0]])
    inside = array[reach : len(array) - reach, reach : array.shape[1] - reach]
    step = max(1, int(np.sqrt(inside.size / (4 * _VALUES))))
    return rings, inside[::step, ::step].flatten()


def _without_ends(side: np.ndarray, length: int) -> np.ndarray:
    """Less what lies as near to the next sides, up to half of it: there they show, too."""
    cut = min(length, len(side) // 4)
    return side[cut : len(side) - cut]


def _thinned(values: np.ndarray) -> np.ndarray:
    """A copy of evenly spaced ones, `_VALUES` or somewhat more: of a view all would be kept."""
    return values[:: max(1, len(values) // _VALUES)].copy()
