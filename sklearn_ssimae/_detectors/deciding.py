"""What a detector decides with: its parameters, and what was learnt where they leave it open."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from torch import Tensor

from sklearn_ssimae._deciding.calibration import Calibration, calibrate
from sklearn_ssimae._deciding.choice import Candidates, smoothings
from sklearn_ssimae._deciding.false_alarms import FALSE_ALARM_RATE
from sklearn_ssimae._detectors.kept import KeptParts
from sklearn_ssimae._detectors.parameters import Parameters, good_of
from sklearn_ssimae._maps.making import Comparison, MapMaker
from sklearn_ssimae._maps.settings import MapSettings
from sklearn_ssimae._networks.devices import forward, keep_freed_memory

# Without a choice: the side of a patch over σ.
_PATCH_OVER_SIGMA = 16


class ConstantsToChooseFrom(NamedTuple):
    """The constants of `Candidates`."""

    usual: Sequence[dict[str, float]]
    fine: Sequence[dict[str, float]] = ()
    coarse: Sequence[dict[str, float]] = ()


class Deciding(Parameters):
    """From parameters and what was learnt to the maps in force, and back from kept images."""

    def _residual(self, images: Tensor, reconstructions: Tensor, **constants: float) -> Tensor:
        """Residual maps (n, h, w) of images (n, c, h, w), larger = more anomalous.

        `constants` are those of `_constants`, by name.
        """
        raise NotImplementedError

    def _make_comparison(self) -> Comparison:
        """What is averaged over patches, and its residual."""
        return Comparison(
            lambda patches: forward(self.network_, self.precision, patches),
            self._residual,
            self.aggregate,
        )

    def _constants(self, learnt: Mapping[str, float]) -> dict[str, float]:
        """The constants of the residual: parameters, and where they leave one open, `learnt`."""
        return {}

    def _training_constants(self) -> dict[str, float]:
        """Those by which the training measures what is left to learn, whatever map is chosen."""
        return self._constants({})

    def _constants_to_choose_from(self) -> ConstantsToChooseFrom:
        """The constants that a map may have; one set if parameters leave nothing open."""
        return ConstantsToChooseFrom([self._constants({})])

    def _map_maker(self, settings: MapSettings | None = None) -> MapMaker:
        """What makes the maps; as they are set now, unless other settings are given."""
        keep_freed_memory()
        return MapMaker(
            self._make_comparison(),
            settings or self._map_settings(self._calibration),
            patch_size=self.network_.config["patch_size"],
            n_channels=self.network_.config["n_channels"],
            device=next(self.network_.parameters()).device,
        )

    def _map_settings(self, learnt: Calibration) -> MapSettings:
        """The settings in force: parameters, and where they leave one open, what was learnt."""
        good = good_of(learnt) if self.residual == "relative" else None
        return replace(self._plain_settings(learnt), good=good)

    def _plain_settings(self, learnt: Calibration | None) -> MapSettings:
        """Those of plain residuals; None: before anything was learnt."""
        patch_size = self.network_.config["patch_size"]
        chosen = learnt.settings if learnt else None
        smoothing: Any = self.smoothing
        if smoothing == "auto":
            smoothing = chosen.smoothing if chosen else patch_size / _PATCH_OVER_SIGMA
        return MapSettings(
            stride=patch_size // 2 if self.stride is None else self.stride,
            smoothing=float(smoothing),
            constants=self._constants(chosen.constants if chosen else {}),
            opening_diameter=self.opening_diameter,
            min_area=self.min_area,
            harmless=chosen.harmless if chosen else (),
        )

    def _calibrated(
        self,
        kept: KeptParts,
        before: Calibration | None = None,
        *,
        rate: float = FALSE_ALARM_RATE,
        rng: np.random.Generator | None = None,
    ) -> Calibration:
        """The map, chosen if `rng` is given, and the threshold, as kept images tell."""
        before = before or self._uncalibrated()
        learnt = calibrate(
            self._map_maker(self._plain_settings(before)),
            kept,
            before,
            is_relative=self.residual == "relative",
            rate=rate,
            candidates=self._candidates(),
            rng=rng,
        )
        return replace(learnt, learnt_for=self._depends_on(learnt))

    def _uncalibrated(self) -> Calibration:
        """Defaults instead of learnt values."""
        return Calibration(self._plain_settings(None))

    def _candidates(self) -> Candidates:
        """The maps that a fit chooses from."""
        plain = self._plain_settings(None)
        sigmas = [plain.smoothing]
        if self.smoothing == "auto":
            sigmas = smoothings(self.network_.config["patch_size"])
        return Candidates(
            *(
                [
                    replace(plain, constants=constants, smoothing=sigma)
                    for constants in choices
                    for sigma in sigmas
                ]
                for choices in self._constants_to_choose_from()
            )
        )

    def _depends_on(self, learnt: Calibration) -> dict[str, Any]:
        """What the values of a map depend on, besides the network."""
        settings = self._plain_settings(learnt)
        names = ("stride", "aggregate", "scale", "residual", "opening_diameter", "min_area")
        parameters = {name: getattr(self, name) for name in names}
        return {**parameters, "smoothing": settings.smoothing, **settings.constants}

    def _threshold_in_force(self) -> float:
        """`threshold_`, or not a number if there is none."""
        if self.threshold is not None:
            return float(self.threshold)
        return self._calibration.threshold if hasattr(self, "_calibration") else math.nan

    def _check_threshold(self) -> None:
        """Warn of a threshold that was learnt for another map than the one in force."""
        changes = [] if self.threshold is not None else self._changes_of_map()
        if changes:
            warnings.warn(
                f"The threshold was learnt for another map: {', '.join(changes)}. Learn it anew "
                "from good images that were not trained on, with fit_threshold(X) or a "
                "ResidualThresholder after the detector, or set threshold.",
                UserWarning,
                stacklevel=3,
            )

    def _changes_of_map(self) -> list[str]:
        """In which of its settings the map in force is another than the one learnt for."""
        learnt_for, now = self._calibration.learnt_for, self._depends_on(self._calibration)
        return [
            f"{name} is {now[name]} and was {learnt_for[name]}"
            for name in now
            if now[name] != learnt_for[name]
        ]

    def _p_values(self, largest: np.ndarray) -> np.ndarray:
        """Those of images with such largest residuals."""
        learnt = self._calibration
        if learnt.levels is None:
            raise ValueError(
                "p-values need good images that were not trained on, and this fit kept none. Give "
                "some to fit_threshold(X), or fit with contamination='auto'."
            )
        changes = self._changes_of_map()
        if changes:
            warnings.warn(
                f"The p-values compare with good images of another map: {', '.join(changes)}. "
                "Learn anew from good images that were not trained on, with fit_threshold(X).",
                UserWarning,
                stacklevel=3,
            )
        return learnt.levels.p_values(largest, learnt.rate)
