"""`ssim_map` under torch's transforms, and in other precisions."""

import pytest
import torch
from torch.testing import assert_close

from sklearn_ssimae import ssim_map


def pair(dtype=torch.float32, size=(3, 12, 14)):
    generator = torch.Generator().manual_seed(0)
    x, y = (torch.rand(size, generator=generator, dtype=torch.float64).to(dtype) for _ in range(2))
    return x, y


def test_vmap():
    x, y = pair()
    assert_close(torch.func.vmap(ssim_map)(x, y), ssim_map(x, y))


def test_grad():
    x, y = pair()
    by_func = torch.func.grad(lambda image: ssim_map(image, y).mean())(x)
    x.requires_grad_()
    (by_autograd,) = torch.autograd.grad(ssim_map(x, y).mean(), x)
    assert_close(by_func, by_autograd)
    assert by_func.abs().max() > 0


def test_gradcheck():
    x, y = (image.requires_grad_() for image in pair(torch.float64, (5, 6)))
    assert torch.autograd.gradcheck(lambda a, b: ssim_map(a, b, window_size=3), (x, y))


def test_float16():
    x, y = pair(torch.float16)
    result = ssim_map(x, y)
    assert_close(result.double(), ssim_map(x.double(), y.double()), rtol=0, atol=0.02)


@pytest.mark.filterwarnings("ignore")  # torch's compiler, of itself
def test_compile():
    x, y = pair()
    compiled = torch.compile(ssim_map, backend="aot_eager")
    assert_close(compiled(x, y), ssim_map(x, y))
