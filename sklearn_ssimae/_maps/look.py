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
from torch import Tensor

from sklearn_ssimae._maps.border import LEAST, QUANTILE
from sklearn_ssimae._maps.filters import gaussian_smoothing

# Turns of the reweighting, after which the coefficients move no more, and what an error's
# size is at least.
_TURNS = 30
_SOFT = 1e-3


class LookProfile:
    """A high quantile of good material's residual by the look of the reconstruction.

    Parameters
    ----------
    coefficients : array of shape (6,)
        Of the logarithm of the quantile: a quadratic function of the mean u and the standard
        deviation v of the reconstruction around a pixel, in the order 1, u, v, u², uv, v².
    low, high : arrays of shape (2,)
        Mean and deviation that count as -1 and as 1. What lies beyond counts as the nearer one.
    bounds : array of shape (2,)
        The least and the greatest value of the function: no look counts beyond those that were
        seen.
    sigma : float
        σ in pixels of the Gaussian by which mean and deviation are weighted.
    """

    def __init__(
        self,
        coefficients: np.ndarray,
        low: np.ndarray,
        high: np.ndarray,
        bounds: np.ndarray,
        sigma: float,
    ) -> None:
        self.coefficients = np.asarray(coefficients, dtype=np.float32)
        self.low = np.asarray(low, dtype=np.float32)
        self.high = np.asarray(high, dtype=np.float32)
        self.bounds = np.asarray(bounds, dtype=np.float32)
        self.sigma = sigma

    @classmethod
    def fit(cls, looks: np.ndarray, residuals: np.ndarray, *, sigma: float) -> Self:
        """Quantile regression of the logarithm of residuals (n,) > 0 on looks (n, 2).

        Notes
        -----
        By reweighted least squares, which lower the quantile's loss at each turn [1]_.

        References
        ----------
        .. [1] D. R. Hunter and K. Lange, "Quantile Regression via an MM Algorithm", Journal of
           Computational and Graphical Statistics 9(1), 2000.
        """
        low, high = looks.min(axis=0), looks.max(axis=0)
        u, v = _place(torch.from_numpy(looks), low, high).double().numpy().T
        terms = np.stack([np.ones_like(u), u, v, u * u, u * v, v * v], axis=1)
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
        bounds = np.array([quantiles.min(), quantiles.max()])
        return cls(coefficients, low, high, bounds, sigma)

    def relative(self, residuals: Tensor, reconstructions: Tensor) -> Tensor:
        """The ratio of maps (n, h, w) to what good material shows at that look.

        Reconstructions have the shape (n, c, h, w). Operations that an exporter can follow.
        """
        return residuals / self.expected(reconstructions)

    def expected(self, reconstructions: Tensor) -> Tensor:
        """The profile laid out over reconstructions (n, c, h, w): (n, h, w)."""
        looks = look_of(reconstructions, self.sigma).movedim(1, -1)
        u, v = _place(looks, self.low, self.high).unbind(-1)
        one, at_u, at_v, at_uu, at_uv, at_vv = self.coefficients.tolist()
        logarithm = one + u * (at_u + at_uu * u + at_uv * v) + v * (at_v + at_vv * v)
        return logarithm.clamp(*self.bounds.tolist()).exp()


def _place(looks: Tensor, low: np.ndarray, high: np.ndarray) -> Tensor:
    """Looks (..., 2) in units of their range, from -1 to 1."""
    first, last = (torch.from_numpy(ends).to(looks) for ends in (low, high))
    return ((looks - first) / (last - first).clamp(min=LEAST) * 2 - 1).clamp(-1, 1)


def look_of(reconstructions: Tensor, sigma: float) -> Tensor:
    """Local mean and standard deviation (n, 2, h, w) of reconstructions (n, c, h, w).

    Of the mean of the channels, weighted by a Gaussian.
    """
    grey = reconstructions.mean(dim=1)
    mean, square = gaussian_smoothing(torch.stack([grey, grey.square()]), sigma)
    return torch.stack([mean, (square - mean.square()).clamp(min=0).sqrt()], dim=1)
