"""The course of one fit: read, begin, resume, train, decide."""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import check_random_state
from torch import Generator, Tensor

from sklearn_ssimae._deciding.calibration import Calibration
from sklearn_ssimae._deciding.material import share_predicted
from sklearn_ssimae._detectors.decision import decide
from sklearn_ssimae._detectors.kept import looks_of
from sklearn_ssimae._detectors.trainee import Trainee
from sklearn_ssimae._images.collection import ImageCollection
from sklearn_ssimae._images.labels import good_images_of
from sklearn_ssimae._images.region import read_region
from sklearn_ssimae._images.values import resolve_data_range
from sklearn_ssimae._maps.counting import split_counts
from sklearn_ssimae._networks.autoencoders import PatchNetwork
from sklearn_ssimae._networks.devices import choose_device, to_channels_last, to_device
from sklearn_ssimae._networks.own_state import own_state
from sklearn_ssimae._training.checkpoint import Checkpoint, open_checkpoint
from sklearn_ssimae._training.corruption import Corruption
from sklearn_ssimae._training.crops import CropSampler
from sklearn_ssimae._training.division import (
    Division,
    Part,
    divide,
    keep_nothing,
    without_copies,
)
from sklearn_ssimae._training.identity import (
    Identity,
    describe_fit,
    describe_value,
    digest_of_network,
    digest_of_tensors,
)
from sklearn_ssimae._training.length import (
    EPOCHS,
    GLANCED_AFTER,
    JUDGED_AFTER,
    MORE_EPOCHS,
    Length,
    glance,
    judge,
)
from sklearn_ssimae._training.probe import LEARNING, Probe
from sklearn_ssimae._training.progress import EarlyStopping, Progress
from sklearn_ssimae._training.ranks import device_of_rank, join_ranks
from sklearn_ssimae._training.trainer import Trainer

# Images that are remembered as trained on, at most.
_MAX_REMEMBERED = 1000
# Crops that tell whether the network beats the mean image, and that set where it starts.
_N_PROBE = 64


class Fit:
    """One fit of a detector, from X and y to its fitted state; thrown away afterwards.

    Parameters
    ----------
    detector : Trainee
        Its attributes are set.
    X, y : object
        As in `fit`.
    is_partial : bool, default=False
        Whether it is one epoch of `partial_fit`.
    """

    images: ImageCollection
    checkpoint: Checkpoint
    division: Division
    sampler: CropSampler
    progress: Progress

    def __init__(self, detector: Trainee, X: Any, y: Any, *, is_partial: bool = False) -> None:
        self.detector = detector
        self.X = X
        self.y = y
        self.is_partial = is_partial
        self.continues = (is_partial or detector.warm_start) and hasattr(detector, "network_")
        self.n_epochs = 1 if is_partial else int(detector.max_iter or EPOCHS)
        self.was_interrupted = False

    @own_state()
    def run(self) -> None:
        """The whole of it. An error before the first epoch ends leaves the detector as it was."""
        with self._undone_unless_learnt():
            self._read()
            self._agree()
            with self._open_checkpoint() as self.checkpoint:
                with closing(self._make_sampler()) as self.sampler:
                    self._begin()
                    self._resume()
                    self._train()
                self._decide()
                if not self.was_interrupted:
                    self.checkpoint.remove()

    # Read -----------------------------------------------------------------------------

    def _read(self) -> None:
        """The good images of X, and what they must have in common with an earlier fit."""
        detector = self.detector
        detector._check_parameters()
        images = detector._check_input(self.X, reset=not (self.continues and self.is_partial))
        self.images = good_images_of(images, self.y)
        self.n_channels: int = self.images[0].shape[2]
        if self.continues:
            self._check_continues()

    def _check_continues(self) -> None:
        wanted = self.detector._network_config(self.n_channels)
        present = self.detector.network_.config
        changes = [f"{k}={wanted[k]} from {present[k]}" for k in wanted if wanted[k] != present[k]]
        if changes:
            raise ValueError(
                f"The network cannot continue with {', '.join(changes)}. Keep these as they were, "
                "or fit anew with warm_start=False."
            )

    # Begin ----------------------------------------------------------------------------

    def _agree(self) -> None:
        """Device, and what all processes of this training share."""
        detector = self.detector
        self.device = device_of_rank(choose_device(detector.device))
        seeds = check_random_state(detector.random_state).randint(2**31 - 1, size=2).tolist()
        self.ranks = join_ranks()
        # The first is of the training, the second of what is kept from it: the same in every
        # continuation, since others would have been trained on.
        if self.continues:
            seeds[1] = detector._seed_of_kept
        self.seeds: list[int] = self.ranks.agree(seeds)

    def _open_checkpoint(self) -> AbstractContextManager[Checkpoint]:
        detector = self.detector
        start = "a new one"
        if self.continues:
            epochs = len(detector.loss_curve_)
            start = f"{digest_of_network(detector.network_)} after {epochs} epochs"
        return open_checkpoint(
            detector.checkpoint if self.ranks.is_first and not self.is_partial else None,
            type(detector).__name__,
            lambda: {
                **describe_fit(detector, self.images, self.seeds, start),
                "the number of processes": str(self.ranks.size),
            },
        )

    def _make_sampler(self) -> CropSampler:
        """The crops to learn from; all chance of the training begins here."""
        detector, images = self.detector, self.images
        self.saved = self.ranks.agree(self.checkpoint.load())
        if self.saved is not None:
            self.seeds = self.saved["seeds"]  # those of random_state=None would be others
        n_epochs_before = len(detector.loss_curve_) if self.continues else 0
        # With a seed in random_state, every continuation would draw the same crops.
        self.generator = Generator().manual_seed(self.seeds[0] + n_epochs_before)
        detector.loss_curve_ = list(detector.loss_curve_) if self.continues else []
        detector.lessons_ = []  # they were about the map that was
        if not self.continues:
            detector.data_range_ = resolve_data_range(detector.data_range, images)
            detector.region_ = read_region(detector.region)
            detector._n_channels = self.n_channels
            detector._seed_of_kept = self.seeds[1]
        self.division = self._divide()
        detector._trained_digests = self._digests_of_trained()
        detector.trained_on_ = {
            "n_images": len({part.image for parts in self.division for part in parts}),
            "n_kept": len(self.division.kept),
            "first_shape": images[0].shape,
        }
        changes = {"augment": detector.augment, "variation": detector._variation()}
        return self._sampler_of(self.division.trained, self._make_rng(), **changes)

    def _sampler_of(
        self, parts: list[Part], rng: np.random.Generator, **changes: Any
    ) -> CropSampler:
        detector, images = self.detector, self.images
        prepare = detector._preparation()

        def load(index: int) -> Tensor:
            part = parts[index]
            return part.of(prepare.of(images, part.image))

        return CropSampler(load, len(parts), detector.patch_size, self.n_channels, rng, **changes)

    def _make_rng(self) -> np.random.Generator:
        return np.random.default_rng(int(torch.randint(2**31 - 1, (), generator=self.generator)))

    def _divide(self) -> Division:
        """Keep some images from training, if something is to be learnt from them afterwards."""
        detector, images = self.detector, self.images
        if not detector._learns_from_kept():
            return keep_nothing(range(len(images)))
        prepare = detector._preparation()
        indices = without_copies(len(images), images.digest)
        if len(indices) < len(images):
            self._say(f"{len(images) - len(indices)} images are copies of others, and left out")
        division = divide(
            indices,
            lambda index: prepare.of(images, index),
            fraction=detector.validation_fraction,
            patch_size=detector.patch_size,
            n_channels=self.n_channels,
            rng=np.random.default_rng(self.seeds[1]),
        )
        if not division.kept:
            warnings.warn(
                "There is one image, or copies of one, of less than two patches, so nothing can be "
                "kept from training: what maps are relative to, and the threshold unless it is "
                "set, come from the image that was trained on, and further good images may be "
                "called defects. Give more images, here or to fit_threshold(X).",
                UserWarning,
                stacklevel=2,
            )
        return division

    def _digests_of_trained(self) -> np.ndarray:
        """Short digests of images that are trained on, in this fit or in those it goes on from."""
        images = sorted({part.image for part in self.division.trained})[:_MAX_REMEMBERED]
        digests = self.images.short_digests(images)
        if self.continues:
            digests = np.union1d(digests, self.detector._trained_digests)[:_MAX_REMEMBERED]
        return digests

    def _begin(self) -> None:
        """Network, loss and optimizer as they are before the first step."""
        detector, ranks = self.detector, self.ranks
        loss = detector._make_loss(self.n_channels, self.device, self.generator)
        batch = next(self.sampler.batches(max(detector.n_patches, _N_PROBE), _N_PROBE))
        crops, _ = split_counts(batch, self.n_channels)
        ranks.check_equal(lambda: self._identity(crops))
        if not self.continues:
            detector.network_ = self._new_network(crops)
        to_channels_last(detector.network_.to(self.device))
        reconstruct = detector._make_comparison().reconstruct
        constants = detector._training_constants()
        probe = Probe(
            to_device(crops, detector.network_),
            reconstruct,
            lambda patches, drawn: detector._residual(patches, drawn, **constants),
        )
        trainer = Trainer(
            detector.network_,
            loss,
            probe,
            ranks=ranks,
            is_warm=self.continues and ranks.agree(probe.remaining()) < LEARNING,
            corruption=Corruption(self._make_rng()),
            learning_rate_init=detector.learning_rate_init,
            schedule="constant" if self.is_partial else detector.learning_rate,
            total_steps=self._n_steps(self.n_epochs),
            weight_decay=detector.weight_decay,
            precision=detector.precision,
        )
        stopping = EarlyStopping(detector.tol, detector.n_iter_no_change)
        self.progress = Progress(trainer, self.sampler, stopping, self.generator)

    def _n_steps(self, n_epochs: int) -> int:
        detector = self.detector
        return n_epochs * math.ceil(detector.n_patches / (detector.batch_size * self.ranks.size))

    def _new_network(self, crops: Tensor) -> PatchNetwork:
        # On the meta device no weights are drawn, so that the global generator is left alone.
        with torch.device("meta"):
            network = self.detector._network_class(**self.detector._network_config(self.n_channels))
        network.float().to_empty(device="cpu").initialize(crops, self.generator)
        return network

    def _identity(self, crops: Tensor) -> Identity:
        """What processes that train together must have in common."""
        own = {"checkpoint", "device", "random_state", "verbose"}
        parameters = self.detector.get_params(deep=False).items()
        return {
            **{name: describe_value(value) for name, value in parameters if name not in own},
            "data_range_": describe_value(self.detector.data_range_),
            "the number of images": str(len(self.images)),
            "what crops of the images hold (as a hash)": digest_of_tensors({"": crops}),
        }

    # Resume, train --------------------------------------------------------------------

    def _resume(self) -> None:
        """Go on from the checkpoint, if there was one."""
        if self.saved is not None:
            self.progress.load_state_dict(self.saved["progress"])
            self.n_epochs = self.saved["n_epochs"]
            self.detector.loss_curve_ = self.saved["loss_curve"]
            self._say(
                f"goes on after epoch {self.progress.n_epochs}/{self.n_epochs} from the "
                f"checkpoint {self.checkpoint.path}"
            )
        self.ranks.spread(self.progress.generator)

    def _train(self) -> None:
        """Run the epochs that are left; Ctrl-C keeps the best of those that ended."""
        detector = self.detector
        try:
            with self.ranks.interrupted_together():
                self._run_epochs()
        except KeyboardInterrupt:
            self.was_interrupted = True
            self.progress.restore_best()
            _warn_convergence(
                "Training was interrupted; the network of the epoch with the lowest loss is kept."
            )
        detector.network_.eval()
        detector.n_iter_ = len(detector.loss_curve_)
        if self.progress.trainer.probe.remaining() >= LEARNING:
            _warn_convergence(
                f"After {detector.n_iter_} epochs the reconstructions are no better than the mean "
                "image, so the maps mean little. Train longer (max_iter, n_patches), try a "
                "smaller learning_rate_init or batch_size, or a larger latent_dim."
            )

    def _run_epochs(self) -> None:
        detector, progress = self.detector, self.progress
        watched: dict[str, Any] = {"estimator": detector, "X": self.X, "y": self.y}
        is_unset = detector.max_iter is None and not self.is_partial
        is_open = is_unset and detector._residual_tells_length
        most = MORE_EPOCHS if is_open else self.n_epochs
        context = detector._init_callback_context(max_subtasks=most)
        context.call_on_fit_task_begin(**watched)
        while progress.n_epochs < self.n_epochs and not progress.is_done:
            epoch = progress.n_epochs
            task = context.subcontext(task_name=f"epoch {epoch + 1}")
            task.call_on_fit_task_begin(**watched)
            loss = self._run_epoch(epoch)
            if not math.isfinite(loss):
                detector.loss_curve_ = detector.loss_curve_ or [loss]
                break
            stop = task.call_on_fit_task_end(**watched, reconstruction_attributes=self._snapshot)
            progress.is_done = progress.is_done or self.ranks.agree(stop)
            if is_open and not progress.is_done:
                self._change_length(self._judged_length())
            self._save()
        context.call_on_fit_task_end(**watched, reconstruction_attributes=self._snapshot)

    def _judged_length(self) -> Length | None:
        """Another length, after the epochs in which that is judged."""
        if self.progress.n_epochs == GLANCED_AFTER and self.division.kept:
            n_crops = GLANCED_AFTER * self.detector.n_patches * self.ranks.size
            return glance(self._share_predicted_of_kept(), n_crops)
        if self.progress.n_epochs == JUDGED_AFTER and self.n_epochs == EPOCHS:
            return judge(self.progress.trainer.remaining)
        return None

    def _change_length(self, length: Length | None) -> None:
        length = self.ranks.agree(length)
        if length is not None:
            self.n_epochs = length.n_epochs
            self.progress.trainer.change_length(self._n_steps(self.n_epochs))
            self._say(length.why)

    def _share_predicted_of_kept(self) -> float:
        """How much of kept images' local contrast the network redraws by now."""
        rng = np.random.default_rng(self.seeds[1])
        with closing(self._sampler_of(self.division.kept, rng)) as sampler:
            crops, _ = split_counts(next(sampler.batches(_N_PROBE, _N_PROBE)), self.n_channels)
        probe = self.progress.trainer.probe
        with torch.no_grad():
            drawn = probe.reconstruct(to_device(crops, self.detector.network_))
        return share_predicted(list(zip(crops, drawn.float().cpu().contiguous(), strict=True)))

    def _run_epoch(self, epoch: int) -> float:
        """One epoch's mean loss; one that is not finite has left the network as it was."""
        detector, progress = self.detector, self.progress
        started = time.perf_counter()
        batches = progress.sampler.batches(
            detector.n_patches, detector.batch_size * self.ranks.size
        )
        loss = progress.trainer.run_epoch(batches)
        if not math.isfinite(loss):
            _warn_convergence(
                f"The loss became {loss} in epoch {epoch + 1}; the network of the epoch "
                "before is kept. Lower learning_rate_init."
            )
            return loss
        detector.loss_curve_.append(loss)
        progress.end_epoch(loss)
        seconds = time.perf_counter() - started
        self._say(
            f"epoch {epoch + 1}/{self.n_epochs}, loss {loss:.4f}, "
            f"{detector.n_patches / seconds:.0f} patches/s, "
            f"{seconds * (self.n_epochs - epoch - 1):.0f} s left"
        )
        return loss

    def _save(self) -> None:
        self.checkpoint.save(
            {
                "seeds": self.seeds,
                "n_epochs": self.n_epochs,
                "loss_curve": self.detector.loss_curve_,
                "progress": self.progress.state_dict(),
            }
        )

    def _snapshot(self) -> dict[str, Any]:
        """What a copy of the detector lacks to predict as if fit had ended now."""
        self.detector.n_iter_ = len(self.detector.loss_curve_)
        self.detector._calibration = self._calibrated()
        return {"loss_curve_": list(self.detector.loss_curve_)}

    def _say(self, message: str) -> None:
        if self.detector.verbose and self.ranks.is_first:
            print(message, flush=True)

    # Decide ---------------------------------------------------------------------------

    def _decide(self) -> None:
        """Choose the map, set the threshold; the same ones in all processes."""
        detector = self.detector
        looks = looks_of(self.images, self.division, detector._preparation(), self.seeds[1])
        learnt = replace(self._calibrated(), looks=looks)
        detector._calibration = self.ranks.agree(learnt)
        if detector._learns_from_kept():
            self._say(f"material: {detector.material_}")
            self._say(detector._calibration.choice_in_words())
        if detector.threshold is None:
            self._say(detector._calibration.rests_on)

    def _calibrated(self) -> Calibration:
        return decide(self.detector, self.images, self.division, self.seeds[1])

    # Errors ---------------------------------------------------------------------------

    @contextmanager
    def _undone_unless_learnt(self) -> Iterator[None]:
        """After an error what was learnt can be used; if nothing was, nothing has changed."""
        detector = self.detector
        earlier = _fitted_state(detector)
        loss_curve = earlier.get("loss_curve_", [])
        n_epochs_before = len(loss_curve) if self.continues else 0
        try:
            yield
        except BaseException as error:
            learnt = getattr(detector, "loss_curve_", loss_curve)
            if learnt is loss_curve or len(learnt) == n_epochs_before:
                for name in _fitted_state(detector):
                    delattr(detector, name)
                detector.__dict__.update(earlier)
            elif isinstance(error, Exception):
                self._keep_last_epoch()
            raise

    def _keep_last_epoch(self) -> None:
        detector = self.detector
        detector.network_.eval()
        detector.n_iter_ = len(detector.loss_curve_)
        is_readable = self.images.is_readable
        self.division = Division(
            *([part for part in parts if is_readable(part.image)] for parts in self.division)
        )
        try:
            detector._calibration = self._calibrated()
        except Exception:  # the first error is the one to report
            vars(detector).pop("_calibration", None)


def _fitted_state(detector: Trainee) -> dict[str, Any]:
    return {
        name: value
        for name, value in vars(detector).items()
        if name.endswith("_")
        or name in ("_calibration", "_n_channels", "_seed_of_kept", "_trained_digests")
    }


def _warn_convergence(message: str) -> None:
    warnings.warn(message, ConvergenceWarning, stacklevel=2)
