"""From images to residual maps, masks and scores, with a trained network."""

from __future__ import annotations

import math
from abc import ABCMeta, abstractmethod
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from scipy import ndimage
from sklearn.base import (
    BaseEstimator,
    ClassNamePrefixFeaturesOutMixin,
    OutlierMixin,
    TransformerMixin,
)
from sklearn.utils import Tags
from sklearn.utils.validation import check_is_fitted, validate_data
from torch import Tensor

from sklearn_ssimae import _images
from sklearn_ssimae._dask import in_memory, lazy_on_dask
from sklearn_ssimae._docs import DOC_LINK_TEMPLATE
from sklearn_ssimae._images import DataRange, ImageCollection
from sklearn_ssimae._labels import score_maps
from sklearn_ssimae._networks import PatchNetwork
from sklearn_ssimae._tiling import map_patches
from sklearn_ssimae._training import forward, keep_freed_memory, to_device
from sklearn_ssimae._windows import make_window_mean

# smoothing="auto": the side of a patch over σ.
_PATCH_OVER_SIGMA = 16


class ScoringMixin(
    ClassNamePrefixFeaturesOutMixin,
    OutlierMixin,
    TransformerMixin,
    BaseEstimator,
    metaclass=ABCMeta,
):
    """What a fitted detector does. `BaseDetector` says how it is fitted."""

    _doc_link_module = "sklearn_ssimae"
    _doc_link_template = DOC_LINK_TEMPLATE

    stride: int
    aggregate: str
    scale: float
    opening_diameter: int | None
    smoothing: float | str
    image_shape: tuple[int, ...] | None
    precision: str

    network_: PatchNetwork
    threshold_: np.float64
    offset_: np.float64
    data_range_: DataRange
    image_shape_: tuple[int, ...] | None
    _n_channels: int

    @abstractmethod
    def _residual(self, images: Tensor, reconstructions: Tensor) -> Tensor:
        """Residual maps (n, h, w) of images (n, c, h, w), larger = more anomalous."""

    def _reconstruct_patches(self, patches: Tensor) -> Tensor:
        """Reconstructions of patches, both (n, c, p, p) in [0, 1]."""
        reconstructions: Tensor = forward(self.network_, self.precision, patches)
        return reconstructions

    def _patch_values(self, patches: Tensor) -> Tensor:
        """What is averaged where patches overlap: (n, c, p, p) to (n, k, p, p)."""
        reconstructions = self._reconstruct_patches(patches)
        if self.aggregate == "reconstruction":
            return reconstructions
        return self._residual(patches, reconstructions)[:, None]

    def _averages_logarithms(self) -> bool:
        """Whether `_patch_values` are the logarithms of what is averaged."""
        return False

    def _residual_of_values(self, images: Tensor, values: Tensor) -> Tensor:
        """Residual maps (n, h, w) of images (n, c, h, w) and averaged values (n, k, h, w)."""
        if self.aggregate == "reconstruction":
            return self._residual(images, values)
        return values[:, 0]

    def _residual_maps(self, images: Iterator[Tensor]) -> Iterator[Tensor]:
        """Residual map (h, w) of each image (c, h, w), before smoothing and opening."""
        for image, values in self._map_patches(
            images, self._patch_values, log_mean=self._averages_logarithms()
        ):
            yield self._residual_of_values(image[None], values[None])[0]

    @lazy_on_dask
    def transform(self, X: Any) -> Any:
        """Residual maps.

        Parameters
        ----------
        X : array of shape (n, h, w), (n, h, w, c) or (n, n_features), or sequence
            As in :meth:`fit`. Images may have another size than in fit, rows may not. A dask
            array in chunks of whole images gives a lazy dask array.

        Returns
        -------
        maps : ndarray of shape (n, h, w), or (n, h·w) for rows, or list of (h, w)
            Residuals after smoothing and opening, larger = more anomalous. float64 for float64
            images, else float32.
        """
        images = self._check_fitted_input(X)
        return images.pack(self._maps(images))

    @lazy_on_dask
    def segment(self, X: Any) -> Any:
        """Masks of the defects: residual map > `threshold_`.

        Parameters
        ----------
        X : array or sequence
            As in :meth:`transform`.

        Returns
        -------
        masks : bool ndarray of shape (n, h, w), or (n, h·w) for rows, or list of (h, w)
        """
        images = self._check_fitted_input(X)
        return images.pack(residual > self.threshold_ for residual in self._maps(images))

    @lazy_on_dask
    def reconstruct(self, X: Any) -> Any:
        """What the network makes of the images: reconstructions, averaged over patches.

        Parameters
        ----------
        X : array or sequence
            As in :meth:`transform`.

        Returns
        -------
        reconstructions : ndarray of the shape of X, or list
            In the value range of the input. float64 for float64 images, else float32.
        """
        images = self._check_fitted_input(X)
        low, high = self.data_range_
        seen: deque[np.ndarray] = deque()
        results = []
        for _, planes in self._map_patches(self._tensors(images, seen), self._reconstruct_patches):
            image = seen.popleft()
            full = _images.resize(planes, image.shape[:2]).permute(1, 2, 0).cpu().numpy()
            results.append(full.astype(_images.output_dtype(image)) * (high - low) + low)
        return images.pack_images(results)

    @lazy_on_dask
    def score_samples(self, X: Any) -> np.ndarray:
        """Score of each image: the largest residual, negated. Lower = more anomalous.

        Parameters
        ----------
        X : array or sequence
            As in :meth:`transform`.

        Returns
        -------
        scores : float64 ndarray of shape (n,)
        """
        return self._score_samples(self._check_fitted_input(X))

    def decision_function(self, X: Any) -> np.ndarray:
        """``score_samples(X) - offset_``: negative for defective images.

        Parameters
        ----------
        X : array or sequence
            As in :meth:`transform`.

        Returns
        -------
        scores : float64 ndarray of shape (n,)
        """
        return self.score_samples(X) - self.offset_

    def predict(self, X: Any) -> np.ndarray:
        """-1 for images in which :meth:`segment` marks a pixel, +1 for the others.

        Parameters
        ----------
        X : array or sequence
            As in :meth:`transform`.

        Returns
        -------
        labels : int ndarray of shape (n,)
        """
        return np.where(self.decision_function(X) < 0, -1, 1)

    def score(self, X: Any, y: Any) -> float:
        """Area under the ROC curve, of pixels for masks and of images for labels.

        Parameters
        ----------
        X : array or sequence
            As in :meth:`transform`.
        y : masks of shape (n, h, w) or sequence of masks, or labels of shape (n,)
            True pixels are defects. Labels: -1 = defect, any other value = good.

        Returns
        -------
        auc : float
            In [0, 1]. nan, with an UndefinedMetricWarning, when y holds one class alone.
        """
        return score_maps(in_memory(self.transform(X)), y)

    def _score_samples(self, images: ImageCollection) -> np.ndarray:
        scores = (-float(residual.max()) for residual in self._maps(images))
        return np.fromiter(scores, np.float64, len(images))

    def _maps(self, images: ImageCollection) -> Iterator[np.ndarray]:
        """Smoothed and opened residual maps (h, w), at the size of the images."""
        seen: deque[np.ndarray] = deque()
        for residual in self._residual_maps(self._tensors(images, seen)):
            image = seen.popleft()
            smooth = gaussian_smoothing(residual, self._smoothing_sigma()).cpu().numpy()
            opened = torch.from_numpy(grey_opening(smooth, self.opening_diameter))
            full = _images.resize(opened[None], image.shape[:2])[0].numpy()
            yield full.astype(_images.output_dtype(image), copy=False)

    def _smoothing_sigma(self) -> float:
        if self.smoothing == "auto":
            return self.network_.config["patch_size"] / _PATCH_OVER_SIGMA
        return float(self.smoothing)

    def _map_patches(
        self, images: Iterator[Tensor], function: Callable[[Tensor], Tensor], **options: Any
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """`map_patches` with this detector's geometry, on the network's device."""
        keep_freed_memory()
        device = next(self.network_.parameters()).device
        with torch.no_grad():
            yield from map_patches(
                (image.to(device) for image in images),
                lambda patches: function(to_device(patches, self.network_)),
                patch_size=self.network_.config["patch_size"],
                # A longer step would leave gaps.
                stride=min(self.stride, self.network_.config["patch_size"]),
                **options,
            )

    # Input ----------------------------------------------------------------------------

    def _check_fitted_input(self, X: Any) -> ImageCollection:
        check_is_fitted(self, "offset_")
        return self._check_input(X, reset=False)

    def _check_input(self, X: Any, *, reset: bool) -> ImageCollection:
        """The images of X. With reset, sets `image_shape_` and `n_features_in_`."""
        if _images.is_rows(X):
            stored = _images.is_stored(X)
            rows = validate_data(self, X, reset=reset, dtype="numeric", skip_check_array=stored)
            shape = None if reset else self.image_shape_
            if shape is None:
                shape = _images.resolve_image_shape(self.image_shape, rows.shape[1])
            if reset:
                self.image_shape_ = shape
            return (_images.stored_rows if stored else _images.images_of_rows)(rows, shape)
        if _images.is_image_stack(X):
            stored = _images.is_stored(X)
            images = _images.stored_stack(X) if stored else _images.stack_of_images(X)[0]
            if reset:
                self.image_shape_ = np.shape(X)[1:]
                self.n_features_in_ = math.prod(self.image_shape_)
            return images
        if reset:
            # Nothing is fixed by images that may differ in size.
            self.image_shape_ = None
        return _images.sequence_of_images(X)

    def _tensors(self, images: ImageCollection, seen: deque[np.ndarray]) -> Iterator[Tensor]:
        """Images as tensors, one at a time; each is put into `seen` when it is taken."""
        warned = False
        for index, image in enumerate(images):
            warned = warned or _images.warn_if_out_of_range(
                images.name(index), image, self.data_range_
            )
            seen.append(image)
            yield self._to_tensor(image, images.name(index))

    def _to_tensor(self, image: np.ndarray, name: str) -> Tensor:
        self._check_channels(image.shape[2], name)
        tensor = _images.to_tensor(image, self.data_range_, self.scale)
        if not tensor.abs().max() <= _images.MAX_UNIT:
            low, high = self.data_range_
            raise ValueError(
                f"{name} holds values in [{image.min():g}, {image.max():g}], too far from those "
                f"that stand for black and white, [{low:g}, {high:g}]. Bring the images to that "
                "range, or set data_range."
            )
        return tensor

    def _check_channels(self, n_channels: int, name: str) -> None:
        if n_channels != self._n_channels:
            raise ValueError(
                f"{name} has {n_channels} channels, but the detector learns from images of "
                f"{self._n_channels}."
            )

    @property
    def _n_features_out(self) -> int:
        if self.image_shape_ is None:
            raise ValueError("Maps of images of several sizes have no feature names.")
        return int(np.prod(self.image_shape_[:2]))

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array = True
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags


def gaussian_smoothing(residual: Tensor, smoothing: float) -> Tensor:
    """Finite maps (..., h, w) convolved with a Gaussian; `smoothing` is σ in pixels, 0 for none.

    The noise of a reconstruction is independent from pixel to pixel, a defect is not. Beyond
    the border the map is mirrored: its outermost pixels, which the network draws worst, would
    weigh much more if they were repeated.
    """
    if smoothing == 0:
        return residual
    # 3e-4 of the Gaussian lies farther out than 3.6 σ.
    return make_window_mean(2 * math.ceil(3.6 * smoothing) + 1, "gaussian", smoothing)(residual)


def grey_opening(residual: np.ndarray, diameter: int | None) -> np.ndarray:
    """Grey-scale opening of a map (h, w) with a disk.

    It removes what is brighter than its surroundings and smaller than the disk. The disk
    is flat, so that the opening commutes with thresholding, and pixels outside the map
    take no part.
    """
    if diameter is None:
        return residual
    footprint = disk(diameter)
    eroded = ndimage.grey_erosion(residual, footprint=footprint, mode="constant", cval=np.inf)
    # The dilation that belongs to the erosion: SciPy mirrors the footprint, and an even
    # one has to be anchored on the other side of its centre.
    return ndimage.grey_dilation(eroded, footprint=footprint, mode="constant", cval=-np.inf)


def disk(diameter: int) -> np.ndarray:
    """Pixels of a square whose centres lie within half the diameter of the square's: 12 for 4."""
    offsets = np.arange(diameter) - (diameter - 1) / 2
    return np.hypot(offsets[:, None], offsets) <= diameter / 2
