"""What good material shows, learnt from residual maps of images that were not trained on."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from sklearn.tree import DecisionTreeRegressor
from torch import Tensor

from sklearn_ssimae._maps.border import LEAST, QUANTILE, BorderProfile
from sklearn_ssimae._maps.good import GoodMaterial
from sklearn_ssimae._maps.look import LookProfile, look_of

# σ of the look, as a share of the patch's side: 8 pixels for 128.
_SIGMA = 1 / 16
# Side of the look's table, in steps of mean and of deviation.
_STEPS = 32
# Leaves of the tree. Each holds enough pixels for a quantile.
_LEAVES = 32
_LEAST_IN_LEAF = 1 / 100
# Pixels that the tree learns from, at most: of each map, and of all.
_PIXELS_OF_MAP = 4000
_PIXELS = 30_000


def learn_good_material(
    maps: Sequence[tuple[Tensor, Tensor]], *, patch_size: int, logarithmic: bool, by_look: bool
) -> GoodMaterial:
    """What good images show: by the look if asked for, then by the distance to the border.

    Parameters
    ----------
    maps : sequence of (Tensor (h, w), Tensor (k, h, w))
        Smooth residual maps, at least one, and the values that they were compared from.
    patch_size : int
    logarithmic : bool
        Whether the maps are logarithms.
    by_look : bool
        Whether to learn from the look as well. The values are then reconstructions.
    """
    look = learn_look(maps, sigma=_SIGMA * patch_size) if by_look else None
    border = BorderProfile.fit(
        (
            smooth if look is None else look.relative(smooth[None], values[None])[0]
            for smooth, values in maps
        ),
        reach=patch_size // 2,
        logarithmic=logarithmic,
    )
    return GoodMaterial(border, look)


def learn_look(maps: Iterable[tuple[Tensor, Tensor]], *, sigma: float) -> LookProfile:
    """The residual of good images by the look of their reconstructions.

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
    tree = DecisionTreeRegressor(
        max_leaf_nodes=_LEAVES,
        min_samples_leaf=max(1, int(_LEAST_IN_LEAF * len(y))),
        random_state=0,
    ).fit(x, np.log(y))
    leaves = tree.apply(x)
    quantiles = np.zeros(tree.tree_.node_count)
    for leaf in np.unique(leaves):
        quantiles[leaf] = np.quantile(y[leaves == leaf], QUANTILE)
    low, high = x.min(axis=0), x.max(axis=0)
    grid = np.stack(np.meshgrid(*np.linspace(low, high, _STEPS).T, indexing="ij"), axis=-1)
    table = quantiles[tree.apply(grid.reshape(-1, 2))].reshape(_STEPS, _STEPS)
    return LookProfile(table, low, high, sigma)
