"""The ℓ² autoencoder."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from sklearn_ssimae._detectors.base import BaseDetector
from sklearn_ssimae._detectors.docs import published
from sklearn_ssimae._training.trainer import Forward, Loss


def squared_residual(images: Tensor, reconstructions: Tensor) -> Tensor:
    """Squared differences, summed over channels: (n, c, h, w) twice to (n, h, w)."""
    return (images - reconstructions).square().sum(dim=1)


@published
@dataclass(kw_only=True, eq=False, repr=False)
class L2AutoencoderDetector(BaseDetector):
    """Defect detector: autoencoder with the squared error as loss and residual.

    Parameters
    ----------
    {common_parameters}

    Attributes
    ----------
    {common_attributes}

    See Also
    --------
    SSIMAutoencoderDetector : Sees defects of structure that barely change grey values.

    Notes
    -----
    Loss: squared error, summed over channels and averaged over the pixels of a patch. The
    paper's eq. (2) sums over pixels; Adam is indifferent to the factor. Residual: squared
    error at each pixel, summed over channels, eq. (2) before its sum; ≥ 0.

    References
    ----------
    .. [1] P. Bergmann et al., "Improving Unsupervised Defect Segmentation by Applying
       Structural Similarity to Autoencoders", VISAPP 2019.

    Examples
    --------
    >>> from skimage import data
    >>> from sklearn_ssimae import L2AutoencoderDetector
    >>> brick = data.brick()[None]
    >>> detector = L2AutoencoderDetector(
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

    def _make_loss(self, n_channels: int, device: torch.device, generator: Generator) -> Loss:
        def loss(forward: Forward, patches: Tensor, warmth: float) -> Tensor:
            return squared_residual(patches, forward()).mean()

        return loss

    def _residual(self, images: Tensor, reconstructions: Tensor, **constants: float) -> Tensor:
        return squared_residual(images, reconstructions)
