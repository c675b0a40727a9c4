import copy

import pytest
import torch
from numpy.testing import assert_allclose
from shared import random_patches
from torch import nn

from sklearn_ssimae._training.muon import Muon, scaled_orthogonal


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shape", [(8, 8), (5, 40), (40, 5), (2, 7), (100, 2048)])
def test_step_is_nearly_orthogonal(shape, dtype):
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    step = scaled_orthogonal(matrix, dtype)
    assert step.dtype == torch.float32
    values = torch.linalg.svdvals(step) / (0.2 * max(shape) ** 0.5)
    # Three quintics lead near 1, not to it: to 0.13 to 1.87 from [0.001, 1].
    assert values.max() < 2
    assert values.mean() > 0.7
    u, _, vh = torch.linalg.svd(matrix, full_matrices=False)
    nearest = (0.2 * max(shape) ** 0.5) * u @ vh
    assert (step * nearest).sum() > 0.85 * step.norm() * nearest.norm()


@pytest.mark.parametrize("decay", [1, 3])
def test_small_directions_stay_bounded_in_few_bits(decay):
    # Singular values that fall so fast that rounding makes the Gram matrix's least ones negative.
    generator = torch.Generator().manual_seed(0)
    u, _ = torch.linalg.qr(torch.randn(200, 200, generator=generator))
    v, _ = torch.linalg.qr(torch.randn(500, 200, generator=generator))
    matrix = 1e-20 * (u * torch.arange(1, 201.0) ** -decay) @ v.T
    values = torch.linalg.svdvals(scaled_orthogonal(matrix, torch.bfloat16)) / (0.2 * 500**0.5)
    assert values.max() < 2.5
    assert values.max() > 0.5


def test_many_rows_are_taken_in_blocks():
    matrix = torch.randn(600, 700, generator=torch.Generator().manual_seed(0))
    step = scaled_orthogonal(matrix)
    for block, part in zip(matrix.tensor_split(2), step.tensor_split(2), strict=True):
        assert_allclose(part, scaled_orthogonal(block), atol=1e-6)
    assert_allclose(scaled_orthogonal(matrix.T), step.T, atol=1e-6)


def test_scale_of_the_gradient_does_not_count():
    matrix = torch.randn(6, 20, generator=torch.Generator().manual_seed(0))
    assert_allclose(scaled_orthogonal(1e-3 * matrix), scaled_orthogonal(matrix), atol=1e-3)
    assert_allclose(scaled_orthogonal(torch.zeros(6, 20)), 0)


def run(network, optimizer, n_steps):
    patches = random_patches(4, 2, 8, 8)
    for _ in range(n_steps):
        optimizer.zero_grad()
        (network(patches) - patches).square().mean().backward()
        optimizer.step()


def test_goes_on_from_its_state_bit_for_bit():
    whole = nn.Conv2d(2, 2, 3, padding=1, bias=False)
    resumed = copy.deepcopy(whole)
    optimizer = Muon(whole.parameters(), lr=0.01, weight_decay=0.01)
    run(whole, optimizer, 6)
    first = Muon(resumed.parameters(), lr=0.01, weight_decay=0.01)
    run(resumed, first, 3)
    second = Muon(resumed.parameters(), lr=1.0)
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    run(resumed, second, 3)
    assert torch.equal(whole.weight, resumed.weight)


def test_a_weight_without_a_gradient_stays():
    layer = nn.Conv2d(2, 2, 1, bias=False)
    before = layer.weight.detach().clone()
    Muon(layer.parameters(), lr=1.0).step()
    assert torch.equal(layer.weight, before)
