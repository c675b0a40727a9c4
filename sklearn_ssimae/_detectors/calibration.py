"""What is learnt from good images kept from training: the map, its profile, the threshold."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import chain
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import numpy as np
from torch import Tensor

from sklearn_ssimae._detectors.choice import choose_map
from sklearn_ssimae._detectors.false_alarms import (
    FALSE_ALARM_RATE,
    GoodMaxima,
    false_alarm_threshold,
)
from sklearn_ssimae._detectors.good import learn_good_material
from sklearn_ssimae._images.collection import ImageCollection
from sklearn_ssimae._images.values import Preparation
from sklearn_ssimae._maps.border import Sides
from sklearn_ssimae._maps.filters import gaussian_smoothing, grey_opening, resize
from sklearn_ssimae._maps.good import GoodMaterial
from sklearn_ssimae._training.division import Part
from sklearn_ssimae.datasets._drawing import MIN_SIDE

if TYPE_CHECKING:
    from sklearn_ssimae._detectors.base import BaseDetector

# Images that a threshold is learnt from, at most; a random choice if there are more.
MAX_IMAGES = 1000
# Smoothed maps that the profiles are learnt from, at most: the first ones of so many bytes.
_SAMPLE_BYTES = 512 * 2**20
# Parts of the kept images that a profile by look is learnt from and applied to by turns.
_FOLDS = 5
# Columns of the table that are no kinds of defects, nor settings.
_NO_KINDS = ("by_look", "by_halves", "second_look", "mean")
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
    by_look : bool
        Whether relative maps are relative to the look of the reconstruction as well.
    second_look : bool
        Whether what exceeds the threshold is looked at a second time in relative maps.
    good : GoodMaterial or None
        What relative maps are relative to.
    level : float or None
        The threshold of the second look, where there is one.
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
    by_look: bool = False
    second_look: bool = False
    good: GoodMaterial | None = None
    level: float | None = None
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
        n_kinds = len(self.table[0].keys() - {*_NO_KINDS, *taken})
        look = ", by the look" if self.by_look else ""
        look += ", with a second look" if self.second_look else ""
        return f"map: {settings}{look}, with which {n_kinds} kinds of drawn defects are found best"

    def to_dict(self) -> dict[str, Any]:
        """Numbers, strings and arrays alone: no name of a private class is stored."""
        good = None if self.good is None else self.good.to_dict()
        return {**asdict(replace(self, good=None)), "good": good}

    @classmethod
    def from_dict(cls, stored: dict[str, Any]) -> Self:
        """Undo `to_dict`."""
        good = stored["good"]
        return cls(**{**stored, "good": None if good is None else GoodMaterial.from_dict(good)})


class Extent(NamedTuple):
    """The size (h, w) of a finished map, and where it ends as its image does."""

    size: tuple[int, int]
    sides: Sides


class KeptMap(NamedTuple):
    """The smooth residual map of a kept image, and the extent of the finished one."""

    extent: Extent
    smooth: Tensor
    #: (k, h, w), what the map was compared from; (0, h, w) where no look is to be learnt.
    values: Tensor


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

    def __iter__(self) -> Iterator[tuple[Extent, Tensor]]:
        """Extents of finished maps, and planes (c, h', w') at the network's scale."""
        for part in self.parts:
            yield self._load(part)

    def _load(self, part: Part) -> tuple[Extent, Tensor]:
        image = self.images[part.image]
        whole = self.prepare(image, self.images.name(part.image))
        planes = part.of(whole)
        height, width = planes.shape[1:] if part.is_region else image.shape[:2]
        return Extent((height, width), part.sides(whole)), planes

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
            learnt.smoothing, learnt.constants = choice.smoothing, choice.constants
            # One image cannot tell what another one shows at the same look.
            learnt.by_look = choice.by_look and len(kept) > 1
            learnt.second_look = choice.second_look
            learnt.table = choice.table
    maps = _smooth_maps(detector, kept)
    sample = list(_first_bytes(maps, _SAMPLE_BYTES))
    learnt.good = _good_material(detector, sample)
    diameter = detector.opening_diameter
    maxima = [
        GoodMaxima.of(resize(grey_opening(relative, diameter), size)[0].cpu().numpy())
        for size, relative in chain(
            _judged_by_others(detector, sample), _judged(detector, learnt.good, maps)
        )
    ]
    threshold = false_alarm_threshold(maxima, rate=rate, n_pixels=kept.n_pixels())
    learnt.threshold, learnt.rests_on = threshold.value, str(threshold)
    # The learnt threshold, whatever is set: so that the second look alters no map of an image that
    # is called good, and a share of images that are to lie above a threshold can be met.
    has_second_look = learnt.second_look and detector.residual == "relative"
    learnt.level = threshold.value if has_second_look else None
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


def _good_material(
    detector: BaseDetector, maps: Sequence[KeptMap], *, by_side: bool | None = None
) -> GoodMaterial:
    return learn_good_material(
        [(kept.smooth, kept.values) for kept in maps],
        patch_size=detector.network_.config["patch_size"],
        logarithmic=detector._residual_is_logarithm,
        by_look=detector._calibration.by_look,
        sides=[kept.extent.sides for kept in maps],
        by_side=by_side,
    )


def _judged(
    detector: BaseDetector, good: GoodMaterial, maps: Iterable[KeptMap]
) -> Iterator[tuple[tuple[int, int], Tensor]]:
    """Sizes, and maps (1, h, w) as they are before their opening."""
    is_plain = detector.residual == "plain"
    for extent, smooth, values in maps:
        yield extent.size, smooth[None] if is_plain else good.relative(smooth[None], values[None])


def _judged_by_others(
    detector: BaseDetector, maps: list[KeptMap]
) -> Iterator[tuple[tuple[int, int], Tensor]]:
    """As `_judged`, by what other images show.

    A look has many degrees of freedom: what it was learnt from lies closer to it than a further
    image. A border's profile has few, even by sides, and is learnt from all.
    """
    learnt = detector._calibration
    assert learnt.good is not None
    if not learnt.by_look or len(maps) == 1:
        yield from _judged(detector, learnt.good, maps)
        return
    for fold in np.array_split(np.arange(len(maps)), min(_FOLDS, len(maps))):
        others = [kept for index, kept in enumerate(maps) if index not in fold]
        good = _good_material(detector, others, by_side=learnt.good.border.by_side)
        yield from _judged(detector, good, [maps[index] for index in fold])


def _smooth_maps(detector: BaseDetector, kept: KeptImages) -> Iterator[KeptMap]:
    maker = detector._map_maker(relative=False)
    for extent, planes, values in maker.reconstruct(iter(kept)):
        residual = maker.compare(planes[None], values[None])[0]
        if not detector._calibration.by_look:
            values = values.new_empty((0, *values.shape[1:]))
        yield KeptMap(extent, gaussian_smoothing(residual, maker.smoothing), values)


def _first_bytes(maps: Iterable[KeptMap], n_bytes: int) -> Iterator[KeptMap]:
    """The first maps that together reach so many bytes; at least one, if there is one."""
    for kept in maps:
        yield kept
        n_bytes -= kept.smooth.nbytes + kept.values.nbytes
        if n_bytes <= 0:
            return
