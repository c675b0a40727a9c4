"""What good material shows where its reconstruction looks in a certain way.

A network does not draw all of a material equally well: a selvage, a seam, a shadow are rarer than
the rest, and come out pale. How bright a reconstruction is around a pixel, and how much
contrast it has, foretells there how far good material is from it. Divided by that, a residual that
is large where the network is always wrong counts no more than a small one elsewhere.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from sklearn_ssimae._maps.border import LEAST
from sklearn_ssimae._maps.filters import gaussian_smoothing


class LookProfile:
    """A high quantile of good material's residual by the look of the reconstruction.

    Parameters
    ----------
    table : array of shape (k, k)
        The quantile, by mean (rows) and standard deviation (columns) of the reconstruction around
        a pixel, in even steps from `low` to `high`.
    low, high : arrays of shape (2,)
        Mean and deviation at the table's ends. What lies beyond counts as the end.
    sigma : float
        σ in pixels of the Gaussian by which mean and deviation are weighted.
    """

    def __init__(self, table: np.ndarray, low: np.ndarray, high: np.ndarray, sigma: float) -> None:
        self.table = np.asarray(table, dtype=np.float32)
        self.low = np.asarray(low, dtype=np.float32)
        self.high = np.asarray(high, dtype=np.float32)
        self.sigma = sigma

    def relative(self, residuals: Tensor, reconstructions: Tensor) -> Tensor:
        """The ratio of maps (n, h, w) to what good material shows at that look.

        Reconstructions have the shape (n, c, h, w). Operations that an exporter can follow.
        """
        return residuals / self.expected(reconstructions)

    def expected(self, reconstructions: Tensor) -> Tensor:
        """The profile laid out over reconstructions (n, c, h, w): (n, h, w)."""
        low, high, table = (
            torch.from_numpy(values).to(reconstructions)
            for values in (self.low, self.high, self.table)
        )
        looks = look_of(reconstructions, self.sigma).movedim(1, -1)
        position = (looks - low) / (high - low).clamp(min=LEAST) * 2 - 1
        return F.grid_sample(
            table.expand(looks.shape[0], 1, *table.shape),
            position.flip(-1),  # the columns' place comes first
            mode="bilinear",
            padding_mode="border",
            align_corners=True,
        )[:, 0]


def look_of(reconstructions: Tensor, sigma: float) -> Tensor:
    """Local mean and standard deviation (n, 2, h, w) of reconstructions (n, c, h, w).

    Of the mean of the channels, weighted by a Gaussian.
    """
    grey = reconstructions.mean(dim=1)
    mean, square = gaussian_smoothing(torch.stack([grey, grey.square()]), sigma)
    return torch.stack([mean, (square - mean.square()).clamp(min=0).sqrt()], dim=1)
