"""What is learnt from good images kept from training: the map, its profile, the threshold."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from itertools import chain, repeat
from typing import Any, NamedTuple, Protocol, Self

import numpy as np
from torch import Tensor

from sklearn_ssimae._deciding.choice import Candidates, choose_map
from sklearn_ssimae._deciding.false_alarms import (
    FALSE_ALARM_RATE,
    GoodLevels,
    GoodMaxima,
)
from sklearn_ssimae._deciding.good import choose_axes, learn_good_material
from sklearn_ssimae._deciding.looks import GoodLooks
from sklearn_ssimae._deciding.material import Material
from sklearn_ssimae._maps.counting import resized_counts, unknown
from sklearn_ssimae._maps.filters import resize
from sklearn_ssimae._maps.good import GoodMaterial
from sklearn_ssimae._maps.harmless import Harmless
from sklearn_ssimae._maps.making import MapMaker
from sklearn_ssimae._maps.settings import MapSettings
from sklearn_ssimae.datasets._drawing import MIN_SIDE

# Pixels of the whole images that profiles are learnt from, about, and the least number of images.
_PIXELS = 2**24
_LEAST_IMAGES = 5


@dataclass(frozen=True)
class Calibration:
    """What is learnt after the training, as a stored detector keeps it.

    Parameters
    ----------
    settings : MapSettings
        Those that were chosen where parameters leave them open, and what relative maps are relative
        to.
    table : list of dict
        What the choice of these rests on; see `choose_map`. Empty without a choice.
    threshold : float
        Not a number if none was learnt.
    rests_on : str
        What the threshold was learnt from, in words.
    learnt_for : dict
        What the values of the map depended on that the threshold was learnt for.
    levels : GoodLevels, default=None
        Largest residuals of good images, which p-values rest on. None if none were kept.
    rate : float
        Of false alarms, which the threshold was learnt for.
    material : Material, default=None
        What good squares show; None without a choice of the map.
    looks : GoodLooks, default=None
        Those of the training images, which drift is told by. None if a fit did not end.
    """

    settings: MapSettings
    table: list[dict[str, Any]] = field(default_factory=list)
    threshold: float = math.nan
    rests_on: str = "nothing"
    learnt_for: dict[str, Any] = field(default_factory=dict)
    levels: GoodLevels | None = None
    rate: float = FALSE_ALARM_RATE
    material: Material | None = None
    looks: GoodLooks | None = None

    def choice_in_words(self) -> str:
        """One line that says which map was chosen, and by what."""
        taken = {"smoothing": self.settings.smoothing, **self.settings.constants}
        settings = ", ".join(f"{name} {value:.3g}" for name, value in taken.items())
        if not self.table:
            return (
                f"map: {settings}, the default, since nothing can be drawn into kept images of "
                f"less than {MIN_SIDE} pixels to choose it by"
            )
        chosen = [name for name in taken if len({row[name] for row in self.table}) > 1]
        n_kinds = len(self.table[0].keys() - {"mean", "found", *taken})
        settings = ", ".join(f"{name} {taken[name]:.3g}" for name in chosen or taken)
        return f"map: {settings}, with which {n_kinds} kinds of drawn defects are found best"

    def to_dict(self) -> dict[str, Any]:
        """Numbers, strings and arrays alone: no name of a private class is stored."""
        good = self.settings.good
        stored = asdict(replace(self, settings=replace(self.settings, good=None, harmless=())))
        stored["material"] = None if self.material is None else self.material._asdict()
        stored["settings"]["good"] = None if good is None else good.to_dict()
        stored["settings"]["harmless"] = [kind.to_dict() for kind in self.settings.harmless]
        return stored

    @classmethod
    def from_dict(cls, stored: dict[str, Any]) -> Self:
        """Undo `to_dict`."""
        settings = dict(stored["settings"])
        if settings["good"] is not None:
            settings["good"] = GoodMaterial.from_dict(settings["good"])
        settings["harmless"] = tuple(map(Harmless.from_dict, settings["harmless"]))
        levels = None if stored["levels"] is None else GoodLevels(**stored["levels"])
        material = None if stored["material"] is None else Material(**stored["material"])
        looks = None if stored["looks"] is None else GoodLooks(**stored["looks"])
        learnt = {"levels": levels, "material": material, "looks": looks}
        return cls(**{**stored, **learnt, "settings": MapSettings(**settings)})


class Kept(NamedTuple):
    """How a kept image is to be judged."""

    #: (h, w) of its finished map.
    size: tuple[int, int]
    #: Rows and columns, at the network's scale, that were kept from training; None for all. They
    #: are judged at that scale.
    box: tuple[slice, slice] | None = None
    #: Area of a pixel of what is judged, in those of the image.
    share: float = 1.0


class KeptMap(NamedTuple):
    """The smooth residual map (h, w) of a kept image, not a number where pixels do not count."""

    kept: Kept
    smooth: Tensor


class KeptImages(Protocol):
    """Good images of which all or a part was not trained on, one at a time."""

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[tuple[Kept, Tensor]]:
        """Planes at the network's scale, as of `with_counts`, of the whole image."""

    def n_pixels(self) -> float | None:
        """Mean pixels of the whole images at the network's scale; None if all of them is kept."""


def calibrate(
    maker: MapMaker,
    kept: KeptImages,
    before: Calibration,
    *,
    is_relative: bool,
    rate: float = FALSE_ALARM_RATE,
    candidates: Candidates | None = None,
    rng: np.random.Generator | None = None,
) -> Calibration:
    """Learn from kept images, in this order: the map, its profiles, the threshold.

    Parameters
    ----------
    maker : MapMaker
        Of a trained network, for plain residuals, with the settings that are in force.
    kept : KeptImages
        At least one.
    before : Calibration
        What holds where nothing is chosen.
    is_relative : bool
        Whether maps are relative to the residual of good images.
    rate : float
        Of false alarms.
    candidates : Candidates, default=None
        The maps to choose from. None to leave the map as it is.
    rng : numpy Generator, default=None
        Draws the defects by which the map is chosen.
    """
    learnt = before
    if candidates is not None and rng is not None:
        parts = (planes if kept.box is None else planes[:, *kept.box] for kept, planes in kept)
        choice = choose_map(maker, candidates, parts, rng, is_relative=is_relative)
        if choice is not None:
            chosen: dict[str, Any] = {
                "smoothing": choice.smoothing,
                "constants": choice.constants,
            }
            maker = maker.with_settings(**chosen)
            settings = replace(learnt.settings, **chosen)
            learnt = replace(
                learnt, settings=settings, table=choice.table, material=choice.material
            )
    maps = _smooth_maps(maker, kept)
    sample = _first(maps)
    smooth = [kept_map.smooth for kept_map in sample]
    # The shape of the profiles is the same in what was trained on, which covers all places.
    patch_size, logarithmic = maker.patch_size, maker.comparison.gives_logarithms
    axes, goods_of_others = choose_axes(smooth, patch_size=patch_size, logarithmic=logarithmic)
    good = learn_good_material(smooth, axes, patch_size=patch_size, logarithmic=logarithmic)
    # What a profile of a place was learnt from lies closer to it than a further image.
    judges = goods_of_others or [good] * len(sample)
    judged = chain(zip(judges, sample, strict=True), zip(repeat(good), maps, strict=False))
    maxima = [
        largest
        for judge, kept_map in judged
        if (largest := _good_maxima(maker, judge if is_relative else None, kept_map)) is not None
    ]
    if not maxima:
        raise ValueError(
            "No pixel counts of the images that were kept from training: all are outside the "
            "region, transparent or marked as defects. Give more images, or larger ones."
        )
    levels = GoodLevels.of(maxima, kept.n_pixels())
    threshold = levels.threshold(rate)
    return replace(
        learnt,
        settings=replace(learnt.settings, good=good),
        threshold=threshold.value,
        rests_on=str(threshold),
        levels=levels,
        rate=rate,
    )


def _smooth_maps(maker: MapMaker, kept: KeptImages) -> Iterator[KeptMap]:
    for (image, counts), planes, values in maker.reconstruct(maker.split(iter(kept))):
        residual = maker.compare(planes[None], values[None])
        yield KeptMap(image, unknown(maker.smooth(residual, counts), counts)[0])


def _first(maps: Iterator[KeptMap]) -> list[KeptMap]:
    """The first maps that together reach `_PIXELS`, and of some at least."""
    first: list[KeptMap] = []
    n_pixels = 0
    for kept_map in maps:
        first.append(kept_map)
        n_pixels += kept_map.smooth.numel()
        if n_pixels >= _PIXELS and len(first) >= _LEAST_IMAGES:
            break
    return first


def _good_maxima(
    maker: MapMaker, good: GoodMaterial | None, kept_map: KeptMap
) -> GoodMaxima | None:
    """Those of what was kept of an image; None if nothing of it counts."""
    kept, smooth = kept_map
    counts = ~smooth.isnan()
    if not (counts if kept.box is None else counts[kept.box]).any():
        return None
    finisher = maker.with_settings(good=good)
    finished = finisher.finish_smooth(smooth[None], None if counts.all() else counts)
    if kept.box is None:
        finished, counts = resize(finished, kept.size), resized_counts(counts[None], kept.size)
    else:
        finished, counts = finished[:, *kept.box], counts[None, *kept.box]
    found = finisher.without_some_regions(finished[0].cpu().numpy(), share=kept.share)
    return GoodMaxima.of(np.where(counts[0].cpu().numpy(), found, np.nan))
