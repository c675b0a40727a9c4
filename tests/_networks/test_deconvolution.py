from __future__ import annotations

import pytest
import torch
from torch import nn

from sklearn_ssimae._networks.deconvolution import Deconvolution, Doubling

SIZES = [(4, 2, 1), (3, 1, 1), (8, 1, 0)]


def torch_layer(layer: nn.ConvTranspose2d) -> nn.ConvTranspose2d:
    """torch's own layer of the same weights."""
    sizes = (layer.kernel_size, layer.stride, layer.padding)
    plain = nn.ConvTranspose2d(layer.in_channels, layer.out_channels, *sizes)
    plain.load_state_dict(layer.state_dict())
    return plain


def outputs_and_gradients(layer: nn.ConvTranspose2d, x: torch.Tensor, weights: torch.Tensor):
    leaf = x.clone(memory_format=torch.preserve_format).requires_grad_()
    output = layer(leaf)
    output.backward(weights)
    return [output.detach(), leaf.grad, layer.weight.grad, layer.bias.grad]


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize(
    "make_layer",
    [lambda: Doubling(5, 1), lambda: Doubling(5, 6)]
    + [lambda sizes=sizes: Deconvolution(5, 7, *sizes) for sizes in SIZES],
)
def test_outputs_and_gradients_are_those_of_torch(make_layer, memory_format):
    torch.manual_seed(0)
    layer = make_layer()
    x = torch.randn(3, 5, 7, 9).to(memory_format=memory_format)
    weights = torch.randn_like(layer(x))
    expected = outputs_and_gradients(torch_layer(layer), x, weights)
    for ours, theirs in zip(outputs_and_gradients(layer, x, weights), expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("make_layer", [lambda: Doubling(5, 2), lambda: Deconvolution(5, 7, 4)])
def test_values_without_gradients_are_those_of_torch(make_layer):
    layer = make_layer()
    x = torch.randn(2, 5, 6, 4)
    with torch.no_grad():
        torch.testing.assert_close(layer(x), torch_layer(layer)(x))


@pytest.mark.parametrize("size", [(1, 1), (1, 3), (2, 1)])
def test_doubling_of_maps_of_a_few_pixels(size):
    layer = Doubling(3, 2)
    x = torch.randn(2, 3, *size)
    torch.testing.assert_close(layer(x), torch_layer(layer)(x))


def test_doubling_in_bfloat16_is_close_and_keeps_the_dtypes_of_its_inputs():
    layer = Doubling(32, 1)
    x = torch.rand(2, 32, 8, 8)
    expected = outputs_and_gradients(torch_layer(layer), x, torch.ones(2, 1, 16, 16))
    layer.zero_grad()
    half = x.bfloat16().requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = layer(half)
    output.backward(torch.ones_like(output))
    assert (output.dtype, half.grad.dtype) == (torch.float32, torch.bfloat16)
    assert layer.weight.grad.dtype == torch.float32
    ours = [output.detach(), half.grad.float(), layer.weight.grad, layer.bias.grad]
    for value, reference in zip(ours, expected, strict=True):
        assert (value - reference).norm() < 0.02 * reference.norm()


def test_other_devices_have_torch_layers():
    for layer in (Doubling(3, 2), Deconvolution(3, 2, 4)):
        meta = layer.to("meta")
        assert meta(torch.empty(1, 3, 5, 5, device="meta")).device.type == "meta"
