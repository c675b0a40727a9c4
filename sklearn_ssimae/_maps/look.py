"""What good material shows where its reconstruction looks in a certain way.

A network does not draw all of a material equally well: a selvage, a seam, a shadow are rarer than
the rest, and come out pale. How bright a reconstruction is around a pixel, and how much
contrast it has, foretells there how far good material is from it. Divided by that, a residual that
is large where the network is always wrong counts no more than a small one elsewhere.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Self

import numpy as np
import torch
from sklearn.tree import DecisionTreeRegressor
from torch import Tensor
from torch.nn import functional as F

from sklearn_ssimae._maps.border import LEAST, QUANTILE
from sklearn_ssimae._maps.filters import gaussian_smoothing

# Side of the table, in steps of mean and of deviation.
_STEPS = 32
# Leaves of the tree. Each holds enough pixels for a quantile.
_LEAVES = 32
_LEAST_IN_LEAF = 1 / 100
# Pixels that the tree learns from, at most: of each map, and of all.
_PIXELS_OF_MAP = 4000
_PIXELS = 30_000


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

    @classmethod
    def fit(cls, maps: Iterable[tuple[Tensor, Tensor]], *, sigma: float) -> Self:
        """Learn the profile from good images that were not trained on.

        Parameters
        ----------
        maps : iterable of (Tensor (h, w), Tensor (c, h, w))
            Residual maps, at least one, and the reconstructions that they belong to.
        sigma : float

        Notes
        -----
        A regression tree of the logarithm of the residual divides the looks into at most 32
        leaves; each has the 95 % quantile of its residuals [1]_. The table interpolates it.

        References
        ----------
        .. [1] N. Meinshausen, "Quantile Regression Forests", Journal of Machine Learning Research
           7, 2006.
        """
        random = np.random.RandomState(0)
        looks, residuals = [], []
        for residual, reconstruction in maps:
            look = look_of(reconstruction[None], sigma)[0].flatten(1).T.cpu().numpy()
            chosen = random.permutation(len(look))[:_PIXELS_OF_MAP]
            looks.append(look[chosen])
            residuals.append(residual.flatten().cpu().numpy()[chosen])
        x, y = np.concatenate(looks), np.concatenate(residuals)
        chosen = random.permutation(len(y))[:_PIXELS]
        x, y = x[chosen], y[chosen].clip(LEAST)
        least = max(1, int(_LEAST_IN_LEAF * len(y)))
        tree = DecisionTreeRegressor(
            max_leaf_nodes=_LEAVES, min_samples_leaf=least, random_state=0
        ).fit(x, np.log(y))
        leaves = tree.apply(x)
        quantiles = np.zeros(tree.tree_.node_count)
        for leaf in np.unique(leaves):
            quantiles[leaf] = np.quantile(y[leaves == leaf], QUANTILE)
        low, high = x.min(axis=0), x.max(axis=0)
        grid = np.stack(np.meshgrid(*np.linspace(low, high, _STEPS).T, indexing="ij"), axis=-1)
        table = quantiles[tree.apply(grid.reshape(-1, 2))].reshape(_STEPS, _STEPS)
        return cls(table, low, high, sigma)

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
            table.expand(len(looks), 1, *table.shape),
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
