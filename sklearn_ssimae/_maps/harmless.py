"""Regions of maps that people called good, and those that are like them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import numpy as np
from scipy.ndimage import label
from scipy.spatial import KDTree
from skimage.measure import regionprops_table

from sklearn_ssimae._maps.areas import EIGHT_NEIGHBOURS

# What a region is known by; the last two beside the level, which tells more than its shape.
_SHAPE = ("area", "axis_major_length", "axis_minor_length", "area_bbox")
_VALUES = ("intensity_max", "intensity_mean")
_VALUES_WEIGH = 2.0
# Share of the taught regions whose nearest other one is near; what is half as far again is alike.
_NEAR, _AS_NEAR = 0.8, 1.5
# Distance of regions that are alike: at least, which also holds for a single one, and at most.
_ALIKE = 0.25, 0.6
# Defects that are found and may be taken for harmless, at most.
_MAY_BE_LOST = 0.05


class Harmless:
    """Regions above a level that are no defects, whatever their values.

    Parameters
    ----------
    level : float
        Map value above which regions are looked at: the threshold when they were taught.
    regions : array of shape (n, 6)
        What the taught ones are known by: logarithms of area, axes, box, peak and mean.
    radius : float
        Distance from a taught region within which others are alike.
    logarithmic : bool
        Whether maps are logarithms.
    """

    def __init__(
        self, level: float, regions: np.ndarray, *, radius: float, logarithmic: bool
    ) -> None:
        self.level = float(level)
        self.regions = np.array(regions, dtype=np.float64)
        self.radius = float(radius)
        self.logarithmic = bool(logarithmic)

    @classmethod
    def of(
        cls,
        level: float,
        regions: np.ndarray,
        defects: Sequence[np.ndarray] = (),
        *,
        logarithmic: bool,
    ) -> Self:
        """Of regions (n, 6), alike as far as they are among themselves.

        `defects` are the regions (k, 6) of defects that must still be found: of 20, at most one
        may be like the taught regions in all of its own.
        """
        tree, radius = KDTree(regions), _ALIKE[0]
        if len(regions) > 1:
            nearest = np.asarray(tree.query(regions, 2)[0])[:, 1]
            radius = float(np.clip(_AS_NEAR * np.quantile(nearest, _NEAR), *_ALIKE))
        if len(defects):
            distances = np.sort([np.max(tree.query(defect)[0]) for defect in defects])
            # Just below that of the first defect too many.
            safe = np.nextafter(distances[int(_MAY_BE_LOST * len(distances))], 0)
            radius = min(radius, float(safe))
        return cls(level, regions, radius=radius, logarithmic=logarithmic)

    def are_alike(self, regions: np.ndarray) -> np.ndarray:
        """Which regions (m, 6) are like one of the taught ones."""
        return np.asarray(KDTree(self.regions).query(regions)[0] <= self.radius)

    def lowered(self, residual: np.ndarray) -> np.ndarray:
        """A map (h, w) whose regions of that kind do not exceed the level."""
        # NumPy's, with which single precision is compared in double, as with thresholds.
        exact = np.float64(self.level)
        if not residual.max() > exact:
            return residual
        labels, regions = regions_of(residual, exact, logarithmic=self.logarithmic)
        gone = np.append(False, self.are_alike(regions))
        level = residual.dtype.type(exact)
        if level > exact:  # rounded up
            level = np.nextafter(level, -np.inf, dtype=residual.dtype)
        return np.where(gone[labels], np.minimum(residual, level), residual)

    def to_dict(self) -> dict[str, Any]:
        """Numbers and arrays alone."""
        return dict(vars(self))

    @classmethod
    def from_dict(cls, stored: dict[str, Any]) -> Self:
        """Undo `to_dict`."""
        return cls(**stored)


def regions_of(
    residual: np.ndarray, level: np.float64, *, logarithmic: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Labels (h, w) of the regions of a map above a level, and what they are known by, (n, 6)."""
    labels, n_regions = label(residual > level, EIGHT_NEIGHBOURS)
    if n_regions == 0:
        return labels, np.zeros((0, len(_SHAPE) + len(_VALUES)))
    table = regionprops_table(labels, residual, properties=(*_SHAPE, *_VALUES))
    shape = [np.log(table[name] + 1) for name in _SHAPE]
    above = [
        table[name] - level if logarithmic else np.log(table[name] / level) for name in _VALUES
    ]
    return labels, np.stack([*shape, *(_VALUES_WEIGH * value for value in above)], axis=1)
