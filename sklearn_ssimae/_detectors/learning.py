"""The course of one lesson: further good images, such as false alarms, are learnt."""

from __future__ import annotations

import math
import warnings
from copy import deepcopy
from datetime import UTC, datetime
from typing import Any, Self, cast

import numpy as np
from sklearn.base import _fit_context
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted
from torch import Generator, Tensor

from sklearn_ssimae._deciding.calibration import Calibration, maxima_of, taught
from sklearn_ssimae._detectors.kept import KeptParts, KeptWindows
from sklearn_ssimae._detectors.remembering import digests_of
from sklearn_ssimae._detectors.trainee import Trainee
from sklearn_ssimae._images.labels import good_images_of
from sklearn_ssimae._maps.counting import split_counts
from sklearn_ssimae._maps.tiling import pad_to_patch
from sklearn_ssimae._networks.devices import choose_device, to_channels_last, to_device
from sklearn_ssimae._networks.own_state import own_state
from sklearn_ssimae._training.corruption import Corruption
from sklearn_ssimae._training.crops import stacked
from sklearn_ssimae._training.division import Part, without_copies
from sklearn_ssimae._training.examples import (
    Examples,
    as_planes,
    crops_around,
    mixed_batches,
    stored_crops,
)
from sklearn_ssimae._training.probe import Probe
from sklearn_ssimae._training.trainer import Trainer

# Of three images one is not learnt from, and tells whether its kind was learnt.
_ONE_KEPT_OF = 3
# Gradient steps; crops of all new images together, and of one of them, at most.
_N_STEPS = 60
_N_CROPS, _N_CROPS_OF_ONE = 512, 48
# Crops of a new image that further lessons go on with.
_N_REMEMBERED = 4
# Learning rate over that of a fit: what is known is not to be unlearnt.
_SLOWER = 0.4
# Where no pixel of an image exceeds the threshold, so many of the highest are learnt most.
_HIGHEST = 0.99
# Residuals below are none.
_LEAST = 1e-12


class LearnsGood:
    """The method that gives a lesson."""

    @_fit_context(prefer_skip_nested_validation=True)
    def learn_good(self, X: Any, y: Any = None) -> Self:
        """Learn further good images, such as those that were called defects and are none.

        Of three images two are learnt, briefly and among crops of the earlier ones; the third
        tells whether its kind was learnt. The threshold is learnt anew from what the training did
        to the earlier kept images; a `threshold` that is set stays.

        Parameters
        ----------
        X : array or sequence
            Good images, as in :meth:`fit`; about ten of a kind. Fewer than three are all learnt.
        y : array-like or masks, default=None
            As in :meth:`fit`.

        Returns
        -------
        self : object
            The detector; `lessons_` tells of this lesson, too.

        Raises
        ------
        ValueError
            If the detector holds no crops (`store_examples`), if the map is another one now than
            when the threshold was learnt, or if the loss is not finite.

        Notes
        -----
        After any error, and after Ctrl-C, the detector is as it was. To undo a lesson, load
        the detector from the file that was stored before.
        """
        check_is_fitted(self)
        Lesson(cast(Trainee, self), X, y).run()
        return self


class Lesson:
    """One lesson of a fitted detector, which changes only when it is over.

    Parameters
    ----------
    detector : Trainee
    X, y : object
        As in `fit`.
    """

    def __init__(self, detector: Trainee, X: Any, y: Any) -> None:
        self.detector = detector
        self.images = good_images_of(detector._check_fitted_input(X), y)
        self.examples = self._check()
        seed = int(check_random_state(detector.random_state).randint(2**31 - 1))
        # With a seed in random_state, every lesson would draw the same.
        seeds = [seed, len(detector.lessons_), len(detector.loss_curve_)]
        self.rng = np.random.default_rng(seeds)
        self.generator = Generator().manual_seed(int(self.rng.integers(2**31 - 1)))

    def _check(self) -> Examples:
        detector = self.detector
        if detector._examples is None:
            raise ValueError(
                "This detector holds no crops of its good images, among which new ones are learnt: "
                "it was fitted with store_examples=False, or its patches are too large to be "
                "stored. Fit anew, with the new images among the good ones."
            )
        changes = [] if detector.threshold is not None else detector._changes_of_map()
        if changes:
            raise ValueError(
                f"The threshold was learnt for another map: {', '.join(changes)}. Learn it anew "
                "first, from good images that were not trained on: fit_threshold(X)."
            )
        return detector._examples

    @own_state()
    def run(self) -> None:
        """The whole of it. After an error or Ctrl-C the detector is as it was."""
        detector = self.detector
        self.device = choose_device(detector.device)
        learner: Trainee = object.__new__(type(detector))
        vars(learner).update(vars(detector))
        learner.network_ = to_channels_last(deepcopy(detector.network_)).to(self.device)
        learnt, kept = self._divide()
        crops = self._crops_of(learnt)
        self._train(learner, [crop for of_one in crops for crop in of_one])
        learner._calibration = self._calibrated(learner)
        self._remember(learner, crops, learnt, kept)
        vars(detector).update(vars(learner))
        if detector.verbose:
            print(f"learnt from {len(learnt)} further images; {learner._calibration.rests_on}")

    def _divide(self) -> tuple[KeptParts, KeptParts]:
        """New images that are learnt from, and those that are not; copies count as one."""
        indices = without_copies(len(self.images), self.images.digest)
        order = self.rng.permutation(indices)
        n_kept = len(order) // _ONE_KEPT_OF
        learnt, kept = (
            KeptParts(
                self.images, [Part(int(i)) for i in np.sort(some)], self.detector._preparation()
            )
            for some in (order[n_kept:], order[:n_kept])
        )
        return learnt, kept

    def _crops_of(self, learnt: KeptParts) -> list[list[Tensor]]:
        """Crops of each new image, most of them where its residual is high now."""
        detector, patch_size = self.detector, self.detector.network_.config["patch_size"]
        n_each = max(1, min(_N_CROPS_OF_ONE, _N_CROPS // len(learnt)))
        threshold = detector._threshold_in_force()
        crops = []
        maker = detector._map_maker(detector._map_settings(detector._calibration))
        for planes, found in maker.maps((planes, planes) for _, planes in learnt):
            values = pad_to_patch(found.cpu()[None], patch_size)[0].numpy()
            level = threshold if values.max() > threshold else np.quantile(values, _HIGHEST)
            padded = pad_to_patch(planes, patch_size)
            crops.append(crops_around(padded, values >= level, n_each, patch_size, self.rng))
        return crops

    def _train(self, learner: Trainee, new: list[Tensor]) -> None:
        """A few steps on new crops and earlier ones."""
        config, network = learner.network_.config, learner.network_
        earlier = list(as_planes(self.examples["crops"]))
        probed, _ = split_counts(stacked(earlier, config["n_channels"]), config["n_channels"])
        constants = learner._training_constants()
        trainer = Trainer(
            network,
            learner._make_loss(config["n_channels"], self.device, self.generator),
            Probe(
                to_device(probed, network),
                learner._make_comparison().reconstruct,
                lambda patches, drawn: learner._residual(patches, drawn, **constants),
            ),
            is_warm=True,
            corruption=Corruption(self.rng),
            learning_rate_init=_SLOWER * learner.learning_rate_init,
            schedule="trapezoid",
            total_steps=_N_STEPS,
            weight_decay=learner.weight_decay,
            precision=learner.precision,
        )
        batches = mixed_batches(
            new,
            earlier,
            n_batches=_N_STEPS,
            batch_size=max(2, learner.batch_size),
            n_channels=config["n_channels"],
            augment=learner.augment,
            rng=self.rng,
        )
        loss = trainer.run_epoch(batches)
        if not math.isfinite(loss):
            raise ValueError(
                f"The loss became {loss}, so nothing was learnt. Lower learning_rate_init, which "
                f"is {learner.learning_rate_init:g}."
            )

    def _calibrated(self, learner: Trainee) -> Calibration:
        """The threshold anew, of earlier kept images as they changed.

        New images have no part in it: they are of a rare kind, chosen for their high residuals, and
        a threshold above those would find no defect any more.
        """
        before = learner._calibration
        if before.levels is None:
            if learner.threshold is None:
                warnings.warn(
                    "No good images were kept from training in fit, so the threshold stays as it "
                    "was. Learn it anew from good images that were not trained on: "
                    "fit_threshold(X).",
                    UserWarning,
                    stacklevel=4,
                )
            return before
        windows = KeptWindows(self.examples["kept"])
        makers = [
            detector._map_maker(detector._map_settings(before))
            for detector in (self.detector, learner)
        ]
        logarithmic = makers[0].comparison.gives_logarithms
        earlier, now = (
            np.array([maxima.largest for maxima in maxima_of(maker, windows)]) for maker in makers
        )
        if not logarithmic:
            earlier, now = (np.log(largest.clip(_LEAST)) for largest in (earlier, now))
        changes = now - earlier if len(now) else np.zeros(1)
        return taught(before, changes, self._rate(), logarithmic=logarithmic)

    def _rate(self) -> float:
        """That of false alarms: the threshold's, or, as `contamination` has it, the share above."""
        detector, learnt = self.detector, self.detector._calibration
        by_levels = learnt.levels is not None and learnt.levels.threshold(learnt.rate).value
        if detector.contamination == "auto" or learnt.threshold == by_levels:
            return learnt.rate
        return float(detector.contamination)

    def _remember(
        self, learner: Trainee, crops: list[list[Tensor]], learnt: KeptParts, kept: KeptParts
    ) -> None:
        """What a further lesson, and those who read of it, need to know of this one."""
        before = self.detector
        n_channels = learner.network_.config["n_channels"]
        earlier = self.examples
        some = [crop for of_one in crops for crop in of_one[-_N_REMEMBERED:]]
        learner._examples = {
            "crops": stored_crops([*as_planes(earlier["crops"]), *some], n_channels, self.rng),
            "kept": earlier["kept"],
        }
        learner._trained_digests = digests_of(self.images, learnt.parts, before._trained_digests)
        lesson: dict[str, Any] = {
            "time": f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}",
            "n_images": len(learnt) + len(kept),
            "n_kept": len(kept),
            "n_kept_above": self._n_above(learner, kept),
            "threshold_before": before._threshold_in_force(),
            "threshold_after": learner._threshold_in_force(),
        }
        learner.lessons_ = [*before.lessons_, lesson]

    def _n_above(self, learner: Trainee, kept: KeptParts) -> int:
        """How many new images that were not learnt from are called defects all the same."""
        settings = learner._map_settings(learner._calibration)
        maxima = maxima_of(learner._map_maker(settings), kept, settings.good)
        return sum(found.largest > learner._threshold_in_force() for found in maxima)
