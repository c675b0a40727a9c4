"""What maps are relative to: which axes, and in which order."""

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from sklearn_ssimae._deciding.good import choose_axes, learn_good_material
from sklearn_ssimae._maps.good import GoodMaterial
from sklearn_ssimae._maps.place import BOTH, COLUMNS, NO_AXES, ROWS

PATCH = 32
AS = {"patch_size": PATCH, "logarithmic": False}


def camera(n, *, columns=1.0, rows=1.0, shape=(128, 256), seed=0):
    """Smooth maps of one camera, stronger in a band of columns and of rows."""
    random = np.random.default_rng(seed)
    result = []
    for _ in range(n):
        noise = np.abs(gaussian_filter(random.normal(size=shape), 2)).astype(np.float32)
        noise[:, 20:60] *= columns
        noise[90:120] *= rows
        result.append(torch.from_numpy(noise))
    return result


@pytest.mark.parametrize(
    ("strong", "axes"),
    [
        ({}, NO_AXES),
        ({"columns": 4.0}, COLUMNS),
        ({"rows": 4.0}, ROWS),
        ({"columns": 4.0, "rows": 4.0}, BOTH),
    ],
)
@pytest.mark.parametrize("logarithmic", [False, True])
def test_images_that_were_left_out_tell_the_axes(strong, axes, logarithmic):
    maps = camera(10, **strong)
    if logarithmic:
        maps = [residual.log() for residual in maps]
    chosen, goods = choose_axes(maps, patch_size=PATCH, logarithmic=logarithmic)
    assert chosen == axes
    assert {good.place.axes for good in goods} == ({axes} if any(axes) else set())


def test_few_images_and_images_of_several_sizes_have_no_axes():
    assert choose_axes(camera(4, columns=4.0), **AS) == (NO_AXES, [])
    sizes = [*camera(5, columns=4.0), *camera(5, columns=4.0, shape=(128, 250))]
    assert choose_axes(sizes, **AS) == (NO_AXES, [])


def test_what_does_not_count_takes_no_part():
    maps = camera(10)
    for residual in maps:
        residual[:, :20] = torch.nan
    maps[3][:] = torch.nan
    assert choose_axes(maps, **AS) == (NO_AXES, [])
    good = learn_good_material(maps, NO_AXES, **AS)
    assert torch.isfinite(good.relative(camera(1)[0])).all()


def test_the_border_is_learnt_of_what_place_leaves():
    maps = camera(10, columns=4.0)
    by_place = learn_good_material(maps, COLUMNS, **AS)
    plain = learn_good_material(camera(10), NO_AXES, **AS)
    np.testing.assert_allclose(by_place.border.values, plain.border.values, rtol=0.15)
    new = camera(1, columns=4.0, seed=1)[0]
    assert by_place.relative(new).max() < 0.6 * plain.relative(new).max()


def test_it_is_stored_as_numbers_and_arrays():
    maps = camera(5, columns=4.0)
    good = learn_good_material(maps, COLUMNS, **AS)
    stored = good.to_dict()
    kinds = {type(value) for part in stored.values() for value in part.values()}
    assert kinds <= {np.ndarray, bool, type(None)}
    again = GoodMaterial.from_dict(stored)
    torch.testing.assert_close(again.relative(maps[0]), good.relative(maps[0]), rtol=0, atol=0)
