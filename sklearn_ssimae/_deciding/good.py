"""What maps are relative to, learnt from residual maps of good images."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from torch import Tensor

from sklearn_ssimae._maps.border import LEAST, BorderProfile
from sklearn_ssimae._maps.good import GoodMaterial
from sklearn_ssimae._maps.place import BOTH, COLUMNS, NO_AXES, ROWS, Axes, PlaceProfile

# Fewer images cannot tell place from chance.
_LEAST_IMAGES = 5
# Parts of the images that are left out by turns.
_FOLDS = 5
# What a profile must gain: logarithm by which the largest values of images that were left out fall,
# and how many standard errors that must be.
_ADDS = 0.1
_SURE = 2.0


def learn_good_material(
    maps: Sequence[Tensor], axes: Axes, *, patch_size: int, logarithmic: bool
) -> GoodMaterial:
    """The residual of good images: by place, then by the distance to the border.

    Parameters
    ----------
    maps : sequence of Tensor (h, w)
        Smooth residual maps, at least one; of one size if `axes` has any. Values that are not a
        number do not count.
    axes : (bool, bool)
        Which axes have a profile.
    patch_size : int
    logarithmic : bool
        Whether the maps are logarithms.
    """
    place = PlaceProfile.fit(maps, axes, patch_size=patch_size, logarithmic=logarithmic)
    border = BorderProfile.fit(
        map(place.relative, maps), reach=patch_size // 2, logarithmic=logarithmic
    )
    return GoodMaterial(place, border)


def choose_axes(
    maps: Sequence[Tensor], *, patch_size: int, logarithmic: bool
) -> tuple[Axes, list[GoodMaterial]]:
    """The axes by which the residual of good images is to be learnt; none where none pays.

    Parameters
    ----------
    maps : sequence of Tensor (h, w)
        As in `learn_good_material`.

    Returns
    -------
    axes : (bool, bool)
    goods : list of GoodMaterial
        If there are any axes, for each map what others show, with which to judge it.

    Notes
    -----
    By cross-validation: profiles that are learnt from some images are good if they lower the
    largest values of the others. An axis pays if the logarithm of an image's largest value over its
    median falls by 0.1 and by two standard errors of the mean over images.
    """
    if len(maps) < _LEAST_IMAGES or len({tuple(residual.shape) for residual in maps}) > 1:
        return NO_AXES, []
    goods = {
        axes: _goods_of_others(maps, axes, patch_size=patch_size, logarithmic=logarithmic)
        for axes in (NO_AXES, COLUMNS, ROWS, BOTH)
    }
    excess = {
        axes: np.array(
            [
                _excess(good.relative(residual), logarithmic=logarithmic)
                for good, residual in zip(others, maps, strict=True)
            ]
        )
        for axes, others in goods.items()
    }

    def pays(more: Axes, less: Axes) -> bool:
        gain = excess[less] - excess[more]
        error = gain.std(ddof=1) / len(gain) ** 0.5
        return bool(gain.mean() > max(_ADDS, _SURE * error))

    chosen = NO_AXES
    one = min((COLUMNS, ROWS), key=lambda axes: float(excess[axes].mean()))
    if pays(one, chosen):
        chosen = one
    if pays(BOTH, chosen):
        chosen = BOTH
    return chosen, goods[chosen] if any(chosen) else []


def _goods_of_others(
    maps: Sequence[Tensor], axes: Axes, *, patch_size: int, logarithmic: bool
) -> list[GoodMaterial]:
    """For each map what the others show: those of the other fifths, of five maps or more."""
    goods = []
    for fold in np.array_split(np.arange(len(maps)), _FOLDS):
        others = [residual for index, residual in enumerate(maps) if index not in fold]
        good = learn_good_material(others, axes, patch_size=patch_size, logarithmic=logarithmic)
        goods += [good] * len(fold)
    return goods


def _excess(residual: Tensor, *, logarithmic: bool) -> float:
    """Logarithm of a map's largest value over its median; 0 if nothing of it counts."""
    values = residual[~residual.isnan()].double().cpu().numpy()
    if len(values) == 0:
        return 0.0
    ends = np.array([values.max(), np.median(values)])
    largest, ordinary = ends if logarithmic else np.log(ends.clip(LEAST))
    return float(largest - ordinary)
