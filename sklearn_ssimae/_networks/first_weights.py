"""First weights: a linear autoencoder of random projections, written in leaky units.

Hidden units come in pairs of opposite weights. Their leaky responses differ by (1 + slope) times
what went in, so layers that read differences are linear together [1]_: the signal is not bent on
its way through sixteen activations. The projections are orthogonal, so no direction is weakened
either, and the decoder is the encoder's adjoint: it draws each feature where it was seen.

References
----------
.. [1] D. Balduzzi et al., "The Shattered Gradients Problem: If resnets are the answer, then what
   is the question?", ICML 2017.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional as F

# Signals below this are those of flat crops, rounding alone; they are not enlarged.
_FLAT = 1e-6


@torch.no_grad()
def begin_linear(
    encoder: nn.Sequential,
    decoder: nn.Sequential,
    patches: Tensor,
    *,
    slope: float,
    generator: Generator,
) -> None:
    """Set all weights and biases.

    Parameters
    ----------
    encoder, decoder : Sequential
        Convolutions, and transposed ones that mirror them, with leaky activations between. Outputs
        of either beyond what the other one reads, variances, get weights and biases of 0.
    patches : Tensor (n, c, p, p)
        Crops: their mean is where the reconstructions begin, and signals of their size stay about
        1 from layer to layer.
    slope : float
        Of the activations.
    generator : Generator
        The only source of chance.
    """
    layers = [layer for layer in encoder if isinstance(layer, nn.Conv2d)]
    mirrors = [layer for layer in reversed(decoder) if isinstance(layer, nn.ConvTranspose2d)]
    mean = patches.mean(dim=(0, 2, 3))
    signal, offset = patches - mean[:, None, None], mean
    for layer, mirror in zip(layers, mirrors, strict=True):
        is_latent = layer is layers[-1]
        n_kernels = mirror.in_channels if is_latent else layer.out_channels // 2
        kernels, adjoint, signal = _project(signal, layer, n_kernels, generator)
        if not is_latent:
            kernels = torch.cat([kernels, -kernels])
            adjoint = torch.cat([adjoint, -adjoint]) / (1 + slope)
        if layer is not layers[0]:
            kernels = torch.cat([kernels, -kernels], dim=1) / (1 + slope)
            adjoint = torch.cat([adjoint, -adjoint], dim=1)
        _set(layer, kernels, -kernels.sum(dim=(2, 3)) @ offset)
        _set(mirror, adjoint, offset)
        offset = torch.zeros(layer.out_channels, dtype=mean.dtype)


def _project(
    signal: Tensor, layer: nn.Conv2d, n_kernels: int, generator: Generator
) -> tuple[Tensor, Tensor, Tensor]:
    """Random orthogonal kernels, their adjoint, and the responses to maps (n, c, h, w)."""
    # Layers that keep the size of the maps see single pixels: wider windows would blur them.
    keeps_size = layer.stride == (1, 1) and layer.padding != (0, 0)
    width = 1 if keeps_size else layer.kernel_size[0]
    kernels = signal.new_empty(n_kernels, signal.shape[1], width, width)
    nn.init.orthogonal_(kernels, generator=generator)
    kernels = F.pad(kernels, [(layer.kernel_size[0] - width) // 2] * 4)
    padding: Any = layer.padding
    responses = F.conv2d(signal, kernels, None, layer.stride, padding)
    size = float(responses.square().mean().sqrt())
    if size < _FLAT:
        return kernels, kernels, responses
    drawn = F.conv_transpose2d(responses, kernels, None, layer.stride, padding)
    # Windows overlap: the scale is that at which the signal is drawn best.
    scale = float((signal * drawn).sum() / drawn.square().sum())
    return kernels / size, scale * size * kernels, responses / size


def _set(layer: nn.Conv2d | nn.ConvTranspose2d, weight: Tensor, bias: Tensor) -> None:
    """Set the first channels; those beyond get 0."""
    assert layer.bias is not None
    layer.weight.zero_()[: weight.shape[0], : weight.shape[1]] = weight
    layer.bias.zero_()[: len(bias)] = bias
