"""The base class of the detectors: parameters, fit, threshold, storage."""

from __future__ import annotations

import math
import time
import warnings
from abc import abstractmethod
from numbers import Integral, Real
from typing import Any, ClassVar, Self

import numpy as np
import torch
from sklearn.base import _fit_context
from sklearn.callback import CallbackSupportMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval, StrOptions
from torch import Generator, Tensor

from sklearn_ssimae import _images
from sklearn_ssimae._images import ImageCollection
from sklearn_ssimae._labels import check_mask_shapes, good_images
from sklearn_ssimae._networks import (
    REDUCTION,
    Autoencoder,
    PatchNetwork,
    network_from_arrays,
    network_to_arrays,
    to_channels_last,
)
from sklearn_ssimae._scoring import ScoringMixin
from sklearn_ssimae._training import (
    LEARNING,
    CropSampler,
    EarlyStopping,
    Loss,
    Probe,
    Trainer,
    choose_device,
    to_device,
)

# contamination="auto": the share of the training images above the threshold.
_AUTO_CONTAMINATION = 0.01
# Training images scored to set the threshold, at most; a random choice if there are more.
_MAX_THRESHOLD_IMAGES = 1000
# Crops that tell whether the network beats the mean image, and that set where it starts.
_N_PROBE = 64


class BaseDetector(CallbackSupportMixin, ScoringMixin):
    """Base class of the detectors.

    A detector adds its loss and its residual, `_make_loss` and `_residual`, and a network of
    its own where the plain autoencoder will not do.
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "latent_dim": [Interval(Integral, 1, None, closed="left")],
        "patch_size": [Interval(Integral, REDUCTION, None, closed="left")],
        "n_patches": [Interval(Integral, 1, None, closed="left")],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
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
        "contamination": [StrOptions({"auto"}), Interval(Real, 0, 0.5, closed="right")],
        "threshold": [Interval(Real, None, None, closed="neither"), None],
        "image_shape": ["array-like", None],
        "data_range": ["array-like", None],
        "device": [str],
        "precision": [StrOptions({"float32", "bfloat16"})],
        "warm_start": ["boolean"],
        "verbose": ["verbose"],
        "random_state": ["random_state"],
    }

    def __init__(
        self,
        *,
        latent_dim: int = 100,
        patch_size: int = 128,
        n_patches: int = 1000,
        max_iter: int = 40,
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
        contamination: float | str = "auto",
        threshold: float | None = None,
        image_shape: tuple[int, ...] | None = None,
        data_range: tuple[float, float] | None = None,
        device: str = "auto",
        precision: str = "float32",
        warm_start: bool = False,
        verbose: int = 0,
        random_state: Any = None,
    ) -> None:
        self.latent_dim = latent_dim
        self.patch_size = patch_size
        self.n_patches = n_patches
        self.max_iter = max_iter
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
        self.contamination = contamination
        self.threshold = threshold
        self.image_shape = image_shape
        self.data_range = data_range
        self.device = device
        self.precision = precision
        self.warm_start = warm_start
        self.verbose = verbose
        self.random_state = random_state

    _network_class: ClassVar[type[PatchNetwork]] = Autoencoder

    def _network_config(self, n_channels: int) -> dict[str, int]:
        """Arguments of the network's class, for images of n_channels."""
        return {
            "n_channels": n_channels,
            "patch_size": int(self.patch_size),
            "latent_dim": int(self.latent_dim),
        }

    @abstractmethod
    def _make_loss(self, n_channels: int, device: torch.device, generator: Generator) -> Loss:
        """The training loss; its noise, if any, comes from the generator (on the CPU)."""

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: Any, y: Any = None) -> Self:
        """Learn what good images look like.

        Parameters
        ----------
        X : array of shape (n, h, w), (n, h, w, c) or (n, n_features), or sequence
            Images, flattened images, or a sequence of n images of different sizes or of n
            paths of image files.
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
            image to learn from; the message says which.
        OSError
            For a file that is missing or unreadable; the message names it.

        Warns
        -----
        ConvergenceWarning
            When training ends no better than the mean image, diverges, or is interrupted
            from the keyboard. The network of the last good epoch is kept.
        """
        return self._fit(X, y, continues=self.warm_start and hasattr(self, "network_"))

    @_fit_context(prefer_skip_nested_validation=True)
    def partial_fit(self, X: Any, y: Any = None) -> Self:
        """Train for one epoch more, on new images, at a constant learning rate.

        The first call starts a network; `data_range_` stays as that call set it. The
        threshold is that of the latest images.

        Parameters
        ----------
        X, y
            As in :meth:`fit`.

        Returns
        -------
        self : object
            The fitted detector.
        """
        return self._fit(X, y, continues=hasattr(self, "network_"), single_epoch=True)

    def _fit(self, X: Any, y: Any, *, continues: bool, single_epoch: bool = False) -> Self:
        images = self._check_training_input(X, y, reset=not (continues and single_epoch))
        n_channels = images[0].shape[2]
        if continues:
            self._check_continues(n_channels)
        seeds = check_random_state(self.random_state).randint(2**31 - 1, size=2)
        # With a seed in random_state, every continuation would draw the same crops.
        n_epochs_before = len(self.loss_curve_) if continues else 0
        generator = Generator().manual_seed(int(seeds[0]) + n_epochs_before)
        # Whatever can fail does so before the fitted state of an earlier fit is touched.
        device = choose_device(self.device)
        loss = self._make_loss(n_channels, device, generator)
        if not continues:
            self.data_range_ = _images.resolve_data_range(self.data_range, images)
            self._n_channels = n_channels
            self.loss_curve_: list[float] = []
        self._train(X, y, images, loss, device, generator, continues, single_epoch)
        self._set_threshold(images, np.random.default_rng(seeds[1]))
        return self

    def _check_training_input(self, X: Any, y: Any, *, reset: bool) -> ImageCollection:
        self._check_geometry()
        images = self._check_input(X, reset=reset)
        good = good_images(y, len(images))
        # The items of a sequence, so that no file is read for its size.
        check_mask_shapes(y, list(X) if images.kind == "sequence" else images)
        if not good.any():
            raise ValueError(
                f"y marks all {len(images)} images as defective, so there is none to learn "
                "from. Add good images: label them other than -1, or give them empty masks."
            )
        return images if good.all() else images.take(np.flatnonzero(good))

    def _check_continues(self, n_channels: int) -> None:
        wanted, present = self._network_config(n_channels), self.network_.config
        changes = [f"{k}={wanted[k]} from {present[k]}" for k in wanted if wanted[k] != present[k]]
        if changes:
            raise ValueError(
                f"The network cannot go on with {', '.join(changes)}. Keep these as they were, or "
                "fit anew with warm_start=False."
            )

    def _train(
        self,
        X: Any,
        y: Any,
        images: ImageCollection,
        loss: Loss,
        device: torch.device,
        generator: Generator,
        continues: bool,
        single_epoch: bool,
    ) -> None:
        sampler = CropSampler(
            lambda index: self._to_tensor(images[index], images.name(index)),
            len(images),
            self.patch_size,
            np.random.default_rng(int(torch.randint(2**31 - 1, (), generator=generator))),
        )
        crops = next(sampler.batches(max(self.n_patches, _N_PROBE), _N_PROBE))
        if not continues:
            self.network_ = self._new_network(generator, crops)
        to_channels_last(self.network_.to(device))
        probe = Probe(to_device(crops, self.network_), self._reconstruct_patches, self._residual)
        n_epochs = 1 if single_epoch else self.max_iter
        trainer = Trainer(
            self.network_,
            loss,
            probe,
            is_warm=continues and probe.remaining() < LEARNING,
            learning_rate_init=self.learning_rate_init,
            schedule="constant" if single_epoch else self.learning_rate,
            total_steps=n_epochs * math.ceil(self.n_patches / self.batch_size),
            weight_decay=self.weight_decay,
            precision=self.precision,
        )
        try:
            self._run_epochs(X, y, images, trainer, sampler, n_epochs)
        except KeyboardInterrupt:
            _warn_convergence("Training was interrupted; the network of that moment is kept.")
        self.network_.eval()
        self.n_iter_ = len(self.loss_curve_)
        if probe.remaining() >= LEARNING:
            _warn_convergence(
                f"After {self.n_iter_} epochs the reconstructions are no better than the mean "
                "image, so the maps mean little. Train longer (max_iter, n_patches), try a "
                "smaller learning_rate_init or batch_size, or a larger latent_dim."
            )

    def _new_network(self, generator: Generator, crops: Tensor) -> PatchNetwork:
        # On the meta device no weights are drawn, so that the global generator is left alone.
        with torch.device("meta"):
            network = self._network_class(**self._network_config(self._n_channels))
        network.to_empty(device="cpu").initialize(crops, generator)
        return network

    def _run_epochs(
        self,
        X: Any,
        y: Any,
        images: ImageCollection,
        trainer: Trainer,
        sampler: CropSampler,
        n_epochs: int,
    ) -> None:
        context = self._init_callback_context(max_subtasks=n_epochs)
        context.call_on_fit_task_begin(estimator=self, X=X, y=y)
        stopping = EarlyStopping(self.tol, self.n_iter_no_change)
        for epoch in range(n_epochs):
            task = context.subcontext(task_name=f"epoch {epoch + 1}")
            task.call_on_fit_task_begin(estimator=self, X=X, y=y)
            started = time.perf_counter()
            loss = trainer.run_epoch(sampler.batches(self.n_patches, self.batch_size))
            if not math.isfinite(loss):
                _warn_convergence(
                    f"The loss became {loss} in epoch {epoch + 1}; the network of the epoch "
                    "before is kept. Lower learning_rate_init."
                )
                self.loss_curve_ = self.loss_curve_ or [loss]
                break
            self.loss_curve_.append(loss)
            self._report(epoch, n_epochs, time.perf_counter() - started)
            stop = task.call_on_fit_task_end(
                estimator=self, X=X, y=y, reconstruction_attributes=lambda: self._snapshot(images)
            )
            if stopping.update(loss, counts=trainer.warmth == 1) or stop:
                break
        context.call_on_fit_task_end(
            estimator=self, X=X, y=y, reconstruction_attributes=lambda: self._snapshot(images)
        )

    def _snapshot(self, images: ImageCollection) -> dict[str, Any]:
        """What a copy of this detector lacks to predict as if fit had ended now."""
        self.n_iter_ = len(self.loss_curve_)
        self._set_threshold(images, np.random.default_rng(0))
        return {"loss_curve_": list(self.loss_curve_)}

    def _report(self, epoch: int, n_epochs: int, seconds: float) -> None:
        if self.verbose:
            print(
                f"{type(self).__name__}: epoch {epoch + 1}/{n_epochs}, "
                f"loss {self.loss_curve_[-1]:.4f}, {self.n_patches / seconds:.0f} patches/s, "
                f"{seconds * (n_epochs - epoch - 1):.0f} s left",
                flush=True,
            )

    def _set_threshold(self, images: ImageCollection, rng: np.random.Generator) -> None:
        if self.threshold is not None:
            self.threshold_ = np.float64(self.threshold)
        else:
            if len(images) > _MAX_THRESHOLD_IMAGES:
                chosen = rng.choice(len(images), _MAX_THRESHOLD_IMAGES, replace=False)
                images = images.take(np.sort(chosen))
            auto = self.contamination == "auto"
            share = _AUTO_CONTAMINATION if auto else float(self.contamination)
            self.threshold_ = -np.percentile(self._score_samples(images), 100 * share)
        self.offset_ = -self.threshold_

    def _check_geometry(self) -> None:
        if self.patch_size % REDUCTION:
            raise ValueError(
                f"patch_size must be a multiple of {REDUCTION}, got {self.patch_size}."
            )

    def __getstate__(self) -> dict[str, Any]:
        """The network as NumPy arrays: they need no torch, and no GPU, to be read."""
        state = dict(super().__getstate__())
        if "network_" in state:
            state["network_"] = network_to_arrays(self.network_)
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        stored = state.get("network_")
        super().__setstate__({k: v for k, v in state.items() if k != "network_"})
        if stored is not None:
            self.network_ = network_from_arrays(self._network_class, stored)


def _warn_convergence(message: str) -> None:
    warnings.warn(message, ConvergenceWarning, stacklevel=2)
