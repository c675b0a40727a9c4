"""The variational autoencoder."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any, ClassVar

import torch
from sklearn.utils._param_validation import Interval
from torch import Generator, Tensor

from sklearn_ssimae._detectors.base import BaseDetector
from sklearn_ssimae._detectors.docs import published
from sklearn_ssimae._detectors.l2 import squared_residual
from sklearn_ssimae._maps.making import Comparison
from sklearn_ssimae._networks.autoencoders import PatchNetwork, VariationalAutoencoder
from sklearn_ssimae._networks.devices import forward
from sklearn_ssimae._training.trainer import Forward, Loss


@published
@dataclass(kw_only=True, eq=False, repr=False)
class VAEDetector(BaseDetector):
    r"""Defect detector: variational autoencoder and its reconstruction probability.

    Parameters
    ----------
    {common_parameters}
    n_latent_samples : int, default=6
        Draws N from the latent distribution of each patch when it is scored, at least 1. Set
        when fit starts a network.
    kl_weight : float, default=1.0
        Weight of the Kullback-Leibler divergence of a patch against the log-likelihood
        summed over all its values, at least 0. 1 is the evidence lower bound, at every patch
        size.

    Attributes
    ----------
    {common_attributes}

    See Also
    --------
    SSIMAutoencoderDetector : The paper's best detector.

    Notes
    -----
    The encoder gives mean and log-variance of :math:`Q(z|x)`, the decoder a mean and a
    variance at every pixel [2]_. Loss: the negative evidence lower bound of a patch, one
    draw of z,

    .. math:: -\sum_{pixels} \log N(x; \mu(z), \sigma^2(z))
              + w_{KL}\, KL(Q(z|x) \,\|\, N(0, I)),

    divided by the number of values in the patch; the divisor changes no weight. The
    divergence is left out until the reconstructions beat the mean image and then fades in
    over a fifth of the training: with it from the start, the latent distribution collapses
    to N(0, I) before the decoder has learnt to use it.

    Residual: :math:`-\log \frac{1}{N} \sum_i N(x; \mu_i, \sigma_i^2)` at each pixel, the
    densities of the channels multiplied. *Densities* are averaged over the draws, as the paper
    has it, not their logarithms; the sum is taken in the logarithmic domain, so that none
    underflows. The residual is a density's logarithm, hence negative where the model is sure
    and right.

    Where patches overlap, ``aggregate="reconstruction"`` averages their densities too,
    patches weighted as in every detector; ``aggregate="residual"`` averages the maps, that is the
    logarithms.

    The variance has a floor of 1e-4 for images in [0, 1], a standard deviation of 0.01,
    without which flat images would have infinite densities.

    The N draws are made once, in fit, and used for every patch: scores are repeatable.

    References
    ----------
    .. [1] P. Bergmann et al., "Improving Unsupervised Defect Segmentation by Applying
       Structural Similarity to Autoencoders", VISAPP 2019.
    .. [2] J. An and S. Cho, "Variational Autoencoder based Anomaly Detection using
       Reconstruction Probability", 2015.

    Examples
    --------
    >>> from skimage import data
    >>> from sklearn_ssimae import VAEDetector
    >>> brick = data.brick()[None]
    >>> detector = VAEDetector(
    ...     patch_size=32,
    ...     latent_dim=16,
    ...     scale=0.25,
    ...     n_patches=200,
    ...     max_iter=3,
    ...     random_state=0,
    ... )
    >>> detector.fit(brick[:, :256]).transform(brick[:, 256:]).shape
    (1, 256, 512)
    """

    n_latent_samples: int = 6
    kl_weight: float = 1.0

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        **BaseDetector._parameter_constraints,
        "n_latent_samples": [Interval(Integral, 1, None, closed="left")],
        "kl_weight": [Interval(Real, 0, None, closed="left")],
    }

    _network_class: ClassVar[type[PatchNetwork]] = VariationalAutoencoder

    def _network_config(self, n_channels: int) -> dict[str, int]:
        config = super()._network_config(n_channels)
        return {**config, "n_latent_samples": int(self.n_latent_samples)}

    def _make_loss(self, n_channels: int, device: torch.device, generator: Generator) -> Loss:
        def loss(forward: Forward, patches: Tensor, warmth: float) -> Tensor:
            shape = (1, len(patches), self.latent_dim)
            noise = torch.randn(shape, generator=generator, dtype=torch.float32)
            mean, variance, divergence = forward(noise.to(patches.device))
            log_density = log_normal(patches, mean[0], variance[0]).mean()
            weight = warmth * self.kl_weight
            return weight * divergence.mean() / patches[0].numel() - log_density

        return loss

    def _residual(self, images: Tensor, reconstructions: Tensor, **constants: float) -> Tensor:
        # Not the map: whether the means alone are better than the mean image.
        return squared_residual(images, reconstructions)

    def _make_comparison(self) -> Comparison:
        network = self.network_
        assert isinstance(network, VariationalAutoencoder)

        def draw(patches: Tensor) -> tuple[Tensor, Tensor]:
            noise = network.noise[:, None]
            mean, variance, _ = forward(network, self.precision, patches, noise)
            return mean, variance

        return DensityComparison(draw, self._residual, self.aggregate)


class DensityComparison(Comparison):
    """Averages densities, and compares by their logarithms.

    Parameters
    ----------
    draw : callable
        Patches (n, c, p, p) to means and variances (k, n, c, p, p) of k draws.
    residual, aggregate
        As in `Comparison`.
    """

    has_reconstructions = False
    gives_logarithms = True

    def __init__(
        self,
        draw: Callable[[Tensor], tuple[Tensor, Tensor]],
        residual: Callable[..., Tensor],
        aggregate: str,
    ) -> None:
        super().__init__(lambda patches: draw(patches)[0].mean(dim=0), residual, aggregate)
        self.draw = draw
        self.averages_logarithms = aggregate == "reconstruction"

    def patch_values(self, patches: Tensor, constants: Mapping[str, float]) -> Tensor:
        """Log of the mean density over the draws, (n, 1, p, p)."""
        mean, variance = self.draw(patches)
        log_density = log_normal(patches, mean, variance).sum(dim=2, keepdim=True)
        return log_density.logsumexp(dim=0) - math.log(len(mean))

    def compare(self, images: Tensor, values: Tensor, constants: Mapping[str, float]) -> Tensor:
        """Negative log densities (n, h, w)."""
        return -values[:, 0]


def log_normal(x: Tensor, mean: Tensor, variance: Tensor) -> Tensor:
    """Logarithm of the normal density, element by element."""
    return -0.5 * ((x - mean).square() / variance + (2 * math.pi * variance).log())
