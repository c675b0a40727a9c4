"""The base class of the detectors: parameters, fit, storage."""

from __future__ import annotations

import os
import warnings
from inspect import signature
from numbers import Integral, Real
from os import PathLike
from typing import Any, ClassVar, Self

from sklearn.base import _fit_context
from sklearn.exceptions import InconsistentVersionWarning
from sklearn.utils._param_validation import Interval, StrOptions

from sklearn_ssimae._fitting import FittingMixin
from sklearn_ssimae._networks import REDUCTION, network_from_arrays, network_to_arrays
from sklearn_ssimae._version import __version__


class BaseDetector(FittingMixin):
    """Base class of the detectors.

    A detector adds its loss and its residual, `_make_loss` and `_residual`, and a network of
    its own where the plain autoencoder will not do.
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "latent_dim": [Interval(Integral, 1, None, closed="left")],
        "patch_size": [Interval(Integral, REDUCTION, None, closed="left")],
        "n_patches": [Interval(Integral, 1, None, closed="left")],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "augment": ["boolean"],
        "batch_size": [Interval(Integral, 1, None, closed="left")],
        "learning_rate_init": [Interval(Real, 0, None, closed="neither")],
        "learning_rate": [StrOptions({"constant", "one_cycle"})],
        "weight_decay": [Interval(Real, 0, None, closed="left")],
        "tol": [Interval(Real, 0, None, closed="left")],
        "n_iter_no_change": [Interval(Integral, 1, None, closed="left")],
        "stride": [Interval(Integral, 1, None, closed="left")],
        "aggregate": [StrOptions({"reconstruction", "residual"})],
        "scale": [Interval(Real, 0, None, closed="neither")],
        "opening_diameter": [Interval(Integral, 1, None, closed="left"), None],
        "smoothing": [StrOptions({"auto"}), Interval(Real, 0, None, closed="left")],
        "contamination": [StrOptions({"auto"}), Interval(Real, 0, 0.5, closed="right")],
        "threshold": [Interval(Real, None, None, closed="neither"), None],
        "image_shape": ["array-like", None],
        "data_range": ["array-like", None],
        "device": [str],
        "precision": [StrOptions({"float32", "bfloat16"})],
        "warm_start": ["boolean"],
        "checkpoint": [str, PathLike, None],
        "verbose": ["verbose"],
        "random_state": ["random_state"],
    }

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
    ) -> None:
        self.latent_dim = latent_dim
        self.patch_size = patch_size
        self.n_patches = n_patches
        self.max_iter = max_iter
        self.augment = augment
        self.batch_size = batch_size
        self.learning_rate_init = learning_rate_init
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.tol = tol
        self.n_iter_no_change = n_iter_no_change
        self.stride = stride
        self.aggregate = aggregate
        self.scale = scale
        self.opening_diameter = opening_diameter
        self.smoothing = smoothing
        self.contamination = contamination
        self.threshold = threshold
        self.image_shape = image_shape
        self.data_range = data_range
        self.device = device
        self.precision = precision
        self.warm_start = warm_start
        self.checkpoint = checkpoint
        self.verbose = verbose
        self.random_state = random_state

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: Any, y: Any = None) -> Self:
        """Learn what good images look like.

        Parameters
        ----------
        X : array of shape (n, h, w), (n, h, w, c) or (n, n_features), or sequence
            Images, flattened images, or a sequence of n images of different sizes or of n
            paths of image files. Of an array that is not in memory (np.memmap, zarr, h5py,
            dask), images are read when they are needed.
        y : array-like of shape (n,) or masks of shape (n, h, w), default=None
            Marks images that must not be learnt from: -1 in a label vector, or any
            True pixel in a mask (a sequence of masks for a sequence of images). Any other
            y is ignored.

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
        return self._fit(X, y, continues=self.warm_start and hasattr(self, "network_"))

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
        return self._fit(X, y, continues=hasattr(self, "network_"), single_epoch=True)

    def __getstate__(self) -> dict[str, Any]:
        """The network as NumPy arrays: they need no torch, and no GPU, to be read."""
        state = {**super().__getstate__(), "_sklearn_ssimae_version": __version__}
        if isinstance(self.checkpoint, os.PathLike):
            # A Path is of one operating system, and a type that readers would have to trust.
            state["checkpoint"] = os.fspath(self.checkpoint)
        if "network_" in state:
            state["network_"] = network_to_arrays(self.network_)
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Parameters that the state of another version lacks take their defaults."""
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
        defaults = {
            name: parameter.default
            for name, parameter in signature(type(self)).parameters.items()
            if parameter.default is not parameter.empty
        }
        stored = state.get("network_")
        left_out = ("network_", "_sklearn_ssimae_version")
        rest = {name: value for name, value in state.items() if name not in left_out}
        super().__setstate__({**defaults, **rest})
        if stored is not None:
            self.network_ = network_from_arrays(self._network_class, stored)
