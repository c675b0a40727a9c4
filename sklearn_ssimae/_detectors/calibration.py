"""What is learnt from good images kept from training: the map, its profile, the threshold."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field, replace
from itertools import chain
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from torch import Tensor

from sklearn_ssimae._detectors.choice import choose_map
from sklearn_ssimae._detectors.false_alarms import (
    FALSE_ALARM_RATE,
    GoodMaxima,
    false_alarm_threshold,
)
from sklearn_ssimae._images.collection import ImageCollection
from sklearn_ssimae._images.values import Preparation
from sklearn_ssimae._maps.border import BorderProfile
from sklearn_ssimae._maps.filters import gaussian_smoothing
from sklearn_ssimae._training.division import Part
from sklearn_ssimae.datasets._drawing import MIN_SIDE

if TYPE_CHECKING:
    from sklearn_ssimae._detectors.base import BaseDetector

# Images that a threshold is learnt from, at most; a random choice if there are more.
MAX_IMAGES = 1000
# Smoothed maps that the profile is learnt from, at most: the first ones of so many bytes.
_SAMPLE_BYTES = 256 * 2**20
# Without a choice: the side of a patch over σ.
_PATCH_OVER_SIGMA = 16


@dataclass
class Calibration:
    """What is learnt after the training, as a stored detector keeps it.

    Parameters
    ----------
    smoothing : float
        σ in pixels, where the parameter leaves it open.
    constants : dict
        Constants of the map by their names, where parameters leave them open.
    table : list of dict
        What the choice of these rests on; see `choose_map`. Empty without a choice.
    profile : BorderProfile or None
        What relative maps are relative to.
    threshold : float
        Not a number if none was learnt.
    rests_on : str
        What the threshold was learnt from, in words.
    settings : dict
        Of the map that the threshold was learnt for.
    """

    smoothing: float
    constants: dict[str, float] = field(default_factory=dict)
    table: list[dict[str, Any]] = field(default_factory=list)
    profile: BorderProfile | None = None
    threshold: float = math.nan
    rests_on: str = "nothing"
    settings: dict[str, Any] = field(default_factory=dict)

    def choice_in_words(self) -> str:
        """One line that says which map was chosen, and by what."""
        taken = {"smoothing": self.smoothing, **self.constants}
        settings = ", ".join(f"{name} {value:.3g}" for name, value in taken.items())
        if not self.table:
            return (
                f"map: {settings}, the default, since nothing can be drawn into kept images of "
                f"less than {MIN_SIDE} pixels to choose it by"
            )
        n_kinds = len(self.table[0].keys() - {"mean", *taken})
        return f"map: {settings}, with which {n_kinds} kinds of drawn defects are found best"

    def to_dict(self) -> dict[str, Any]:
        """Numbers, strings and arrays alone: no name of a private class is stored."""
        profile = self.profile
        values = None if profile is None else [profile.values, profile.logarithmic]
        return {**asdict(replace(self, profile=None)), "profile": values}

    @classmethod
    def from_dict(cls, stored: dict[str, Any]) -> Self:
        """Undo `to_dict`."""
        values = stored["profile"]
        profile = None if values is None else BorderProfile(values[0], logarithmic=values[1])
        return cls(**{**stored, "profile": profile})


class KeptImages:
    """Good images, or regions of them, one at a time.

    Parameters
    ----------
    images : ImageCollection
    parts : list of Part
    prepare : Preparation
    """

    def __init__(self, images: ImageCollection, parts: list[Part], prepare: Preparation) -> None:
        self.images = images
        self.parts = parts
        self.prepare = prepare

    def __len__(self) -> int:
        return len(self.parts)

    def __iter__(self) -> Iterator[tuple[tuple[int, int], Tensor]]:
        """Size (h, w) of the finished map, and planes (c, h', w') at the network's scale."""
        for part in self.parts:
            image = self.images[part.image]
            planes = part.of(self.prepare(image, self.images.name(part.image)))
            height, width = planes.shape[1:] if part.is_region else image.shape[:2]
            yield (height, width), planes

    def n_pixels(self) -> float | None:
        """Mean pixels of the whole images at the network's scale; None if they are whole."""
        if not any(part.is_region for part in self.parts):
            return None
        sizes = [
            self.prepare(self.images[part.image], self.images.name(part.image))[0].numel()
            for part in self.parts
        ]
        return float(np.mean(sizes))


def uncalibrated(detector: BaseDetector) -> Calibration:
    """Defaults in place of what is learnt."""
    return Calibration(detector.network_.config["patch_size"] / _PATCH_OVER_SIGMA)


def calibrate(
    detector: BaseDetector,
    kept: KeptImages,
    *,
    rate: float = FALSE_ALARM_RATE,
    rng: np.random.Generator | None = None,
) -> None:
    """Learn from kept images, in this order: the map, its profile, the threshold.

    Parameters
    ----------
    detector : BaseDetector
        With a trained network. Its calibration is replaced.
    kept : KeptImages
        At least one.
    rate : float
        Of false alarms.
    rng : numpy Generator, default=None
        Draws the defects by which the map is chosen. None to leave the map as it is.
    """
    learnt = uncalibrated(detector) if rng is not None else replace(detector._calibration)
    detector._calibration = learnt
    if rng is not None:
        choice = choose_map(detector, (planes for _, planes in kept), rng)
        if choice is not None:
            learnt.smoothing, learnt.constants, learnt.table = choice
    maps = _smooth_maps(detector, kept)
    sample = list(_first_bytes(maps, _SAMPLE_BYTES))
    learnt.profile = BorderProfile.fit(
        (smooth for _, smooth in sample),
        reach=detector.network_.config["patch_size"] // 2,
        logarithmic=detector._residual_is_logarithm,
    )
    maker = detector._map_maker()
    maxima = [
        GoodMaxima.of(maker.finish_smooth(smooth[None], size)[0].cpu().numpy())
        for size, smooth in chain(sample, maps)
    ]
    threshold = false_alarm_threshold(maxima, rate=rate, n_pixels=kept.n_pixels())
    learnt.threshold, learnt.rests_on = threshold.value, str(threshold)
    learnt.settings = detector._map_settings()


def recalibrated(detector: BaseDetector, images: ImageCollection, rate: float) -> Calibration:
    """What `calibrate` learns for the map in force; the detector's own is left alone on errors."""
    before = detector._calibration
    parts = [Part(index) for index in range(len(images))]
    try:
        calibrate(detector, KeptImages(images, parts, detector._preparation()), rate=rate)
        return detector._calibration
    except BaseException:
        detector._calibration = before
        raise


def _smooth_maps(
    detector: BaseDetector, kept: KeptImages
) -> Iterator[tuple[tuple[int, int], Tensor]]:
    maker = detector._map_maker(relative=False)
    for size, planes, values in maker.reconstruct(iter(kept)):
        residual = maker.compare(planes[None], values[None])[0]
        yield size, gaussian_smoothing(residual, maker.smoothing)


def _first_bytes(
    maps: Iterable[tuple[tuple[int, int], Tensor]], n_bytes: int
) -> Iterator[tuple[tuple[int, int], Tensor]]:
    """The first maps that together reach so many bytes; at least one, if there is one."""
    for size, smooth in maps:
        yield size, smooth
        n_bytes -= smooth.nbytes
        if n_bytes <= 0:
            return
