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

from sklearn_ssimae._networks.deconvolution import Deconvolution, Doubling
from sklearn_ssimae._networks.first_weights import begin_linear

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

    @staticmethod
    def where_counts(counts: Tensor, outputs: Any, patches: Tensor) -> Any:
        """Outputs of `forward` as if all that does not count were drawn without an error.

        `counts` is boolean, (n, 1, p, p). No gradient passes through the rest.
        """
        return torch.where(counts, outputs, patches)


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
        begin_linear(self.encoder, self.decoder, patches, slope=_SLOPE, generator=generator)


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

    @staticmethod
    def where_counts(counts: Tensor, outputs: Any, patches: Tensor) -> Any:
        """As in the base; the density of a pixel that does not count is 1."""
        mean, variance, divergence = outputs
        of_density_one = variance.new_tensor(1 / (2 * math.pi))
        variance = torch.where(counts, variance, of_density_one)
        return torch.where(counts, mean, patches), variance, divergence

    @torch.no_grad()
    def initialize(self, patches: Tensor, generator: Generator) -> None:
        begin_linear(self.encoder, self.decoder, patches, slope=_SLOPE, generator=generator)
        self.noise.normal_(generator=generator)
        # Both variances start as constants: the latent one small, so that the draws carry
        # the image and not the noise alone, that of the pixels as large as the data's.
        latent, output = self.encoder[-1], self.decoder[-1]
        assert isinstance(latent, nn.Conv2d) and isinstance(output, nn.ConvTranspose2d)
        assert latent.bias is not None and output.bias is not None
        latent.bias[self.latent_dim :] = self._LATENT_LOG_VARIANCE
        variance = patches.var(dim=(0, 2, 3), correction=0)
        output.bias[patches.shape[1] :] = (variance + self.VARIANCE_FLOOR).log()
