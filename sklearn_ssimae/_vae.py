"""The variational autoencoder."""

from __future__ import annotations

import math
from numbers import Integral, Real
from os import PathLike
from typing import Any, ClassVar

import torch
from sklearn.utils._param_validation import Interval
from torch import Generator, Tensor

from sklearn_ssimae._base import BaseDetector
from sklearn_ssimae._docs import with_common_docs
from sklearn_ssimae._l2_autoencoder import squared_residual
from sklearn_ssimae._networks import PatchNetwork, VariationalAutoencoder
from sklearn_ssimae._training import Forward, Loss, forward


@with_common_docs
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
    ...     n_patches=500,
    ...     max_iter=5,
    ...     random_state=0,
    ... )
    >>> detector.fit(brick[:, :256]).transform(brick[:, 256:]).shape
    (1, 256, 512)
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        **BaseDetector._parameter_constraints,
        "n_latent_samples": [Interval(Integral, 1, None, closed="left")],
        "kl_weight": [Interval(Real, 0, None, closed="left")],
    }

    _network_class: ClassVar[type[PatchNetwork]] = VariationalAutoencoder

    def __init__(
        self,
        *,
        latent_dim: int = 100,
        patch_size: int = 128,
        n_patches: int = 1000,
        max_iter: int = 80,
        augment: bool = False,
        batch_size: int = 8,
        learning_rate_init: float = 1e-3,
        learning_rate: str = "one_cycle",
        weight_decay: float = 1e-5,
        tol: float = 1e-4,
        n_iter_no_change: int = 10,
        stride: int = 30,
        aggregate: str = "reconstruction",
        scale: float = 1.0,
        opening_diameter: int | None = 4,
        smoothing: float | str = "auto",
        contamination: float | str = "auto",
        threshold: float | None = None,
        image_shape: tuple[int, ...] | None = None,
        data_range: tuple[float, float] | None = None,
        device: str = "auto",
        precision: str = "float32",
        warm_start: bool = False,
        checkpoint: str | PathLike[str] | None = None,
        verbose: int = 0,
        random_state: Any = None,
        n_latent_samples: int = 6,
        kl_weight: float = 1.0,
    ) -> None:
        super().__init__(
            latent_dim=latent_dim,
            patch_size=patch_size,
            n_patches=n_patches,
            max_iter=max_iter,
            augment=augment,
            batch_size=batch_size,
            learning_rate_init=learning_rate_init,
            learning_rate=learning_rate,
            weight_decay=weight_decay,
            tol=tol,
            n_iter_no_change=n_iter_no_change,
            stride=stride,
            aggregate=aggregate,
            scale=scale,
            opening_diameter=opening_diameter,
            smoothing=smoothing,
            contamination=contamination,
            threshold=threshold,
            image_shape=image_shape,
            data_range=data_range,
            device=device,
            precision=precision,
            warm_start=warm_start,
            checkpoint=checkpoint,
            verbose=verbose,
            random_state=random_state,
        )
        self.n_latent_samples = n_latent_samples
        self.kl_weight = kl_weight

    def _network_config(self, n_channels: int) -> dict[str, int]:
        config = super()._network_config(n_channels)
        return {**config, "n_latent_samples": int(self.n_latent_samples)}

    def _make_loss(self, n_channels: int, device: torch.device, generator: Generator) -> Loss:
        def loss(forward: Forward, patches: Tensor, warmth: float) -> Tensor:
            noise = torch.randn(1, len(patches), self.latent_dim, generator=generator)
            mean, variance, divergence = forward(patches, noise.to(patches.device))
            log_density = log_normal(patches, mean[0], variance[0]).mean()
            weight = warmth * self.kl_weight
            return weight * divergence.mean() / patches[0].numel() - log_density

        return loss

    def _residual(self, images: Tensor, reconstructions: Tensor) -> Tensor:
        # Not the map: whether the means alone are better than the mean image.
        return squared_residual(images, reconstructions)

    def _draw(self, patches: Tensor) -> tuple[Tensor, Tensor]:
        network = self.network_
        assert isinstance(network, VariationalAutoencoder)
        mean, variance, _ = forward(network, self.precision, patches, network.noise[:, None])
        return mean, variance

    def _reconstruct_patches(self, patches: Tensor) -> Tensor:
        return self._draw(patches)[0].mean(dim=0)

    def _patch_values(self, patches: Tensor) -> Tensor:
        """Log of the mean density over the draws, (n, 1, p, p)."""
        mean, variance = self._draw(patches)
        log_density = log_normal(patches, mean, variance).sum(dim=2, keepdim=True)
        return log_density.logsumexp(dim=0) - math.log(len(mean))

    def _averages_logarithms(self) -> bool:
        return self.aggregate == "reconstruction"

    def _residual_of_values(self, images: Tensor, values: Tensor) -> Tensor:
        return -values[:, 0]


def log_normal(x: Tensor, mean: Tensor, variance: Tensor) -> Tensor:
    """Logarithm of the normal density, element by element."""
    return -0.5 * ((x - mean).square() / variance + (2 * math.pi * variance).log())
