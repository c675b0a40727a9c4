"""Values of images: their range, tensors of them, the type of what comes back."""

import warnings

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from skimage import data
from skimage.transform import rescale

from sklearn_ssimae._images.collection import sequence_of_images, stack_of_images
from sklearn_ssimae._images.values import (
    Preparation,
    output_dtype,
    resolve_data_range,
    to_tensor,
)
from sklearn_ssimae._maps.filters import resize

GREY = data.brick()[:24, :30]
COLOUR = data.astronaut()[100:124, 200:230]


# Ranges -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pixels", "expected"),
    [
        (np.array([3, 7], np.uint8), (0, 255)),
        (np.array([0, 1], np.uint8), (0, 255)),
        (np.array([3, 7], np.uint16), (0, 65535)),
        (np.array([3, 7], ">u2"), (0, 65535)),
        (np.array([False, True]), (0, 1)),
        (np.array([True, True]), (0, 1)),
        (np.array([0.2, 0.3]), (0, 1)),
        (np.array([0.0, 1.0], np.float32), (0, 1)),
        (np.array([0.5, 0.5], np.float16), (0, 1)),
        (np.array([-0.5, 0.5]), (-0.5, 0.5)),
        (np.array([0.5, 1.5], np.float32), (0.5, 1.5)),
        (np.array([3, 7], np.int64), (3, 7)),
        (np.array([-3, 7], np.int8), (-3, 7)),
        (np.array([3, 7], np.uint32), (3, 7)),
        (np.array([0, 1], np.int32), (0, 1)),
        (np.array([7.0, 7.0]), (7, 8)),
        (np.array([-7, -7]), (-7, -6)),
    ],
)
def test_data_range(pixels, expected):
    X = np.broadcast_to(pixels, (3, 4, 2))
    fewer_bits = pixels.dtype.kind == "u" and pixels.dtype.itemsize == 2
    for images in (stack_of_images(X)[0], sequence_of_images(list(X))):
        with warnings.catch_warnings():
            if fewer_bits:
                warnings.simplefilter("ignore", UserWarning)
            result = resolve_data_range(None, images)
        assert result == expected and [type(bound) for bound in result] == [float, float]


def test_data_range_of_all_images():
    X = [np.zeros((2, 2)), np.full((3, 2), 5.0), np.full((1, 9), -2.0)]
    assert resolve_data_range(None, sequence_of_images(X)) == (-2, 5)


@pytest.mark.parametrize("given", [(-1, 3), [-1, 3], np.array([-1.0, 3.0])])
def test_data_range_as_given(given):
    assert resolve_data_range(given, sequence_of_images([GREY])) == (-1, 3)


@pytest.mark.parametrize(
    "given", [(1, 1), (2, 1), (0, np.inf), (np.nan, 1), (0, 1, 2), (1,), "ab", (None, 1)]
)
def test_bad_data_range(given):
    with pytest.raises(
        ValueError, match=r"data_range must be two finite numbers .low, high., low < high"
    ):
        resolve_data_range(given, sequence_of_images([GREY]))


@pytest.mark.parametrize(
    ("image", "data_range"),
    [
        (np.array([0, 255], np.uint8), (0, 1)),
        (np.array([0, 2.1]), (0, 1)),
        (np.array([-1.1, 0.5]), (0, 1)),
        (np.array([0, 65535], np.uint16), (0, 255)),
    ],
)
def test_images_far_out_of_range_draw_a_warning(image, data_range):
    both = (
        rf"image 3, of \w+, holds values in \[{image.min():g}, {image.max():g}\].*"
        rf"fitted on \[{data_range[0]:g}, {data_range[1]:g}\]"
    )
    with pytest.warns(UserWarning, match=both):
        assert Preparation(data_range, 1, 1, True).warn_if_out_of_range("image 3", image)


@pytest.mark.parametrize("image", [np.array([0.0, 1.0]), np.array([-0.9, 1.9]), np.zeros(2)])
def test_images_slightly_out_of_range_draw_none(image):
    assert not Preparation((0, 1), 1, 1, True).warn_if_out_of_range("image 3", image)


# Tensors ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "dtype", [np.uint8, np.uint16, np.int64, np.float16, np.float32, np.float64, np.longdouble]
)
@pytest.mark.parametrize("data_range", [(0, 255), (-10, 90), (100, 101)])
def test_to_tensor(dtype, data_range):
    image = COLOUR.astype(dtype)
    tensor = to_tensor(image, data_range, 1.0)
    assert tensor.shape == (3, 24, 30) and tensor.dtype == torch.float32
    assert tensor.is_contiguous()
    low, high = data_range
    expected = (COLOUR.astype(float).transpose(2, 0, 1) - low) / (high - low)
    assert_allclose(tensor, expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("dtype", [np.int64, np.uint32, np.float64])
def test_small_differences_of_large_values_are_kept(dtype):
    image = (2**31 + np.arange(12).reshape(3, 4, 1)).astype(dtype)
    tensor = to_tensor(image, (2.0**31, 2.0**31 + 11), 1.0)
    assert_allclose(tensor[0], np.arange(12).reshape(3, 4) / 11, rtol=1e-6)


def test_booleans_and_read_only_input():
    image = np.zeros((2, 3, 1), bool)
    image[1] = True
    image.flags.writeable = False
    assert_array_equal(to_tensor(image, (0, 1), 1.0)[0], image[..., 0])
    image = np.broadcast_to(np.float32(0.5), (2, 3, 1))
    to_tensor(image, (0, 1), 1.0).add_(1)
    assert (image == 0.5).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_tensors_share_no_memory_with_the_image(dtype):
    image = np.ones((2, 3, 1), dtype)
    to_tensor(image, (0, 1), 1.0).zero_()
    assert (image == 1).all()


@pytest.mark.parametrize(
    ("scale", "shape"), [(0.5, (12, 15)), (0.1, (2, 3)), (0.01, (1, 1)), (1.5, (36, 45))]
)
def test_scale(scale, shape):
    tensor = to_tensor(COLOUR, (0, 255), scale)
    assert tensor.shape == (3, *shape)
    assert tensor.min() >= 0 and tensor.max() <= 1
    assert_allclose(tensor.mean(), COLOUR.mean() / 255, rtol=0.1)


def test_shrinking_smooths_first():
    # Stripes that a plain choice of pixels would turn into one colour.
    stripes = np.tile([[[0.0], [1.0], [1.0], [0.0]]], (32, 8, 1))
    assert_allclose(to_tensor(stripes, (0, 1), 0.25)[:, 2:-2, 2:-2], 0.5, atol=0.05)
    texture = data.brick() / 255
    expected = rescale(texture, 0.5, anti_aliasing=True)
    shrunk = to_tensor(texture[..., None], (0, 1), 0.5)[0]
    assert np.corrcoef(shrunk.ravel(), expected.ravel())[0, 1] > 0.99


def test_resize_keeps_the_size_it_has():
    planes = torch.rand(2, 5, 7, generator=torch.Generator().manual_seed(0))
    assert resize(planes, (5, 7)) is planes
    assert resize(planes, (10, 3)).shape == (2, 10, 3)


@pytest.mark.parametrize(
    ("dtype", "expected"),
    [
        (np.float64, np.float64),
        (np.float32, np.float32),
        (np.float16, np.float32),
        (np.uint8, np.float32),
        (np.int64, np.float32),
        (bool, np.float32),
    ],
)
def test_output_dtype(dtype, expected):
    assert output_dtype(np.zeros((2, 2, 1), dtype)) == expected
