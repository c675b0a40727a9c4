"""The smallest region that counts, as an opening of the map by area."""

from __future__ import annotations

import math

import numpy as np
from scipy import ndimage
from skimage.morphology import area_opening

#: Pixels that share an edge or a corner belong to one region.
EIGHT_NEIGHBOURS = np.ones((3, 3), dtype=bool)


def without_small_regions(residual: np.ndarray, min_area: float, floor: float) -> np.ndarray:
    """A map (h, w) of which no region above any threshold from `floor` on is smaller.

    Parameters
    ----------
    residual : array of shape (h, w)
    min_area : float
        Pixels of the smallest region that counts; at most 1 changes nothing.
    floor : float
        Values up to it stay as they are.

    Returns
    -------
    opened : array of shape (h, w)
        At every threshold t ≥ `floor`, ``opened > t`` is ``residual > t`` less its regions of fewer
        than `min_area` pixels.

    Notes
    -----
    The grey area opening [1]_ of ``max(residual, floor)``. It is taken region by region of what
    exceeds the floor, a small part of a map: of a whole map of 1024×1024 pixels it would take
    several times as long as the network.

    References
    ----------
    .. [1] L. Vincent, "Morphological area openings and closings for grey-scale images", in "Shape
       in Picture", Springer, 1994.
    """
    if min_area <= 1:
        return residual
    # In the map's own precision, and not above: what is lowered to the floor must not exceed it.
    rounded = residual.dtype.type(floor)
    if float(rounded) > floor:
        rounded = np.nextafter(rounded, residual.dtype.type(-np.inf))
    floor = rounded
    regions, n_regions = ndimage.label(residual > floor, structure=EIGHT_NEIGHBOURS)
    if n_regions == 0:
        return residual
    areas = np.bincount(regions.ravel())
    opened = np.where((areas < min_area)[regions] & (regions > 0), floor, residual)
    for index, box in enumerate(ndimage.find_objects(regions), start=1):
        if areas[index] < min_area:
            continue
        inside = regions[box] == index
        # A margin, since scikit-image reads beyond the end of arrays that are one pixel wide.
        alone = np.pad(np.where(inside, residual[box], floor), 1, constant_values=floor)
        smaller = area_opening(alone, math.ceil(min_area), connectivity=2)[1:-1, 1:-1]
        opened[box][inside] = smaller[inside]
    return opened.astype(residual.dtype, copy=False)
