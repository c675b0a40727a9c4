"""The parameters that all detectors share, and what stands in for those that are left open."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from numbers import Integral, Real
from os import PathLike
from typing import Any, ClassVar

import numpy as np
from sklearn.exceptions import NotFittedError
from sklearn.utils._param_validation import Interval, StrOptions

from sklearn_ssimae._deciding.calibration import Calibration
from sklearn_ssimae._images.collection import Kind
from sklearn_ssimae._images.values import DataRange
from sklearn_ssimae._maps.good import GoodMaterial
from sklearn_ssimae._networks.autoencoders import REDUCTION, PatchNetwork
from sklearn_ssimae._training.variation import Variation


@dataclass(kw_only=True, eq=False, repr=False)
class Parameters:
    """Parameters, fitted state, and the attributes that follow from both.

    An attribute that a parameter may fix is a property: it can never disagree with the
    parameter, which acts as soon as it is set.
    """

    latent_dim: int = 100
    patch_size: int = 128
    n_patches: int = 1000
    max_iter: int | None = None
    augment: bool = False
    vary: Mapping[str, float] | None = None
    batch_size: int = 32
    learning_rate_init: float = 2.5e-3
    learning_rate: str = "trapezoid"
    weight_decay: float = 1e-5
    tol: float = 1e-4
    n_iter_no_change: int = 10
    validation_fraction: float = 0.1
    stride: int | None = None
    aggregate: str = "reconstruction"
    scale: float = 1.0
    region: Any = None
    residual: str = "relative"
    opening_diameter: int | None = 4
    min_area: int = 0
    smoothing: float | str = "auto"
    contamination: float | str = "auto"
    threshold: float | None = None
    image_shape: tuple[int, ...] | None = None
    data_range: tuple[float, float] | None = None
    device: str = "auto"
    precision: str = "float32"
    warm_start: bool = False
    checkpoint: str | PathLike[str] | None = None
    verbose: int = 0
    random_state: Any = None

    network_: PatchNetwork = field(init=False)
    n_iter_: int = field(init=False)
    loss_curve_: list[float] = field(init=False)
    trained_on_: dict[str, Any] = field(init=False)
    data_range_: DataRange = field(init=False)
    region_: np.ndarray | None = field(init=False)
    _input_kind_: Kind = field(init=False)
    image_shape_: tuple[int, ...] | None = field(init=False)
    _n_channels: int = field(init=False)
    _seed_of_kept: int = field(init=False)
    _trained_digests: np.ndarray = field(init=False)
    lessons_: list[dict[str, Any]] = field(init=False)
    _calibration: Calibration = field(init=False)

    #: Whether what is left of the residual says if `max_iter=None` needs more epochs.
    _residual_tells_length: ClassVar[bool] = True

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "latent_dim": [Interval(Integral, 1, None, closed="left")],
        "patch_size": [Interval(Integral, REDUCTION, None, closed="left")],
        "n_patches": [Interval(Integral, 1, None, closed="left")],
        "max_iter": [Interval(Integral, 1, None, closed="left"), None],
        "augment": ["boolean"],
        "vary": [Mapping, None],
        "batch_size": [Interval(Integral, 1, None, closed="left")],
        "learning_rate_init": [Interval(Real, 0, None, closed="neither")],
        "learning_rate": [StrOptions({"constant", "trapezoid"})],
        "weight_decay": [Interval(Real, 0, None, closed="left")],
        "tol": [Interval(Real, 0, None, closed="left")],
        "n_iter_no_change": [Interval(Integral, 1, None, closed="left")],
        "validation_fraction": [Interval(Real, 0, 1, closed="neither")],
        "stride": [Interval(Integral, 1, None, closed="left"), None],
        "aggregate": [StrOptions({"reconstruction", "residual"})],
        "scale": [Interval(Real, 0, None, closed="neither")],
        "region": ["array-like", str, PathLike, None],
        "residual": [StrOptions({"relative", "plain"})],
        "opening_diameter": [Interval(Integral, 1, None, closed="left"), None],
        "min_area": [Interval(Integral, 0, None, closed="left")],
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

    @property
    def threshold_(self) -> np.float64:
        """The parameter `threshold`, or what was learnt in its place."""
        learnt = self._learnt.threshold
        if self.threshold is not None:
            return np.float64(self.threshold)
        if math.isnan(learnt):
            raise NotFittedError(  # an AttributeError too, so that hasattr and dir work
                "No threshold was learnt, since fit was given one. Set threshold again, or learn "
                "one from good images that were not trained on: fit_threshold(X)."
            )
        return np.float64(learnt)

    @property
    def offset_(self) -> np.float64:
        """``-threshold_``."""
        return -self.threshold_

    @property
    def smoothing_(self) -> float:
        """The parameter `smoothing`, or what was chosen for it."""
        learnt = self._learnt.settings.smoothing
        return learnt if self.smoothing == "auto" else float(self.smoothing)

    @property
    def border_profile_(self) -> np.ndarray:
        """What maps are relative to, by distance to the border."""
        return good_of(self._learnt).border.values

    @property
    def place_profile_(self) -> tuple[np.ndarray | None, np.ndarray | None]:
        """What maps are relative to, by column and by row."""
        place = good_of(self._learnt).place
        columns, rows = (
            None if profile is None else profile if place.logarithmic else np.exp(profile)
            for profile in (place.columns, place.rows)
        )
        return columns, rows

    @property
    def map_choice_(self) -> list[dict[str, Any]]:
        """What the choice of the map rests on."""
        return self._learnt.table

    @property
    def material_(self) -> str:
        """What the material looks like to the network, in words."""
        material = self._learnt.material
        return "not looked at" if material is None else material.in_words(self.patch_size)

    @property
    def threshold_basis_(self) -> str:
        """What `threshold_` rests on, in words."""
        learnt = self._learnt
        if self.threshold is not None:
            return "set by the parameter threshold, not learnt"
        return learnt.rests_on.removeprefix(f"threshold {learnt.threshold:.4g}: ")

    @property
    def p_values_basis_(self) -> str:
        """What `p_values` rest on, in words."""
        levels = self._learnt.levels
        return "nothing" if levels is None else levels.basis(self._learnt.rate)

    @property
    def _learnt(self) -> Calibration:
        if not hasattr(self, "_calibration"):
            raise AttributeError(f"This {type(self).__name__} is not fitted.")
        return self._calibration

    def _variation(self) -> Variation | None:
        """The parameter `vary`; None for no variation."""
        return None if self.vary is None else Variation.of(self.vary)

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "_calibration")

    def _learns_from_kept(self) -> bool:
        """Whether a fit needs good images that it was not trained on."""
        learns_threshold = self.threshold is None and self.contamination == "auto"
        return learns_threshold or self.residual == "relative" or self.smoothing == "auto"


def good_of(learnt: Calibration) -> GoodMaterial:
    """What relative maps are relative to."""
    if learnt.settings.good is None:
        raise NotFittedError(
            "residual='relative' needs the residual of good images, but none were kept from "
            "training for it. Learn it from good images that were not trained on: "
            "fit_threshold(X)."
        )
    return learnt.settings.good
