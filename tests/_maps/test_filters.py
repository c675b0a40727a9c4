import numpy as np
import pytest
import torch
from numpy.testing import assert_array_equal
from scipy import ndimage

from sklearn_ssimae._maps.filters import disk, grey_opening


def opening(residual, diameter):
    return grey_opening(torch.from_numpy(residual), diameter).numpy()


def noise(*shape):
    rng = np.random.default_rng(0)
    return ndimage.gaussian_filter(rng.random(shape), 1).astype(np.float32)


@pytest.mark.parametrize("shape", [(40, 33), (1, 50), (3, 2)])
@pytest.mark.parametrize("diameter", [1, 2, 3, 4, 5, 8, 13])
def test_opening_is_that_of_scipy(diameter, shape):
    residual = noise(*shape)
    footprint = disk(diameter)
    eroded = ndimage.grey_erosion(residual, footprint=footprint, mode="constant", cval=np.inf)
    expected = ndimage.grey_dilation(eroded, footprint=footprint, mode="constant", cval=-np.inf)
    assert_array_equal(opening(residual, diameter), expected)
    assert_array_equal(opening(np.stack([residual, -residual]), diameter)[0], expected)


@pytest.mark.parametrize("diameter", [1, 2, 3, 4, 5, 8])
def test_opening(diameter):
    residual = noise(40, 33)
    opened = opening(residual, diameter)
    assert opened.dtype == np.float32
    assert (opened <= residual).all()
    assert_array_equal(opening(opened, diameter), opened)
    # A flat opening commutes with every threshold.
    for threshold in np.quantile(residual, [0.2, 0.5, 0.8, 0.95]):
        mask = (residual > threshold).astype(np.float32)
        assert_array_equal(opening(mask, diameter) > 0, opened > threshold)
    # It removes what is narrower than the disk and keeps a square that the disk fits in.
    line, square = np.zeros((2, 20, 20), np.float32)
    line[:, 8 : 8 + diameter - 1] = 1
    assert not opening(line, diameter).any()
    square[8 : 8 + diameter, 8 : 8 + diameter] = 1
    assert opening(square, diameter)[8 + diameter // 2, 8 + diameter // 2] == 1


def test_no_opening():
    residual = torch.from_numpy(noise(40, 33))
    assert grey_opening(residual, None) is residual
