"""Further good images teach a detector: false alarms of their kind are none any more."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from itertools import product
from typing import Any, Self

import numpy as np
from sklearn.utils.validation import check_is_fitted

from sklearn_ssimae._deciding.probes import make_probes
from sklearn_ssimae._detectors.deciding import Deciding
from sklearn_ssimae._images.collection import ImageCollection
from sklearn_ssimae._images.labels import good_images_of
from sklearn_ssimae._maps.harmless import Harmless, regions_of
from sklearn_ssimae._networks.own_state import own_state
from sklearn_ssimae.datasets._drawing import draw_defect

# Defects of each kind that are drawn, to see that they are found after a lesson.
_DRAWN = 12


class LearnsGood(Deciding):
    """The method that gives a lesson."""

    lessons_: list[dict[str, Any]]

    def _check_fitted_input(self, X: Any) -> ImageCollection:
        raise NotImplementedError

    def _maps(self, images: ImageCollection) -> Iterator[np.ndarray]:
        raise NotImplementedError

    def learn_good(self, X: Any, y: Any = None) -> Self:
        """Learn further good images, such as those that were called defects and are not.

        Their regions above the threshold are remembered by size, shape and height. From then on
        regions like them do not exceed the threshold, wherever they lie.

        Parameters
        ----------
        X : array or sequence
            Good images, as in :meth:`fit`; about ten of a kind.
        y : array-like or masks, default=None
            Images with the label -1, or with a marked pixel, are not learnt.

        Returns
        -------
        self : object
            The detector; `lessons_` tells of this lesson, too.

        Raises
        ------
        ValueError
            If the map is another one now than when the threshold was learnt.

        Notes
        -----
        Two regions are alike if the logarithms of their area, axes, box, peak and mean differ
        little: as much as those of the taught ones do, and so little that of 20 defects drawn into
        the images at most one is lost. A real defect of the same size and shape is not found any
        more either: try the detector on known defects. To undo a lesson, load the detector that was
        stored before, or fit again.
        """
        check_is_fitted(self)
        changes = [] if self.threshold is not None else self._changes_of_map()
        if changes:
            raise ValueError(
                f"The threshold was learnt for another map: {', '.join(changes)}. Learn it anew "
                "first, from good images that were not trained on: fit_threshold(X)."
            )
        self._learn(X, y)
        return self

    @own_state()
    def _learn(self, X: Any, y: Any) -> None:
        images = good_images_of(self._check_fitted_input(X), y)
        level = np.float64(self._threshold_in_force())
        logarithmic = self._make_comparison().gives_logarithms
        taught, alarms = [], []
        for residual in self._maps(images):
            taught.append(residual > level)
            regions = regions_of(residual, level, logarithmic=logarithmic)[1]
            if len(regions):
                alarms.append(regions)
        learnt, n_alike = self._calibration, 0
        if alarms:
            defects = list(self._defects_in(images, taught, level, logarithmic=logarithmic))
            kind = Harmless.of(level, np.concatenate(alarms), defects, logarithmic=logarithmic)
            harmless = (*learnt.settings.harmless, kind)
            learnt = replace(learnt, settings=replace(learnt.settings, harmless=harmless))
            n_alike = _n_alike(alarms, kind)
        lesson = {
            "time": f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}",
            "n_images": len(images),
            "n_alarms": len(alarms),
            "n_regions": sum(map(len, alarms)),
            "n_alike": n_alike,
        }
        # Together and last: an error, or Ctrl-C, leaves the detector as it was.
        self._calibration, self.lessons_ = learnt, [*self.lessons_, lesson]

    def _defects_in(
        self,
        images: ImageCollection,
        taught: list[np.ndarray],
        level: np.float64,
        *,
        logarithmic: bool,
    ) -> Iterator[np.ndarray]:
        """Regions of defects that are drawn into the images beside what is `taught`, and found."""
        random = np.random.RandomState(0)
        probes = make_probes(max(1, round(self.network_.config["patch_size"] / self.scale)))
        low, high = self.data_range_
        for turn, kind in product(range(_DRAWN), probes):
            index = random.randint(len(images))
            image = images[index]
            canvas = ((image - low) / (high - low)).clip(0, 1).astype(np.float64)
            try:
                altered, mask = draw_defect(canvas, [kind], random, turn, probes)
            except ValueError:  # too small to be drawn into, or too flat for that kind
                continue
            drawn = self._check_fitted_input([(low + altered * (high - low)).astype(np.float32)])
            (residual,) = self._maps(drawn)
            labels, regions = regions_of(residual, level, logarithmic=logarithmic)
            hit = np.setdiff1d(labels[mask], 0)
            # One that runs into what is taught looks like it.
            if len(hit) and not np.isin(labels[taught[index]], hit).any():
                yield regions[hit - 1]


def _n_alike(alarms: list[np.ndarray], kind: Harmless) -> int:
    """Alarms all of whose regions are like those of the others."""
    n_alike = 0
    for index, regions in enumerate(alarms):
        others = alarms[:index] + alarms[index + 1 :]
        if others:
            known = Harmless(
                kind.level,
                np.concatenate(others),
                radius=kind.radius,
                logarithmic=kind.logarithmic,
            )
            n_alike += bool(known.are_alike(regions).all())
    return n_alike
