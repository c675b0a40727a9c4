"""What good material shows where its reconstruction looks in a certain way.

A network does not draw all of a material equally well: a selvage, a seam, a shadow are rarer than
the rest, and come out pale. How bright a reconstruction is around a pixel, and how much
contrast it has, foretells there how far good material is from it. Divided by that, a residual that
is large where the network is always wrong counts no more than a small one elsewhere.
"""

from __future__ import annotations

from typing import Self

import numpy as np
import torch
from scipy.spatial import KDTree
from torch import Tensor
from torch.nn import functional as F

from sklearn_ssimae._maps.border import LEAST, QUANTILE
from sklearn_ssimae._maps.filters import gaussian_smoothing

# Turns of the reweighting, after which the coefficients move no more, and what an error's
# size is at least.
_TURNS = 100
_SOFT = 1e-3
# Means, and deviations, that the profile is laid down for.
_STEPS = 33


class LookProfile:
    """A high quantile of good material's residual by the look of the reconstruction.

    Parameters
    ----------
    logarithms : array of shape (k, k)
        Of the quantile, by the mean (rows) and the standard deviation (columns) of the
        reconstruction around a pixel, in even steps from `low` to `high`; linear between them.
    low, high : arrays of shape (2,)
        The least and the greatest mean and deviation. What lies beyond counts as the nearer one.
    sigma : float
        σ in pixels of the Gaussian by which mean and deviation are weighted.
    """

    def __init__(
        self, logarithms: np.ndarray, low: np.ndarray, high: np.ndarray, sigma: float
    ) -> None:
        self.logarithms = np.asarray(logarithms, dtype=np.float32)
        self.low = np.asarray(low, dtype=np.float32)
        self.high = np.asarray(high, dtype=np.float32)
        self.sigma = sigma

    @classmethod
    def fit(cls, looks: np.ndarray, residuals: np.ndarray, *, sigma: float) -> Self:
        """Quantile regression of the logarithm of residuals (n,) > 0 on looks (n, 2).

        Notes
        -----
        On a quadratic function of mean and deviation, by reweighted least squares, which lower
        the quantile's loss at each turn [1]_. A look that was not seen is excused no more than
        the nearest one that was: a defect may look like nothing before, and there the function
        means nothing.

        References
        ----------
        .. [1] D. R. Hunter and K. Lange, "Quantile Regression via an MM Algorithm", Journal of
           Computational and Graphical Statistics 9(1), 2000.
        """
        low, high = looks.min(axis=0), looks.max(axis=0)
        seen = _place(torch.from_numpy(looks), low, high).double().numpy()
        terms = _quadratic(seen)
        logarithms = np.log(residuals.astype(np.float64))
        weights = np.ones(len(residuals))
        for _ in range(_TURNS):
            weighted = weights[:, None] * terms
            # A least-squares solution, since looks that are all alike leave some terms open.
            solved = np.linalg.lstsq(weighted.T @ terms, weighted.T @ logarithms, rcond=None)
            coefficients = solved[0]
            quantiles = terms @ coefficients
            errors = logarithms - quantiles
            weights = np.where(errors > 0, QUANTILE, 1 - QUANTILE) / (np.abs(errors) + _SOFT)
        steps = np.linspace(-1, 1, _STEPS)
        nodes = np.stack(np.meshgrid(steps, steps, indexing="ij"), axis=-1).reshape(-1, 2)
        distances, nearest = KDTree(seen).query(nodes)
        of_nearest = quantiles[nearest]
        of_nodes = np.maximum(_quadratic(nodes) @ coefficients, quantiles.min())
        # What was seen lies between nodes beside it, which must not lower it.
        is_beside = distances < 2 * (steps[1] - steps[0])
        table = np.where(is_beside, of_nearest, np.minimum(of_nodes, of_nearest))
        return cls(table.reshape(_STEPS, _STEPS), low, high, sigma)

    def relative(self, residuals: Tensor, reconstructions: Tensor) -> Tensor:
        """The ratio of maps (n, h, w) to what good material shows at that look.

        Reconstructions have the shape (n, c, h, w). Operations that an exporter can follow.
        """
        return residuals / self.expected(reconstructions)

    def expected(self, reconstructions: Tensor) -> Tensor:
        """The profile laid out over reconstructions (n, c, h, w): (n, h, w)."""
        looks = look_of(reconstructions, self.sigma).movedim(1, -1)
        places = _place(looks, self.low, self.high).flip(-1)  # columns come first
        table = torch.tensor(self.logarithms).to(looks).expand(looks.shape[0], 1, -1, -1)
        logarithms = F.grid_sample(table, places, padding_mode="border", align_corners=True)
        return logarithms[:, 0].exp()


def _quadratic(places: np.ndarray) -> np.ndarray:
    """1, u, v, u², uv, v² of places (n, 2): (n, 6)."""
    u, v = places.T
    return np.stack([np.ones_like(u), u, v, u * u, u * v, v * v], axis=1)


def _place(looks: Tensor, low: np.ndarray, high: np.ndarray) -> Tensor:
    """Looks (..., 2) in units of their range, from -1 to 1."""
    first, last = (torch.tensor(ends).to(looks) for ends in (low, high))
    return ((looks - first) / (last - first).clamp(min=LEAST) * 2 - 1).clamp(-1, 1)


def look_of(reconstructions: Tensor, sigma: float) -> Tensor:
    """Local mean and standard deviation (n, 2, h, w) of reconstructions (n, c, h, w).

    Of the mean of the channels, weighted by a Gaussian.
    """
    grey = reconstructions.mean(dim=1)
    mean, square = gaussian_smoothing(torch.stack([grey, grey.square()]), sigma)
    return torch.stack([mean, (square - mean.square()).clamp(min=0).sqrt()], dim=1)
