"""The thresholds that a report's slider stops at, and the histogram above it.

A map travels as one byte a pixel: how many of these thresholds its value exceeds. At each of them
a byte therefore decides as the value itself would, without rounding.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

# Together with the detector's threshold and the greatest score they fit into a byte.
_N_ROUND, _N_BETWEEN = 150, 90
# Of maps whose values have no least one, the share of the scale that lies below the least score,
# where maps differ but labels do not.
_BELOW = 0.25
# The scale ends this many times the distance from its least to its middle score above the least:
# a few extreme scores would leave no room for the others.
_MAX_SPREAD = 8
_N_BINS = 40
_N_TICKS = 4


class Scale(NamedTuple):
    """The thresholds of a report.

    Attributes
    ----------
    low, high : float
        Ends of the slider, of the histogram and of the colours. Few scores lie above.
    levels : float64 ndarray of shape (k,), k <= 254
        Thresholds that can be chosen, rising; some may lie above `high`.
    """

    low: float
    high: float
    levels: np.ndarray

    def codes(self, residual: np.ndarray) -> np.ndarray:
        """Number of levels that each value exceeds, uint8: value > levels[k] if code > k."""
        return np.searchsorted(self.levels, residual, side="left").astype(np.uint8)

    def position(self, value: float) -> float:
        """Where a value lies between the ends, in [0, 1]."""
        return min(max((value - self.low) / (self.high - self.low), 0.0), 1.0)

    def ticks(self) -> list[float]:
        """A few round numbers between the ends."""
        return list(_round_numbers(self.low, self.high, _N_TICKS, outward=False))

    def histogram(self, scores: np.ndarray) -> list[int]:
        """Scores in bins of equal width; the last one holds all that lie above, too."""
        counts, _ = np.histogram(np.clip(scores, self.low, self.high), _N_BINS, self[:2])
        return [int(count) for count in counts]


def make_scale(scores: np.ndarray, threshold: float, origin: float | None = None) -> Scale:
    """Thresholds at round numbers, at the detector's own, and between neighbouring scores.

    Parameters
    ----------
    scores : float64 ndarray of shape (n,)
        Of all images, inspected and good.
    threshold : float
        The detector's.
    origin : float, default=None
        The least value that a map can have, where the scale begins unless the threshold lies
        below it. None where there is no such value.
    """
    least, greatest = min(scores.min(), threshold), max(scores.max(), threshold)
    middle = max(float(np.median(scores)), threshold)
    high = min(greatest, least + _MAX_SPREAD * (middle - least)) if middle > least else greatest
    # Of no length, or of one that powers of ten cannot tell from none.
    span = high - least if high - least > 1e-290 else max(1.0, abs(high)) / 10
    low = high - span / (1 - _BELOW)
    if origin is not None:
        low = min(least, origin)
        high = max(high, low + span)
    round_levels = np.array(list(_round_numbers(low, high, _N_ROUND, outward=True)))
    between = list(_levels_between(np.unique(scores), round_levels))
    levels = np.unique([*round_levels, *between, threshold, greatest])
    return Scale(float(round_levels[0]), float(round_levels[-1]), levels)


def _round_numbers(low: float, high: float, n_at_most: int, *, outward: bool) -> Iterator[float]:
    """Multiples of 1, 2 or 5 times a power of ten, up to or just beyond the ends."""
    step = (high - low) / n_at_most
    exponent = math.floor(math.log10(step))
    factor = next(factor for factor in (1, 2, 5, 10) if factor * 10.0**exponent >= step)
    unit = factor * 10.0**exponent
    down, up = (math.floor, math.ceil) if outward else (math.ceil, math.floor)
    for k in range(down(low / unit), up(high / unit) + 1):
        # Integers over a power of ten, so that 0.3 is 0.3 and not 0.30000000000000004.
        yield k * factor / 10.0**-exponent if exponent < 0 else k * factor * 10.0**exponent


def _levels_between(scores: np.ndarray, levels: np.ndarray) -> Iterator[float]:
    """A threshold between each two neighbouring scores that none of the levels separates."""
    left, right = scores[:-1], scores[1:]
    inseparable = np.searchsorted(levels, left) == np.searchsorted(levels, right)
    pairs = np.stack([left, right], axis=1)[inseparable]
    if len(pairs) > _N_BETWEEN:
        pairs = pairs[np.linspace(0, len(pairs) - 1, _N_BETWEEN).astype(int)]
    for lower, upper in pairs.tolist():
        yield _shortest_between(lower, upper)


def _shortest_between(lower: float, upper: float) -> float:
    """The number of fewest digits that is at least `lower` and less than `upper`."""
    middle = lower + (upper - lower) / 2
    candidates = (float(f"{middle:.{digits}g}") for digits in range(1, 18))
    return next((value for value in candidates if lower <= value < upper), lower)
