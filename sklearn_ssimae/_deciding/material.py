"""What a material looks like to a network: how its pattern repeats, how much of it is predicted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from torch import Tensor
from torch.nn import functional as F

from sklearn_ssimae._maps.windows import make_window_mean

# Side in pixels of the windows whose contrast is compared.
_WINDOW = 11
# Autocorrelation at a lag that counts as a repeat, over the least one before it.
_REPEATS = 0.2
# Peaks that differ by less are as high.
_ALIKE = 0.1
# Material of which less is redrawn is hard; a smaller scale must redraw so much more.
_HARD, _MORE = 0.6, 0.05

#: Images (c, h, w) and their reconstructions.
Pairs = Sequence[tuple[Tensor, Tensor]]


class Material(NamedTuple):
    """What good squares show.

    Parameters
    ----------
    period : float or None
        Pixels after which the pattern repeats; None if it does not.
    length : float
        Pixels at which the autocorrelation has fallen to 1 / e.
    predicted, predicted_at_half : float
        See `share_predicted`; the second of images at half their size.
    """

    period: float | None
    length: float
    predicted: float
    predicted_at_half: float

    @classmethod
    def of(cls, pairs: Pairs) -> Material:
        """That of good squares, at least one, of one size or several."""
        period, length = _repeats([image for image, _ in pairs])
        halves = [(_halved(image), _halved(values)) for image, values in pairs]
        return cls(period, length, share_predicted(pairs), share_predicted(halves))

    def in_words(self, patch_size: int) -> str:
        """One line; pixels are those of the network's scale."""
        if self.period is None:
            pattern = f"no repeat, grain of {self.length:.2g} pixels"
        else:
            repeats = patch_size / self.period
            pattern = f"repeats every {self.period:.3g} pixels, {repeats:.2g} times in a patch"
        words = f"{pattern}; {self.predicted:.0%} of the local contrast is redrawn"
        if self.predicted < _HARD and self.predicted_at_half > self.predicted + _MORE:
            words += (
                f", {self.predicted_at_half:.0%} at half the size: half the scale may find more, "
                "unless defects are thin"
            )
        return words


def share_predicted(pairs: Pairs) -> float:
    """The share of local contrast that is redrawn, of images (c, h, w) and reconstructions.

    In [-1, 1]: twice the covariance over the sum of both variances, of what differs from the mean
    in windows of 11 pixels; the structure and contrast of SSIM in one, by which flat places count
    little.
    """
    mean = make_window_mean(_WINDOW, "uniform", 1.0)
    shared = total = 0.0
    for image, values in pairs:
        x, y = image - mean(image), values - mean(values)
        shared += float((2 * x * y).sum())
        total += float((x.square() + y.square()).sum())
    return shared / total if total else 1.0


def _halved(planes: Tensor) -> Tensor:
    return F.avg_pool2d(planes[None], 2)[0]


def _repeats(images: Sequence[Tensor]) -> tuple[float | None, float]:
    """Period and correlation length in pixels, by the autocorrelation along rows and columns."""
    size = min(min(image.shape[1:]) for image in images)
    total = np.zeros((2, size // 2))
    for image in images:
        plane = image.mean(dim=0).double().cpu().numpy()
        plane = plane - plane.mean()
        for axis, sums in enumerate(total):
            spectrum = np.abs(np.fft.rfft(plane, 2 * plane.shape[axis], axis=axis)) ** 2
            lags = np.fft.irfft(spectrum, axis=axis).sum(axis=1 - axis)[: size // 2]
            # Fewer pixels meet at longer lags.
            sums += lags * plane.shape[axis] / (plane.shape[axis] - np.arange(size // 2))
    found = [_read(lags / lags[0]) for lags in total if lags[0] > 0]
    periods = [period for period, _ in found if period is not None]
    lengths = [length for _, length in found]
    return (min(periods) if periods else None), (float(np.mean(lengths)) if lengths else 0.0)


def _read(lags: np.ndarray) -> tuple[float | None, float]:
    """Period and length in pixels, of an autocorrelation by lag."""
    below = np.flatnonzero(lags < np.exp(-1))
    length = float(below[0]) if len(below) else float(len(lags))
    least = np.minimum.accumulate(lags)
    peaks = np.flatnonzero((lags[1:-1] >= lags[:-2]) & (lags[1:-1] > lags[2:])) + 1
    clear = [peak for peak in peaks if lags[peak] - least[peak] > _REPEATS]
    # Multiples of the period repeat as well.
    highest = max((lags[peak] for peak in clear), default=0.0)
    periods = (float(peak) for peak in clear if lags[peak] > highest - _ALIKE)
    return next(periods, None), length
