"""The networks: the paper's convolutional autoencoder and its variational sibling.

Pure torch. Table 1 of the paper, generalised from 128 to any patch size that is a multiple
of 16: four convolutions of stride 2 reduce the sides sixteen-fold, the last one spans what
is left of them.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional as F

from sklearn_ssimae._networks.deconvolution import Deconvolution, Doubling

#: Patch sides are multiples of this.
REDUCTION = 16
_SLOPE = 0.2

# (out channels, kernel, stride, padding)
_ENCODER = [
    (32, 4, 2, 1),
    (32, 4, 2, 1),
    (32, 3, 1, 1),
    (64, 4, 2, 1),
    (64, 3, 1, 1),
    (128, 4, 2, 1),
    (64, 3, 1, 1),
    (32, 3, 1, 1),
]
_DECODER = [
    (64, 3, 1, 1),
    (128, 3, 1, 1),
    (64, 4, 2, 1),
    (64, 3, 1, 1),
    (32, 4, 2, 1),
    (32, 3, 1, 1),
    (32, 4, 2, 1),
]


class Encoder(nn.Sequential):
    """Patches (n, c, p, p) to latent maps (n, n_outputs, 1, 1)."""

    def __init__(self, n_channels: int, patch_size: int, n_outputs: int) -> None:
        layers: list[nn.Module] = []
        channels = n_channels
        for out, kernel, stride, padding in _ENCODER:
            layers += [nn.Conv2d(channels, out, kernel, stride, padding), _activation()]
            channels = out
        layers.append(nn.Conv2d(channels, n_outputs, patch_size // REDUCTION))
        super().__init__(*layers)


class Decoder(nn.Sequential):
    """Latent maps (n, latent_dim, 1, 1) to patches (n, n_outputs, p, p)."""

    def __init__(self, latent_dim: int, patch_size: int, n_outputs: int) -> None:
        layers: list[nn.Module] = [
            Deconvolution(latent_dim, 32, patch_size // REDUCTION),
            _activation(),
        ]
        channels = 32
        for out, kernel, stride, padding in _DECODER:
            layers += [Deconvolution(channels, out, kernel, stride, padding), _activation()]
            channels = out
        layers.append(Doubling(channels, n_outputs))
        super().__init__(*layers)


def _activation() -> nn.Module:
    # In place: no layer's gradient needs what it put out.
    return nn.LeakyReLU(_SLOPE, inplace=True)


class PatchNetwork(nn.Module):
    """A network of patches that can be rebuilt from its configuration."""

    def __init__(self, **config: int) -> None:
        super().__init__()
        #: Keyword arguments of the class that build this network anew.
        self.config = config

    def initialize(self, patches: Tensor, generator: Generator) -> None:
        """Draw the weights from `generator` alone; start at the mean of patches (n, c, p, p)."""
        raise NotImplementedError


class Autoencoder(PatchNetwork):
    """Patches (n, c, p, p) to reconstructions of the same shape."""

    def __init__(self, *, n_channels: int, patch_size: int, latent_dim: int) -> None:
        super().__init__(n_channels=n_channels, patch_size=patch_size, latent_dim=latent_dim)
        self.encoder = Encoder(n_channels, patch_size, latent_dim)
        self.decoder = Decoder(latent_dim, patch_size, n_channels)

    def forward(self, patches: Tensor) -> Tensor:
        reconstructions: Tensor = self.decoder(self.encoder(patches))
        return reconstructions

    @torch.no_grad()
    def initialize(self, patches: Tensor, generator: Generator) -> None:
        _initialize_layers(self.encoder, self.decoder, patches.shape[-1], generator)
        _start_near(self.decoder[-1], patches.mean(dim=(0, 2, 3)))


class VariationalAutoencoder(PatchNetwork):
    """Encoder to a normal distribution, decoder to a normal distribution at every pixel.

    `noise` (n_latent_samples, latent_dim) holds the draws that scoring uses for every patch.
    """

    #: Floor of the variance at a pixel, (1/100)²: flat images would drive it to 0, and the
    #: densities to infinity.
    VARIANCE_FLOOR = 1e-4
    _LATENT_LOG_VARIANCE = -4.0

    noise: Tensor

    def __init__(
        self, *, n_channels: int, patch_size: int, latent_dim: int, n_latent_samples: int
    ) -> None:
        super().__init__(
            n_channels=n_channels,
            patch_size=patch_size,
            latent_dim=latent_dim,
            n_latent_samples=n_latent_samples,
        )
        self.encoder = Encoder(n_channels, patch_size, 2 * latent_dim)
        self.decoder = Decoder(latent_dim, patch_size, 2 * n_channels)
        self.latent_dim = latent_dim
        self.register_buffer("noise", torch.zeros(n_latent_samples, latent_dim))

    def forward(self, patches: Tensor, noise: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Decode draws of the latent distribution.

        Parameters
        ----------
        patches : Tensor (n, c, p, p)
        noise : Tensor (k, n or 1, latent_dim)
            Standard normal; k draws a patch.

        Returns
        -------
        mean, variance : Tensor (k, n, c, p, p)
            Of the pixels.
        divergence : Tensor (n,)
            KL(Q(z given x) ‖ N(0, I)) of each patch, in nats.
        """
        latent = self.encoder(patches).flatten(1).float()
        mu, log_variance = latent.chunk(2, dim=1)
        log_variance = log_variance.clamp(-20, 20)
        divergence = 0.5 * (mu.square() + log_variance.exp() - 1 - log_variance).sum(dim=1)
        draws = mu + (0.5 * log_variance).exp() * noise
        decoded = self.decoder(draws.flatten(0, 1)[:, :, None, None]).float()
        decoded = decoded.unflatten(0, draws.shape[:2])
        mean, log_pixel_variance = decoded.chunk(2, dim=2)
        variance = self.VARIANCE_FLOOR + log_pixel_variance.clamp(-20, 5).exp()
        return mean, variance, divergence

    @torch.no_grad()
    def initialize(self, patches: Tensor, generator: Generator) -> None:
        _initialize_layers(self.encoder, self.decoder, patches.shape[-1], generator)
        self.noise.normal_(generator=generator)
        # Both variances start as constants: the latent one small, so that the draws carry
        # the image and not the noise alone, that of the pixels as large as the data's.
        latent, output = self.encoder[-1], self.decoder[-1]
        assert isinstance(latent, nn.Conv2d) and isinstance(output, nn.ConvTranspose2d)
        assert latent.bias is not None
        latent.weight[self.latent_dim :] = 0
        latent.bias[self.latent_dim :] = self._LATENT_LOG_VARIANCE
        mean, variance = patches.mean(dim=(0, 2, 3)), patches.var(dim=(0, 2, 3), correction=0)
        _start_near(output, torch.cat([mean, (variance + self.VARIANCE_FLOOR).log()]))


def _start_near(layer: nn.Module, values: Tensor) -> None:
    """Let the last layer begin close to a constant: chance images would be unlearnt first."""
    assert isinstance(layer, nn.ConvTranspose2d) and layer.bias is not None
    layer.weight *= 0.1
    layer.bias.copy_(values)


@torch.no_grad()
def _initialize_layers(
    encoder: nn.Sequential, decoder: nn.Sequential, patch_size: int, generator: Generator
) -> None:
    """Let the encoder begin with random orthogonal weights [1]_, and the decoder as its mirror.

    Each layer of the decoder is the adjoint of the encoder's across from it: a latent vector is
    drawn where it came from. With other weights the decoder would have to learn first where each
    feature lies.

    References
    ----------
    .. [1] A. Saxe, J. McClelland, S. Ganguli, "Exact solutions to the nonlinear dynamics of
       learning in deep linear neural networks", ICLR 2014.
    """
    encoding, decoding = _kaiming_deviations(encoder, patch_size), _kaiming_deviations(decoder, 1)
    for (layer, deviation), (mirror, other) in zip(encoding, reversed(decoding), strict=True):
        n_rows, n_columns = len(layer.weight), layer.weight[0].numel()
        # Orthonormal rows, or columns if they are fewer, have a deviation of 1 / √(their length).
        length = max(n_rows, n_columns)
        nn.init.orthogonal_(layer.weight, deviation * math.sqrt(length), generator=generator)
        # More rows than columns all say the same, and would add up.
        mirrored = layer.weight * (other / deviation * min(1.0, math.sqrt(n_columns / n_rows)))
        # Of a variational network, means alone are mirrored: they come first.
        mirror.weight[:, : layer.in_channels] = mirrored[: mirror.in_channels]
        mirror.weight[:, layer.in_channels :] = 0
    for layer, _ in encoding + decoding:
        assert layer.bias is not None
        layer.bias.zero_()


def _kaiming_deviations(
    layers: nn.Sequential, size: int
) -> list[tuple[nn.Conv2d | nn.ConvTranspose2d, float]]:
    """Convolutions, and the deviation of their weights with which the signal keeps its size.

    Kaiming's for the leaky slope; the layers' input is `size` pixels wide. torch's own default
    shrinks the signal at every layer, and a network that starts with no signal stays at the mean
    image. The fan counts the taps of the kernel that an output pixel meets on average: few of them
    where maps are as small as the kernel.
    """
    gain = math.sqrt(2 / (1 + _SLOPE**2))
    deviations = []
    for layer in layers:
        if not isinstance(layer, (nn.Conv2d, nn.ConvTranspose2d)):
            continue
        convolve: Any = F.conv2d if isinstance(layer, nn.Conv2d) else F.conv_transpose2d
        taps = convolve(
            torch.ones(1, 1, size, size),
            torch.ones(1, 1, *layer.kernel_size),
            stride=layer.stride,
            padding=layer.padding,
        )
        size = taps.shape[-1]
        deviations.append((layer, gain / math.sqrt(layer.in_channels * float(taps.mean()))))
    return deviations
