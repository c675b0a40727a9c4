"""`ssim_map` under torch's transforms, and in other precisions."""

import pytest
import torch
from torch.testing import assert_close

from sklearn_ssimae import ssim_map


def pair(dtype=torch.float32, size=(3, 12, 14)):
    generator = torch.Generator().manual_seed(0)
    x, y = (torch.rand(size, generator=generator, dtype=torch.float64).to(dtype) for _ in range(2))
    return x, y


@pytest.mark.parametrize("transform", ["vmap", "grad"])
def test_torch_func_is_refused_in_words(transform):
    # The maps of a batch, and torch.autograd.grad, say the same.
    x, y = pair()
    function = {
        "vmap": torch.func.vmap(ssim_map),
        "grad": torch.func.grad(lambda a, b: ssim_map(a, b).mean()),
    }[transform]
    with pytest.raises(RuntimeError, match="functorch transforms"):
        function(x, y)


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
