"""Defects of all sizes drawn into good images, several to an image and far apart."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import NamedTuple

import numpy as np

from sklearn_ssimae._deciding.probes import BLOTS
from sklearn_ssimae.datasets._drawing import MIN_SIDE, PAINTERS, Painter, draw_defect

#: Blots, of which the radius is chosen, and lines, which are as large as the square they are in.
KINDS = ("scratch", "thread", *BLOTS)
#: Kinds that are drawn with less contrast, too.
FADED = ("stain", "dent")
# Radii of blots, as shares of the patch's side. Larger ones leave no good material in a patch.
_RADII = (1 / 64, 1 / 2)
# In pixels: of smaller ones hardly a pixel is seen.
_LEAST_RADIUS = 1.5
# Side of the square that a blot is drawn in, in radii, and the largest radius in sides.
_ROOM, _LARGEST = 8, 1 / 4
# Where the middle of a blot may lie in its square: it must not be cut off.
_MIDDLE = (0.3, 0.7)
_ATTEMPTS = 12
# Contrast of faded defects: down to so large a share.
_FAINTEST = 1 / 8
# A kind that so many times in a row could not be drawn, and never was, is given up.
_GIVEN_UP = 6


class Drawn(NamedTuple):
    """A defect that was drawn into an image.

    Parameters
    ----------
    kind : str
    box : (slice, slice)
        The square it lies in.
    mask : bool ndarray
        Its pixels in the square.
    contrast : float
        Mean absolute change of these pixels, as a share of the range from black to white.
    is_faded : bool
        Whether it was drawn with less contrast than its kind has.
    """

    kind: str
    box: tuple[slice, slice]
    mask: np.ndarray
    contrast: float
    is_faded: bool

    @property
    def size(self) -> float:
        """Square root of its area in pixels."""
        return float(np.sqrt(np.count_nonzero(self.mask)))


class Drawer:
    """Draws all kinds by turns, in an order of chance.

    Parameters
    ----------
    patch_size : float
        Side of the detector's patches, in pixels of the images.
    random : RandomState
    """

    def __init__(self, patch_size: float, random: np.random.RandomState) -> None:
        self.patch_size = patch_size
        self.random = random
        self._failures = dict.fromkeys(KINDS, 0)
        self._drawn = dict.fromkeys(KINDS, 0)
        self._turns: list[tuple[str, bool]] = []

    def side_of_places(self, shape: tuple[int, ...]) -> int:
        """Side of the squares, two patches, of which each gets one defect."""
        return min(round(2 * self.patch_size), *shape[:2])

    def n_places(self, shape: tuple[int, ...]) -> int:
        """Of an image of that shape."""
        side = self.side_of_places(shape)
        return (shape[0] // side) * (shape[1] // side)

    def __call__(
        self, canvas: np.ndarray, counts: np.ndarray | None
    ) -> tuple[np.ndarray, list[Drawn]]:
        """An image (h, w, c) in [0, 1] with a defect at each place that counts as a whole."""
        altered, drawn = canvas.copy(), []
        for place in self._places(canvas.shape):
            if counts is None or counts[place].all():
                defect = self._draw(altered, place)
                if defect is not None:
                    drawn.append(defect)
        return altered, drawn

    def _places(self, shape: tuple[int, ...]) -> Iterator[tuple[slice, slice]]:
        """Squares side by side, the first of them anywhere."""
        side = self.side_of_places(shape)
        begins = [self.random.randint(length % side + 1) for length in shape[:2]]
        for row in range(begins[0], shape[0] - side + 1, side):
            for column in range(begins[1], shape[1] - side + 1, side):
                yield slice(row, row + side), slice(column, column + side)

    def _draw(self, image: np.ndarray, place: tuple[slice, slice]) -> Drawn | None:
        """Draw the kind whose turn it is into the image itself; None if it could not be drawn."""
        kind, is_faded = self._next()
        square, painter = self._square_and_painter(kind, place)
        canvas = image[square].copy()
        for _ in range(_ATTEMPTS):
            try:
                altered, mask = draw_defect(canvas, [kind], self.random, 0, {kind: painter})
            except ValueError:  # flat material shows no dent and no patch
                self._failures[kind] += 1
                return None
            if kind not in BLOTS or _is_inside(mask):
                break
        else:
            return None
        self._drawn[kind] += 1
        if is_faded:
            share = np.exp(self.random.uniform(np.log(_FAINTEST), 0))
            altered = canvas + share * (altered - canvas)
        image[square] = altered
        contrast = float(np.abs(altered - canvas).max(axis=-1)[mask].mean())
        return Drawn(kind, square, mask, contrast, is_faded)

    def _next(self) -> tuple[str, bool]:
        if not self._turns:
            given_up = {
                kind
                for kind in KINDS
                if not self._drawn[kind] and self._failures[kind] >= _GIVEN_UP
            }
            turns = [(kind, False) for kind in KINDS if kind not in given_up]
            turns += [(kind, True) for kind in FADED if kind not in given_up]
            self._turns = [turns[index] for index in self.random.permutation(len(turns))]
        return self._turns.pop()

    def _square_and_painter(
        self, kind: str, place: tuple[slice, slice]
    ) -> tuple[tuple[slice, slice], Painter]:
        """Where to draw at a place, and what does it, of a size drawn at random."""
        largest = place[0].stop - place[0].start
        if kind not in BLOTS:
            side = round(np.exp(self.random.uniform(*np.log([MIN_SIDE, largest]))))
            return self._square(place, side), PAINTERS[kind]
        least, most = (share * self.patch_size for share in _RADII)
        least = max(least, _LEAST_RADIUS)
        radius = np.exp(self.random.uniform(*np.log([least, max(least, most)])))
        radius = min(radius, _LARGEST * largest)
        side = int(np.clip(round(_ROOM * radius), MIN_SIDE, largest))
        return self._square(place, side), partial(BLOTS[kind], radius=radius / side)

    def _square(self, place: tuple[slice, slice], side: int) -> tuple[slice, slice]:
        """A square of that side in the middle half of a place, or as near to it as it fits."""
        largest = place[0].stop - place[0].start
        low = min(largest // 4, (largest - side) // 2)
        offsets = self.random.randint(low, largest - side - low + 1, size=2)
        rows, columns = (
            slice(along.start + offset, along.start + offset + side)
            for along, offset in zip(place, offsets.tolist(), strict=True)
        )
        return rows, columns


def _is_inside(mask: np.ndarray) -> bool:
    """Whether a blot lies in the middle of its square, away from the border."""
    rows, columns = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
    inside = []
    for lines, side in ((rows, mask.shape[0]), (columns, mask.shape[1])):
        middle = (lines[0] + lines[-1]) / 2 / side
        inside.append(lines[0] > 0 and lines[-1] < side - 1 and _MIDDLE[0] < middle < _MIDDLE[1])
    return all(inside)
