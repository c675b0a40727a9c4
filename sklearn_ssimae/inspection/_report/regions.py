"""Regions above the threshold, and which parts of an image are kept at their own scale."""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

import numpy as np
from scipy import ndimage

from sklearn_ssimae._maps.areas import EIGHT_NEIGHBOURS

# What surrounds a region tells whether it is a defect; small ones need more of it.
_MARGIN, _LEAST_SIDE = 32, 160
# Larger parts are kept in pieces. Of a map with a thousand regions, eight parts say enough.
_GREATEST_SIDE, _N_PARTS = 512, 8


class Box(NamedTuple):
    """Part of an image, in its pixels."""

    x: int
    y: int
    width: int
    height: int

    @property
    def slices(self) -> tuple[slice, slice]:
        return slice(self.y, self.y + self.height), slice(self.x, self.x + self.width)

    def holds(self, other: Box) -> bool:
        """Whether the other box lies in this one."""
        return (
            self.x <= other.x
            and self.y <= other.y
            and self.x + self.width >= other.x + other.width
            and self.y + self.height >= other.y + other.height
        )


class Region(NamedTuple):
    """Connected pixels above the threshold: their box, number and largest residual."""

    box: Box
    area: int
    peak: float


def find_regions(residual: np.ndarray, threshold: float) -> list[Region]:
    """The regions of a map (h, w), those with the largest residuals first."""
    labels, n_regions = ndimage.label(residual > threshold, structure=EIGHT_NEIGHBOURS)
    if n_regions == 0:
        return []
    areas = np.bincount(labels.ravel())[1:].tolist()
    peaks = ndimage.maximum(residual, labels, np.arange(1, n_regions + 1)).tolist()
    regions = map(Region, _boxes(labels), areas, peaks)
    return sorted(regions, key=lambda region: -region.peak)


def parts_to_keep(
    residual: np.ndarray, regions: list[Region], mask: np.ndarray | None
) -> list[Box]:
    """Boxes with some margin around regions and true defects, or else around the largest value."""
    boxes = [region.box for region in regions]
    if mask is not None:
        # Room for defects, which may all have been missed.
        defects = _boxes(ndimage.label(mask, structure=EIGHT_NEIGHBOURS)[0])
        boxes = boxes[: _N_PARTS // 2] + defects + boxes[_N_PARTS // 2 :]
    if not boxes:
        y, x = np.unravel_index(residual.argmax(), residual.shape)
        boxes = [Box(int(x), int(y), 1, 1)]
    parts: list[Box] = []
    for box in boxes:
        if not any(part.holds(box) for part in parts):
            parts.append(_with_margin(box, residual.shape))
        if len(parts) == _N_PARTS:
            break
    return [piece for part in parts for piece in _pieces(part)][:_N_PARTS]


def _boxes(labels: np.ndarray) -> list[Box]:
    return [
        Box(columns.start, rows.start, columns.stop - columns.start, rows.stop - rows.start)
        for rows, columns in ndimage.find_objects(labels)
    ]


def _with_margin(box: Box, shape: tuple[int, ...]) -> Box:
    x, width = _wider(box.x, box.width, shape[1])
    y, height = _wider(box.y, box.height, shape[0])
    return Box(x, y, width, height)


def _wider(start: int, length: int, end: int) -> tuple[int, int]:
    """Start and length of a side with its margins, moved into the image where it reaches beyond."""
    wider = min(max(length + 2 * _MARGIN, _LEAST_SIDE), end)
    return min(max(start - (wider - length) // 2, 0), end - wider), wider


def _pieces(part: Box) -> list[Box]:
    """Parts of nearly equal size that are no larger than `_GREATEST_SIDE`."""
    columns, rows = (-(-side // _GREATEST_SIDE) for side in (part.width, part.height))
    xs = np.linspace(part.x, part.x + part.width, columns + 1).astype(int).tolist()
    ys = np.linspace(part.y, part.y + part.height, rows + 1).astype(int).tolist()
    return [
        Box(left, top, right - left, bottom - top)
        for top, bottom in pairwise(ys)
        for left, right in pairwise(xs)
    ]
