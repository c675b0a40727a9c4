"""What the structural similarity takes, keeps, gives back and refuses."""

import numpy as np
import pytest
import torch
from image_pairs import EXPONENTS, random_pair
from numpy.testing import assert_allclose, assert_array_equal

from sklearn_ssimae import ssim_components, ssim_map

# Containers and dtypes ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("dtype", "result_dtype"),
    [
        (np.float16, np.float32),
        (np.float32, np.float32),
        (np.float64, np.float64),
        (np.longdouble, np.float64),
        (">f2", np.float32),
        (">f4", np.float32),
        (">f8", np.float64),
    ],
)
@pytest.mark.parametrize("exponents", EXPONENTS)
def test_numpy_dtypes(dtype, result_dtype, exponents):
    x, y = random_pair((20, 30), dtype)
    results = [ssim_map(x, y, **exponents), *ssim_components(x, y, **exponents)]
    for result in results:
        assert isinstance(result, np.ndarray)
        assert result.dtype == result_dtype and result.shape == x.shape
    expected = ssim_map(x.astype(result_dtype), y.astype(result_dtype), **exponents)
    assert_array_equal(results[0], expected)


@pytest.mark.parametrize(
    "view",
    [
        lambda image: image[::-1, ::-1],
        lambda image: image[:, ::2],
        lambda image: image.T,
        np.asfortranarray,
        lambda image: np.broadcast_to(image[:1], image.shape),
    ],
    ids=["negative strides", "steps", "transposed", "Fortran", "broadcast"],
)
def test_memory_layouts(view):
    x, y = (view(image) for image in random_pair((30, 30)))
    x.flags.writeable = False
    expected = ssim_map(np.ascontiguousarray(x), np.ascontiguousarray(y))
    assert_array_equal(ssim_map(x, y), expected)


@pytest.mark.parametrize(
    ("dtype", "result_dtype"),
    [
        (torch.float16, torch.float32),
        (torch.bfloat16, torch.float32),
        (torch.float32, torch.float32),
        (torch.float64, torch.float64),
    ],
)
@pytest.mark.parametrize("exponents", EXPONENTS)
def test_torch_dtypes(dtype, result_dtype, exponents):
    x, y = (torch.from_numpy(image).to(dtype).requires_grad_() for image in random_pair((20, 30)))
    result = ssim_map(x, y, **exponents)
    assert isinstance(result, torch.Tensor) and result.dtype == result_dtype
    assert_array_equal(
        result.detach(), ssim_map(x.to(result_dtype), y.to(result_dtype), **exponents).detach()
    )
    result.sum().backward()
    assert x.grad.dtype == dtype and y.grad.dtype == dtype


def test_mixed_precision_is_computed_in_the_higher():
    x, y = random_pair((20, 30))
    assert_array_equal(ssim_map(x.astype(np.float32), y), ssim_map(x.astype(np.float32) * 1.0, y))
    assert ssim_map(x.astype(np.float16), y).dtype == np.float64
    assert ssim_map(torch.tensor(x).half(), torch.tensor(y).float()).dtype == torch.float32


@pytest.mark.parametrize("exponents", EXPONENTS)
def test_autocast_changes_nothing(exponents):
    x, y = random_pair((2, 70, 80), np.float32)

    def result_and_gradients():
        a, b = (torch.from_numpy(image).requires_grad_() for image in (x, y))
        result = ssim_map(a, b, **exponents)
        return result.detach(), *torch.autograd.grad(result.sum(), (a, b))

    expected = result_and_gradients()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        for one, other in zip(result_and_gradients(), expected, strict=True):
            assert one.dtype == torch.float32
            assert_array_equal(one, other)


@pytest.mark.parametrize("exponents", EXPONENTS)
def test_leading_axes_are_separate_images(exponents):
    x, y = random_pair((2, 3, 20, 30))
    result = ssim_map(x, y, **exponents)
    for index in np.ndindex(2, 3):
        expected = ssim_map(x[index], y[index], **exponents)
        assert_allclose(result[index], expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("exponents", EXPONENTS)
def test_tensors_that_are_not_contiguous(exponents):
    x, y = (torch.from_numpy(image) for image in random_pair((2, 3, 20, 30)))
    expected = ssim_map(x, y, **exponents)
    result = ssim_map(x.to(memory_format=torch.channels_last), y.mT.contiguous().mT, **exponents)
    assert_allclose(result, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("exponents", EXPONENTS)
def test_input_and_global_state_are_left_alone(exponents):
    def state():
        seeds = torch.get_rng_state().tolist(), np.random.get_state()[1].tolist()
        return seeds, torch.get_num_threads(), torch.get_default_dtype(), torch.is_grad_enabled()

    pair = random_pair((20, 30))
    for images in (pair, [torch.from_numpy(image) for image in pair]):
        before, copies = state(), [np.asarray(image).copy() for image in images]
        ssim_map(*images, **exponents)
        ssim_components(*images, **exponents)
        assert state() == before
        for image, copy in zip(images, copies, strict=True):
            assert_array_equal(image, copy)


# Bad input ----------------------------------------------------------------------------

IMAGE = np.zeros((20, 20))


@pytest.mark.parametrize("function", [ssim_map, ssim_components])
@pytest.mark.parametrize(
    ("x", "y", "error", "message"),
    [
        (IMAGE.astype(np.uint8), IMAGE, TypeError, "x must hold floating-point.*uint8.*255"),
        (IMAGE, IMAGE.astype(int), TypeError, "y must hold floating-point.*int64"),
        (IMAGE > 0, IMAGE, TypeError, "got bool"),
        (IMAGE.astype(complex), IMAGE, TypeError, "got complex128"),
        (torch.zeros(9, 9, dtype=torch.uint8), torch.zeros(9, 9), TypeError, "got torch.uint8"),
        (IMAGE, torch.zeros(20, 20), TypeError, "ndarray and Tensor"),
        (torch.zeros(20, 20), IMAGE, TypeError, "Tensor and ndarray"),
        (IMAGE, IMAGE[:-1], ValueError, r"\(20, 20\) and \(19, 20\)"),
        (IMAGE, IMAGE[None], ValueError, r"\(20, 20\) and \(1, 20, 20\)"),
        (IMAGE[0], IMAGE[0], ValueError, r"\(20,\)"),
        (IMAGE[:0], IMAGE[:0], ValueError, r"no pixels.*\(0, 20\)"),
        (IMAGE[None][:0], IMAGE[None][:0], ValueError, r"no pixels.*\(0, 20, 20\)"),
    ],
)
def test_bad_images(function, x, y, error, message):
    with pytest.raises(error, match=message):
        function(x, y)


BAD_VALUES = {
    "window_size": [10, 0, -3, 11.0, "11"],
    "window": ["hann", None],
    "sigma": [0, -1.5, np.nan],
    "c1": [0, -1e-4],
    "c2": [0, np.nan],
    "alpha": [-1],
    "beta": [-0.5],
    "gamma": [np.nan],
}


@pytest.mark.parametrize("function", [ssim_map, ssim_components])
@pytest.mark.parametrize(
    ("parameter", "value"), [(name, value) for name in BAD_VALUES for value in BAD_VALUES[name]]
)
def test_bad_parameters(function, parameter, value):
    with pytest.raises(ValueError, match=f"{parameter} must be .* got {value!r}"):
        function(IMAGE, IMAGE, **{parameter: value})
