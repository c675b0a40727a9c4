"""Gradients of the structural similarity."""

import numpy as np
import pytest
import torch
from image_pairs import EXPONENTS, WINDOWS, components_product, random_pair, texture_pair
from numpy.testing import assert_allclose, assert_array_equal

from sklearn_ssimae import ssim_components, ssim_map
from sklearn_ssimae._maps import windows


def gradient(function, x, y, **options):
    """Gradients by both images of a weighted sum of the map."""
    x, y = (torch.as_tensor(image).clone().requires_grad_() for image in (x, y))
    weights = torch.rand(x.shape, generator=torch.Generator().manual_seed(1)).to(x.dtype)
    return torch.autograd.grad((function(x, y, **options) * weights).sum(), (x, y))


@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize(
    "exponents",
    [{}, dict(gamma=0.5), dict(gamma=2), dict(gamma=0), dict(alpha=2, beta=0.7, gamma=0.5)],
)
@pytest.mark.parametrize("by", [(True, True), (True, False), (False, True)])
def test_gradient_is_that_of_the_map(window, exponents, by):
    pair = random_pair((2, 5, 6))
    x, y = (
        torch.from_numpy(image).requires_grad_(needed)
        for image, needed in zip(pair, by, strict=True)
    )

    def function(x, y):
        return ssim_map(x, y, window=window, window_size=5, **exponents)

    assert torch.autograd.gradcheck(function, (x, y))


@pytest.mark.parametrize("window", WINDOWS)
def test_gradient_of_the_components(window):
    x, y = (torch.from_numpy(image).requires_grad_() for image in random_pair((5, 6)))

    def function(x, y):
        return ssim_components(x, y, window=window, window_size=5, beta=0.5, gamma=1.5)

    assert torch.autograd.gradcheck(function, (x, y))


@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize("window_size", [3, 31, 151])
@pytest.mark.parametrize("shape", [(70, 131), (5, 70, 600)])
def test_gradient_at_borders_and_across_strips(window, window_size, shape):
    pair = random_pair(shape)
    # A constant under the square roots tells the two apart, the less the larger c2 is.
    options = dict(window=window, window_size=window_size, sigma=9.0, c2=0.03)
    fused = gradient(ssim_map, *pair, **options)
    for one, other in zip(fused, gradient(components_product, *pair, **options), strict=True):
        assert_allclose(one, other, rtol=0, atol=1e-5 * other.abs().max())


@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize("images", [random_pair((2, 70, 131)), texture_pair(np.float64)])
def test_float32_gradient_of_the_fused_path_equals_autograd(window, images):
    single = [image.astype(np.float32) for image in images]
    double = [image.astype(np.float64) for image in single]
    fused = gradient(ssim_map, *single, window=window, c2=0.03)
    expected = gradient(components_product, *double, window=window, c2=0.03)
    for one, other in zip(fused, expected, strict=True):
        assert one.dtype == torch.float32
        assert_allclose(one, other, rtol=0, atol=2e-5 * float(other.abs().max()))


@pytest.mark.parametrize("of_x, of_y", [(True, False), (False, True), (True, True)])
def test_strips_of_few_rows_and_images_change_nothing(of_x, of_y, monkeypatch):
    x, y = (torch.from_numpy(image) for image in random_pair((5, 2, 70, 40)))
    x.requires_grad_(of_x)
    y.requires_grad_(of_y)
    wanted = [image for image in (x, y) if image.requires_grad]

    def map_and_gradients():
        result = ssim_map(x, y, window_size=21)
        return result.detach(), *torch.autograd.grad(result.square().sum(), wanted)

    expected = map_and_gradients()
    for n_pixels in (1, 3 * 70 * 40):  # a block of one image; images by threes
        monkeypatch.setattr(windows, "_STRIP_PIXELS", n_pixels)
        for one, other in zip(map_and_gradients(), expected, strict=True):
            assert_allclose(one, other, rtol=0, atol=1e-12 * float(other.abs().max()))


def test_gradient_is_differentiable_once():
    x, y = (torch.from_numpy(image).requires_grad_() for image in random_pair((8, 8)))
    (first,) = torch.autograd.grad(ssim_map(x, y).square().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        first.sum().backward()


@pytest.mark.parametrize("exponents", EXPONENTS)
def test_gradient_after_a_first_call_in_inference_mode(exponents):
    # The banded matrices of the first call are kept.
    x, y = (torch.from_numpy(image) for image in random_pair((21, 22), seed=3))
    options = dict(window_size=9, window="gaussian", sigma=2.25, **exponents)
    with torch.inference_mode():
        expected = ssim_map(x, y, **options)
    x.requires_grad_()
    result = ssim_map(x, y, **options)
    result.sum().backward()
    assert_array_equal(result.detach(), expected)
    assert x.grad.abs().max() > 0


@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("exponents", [*EXPONENTS, dict(beta=0.1, gamma=0.1)])
def test_gradients_at_flat_patches_are_finite(window, dtype, exponents):
    noise = torch.from_numpy(random_pair((40, 40))[0])
    light, dark = torch.full_like(noise, 0.83), torch.full_like(noise, 0.1)
    half = noise.clone()
    half[:, :20] = 0.83
    images = [image.to(dtype) for image in (noise, light, dark, half)]
    for a in images:
        for b in images:
            x, y = a.clone().requires_grad_(), b.clone().requires_grad_()
            result = ssim_map(x, y, window=window, **exponents)
            result.sum().backward()
            assert torch.isfinite(result).all()
            assert torch.isfinite(x.grad).all() and torch.isfinite(y.grad).all()
            assert max(x.grad.abs().max(), y.grad.abs().max()) < 1e4
