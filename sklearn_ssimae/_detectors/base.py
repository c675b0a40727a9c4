"""The base class of the detectors: parameters, scikit-learn's methods, storage."""

from __future__ import annotations

import math
import os
import warnings
from abc import ABCMeta, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from numbers import Real
from typing import Any, ClassVar, Self

import numpy as np
import torch
from sklearn.base import (
    BaseEstimator,
    OutlierMixin,
    TransformerMixin,
    _fit_context,
)
from sklearn.callback import CallbackSupportMixin
from sklearn.exceptions import InconsistentVersionWarning
from sklearn.utils import Tags
from sklearn.utils.validation import check_is_fitted
from torch import Generator, Tensor

from sklearn_ssimae._deciding.calibration import Calibration
from sklearn_ssimae._deciding.false_alarms import FALSE_ALARM_RATE
from sklearn_ssimae._detectors.dask_arrays import in_memory, lazy_on_dask
from sklearn_ssimae._detectors.docs import DOC_LINK_TEMPLATE
from sklearn_ssimae._detectors.fit import Fit
from sklearn_ssimae._detectors.framing import FramesOfRows, framed
from sklearn_ssimae._detectors.inputs import Given, Inputs
from sklearn_ssimae._detectors.kept import KeptParts
from sklearn_ssimae._detectors.learning import LearnsGood
from sklearn_ssimae._detectors.names import NamesOfPixels
from sklearn_ssimae._images.collection import ImageCollection
from sklearn_ssimae._images.labels import good_images_of, score_maps
from sklearn_ssimae._images.values import output_dtype
from sklearn_ssimae._maps.counting import blank
from sklearn_ssimae._maps.filters import resize
from sklearn_ssimae._maps.making import MapMaker
from sklearn_ssimae._networks.autoencoders import REDUCTION, Autoencoder, PatchNetwork
from sklearn_ssimae._networks.own_state import own_state
from sklearn_ssimae._networks.storage import network_from_arrays, network_to_arrays
from sklearn_ssimae._training.division import Part
from sklearn_ssimae._training.trainer import Loss
from sklearn_ssimae._version import __version__


@dataclass(kw_only=True, eq=False, repr=False)
class BaseDetector(
    Inputs,
    LearnsGood,
    CallbackSupportMixin,
    NamesOfPixels,
    OutlierMixin,
    FramesOfRows,
    TransformerMixin,
    BaseEstimator,
    metaclass=ABCMeta,
):
    """Base class of the detectors.

    A detector adds its loss and its residual, `_make_loss` and `_residual`, and a network of
    its own where the plain autoencoder will not do. The parameters are the fields of a
    dataclass: each class names its own, and its `__init__` takes those of its bases too.
    """

    _network_class: ClassVar[type[PatchNetwork]] = Autoencoder
    _doc_link_module = "sklearn_ssimae"
    _doc_link_template = DOC_LINK_TEMPLATE

    # What a detector is made of ---------------------------------------------------------

    @abstractmethod
    def _make_loss(self, n_channels: int, device: torch.device, generator: Generator) -> Loss:
        """The training loss; its noise, if any, comes from the generator (on the CPU)."""

    @abstractmethod
    def _residual(self, images: Tensor, reconstructions: Tensor, **constants: float) -> Tensor:
        """Residual maps (n, h, w) of images (n, c, h, w), larger = more anomalous.

        `constants` are those of `_constants`, by name.
        """

    def _network_config(self, n_channels: int) -> dict[str, int]:
        """Arguments of the network's class, for images of n_channels."""
        return {
            "n_channels": n_channels,
            "patch_size": int(self.patch_size),
            "latent_dim": int(self.latent_dim),
        }

    def _check_parameters(self) -> None:
        """Refuse parameters that are each in their range and do not go together."""
        if self.patch_size % REDUCTION:
            raise ValueError(
                f"patch_size must be a multiple of {REDUCTION}, got {self.patch_size}."
            )
        self._variation()

    # Fit --------------------------------------------------------------------------------

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: Any, y: Any = None) -> Self:
        """Learn what good images look like.

        Parameters
        ----------
        X : array of shape (n, h, w), (n, h, w, c) or (n, n_features), or sequence
            Images, flattened images, or a sequence of n images of different sizes or of n
            paths of image files. Of an array that is not in memory (np.memmap, zarr, h5py,
            dask), images are read when they are needed.
        y : array-like of shape (n,) or masks of shape (n, h, w) or (n, h·w), default=None
            Marks what must not be learnt from: -1 in a label vector an image, True in a mask
            a pixel; the rest of that image is learnt (a sequence of masks for a sequence of
            images). Any other y is ignored; of labels that are 0 and 1 alone, a warning says so.

        Returns
        -------
        self : object
            The fitted detector.

        Raises
        ------
        ValueError
            For a parameter, an image or a mask that cannot be used, and for a y that leaves no
            image to learn from; the message says which. For a checkpoint that is damaged or
            belongs to another fit; the message says where they differ.
        OSError
            For an image file that is missing or unreadable, or a checkpoint that cannot be
            written; the message names it.

        Warns
        -----
        ConvergenceWarning
            When training ends no better than the mean image; when it diverges, the network of
            the last good epoch being kept; when it is interrupted from the keyboard, that of
            the epoch with the lowest loss being kept.

        Notes
        -----
        An error after the first epoch, such as a full disk or an image that vanished, leaves
        the network of the last epoch, and a threshold if training images can still be
        read. An earlier one leaves the detector as it was.
        """
        Fit(self, X, y).run()
        return self

    @_fit_context(prefer_skip_nested_validation=True)
    def partial_fit(self, X: Any, y: Any = None) -> Self:
        """Train for one epoch more, on new images, at a constant learning rate.

        The first call starts a network; `data_range_` stays as that call set it. The
        threshold is that of the latest images.

        Parameters
        ----------
        X : array or sequence
            As in :meth:`fit`.
        y : array-like or masks, default=None
            As in :meth:`fit`.

        Returns
        -------
        self : object
            The fitted detector.
        """
        Fit(self, X, y, is_partial=True).run()
        return self

    @own_state()
    def fit_threshold(
        self, X: Any, y: Any = None, *, false_alarm_rate: float = FALSE_ALARM_RATE
    ) -> Self:
        """Learn the threshold anew from good images, without training.

        What maps are relative to is learnt anew too, for the map as it is set now. The network,
        and what was chosen in fit, stay.

        Parameters
        ----------
        X : array or sequence
            Good images that were not trained on, as in :meth:`fit`; the more, the better. Those
            that were trained on give a threshold that is too low.
        y : array-like or masks, default=None
            As in :meth:`fit`.
        false_alarm_rate : float, default=0.01
            In (0, 1): probability with which a further good image is called a defect.

        Returns
        -------
        self : object
            The detector.

        Raises
        ------
        ValueError
            If `threshold` is set, which would go before, or the rate is out of range.
        """
        check_is_fitted(self)
        if self.threshold is not None:
            raise ValueError(
                f"threshold={self.threshold} is set and takes precedence over a learnt one. Remove "
                "it first: set_params(threshold=None)."
            )
        if not (isinstance(false_alarm_rate, Real) and 0 < false_alarm_rate < 1):
            raise ValueError(
                f"false_alarm_rate must be a number in (0, 1), got {false_alarm_rate!r}."
            )
        images = good_images_of(self._check_fitted_input(X), y)
        parts = [Part(index) for index in range(len(images))]
        kept = KeptParts(images, parts, self._preparation(), self._variation())
        self._calibration = self._calibrated(kept, self._calibration, rate=false_alarm_rate)
        return self

    # Maps, masks, scores ----------------------------------------------------------------

    @framed
    @lazy_on_dask
    @own_state()
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
    @own_state()
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
        self._check_threshold()
        return images.pack(residual > self.threshold_ for residual in self._maps(images))

    @lazy_on_dask
    @own_state()
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
        prepare = self._preparation()
        maker = self._map_maker()
        results = []
        planes_of_images = ((given.image, planes) for given, planes in self._planes(images))
        averages = maker.average(maker.split(planes_of_images), maker.comparison.reconstruct)
        for (image, _), _, planes in averages:
            full = resize(planes, image.shape[:2]).permute(1, 2, 0).cpu().numpy()
            low, high = prepare.range_of(image, "")
            results.append(full.astype(output_dtype(image)) * (high - low) + low)
        return images.pack_images(results)

    @lazy_on_dask
    @own_state()
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
        scores = self.score_samples(X)
        self._check_threshold()
        return scores - self.offset_

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

    @lazy_on_dask
    @own_state()
    def p_values(self, X: Any) -> np.ndarray:
        """How rare the largest residual of each image is among good images.

        Conformal p-values [1]_: the share of good images, among the kept ones and the image itself,
        of which the largest residual is as large. If the image is good, its p-value is at most
        u with a probability of at most u, for any u.

        Parameters
        ----------
        X : array or sequence
            As in :meth:`transform`.

        Returns
        -------
        p : float64 ndarray of shape (n,)
            In [0, 1]. Below the false alarm rate (0.01, or that of :meth:`fit_threshold`) exactly
            where the learnt threshold makes :meth:`predict` say -1.

        Raises
        ------
        ValueError
            If no good images were kept from training.

        Warns
        -----
        UserWarning
            If the map is another one now than when the good images were looked at.

        Notes
        -----
        By rank if enough images were kept, 99 for 1 %; below 1 / (n + 1), and everywhere
        if fewer or parts of images were kept, extrapolated as the threshold is.
        `p_values_basis_` says which. A threshold that is set by hand does not alter them.

        The p-values of a batch and :func:`scipy.stats.false_discovery_control`
        (Benjamini and Hochberg) give a list of images of which at most a chosen share is good. Many
        images need small p-values, so most of such lists rest on the extrapolation.

        References
        ----------
        .. [1] S. Bates et al., "Testing for outliers with conformal p-values", The Annals of
           Statistics 51(1), 2023.

        Examples
        --------
        >>> import numpy as np
        >>> from scipy.stats import false_discovery_control
        >>> from sklearn_ssimae import L2AutoencoderDetector
        >>> phases = np.arange(20)[:, None, None] * np.ones((64, 64))
        >>> stripes = 0.5 + 0.3 * np.sin(np.arange(64) + phases)
        >>> detector = L2AutoencoderDetector(
        ...     patch_size=32, latent_dim=4, n_patches=100, max_iter=5, random_state=0
        ... ).fit(stripes[:10])
        >>> stripes[-1, 20:40, 20:40] = 1
        >>> p = detector.p_values(stripes[10:])
        >>> bool(((p < 0.01) == (detector.predict(stripes[10:]) == -1)).all())
        True
        >>> np.flatnonzero(false_discovery_control(p) < 0.1)
        array([9])
        """
        scores = self._score_samples(self._check_fitted_input(X))
        return self._p_values(-scores)

    def score(self, X: Any, y: Any) -> float:
        """Area under the ROC curve, of pixels for masks and of images for labels.

        Parameters
        ----------
        X : array or sequence
            As in :meth:`transform`.
        y : masks of shape (n, h, w) or (n, h·w), sequence of masks, or labels of shape (n,)
            True pixels are defects. Labels: -1 = defect, any other value = good.

        Returns
        -------
        auc : float
            In [0, 1]. nan, with an UndefinedMetricWarning, when y holds one class alone.
        """
        return score_maps(in_memory(self.transform(X)), y)

    def _score_samples(self, images: ImageCollection, maker: MapMaker | None = None) -> np.ndarray:
        scores = (-float(residual.max()) for residual in self._maps(images, maker))
        return np.fromiter(scores, np.float64, len(images))

    def _maps(self, images: ImageCollection, maker: MapMaker | None = None) -> Iterator[np.ndarray]:
        """Finished residual maps (h, w), at the size of the images."""
        for _, residual, _ in self._maps_and_values(images, maker):
            yield residual

    def _maps_and_values(
        self, images: ImageCollection, maker: MapMaker | None = None
    ) -> Iterator[tuple[Given, np.ndarray, Tensor]]:
        """Each image, its finished map (h, w), and what the map was compared from (k, h', w')."""
        # Until the fit is done none is known: the one in force would be an earlier fit's.
        threshold = math.inf if maker else self._threshold_in_force()
        maker = maker or self._map_maker()
        logarithmic = maker.comparison.gives_logarithms
        for given, values, found in maker.maps_and_values(self._planes(images)):
            full = resize(found[None], given.image.shape[:2])
            counts = given.counts
            inside = None if counts is None else torch.from_numpy(counts).to(full.device)
            residual = blank(full, inside, logarithmic=logarithmic)[0].cpu().numpy()
            residual = maker.without_some_regions(residual, threshold=threshold)
            yield given, residual.astype(output_dtype(given.image), copy=False), values

    # scikit-learn -------------------------------------------------------------------------

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array = True
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags

    # Storage ----------------------------------------------------------------------------

    def __getstate__(self) -> dict[str, Any]:
        """The network as NumPy arrays: they need no torch, and no GPU, to be read."""
        state = {**super().__getstate__(), "_sklearn_ssimae_version": __version__}
        if isinstance(self.checkpoint, os.PathLike):
            # A Path is of one operating system, and a type that readers would have to trust.
            state["checkpoint"] = os.fspath(self.checkpoint)
        if "network_" in state:
            state["network_"] = network_to_arrays(self.network_)
        if "_calibration" in state:
            state["_calibration"] = self._calibration.to_dict()
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        """A parameter that the state of another version lacks has the default of its class."""
        version = state.get("_sklearn_ssimae_version", "unknown")
        if version != __version__:
            warnings.warn(
                InconsistentVersionWarning(
                    estimator_name=f"sklearn_ssimae.{type(self).__name__}",
                    current_sklearn_version=__version__,
                    original_sklearn_version=version,
                ),
                stacklevel=2,
            )
        stored = state.get("network_")
        calibration = state.get("_calibration")
        left_out = ("network_", "_calibration", "_sklearn_ssimae_version")
        rest = {name: value for name, value in state.items() if name not in left_out}
        super().__setstate__(rest)
        if stored is not None:
            self.network_ = network_from_arrays(self._network_class, stored)
        if calibration is not None:
            self._calibration = Calibration.from_dict(calibration)
