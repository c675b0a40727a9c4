"""`ssim_map` under torch's transforms and compiler, and in other precisions."""

import pytest
import torch
from image_pairs import EXPONENTS
from torch.func import grad, hessian, jvp, vmap
from torch.testing import assert_close

from sklearn_ssimae import ssim_components, ssim_map

# torch's own, when it loads its forward derivatives.
pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated")


def pair(dtype=torch.float64, size=(3, 12, 14)):
    generator = torch.Generator().manual_seed(0)
    x, y = (torch.rand(size, generator=generator, dtype=torch.float64).to(dtype) for _ in range(2))
    return x, y


def gradient(function, x, y):
    """By y, without `torch.func`."""
    y = y.clone().requires_grad_()
    return torch.autograd.grad(function(x, y), y)[0]


@pytest.mark.parametrize("options", [{}, dict(window="gaussian"), *EXPONENTS], ids=str)
def test_torch_func_is_as_a_loop_and_autograd(options):
    x, y = pair()

    def loss(a, b):
        return 1 - ssim_map(a, b, **options).mean()

    assert_close(vmap(lambda a, b: ssim_map(a, b, **options))(x, y), ssim_map(x, y, **options))
    expected = gradient(loss, x, y)
    assert_close(grad(loss, argnums=1)(x, y), expected)
    of_each = torch.stack([gradient(loss, *images) for images in zip(x, y, strict=True)])
    assert_close(vmap(grad(loss, argnums=1))(x, y), of_each)
    _, slope = jvp(lambda b: loss(x, b), (y,), (torch.ones_like(y),))
    assert_close(slope, expected.sum())


def test_vmap_of_one_image_against_many():
    x, y = pair()
    expected = torch.stack([ssim_map(x[0], image) for image in y])
    assert_close(vmap(ssim_map, in_dims=(None, 0))(x[0], y), expected)
    across = vmap(ssim_map, in_dims=(None, 2), out_dims=2)(x[0], y.movedim(0, 2))
    assert_close(across, expected.movedim(0, 2))


def test_vmap_of_the_components():
    x, y = pair()
    for found, expected in zip(vmap(ssim_components)(x, y), ssim_components(x, y), strict=True):
        assert_close(found, expected)


def test_second_derivatives_under_torch_func():
    x, y = pair(size=(3, 4))

    def loss(b):
        return ssim_map(x, b, window_size=3).mean()

    found = hessian(loss)(y)
    step = 1e-6
    for row, column in ((0, 0), (1, 2), (2, 3)):
        moved = torch.zeros_like(y)
        moved[row, column] = step
        slopes = [gradient(lambda _, b: loss(b), x, y + side * moved) for side in (1, -1)]
        expected = (slopes[0] - slopes[1]) / (2 * step)
        assert_close(found[row, column], expected, rtol=1e-5, atol=1e-7)


def test_gradcheck():
    x, y = (image.requires_grad_() for image in pair(size=(5, 6)))
    assert torch.autograd.gradcheck(lambda a, b: ssim_map(a, b, window_size=3), (x, y))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(dtype):
    x, y = (image.requires_grad_() for image in pair(dtype))
    result = ssim_map(x, y)
    single = [image.detach().float().requires_grad_() for image in (x, y)]
    expected = ssim_map(*single)
    assert result.dtype == torch.float32
    assert_close(result, expected, rtol=0, atol=0)
    for image, other in zip((x, y), single, strict=True):
        (found,) = torch.autograd.grad(result.mean(), image, retain_graph=True)
        (own,) = torch.autograd.grad(expected.mean(), other, retain_graph=True)
        assert found.dtype == dtype
        assert_close(found, own.to(dtype), rtol=0, atol=0)


# "inductor" needs a C++ compiler and most of a minute; "aot_eager" stops before the code is
# generated.
@pytest.mark.filterwarnings("ignore")  # torch's compiler, of itself
def test_compile():
    x, y = pair(torch.float32)
    compiled = torch.compile(ssim_map, backend="aot_eager")
    assert_close(compiled(x, y), ssim_map(x, y))
    by_mean = [gradient(lambda a, b, f=f: f(a, b).mean(), x, y) for f in (compiled, ssim_map)]
    assert_close(*by_mean)
