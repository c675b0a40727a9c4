"""From images to a trained network and its threshold."""

from __future__ import annotations

import math
import time
import warnings
from abc import abstractmethod
from collections.abc import Callable
from contextlib import closing, suppress
from os import PathLike
from typing import Any, ClassVar, Self

import numpy as np
import torch
from sklearn.callback import CallbackSupportMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import check_random_state
from torch import Generator, Tensor

from sklearn_ssimae import _images
from sklearn_ssimae._checkpoint import (
    Checkpoint,
    Identity,
    describe_fit,
    describe_value,
    digest_of_network,
    digest_of_tensors,
    open_checkpoint,
)
from sklearn_ssimae._distributed import Ranks, device_of_rank, join_ranks
from sklearn_ssimae._images import ImageCollection
from sklearn_ssimae._labels import check_mask_shapes, good_images
from sklearn_ssimae._networks import REDUCTION, Autoencoder, PatchNetwork, to_channels_last
from sklearn_ssimae._scoring import ScoringMixin
from sklearn_ssimae._training import (
    LEARNING,
    CropSampler,
    EarlyStopping,
    Loss,
    Probe,
    Progress,
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


class FittingMixin(CallbackSupportMixin, ScoringMixin):
    """How a detector is fitted. `BaseDetector` has its parameters."""

    latent_dim: int
    patch_size: int
    n_patches: int
    max_iter: int
    augment: bool
    batch_size: int
    learning_rate_init: float
    learning_rate: str
    weight_decay: float
    tol: float
    n_iter_no_change: int
    contamination: float | str
    threshold: float | None
    data_range: tuple[float, float] | None
    device: str
    checkpoint: str | PathLike[str] | None
    verbose: int
    random_state: Any

    loss_curve_: list[float]
    n_iter_: int

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

    def _fit(self, X: Any, y: Any, *, continues: bool, single_epoch: bool = False) -> Self:
        earlier = self._fitted_state()
        loss_curve = earlier.get("loss_curve_", [])
        n_epochs_before = len(loss_curve) if continues else 0
        try:
            images = self._check_training_input(X, y, reset=not (continues and single_epoch))
            n_channels = images[0].shape[2]
            if continues:
                self._check_continues(n_channels)
            self._fit_images(X, y, images, n_channels, continues, single_epoch)
        except BaseException as error:
            learnt = getattr(self, "loss_curve_", loss_curve)
            if learnt is loss_curve or len(learnt) == n_epochs_before:
                # No epoch was completed: the detector is what it was.
                for name in self._fitted_state():
                    delattr(self, name)
                self.__dict__.update(earlier)
            elif isinstance(error, Exception):
                self._keep_last_epoch(images)
            raise
        return self

    def _fitted_state(self) -> dict[str, Any]:
        names = [name for name in vars(self) if name.endswith("_") or name == "_n_channels"]
        return {name: getattr(self, name) for name in names}

    def _fit_images(
        self,
        X: Any,
        y: Any,
        images: ImageCollection,
        n_channels: int,
        continues: bool,
        single_epoch: bool,
    ) -> None:
        device = device_of_rank(choose_device(self.device))
        seeds = check_random_state(self.random_state).randint(2**31 - 1, size=2).tolist()
        n_epochs_before = len(self.loss_curve_) if continues else 0
        start = "a new one"
        if continues:
            start = f"{digest_of_network(self.network_)} after {n_epochs_before} epochs"
        ranks = join_ranks()
        seeds = ranks.agree(seeds)
        with open_checkpoint(
            self.checkpoint if ranks.is_first and not single_epoch else None,
            type(self).__name__,
            lambda: {
                **describe_fit(self, images, seeds, start),
                "the number of processes": str(ranks.size),
            },
        ) as checkpoint:
            saved = ranks.agree(checkpoint.load())
            if saved is not None:
                seeds = saved["seeds"]  # those of random_state=None would be others
            # With a seed in random_state, every continuation would draw the same crops.
            generator = Generator().manual_seed(seeds[0] + n_epochs_before)
            loss = self._make_loss(n_channels, device, generator)
            self.loss_curve_ = list(self.loss_curve_) if continues else []
            if not continues:
                self.data_range_ = _images.resolve_data_range(self.data_range, images)
                self._n_channels = n_channels
            n_epochs = 1 if single_epoch else self.max_iter
            schedule = "constant" if single_epoch else self.learning_rate
            with closing(self._make_sampler(images, generator)) as sampler:
                progress = self._begin(
                    sampler, loss, device, generator, continues, n_epochs, schedule, ranks
                )
                if saved is not None:
                    self._resume(progress, saved, n_epochs, checkpoint)
                ranks.spread(generator)
                was_interrupted = self._train(X, y, images, progress, n_epochs, checkpoint, seeds)
            self._set_threshold(images, np.random.default_rng(seeds[1]))
            self.threshold_ = ranks.agree(self.threshold_)
            self.offset_ = -self.threshold_
            if not was_interrupted:
                checkpoint.remove()

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

    def _make_sampler(self, images: ImageCollection, generator: Generator) -> CropSampler:
        return CropSampler(
            lambda index: self._to_tensor(images[index], images.name(index)),
            len(images),
            self.patch_size,
            np.random.default_rng(int(torch.randint(2**31 - 1, (), generator=generator))),
            augment=self.augment,
        )

    def _begin(
        self,
        sampler: CropSampler,
        loss: Loss,
        device: torch.device,
        generator: Generator,
        continues: bool,
        n_epochs: int,
        schedule: str,
        ranks: Ranks,
    ) -> Progress:
        crops = next(sampler.batches(max(self.n_patches, _N_PROBE), _N_PROBE))
        ranks.check_equal(lambda: self._identity(crops, sampler.n_images))
        if not continues:
            self.network_ = self._new_network(generator, crops)
        to_channels_last(self.network_.to(device))
        probe = Probe(to_device(crops, self.network_), self._reconstruct_patches, self._residual)
        trainer = Trainer(
            self.network_,
            loss,
            probe,
            ranks=ranks,
            is_warm=continues and ranks.agree(probe.remaining()) < LEARNING,
            learning_rate_init=self.learning_rate_init,
            schedule=schedule,
            total_steps=n_epochs * math.ceil(self.n_patches / (self.batch_size * ranks.size)),
            weight_decay=self.weight_decay,
            precision=self.precision,
        )
        stopping = EarlyStopping(self.tol, self.n_iter_no_change)
        return Progress(trainer, sampler, stopping, generator)

    def _resume(
        self, progress: Progress, saved: dict[str, Any], n_epochs: int, checkpoint: Checkpoint
    ) -> None:
        progress.load_state_dict(saved["progress"])
        self.loss_curve_ = saved["loss_curve"]
        if self.verbose and progress.trainer.ranks.is_first:
            print(
                f"{type(self).__name__}: goes on after epoch {progress.n_epochs}/{n_epochs} from "
                f"the checkpoint {checkpoint.path}",
                flush=True,
            )

    def _train(
        self,
        X: Any,
        y: Any,
        images: ImageCollection,
        progress: Progress,
        n_epochs: int,
        checkpoint: Checkpoint,
        seeds: list[int],
    ) -> bool:
        """Run the epochs that are left. Returns whether Ctrl-C ended them."""

        def save() -> None:
            state = {"seeds": seeds, "loss_curve": self.loss_curve_}
            checkpoint.save({**state, "progress": progress.state_dict()})

        was_interrupted = False
        try:
            with progress.trainer.ranks.interrupted_together():
                self._run_epochs(X, y, images, progress, n_epochs, save)
        except KeyboardInterrupt:
            was_interrupted = True
            progress.restore_best()
            _warn_convergence(
                "Training was interrupted; the network of the epoch with the lowest loss is kept."
            )
        self.network_.eval()
        self.n_iter_ = len(self.loss_curve_)
        if progress.trainer.probe.remaining() >= LEARNING:
            _warn_convergence(
                f"After {self.n_iter_} epochs the reconstructions are no better than the mean "
                "image, so the maps mean little. Train longer (max_iter, n_patches), try a "
                "smaller learning_rate_init or batch_size, or a larger latent_dim."
            )
        return was_interrupted

    def _identity(self, crops: Tensor, n_images: int) -> Identity:
        """What processes that train together must have in common."""
        own = {"checkpoint", "device", "random_state", "verbose"}
        parameters = self.get_params(deep=False).items()
        return {
            **{name: describe_value(value) for name, value in parameters if name not in own},
            "data_range_": describe_value(self.data_range_),
            "the number of images": str(n_images),
            "what crops of the images hold (as a hash)": digest_of_tensors({"": crops}),
        }

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
        progress: Progress,
        n_epochs: int,
        save: Callable[[], None],
    ) -> None:
        trainer, sampler, ranks = progress.trainer, progress.sampler, progress.trainer.ranks
        context = self._init_callback_context(max_subtasks=n_epochs)
        context.call_on_fit_task_begin(estimator=self, X=X, y=y)
        for epoch in range(n_epochs if progress.is_done else progress.n_epochs, n_epochs):
            task = context.subcontext(task_name=f"epoch {epoch + 1}")
            task.call_on_fit_task_begin(estimator=self, X=X, y=y)
            started = time.perf_counter()
            batches = sampler.batches(self.n_patches, self.batch_size * ranks.size)
            loss = trainer.run_epoch(batches)
            if not math.isfinite(loss):
                _warn_convergence(
                    f"The loss became {loss} in epoch {epoch + 1}; the network of the epoch "
                    "before is kept. Lower learning_rate_init."
                )
                self.loss_curve_ = self.loss_curve_ or [loss]
                break
            self.loss_curve_.append(loss)
            progress.end_epoch(loss)
            if ranks.is_first:
                self._report(epoch, n_epochs, time.perf_counter() - started)
            stop = task.call_on_fit_task_end(
                estimator=self, X=X, y=y, reconstruction_attributes=lambda: self._snapshot(images)
            )
            progress.is_done = progress.is_done or ranks.agree(stop)
            save()
            if progress.is_done:
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

    def _keep_last_epoch(self, images: ImageCollection) -> None:
        """After an error in training: what is learnt can be used, with what can be read."""
        self.network_.eval()
        self.n_iter_ = len(self.loss_curve_)
        with suppress(Exception):  # the first error is the one to report
            self._set_threshold(images, np.random.default_rng(0), skips_unreadable=True)

    def _set_threshold(
        self, images: ImageCollection, rng: np.random.Generator, skips_unreadable: bool = False
    ) -> None:
        # That of an earlier network would not fit this one, should the following fail.
        for name in ("threshold_", "offset_"):
            self.__dict__.pop(name, None)
        if self.threshold is not None:
            self.threshold_ = np.float64(self.threshold)
        else:
            if len(images) > _MAX_THRESHOLD_IMAGES:
                chosen = rng.choice(len(images), _MAX_THRESHOLD_IMAGES, replace=False)
                images = images.take(np.sort(chosen))
            if skips_unreadable:
                images = images.readable()
            auto = self.contamination == "auto"
            share = _AUTO_CONTAMINATION if auto else float(self.contamination)
            self.threshold_ = -np.percentile(self._score_samples(images), 100 * share)
        self.offset_ = -self.threshold_

    def _check_geometry(self) -> None:
        if self.patch_size % REDUCTION:
            raise ValueError(
                f"patch_size must be a multiple of {REDUCTION}, got {self.patch_size}."
            )


def _warn_convergence(message: str) -> None:
    warnings.warn(message, ConvergenceWarning, stacklevel=2)
