"""Further good images teach a detector: false alarms of their kind are none any more."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, Self

import numpy as np
from sklearn.utils.validation import check_is_fitted

from sklearn_ssimae._detectors.deciding import Deciding
from sklearn_ssimae._images.collection import ImageCollection
from sklearn_ssimae._images.labels import good_images_of
from sklearn_ssimae._maps.harmless import Harmless, regions_of
from sklearn_ssimae._networks.own_state import own_state


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
        little, as much as those of the taught ones do. A real defect of the same size and shape is
        not found any more either: try the detector on known defects. To undo a lesson, load the
        detector that was stored before, or fit again.
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
        found = [
            regions_of(residual, level, logarithmic=logarithmic)[1]
            for residual in self._maps(images)
        ]
        alarms = [regions for regions in found if len(regions)]
        self.lessons_ = [
            *self.lessons_,
            {
                "time": f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}",
                "n_images": len(images),
                "n_alarms": len(alarms),
                "n_regions": sum(map(len, alarms)),
                "n_alike": _n_alike(alarms, level, logarithmic=logarithmic),
            },
        ]
        if not alarms:
            return
        kind = Harmless(level, np.concatenate(alarms), logarithmic=logarithmic)
        settings = self._calibration.settings
        self._calibration = replace(
            self._calibration, settings=replace(settings, harmless=(*settings.harmless, kind))
        )


def _n_alike(alarms: list[np.ndarray], level: float, *, logarithmic: bool) -> int:
    """Alarms all of whose regions are like those of the others."""
    n_alike = 0
    for index, regions in enumerate(alarms):
        others = alarms[:index] + alarms[index + 1 :]
        if others:
            kind = Harmless(level, np.concatenate(others), logarithmic=logarithmic)
            n_alike += bool(kind.are_alike(regions).all())
    return n_alike
