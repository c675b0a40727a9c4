"""The threshold that a good image exceeds with a given probability.

An image is called defective when its largest residual lies above the threshold, so what counts
is how the largest residuals of good images that were not trained on are distributed.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy.optimize import brentq
from scipy.special import expm1

#: The share of good images that may be called defective.
FALSE_ALARM_RATE = 0.01

# An image is cut into so many blocks along either side.
_BLOCKS = 4
# Scale of the largest residuals of images, over that of the blocks of an image. Images
# differ as their parts do, and in lighting, focus and the like, which the parts share.
_IMAGES_OVER_BLOCKS = 1.5
# What the blocks say counts as much as so many images.
_BLOCKS_COUNT_AS = 2
# Standard deviation of the Gumbel distribution of scale 1.
_DEVIATION = math.pi / math.sqrt(6)
# Images so few that what is extrapolated from them means little; images that are some.
_FEW, _SOME = 2, 10
# From this rate on hardly anything is extrapolated.
_COMMON_RATE = 0.05
# Samples of good images that the prediction limit is averaged over.
_DRAWS = 4000
# Of a rank: what rounding may take from (n + 1)(1 - rate) or add to it.
_ROUNDING = 1e-9


@dataclass(frozen=True)
class GoodMaxima:
    """What is kept of the residual map of a good image.

    Parameters
    ----------
    largest : float
        Its largest value.
    block_variance : float
        Variance of the largest values of its blocks.
    n_pixels : int
    """

    largest: float
    block_variance: float
    n_pixels: int

    @classmethod
    def of(cls, residual: np.ndarray) -> GoodMaxima:
        """Those of a map (h, w); pixels that are not a number do not count, others must."""
        rows, columns = (_cuts(side) for side in residual.shape)
        blocks = np.fmax.reduceat(np.fmax.reduceat(residual, rows, axis=0), columns, axis=1)
        counting = blocks[~np.isnan(blocks)]
        variance = float(counting.var(ddof=1)) if counting.size > 1 else 0.0
        n_pixels = residual.size - int(np.count_nonzero(np.isnan(residual)))
        return cls(float(counting.max()), variance, n_pixels)


def _cuts(side: int) -> np.ndarray:
    """Where the blocks along an axis begin."""
    n_blocks = min(_BLOCKS, side)
    return np.arange(n_blocks) * side // n_blocks


@dataclass(frozen=True)
class Threshold:
    """A threshold, and what it rests on.

    Parameters
    ----------
    value : float
    by_rank : bool
        Whether it is one of the images' largest values, or is extrapolated from them.
    n_images : int
        Good images that it was learnt from.
    rate : float
        The share of good images that lie above.
    """

    value: float
    by_rank: bool
    n_images: int
    rate: float

    def __str__(self) -> str:
        """One line that says what the threshold rests on."""
        rule = "by rank among" if self.by_rank else "extrapolated with the Gumbel distribution from"
        images = "image" if self.n_images == 1 else "images"
        return (
            f"threshold {self.value:.4g}: exceeded by {self.rate:.3g} of good images, {rule} the "
            f"largest residuals of {self.n_images} good {images}{self._doubt()}"
        )

    def _doubt(self) -> str:
        """What is not certain about it."""
        if self.n_images <= _FEW:
            images = "1 image" if self.n_images == 1 else f"{self.n_images} images"
            return (
                f". It rests on {images} alone, and the true share may be many times as large: "
                "give more good images to fit_threshold (ssimae threshold)"
            )
        n_needed = math.ceil(1 / self.rate - 1 - 1e-9)
        if self.by_rank or self.n_images >= n_needed:
            return ""
        share = _largest_factor(self.n_images, self.rate) * self.rate
        return f"; fewer than {n_needed} images: up to {share:.3g} in simulations"


def _largest_factor(n_images: int, rate: float) -> int:
    """How many times the rate the true share was at most, in simulations with four tails."""
    if rate >= _COMMON_RATE:
        return 2
    return 3 if n_images >= _SOME else 5


@dataclass(frozen=True, eq=False)
class GoodLevels:
    """Largest residuals of good images, of which thresholds and p-values are two readings.

    Parameters
    ----------
    largest : ndarray of shape (n,)
    growth : ndarray of shape (n,)
        Logarithm of how many times as many pixels the images to be judged have.
    block_scale : float
        Gumbel scale of the largest residuals of blocks.
    """

    largest: np.ndarray
    growth: np.ndarray
    block_scale: float

    @classmethod
    def of(cls, maxima: Iterable[GoodMaxima], n_pixels: float | None = None) -> GoodLevels:
        """Those of at least one map; see `false_alarm_threshold`."""
        images = list(maxima)
        sizes = np.array([image.n_pixels for image in images])
        variance = float(np.mean([image.block_variance for image in images]))
        return cls(
            np.array([image.largest for image in images]),
            np.zeros(len(images)) if n_pixels is None else np.log(n_pixels / sizes),
            math.sqrt(variance) / _DEVIATION,
        )

    def threshold(self, rate: float) -> Threshold:
        """The threshold that a further good image exceeds with that probability."""
        n_images = len(self.largest)
        if self.is_ranked(rate):
            value = float(np.sort(self.largest)[self._rank(rate) - 1])
            return Threshold(value, True, n_images, rate)
        value = self._centre + prediction_factor(n_images, rate) * self._scale
        return Threshold(value, False, n_images, rate)

    def p_values(self, largest: np.ndarray, rate: float) -> np.ndarray:
        """Probability with which a good image has a largest residual that is as large.

        Parameters
        ----------
        largest : ndarray of shape (m,)
            Largest residuals of the images to be judged.
        rate : float
            Of the threshold: where that goes by rank, so do the p-values, else they are
            extrapolated. Below 1 / (n + 1), where no rank is left, all are extrapolated.

        Returns
        -------
        p : float64 ndarray of shape (m,)
            Below `rate` exactly where the residual exceeds ``threshold(rate)``.
        """
        extrapolated = self._extrapolated(np.asarray(largest, dtype=np.float64))
        if not self.is_ranked(rate):
            return extrapolated
        n_images = len(self.largest)
        as_large = n_images - np.searchsorted(np.sort(self.largest), largest, side="left")
        # A billionth of a rank less, so that p < rate holds where the rank is that of `rate`.
        by_rank = (as_large + 1 - _ROUNDING) / (n_images + 1)
        return np.where(as_large > 0, by_rank, np.minimum(by_rank, extrapolated))

    def is_ranked(self, rate: float) -> bool:
        """Whether there are enough images for a threshold by rank."""
        return self._rank(rate) <= len(self.largest) and not self.growth.any()

    def basis(self, rate: float) -> str:
        """One line that says what the p-values rest on."""
        n_images = len(self.largest)
        images = f"{n_images} good {'image' if n_images == 1 else 'images'}"
        if self.is_ranked(rate):
            return (
                f"by rank among the largest residuals of {images}, below "
                f"{1 / (n_images + 1):.3g} extrapolated with the Gumbel distribution"
            )
        return (
            "extrapolated with the Gumbel distribution from the largest residuals of "
            f"{images}{' or parts of them' if self.growth.any() else ''}"
        )

    def _rank(self, rate: float) -> int:
        return math.ceil((len(self.largest) + 1) * (1 - rate) - _ROUNDING)

    @property
    def _centre(self) -> float:
        return float((self.largest + self.block_scale * self.growth).mean())

    @property
    def _scale(self) -> float:
        return float(_pooled_scale(_IMAGES_OVER_BLOCKS * self.block_scale, self.largest))

    def _extrapolated(self, largest: np.ndarray) -> np.ndarray:
        above, scale = largest - self._centre, self._scale
        if scale == 0:
            return np.where(above > 0, 0.0, 1.0)
        return np.array([_exceedance(len(self.largest), value / scale) for value in above])


def false_alarm_threshold(
    maxima: Iterable[GoodMaxima], *, rate: float = FALSE_ALARM_RATE, n_pixels: float | None = None
) -> Threshold:
    r"""The threshold that a further good image exceeds with probability `rate`.

    Parameters
    ----------
    maxima : iterable of GoodMaxima
        Of at least one map, of good images or regions that were not trained on.
    rate : float, default=0.01
        In (0, 1).
    n_pixels : float, default=None
        Pixels of the images to be judged. None: as many as the maps have.

    Returns
    -------
    threshold : Threshold

    Notes
    -----
    *By rank*, with n ≥ 1 / `rate` − 1 images, 99 for 1 %: the k-th smallest of the largest
    residuals, k = ⌈(n + 1)(1 − `rate`)⌉, the rule of split conformal prediction [1]_. Whatever
    their distribution, a further good image that is as likely to come as those exceeds it with a
    probability of at most `rate`.

    *Extrapolated*, with fewer: largest residuals are taken to follow a Gumbel distribution, the
    limit that maxima of many values with light tails tend to [2]_. Its scale β comes from the
    L-scale β ln 2 of the n largest residuals, half their mean difference, which a single odd
    image alters less than a variance; and from the variance π²β²/6 of the largest residuals of the
    4 × 4 blocks of each image. The latter β is multiplied by 1.5 (images differ more than the parts
    of one) and counts as much as two further images. The threshold is m + k(n) β, where m is the
    mean of the largest residuals and k(n) the prediction limit: the factor at which a further
    image is exceeded by with probability `rate`, averaged over what chance makes of m and β.
    The largest of A times as many pixels of one image lies β ln A higher, with the β of blocks
    alone: regions are extrapolated to `n_pixels` in this way.

    References
    ----------
    .. [1] J. Lei et al., "Distribution-Free Predictive Inference for Regression", Journal of the
       American Statistical Association 113(523), 2018.
    .. [2] S. Coles, "An Introduction to Statistical Modeling of Extreme Values", Springer, 2001.
    """
    return GoodLevels.of(maxima, n_pixels).threshold(rate)


def _pooled_scale(by_blocks: float, largest: np.ndarray) -> np.ndarray:
    """Gumbel scale of largest residuals (..., n): from their L-scale and the blocks' scale."""
    n_images = largest.shape[-1]
    ranks = 2 * np.arange(n_images) - (n_images - 1)
    # The sum of half the differences of all pairs, divided by the pairs of one image.
    differences = (np.sort(largest, axis=-1) * ranks).sum(axis=-1) / n_images
    total = _BLOCKS_COUNT_AS * by_blocks + differences / math.log(2)
    return np.asarray(total / (_BLOCKS_COUNT_AS + n_images - 1))


@lru_cache(maxsize=64)
def prediction_factor(n_images: int, rate: float) -> float:
    """How many scales above the mean of n_images maxima a further one lies with probability `rate`.

    The mean and the scale are estimates, other ones in every sample of images. A fixed sample of
    samples stands for all: the same factor each time.
    """

    def excess(factor: float) -> float:
        return _exceedance(n_images, factor) - rate

    return float(brentq(excess, -100, 1e4, xtol=1e-12))


def _exceedance(n_images: int, factor: float) -> float:
    """Probability with which a further maximum lies more than `factor` scales above the mean."""
    means, scales = _samples(n_images)
    # Of the standard Gumbel distribution; scipy.stats takes four times as long.
    return float(-expm1(-np.exp(-(means + factor * scales))).mean())


@lru_cache(maxsize=4)
def _samples(n_images: int) -> tuple[np.ndarray, np.ndarray]:
    """Means and estimated scales of samples of n_images maxima."""
    draws = np.random.RandomState(0).gumbel(size=(_DRAWS, n_images))
    return draws.mean(axis=1), _pooled_scale(1.0, draws)
