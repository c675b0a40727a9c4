"""What good material shows, learnt from residual maps of images that were not trained on."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from torch import Tensor

from sklearn_ssimae._maps.border import LEAST, NO_SIDES, BorderProfile, Sides
from sklearn_ssimae._maps.good import GoodMaterial
from sklearn_ssimae._maps.look import LookProfile, look_of

# σ of the look, as a share of the patch's side: 24 pixels for 128.
_SIGMA = 3 / 16
# Pixels that the maps give, each its share, and pixels among these that a look is learnt from.
_POOL = 60_000
_PIXELS = 10_000
# Looks are told apart by so many steps of the mean, and of the deviation.
_STEPS = 8


def learn_good_material(
    maps: Sequence[tuple[Tensor, Tensor]],
    *,
    patch_size: int,
    logarithmic: bool,
    by_look: bool,
    sides: Sequence[Sides] | None = None,
    by_side: bool | None = None,
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
    sides : sequence of Sides, default=None
        Where each map ends as its image does. None: nowhere.
    by_side : bool, default=None
        Whether each side of the border has a profile of its own, if all were seen. None: if each
        was seen in five maps.
    """
    look = learn_look(maps, sigma=_SIGMA * patch_size) if by_look else None
    border = BorderProfile.fit(
        zip(
            (
                smooth if look is None else look.relative(smooth[None], values[None])[0]
                for smooth, values in maps
            ),
            sides or [NO_SIDES] * len(maps),
            strict=True,
        ),
        reach=patch_size // 2,
        logarithmic=logarithmic,
        by_side=by_side,
    )
    return GoodMaterial(border, look)


def learn_look(maps: Sequence[tuple[Tensor, Tensor]], *, sigma: float) -> LookProfile:
    """The residual of good images by the look of their reconstructions.

    Parameters
    ----------
    maps : sequence of (Tensor (h, w), Tensor (c, h, w))
        Residual maps, at least one, and the reconstructions that they belong to.
    sigma : float
    """
    random = np.random.RandomState(0)
    looks, residuals = [], []
    for residual, reconstruction in maps:
        look = look_of(reconstruction[None], sigma)[0].flatten(1).T.cpu().numpy()
        chosen = random.permutation(len(look))[: _POOL // len(maps)]
        values = residual.flatten().cpu().numpy()[chosen]
        counts = ~np.isnan(values)
        looks.append(look[chosen][counts])
        residuals.append(values[counts])
    x, y = np.concatenate(looks), np.concatenate(residuals)
    chosen = random.choice(len(y), _PIXELS, p=_shares(x))
    return LookProfile.fit(x[chosen], y[chosen].clip(LEAST), sigma=sigma)


def _shares(looks: np.ndarray) -> np.ndarray:
    """How often each of looks (n, 2) is to be drawn: in all as the root of how common it is.

    A rare look, a selvage say, is what a profile is for, and would not be heard among the rest.
    """
    cells = np.zeros(len(looks), dtype=np.intp)
    for values in looks.T:
        edges = np.linspace(values.min(), values.max(), _STEPS + 1)[1:-1]
        cells = cells * _STEPS + np.searchsorted(edges, values)
    weights: np.ndarray = np.bincount(cells)[cells] ** -0.5
    return weights / weights.sum()
