"""What is learnt from good images kept from training: the map, its profile, the threshold."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import chain
from typing import Any, NamedTuple, Protocol, Self

import numpy as np
import torch
from torch import Tensor

from sklearn_ssimae._deciding.choice import choose_map
from sklearn_ssimae._deciding.false_alarms import (
    FALSE_ALARM_RATE,
    GoodMaxima,
    false_alarm_threshold,
)
from sklearn_ssimae._deciding.good import learn_good_material
from sklearn_ssimae._maps.border import Sides
from sklearn_ssimae._maps.counting import smooth_counting, unknown
from sklearn_ssimae._maps.filters import grey_opening, resize
from sklearn_ssimae._maps.good import GoodMaterial
from sklearn_ssimae._maps.making import MapMaker
from sklearn_ssimae._maps.settings import MapSettings
from sklearn_ssimae.datasets._drawing import MIN_SIDE

# Smoothed maps that the profiles are learnt from, at most: the first ones of so many bytes.
_SAMPLE_BYTES = 512 * 2**20
# Parts of the kept images that a profile by look is learnt from and applied to by turns.
_FOLDS = 5
# A resized pixel of which so large a share counts counts.
_WHOLLY = 1 - 1e-3
# Columns of the table that are no kinds of defects, nor settings.
_NO_KINDS = ("by_look", "by_halves", "second_look", "mean")


@dataclass(frozen=True)
class Calibration:
    """What is learnt after the training, as a stored detector keeps it.

    Parameters
    ----------
    settings : MapSettings
        Those that were chosen where parameters leave them open; what relative maps are relative
        to, and the threshold of the second look, where there is one.
    table : list of dict
        What the choice of these rests on; see `choose_map`. Empty without a choice.
    second_look : bool
        Whether what exceeds the threshold is looked at a second time in relative maps.
    threshold : float
        Not a number if none was learnt.
    rests_on : str
        What the threshold was learnt from, in words.
    learnt_for : dict
        What the values of the map depended on that the threshold was learnt for.
    """

    settings: MapSettings
    table: list[dict[str, Any]] = field(default_factory=list)
    second_look: bool = False
    threshold: float = math.nan
    rests_on: str = "nothing"
    learnt_for: dict[str, Any] = field(default_factory=dict)

    @property
    def by_look(self) -> bool:
        """Whether relative maps are relative to the look of the reconstruction as well."""
        return self.settings.good is not None and self.settings.good.look is not None

    def choice_in_words(self) -> str:
        """One line that says which map was chosen, and by what."""
        taken = {"smoothing": self.settings.smoothing, **self.settings.constants}
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
        good = self.settings.good
        stored = asdict(replace(self, settings=replace(self.settings, good=None)))
        stored["settings"]["good"] = None if good is None else good.to_dict()
        return stored

    @classmethod
    def from_dict(cls, stored: dict[str, Any]) -> Self:
        """Undo `to_dict`."""
        settings = dict(stored["settings"])
        if settings["good"] is not None:
            settings["good"] = GoodMaterial.from_dict(settings["good"])
        return cls(**{**stored, "settings": MapSettings(**settings)})


class Extent(NamedTuple):
    """The size (h, w) of a finished map, and where it ends as its image does."""

    size: tuple[int, int]
    sides: Sides
    #: Area of its pixels in those of the image: of a region at the network's scale 1 / scale².
    share: float = 1.0


class KeptMap(NamedTuple):
    """The smooth residual map of a kept image, and the extent of the finished one."""

    extent: Extent
    #: (h, w), not a number where pixels do not count.
    smooth: Tensor
    #: (k, h, w), what the map was compared from; (0, h, w) where no look is to be learnt.
    values: Tensor


class KeptImages(Protocol):
    """Good images that were not trained on, or regions of them, one at a time."""

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[tuple[Extent, Tensor]]:
        """Extents of finished maps, and planes at the network's scale, as of `with_counts`."""

    def n_pixels(self) -> float | None:
        """Mean pixels of the whole images at the network's scale; None if they are whole."""


def calibrate(
    maker: MapMaker,
    kept: KeptImages,
    before: Calibration,
    *,
    is_relative: bool,
    rate: float = FALSE_ALARM_RATE,
    candidates: Sequence[MapSettings] = (),
    rng: np.random.Generator | None = None,
) -> Calibration:
    """Learn from kept images, in this order: the map, its profile, the threshold.

    Parameters
    ----------
    maker : MapMaker
        Of a trained network, for plain residuals, with the settings that are in force.
    kept : KeptImages
        At least one.
    before : Calibration
        What holds where nothing is chosen.
    is_relative : bool
        Whether maps are relative to what good material shows.
    rate : float
        Of false alarms.
    candidates : sequence of MapSettings
        The maps to choose from.
    rng : numpy Generator, default=None
        Draws the defects by which the map is chosen. None to leave the map as it is.
    """
    learnt = before
    by_look = before.by_look
    if rng is not None:
        whole = (planes for _, planes in kept)
        choice = choose_map(maker, candidates, whole, rng, is_relative=is_relative)
        if choice is not None:
            chosen: dict[str, Any] = {
                "smoothing": choice.smoothing,
                "constants": choice.constants,
            }
            maker = maker.with_settings(**chosen)
            learnt = replace(
                learnt,
                settings=replace(learnt.settings, **chosen),
                second_look=choice.second_look,
                table=choice.table,
            )
            # One image cannot tell what another one shows at the same look.
            by_look = choice.by_look and len(kept) > 1
    judge = _Judge(maker, is_relative=is_relative, by_look=by_look)
    maps = judge.smooth_maps(kept)
    sample = list(_first_bytes(maps, _SAMPLE_BYTES))
    good = judge.good_material(sample)
    finisher = maker.with_settings(good=good if is_relative else None)
    maxima = [
        _good_maxima(finisher, relative, extent)
        for extent, relative in chain(judge.by_others(sample, good), judge.judged(maps, good))
        if not relative.isnan().all()
    ]
    threshold = false_alarm_threshold(maxima, rate=rate, n_pixels=kept.n_pixels())
    # The learnt threshold, whatever is set: so that the second look alters no map of an image that
    # is called good, and a share of images that are to lie above a threshold can be met.
    level = threshold.value if learnt.second_look and is_relative else None
    return replace(
        learnt,
        settings=replace(learnt.settings, good=good, level=level),
        threshold=threshold.value,
        rests_on=str(threshold),
    )


@dataclass
class _Judge:
    """Maps of kept images, as they are before their opening.

    Parameters
    ----------
    maker : MapMaker
        For plain residuals.
    is_relative : bool
    by_look : bool
        Whether maps are relative to the look of the reconstruction as well.
    """

    maker: MapMaker
    is_relative: bool
    by_look: bool

    def smooth_maps(self, kept: KeptImages) -> Iterator[KeptMap]:
        maker = self.maker
        for (extent, counts), planes, values in maker.reconstruct(maker.split(iter(kept))):
            residual = maker.compare(planes[None], values[None])
            if not self.by_look:
                values = values.new_empty((0, *values.shape[1:]))
            smooth = smooth_counting(residual, counts, maker.settings.smoothing)
            yield KeptMap(extent, unknown(smooth, counts)[0], values)

    def good_material(
        self, maps: Sequence[KeptMap], *, by_side: bool | None = None
    ) -> GoodMaterial:
        return learn_good_material(
            [(kept.smooth, kept.values) for kept in maps],
            patch_size=self.maker.patch_size,
            logarithmic=self.maker.comparison.gives_logarithms,
            by_look=self.by_look,
            sides=[kept.extent.sides for kept in maps],
            by_side=by_side,
        )

    def judged(
        self, maps: Iterable[KeptMap], good: GoodMaterial
    ) -> Iterator[tuple[Extent, Tensor]]:
        """Extents, and maps (1, h, w)."""
        for extent, smooth, values in maps:
            relative = (
                good.relative(smooth[None], values[None]) if self.is_relative else smooth[None]
            )
            yield extent, relative

    def by_others(self, maps: list[KeptMap], good: GoodMaterial) -> Iterator[tuple[Extent, Tensor]]:
        """As `judged`, by what other images show.

        A look has many degrees of freedom: what it was learnt from lies closer to it than a
        further image. A border's profile has few, even by sides, and is learnt from all.
        """
        if not self.by_look or len(maps) == 1:
            yield from self.judged(maps, good)
            return
        for fold in np.array_split(np.arange(len(maps)), min(_FOLDS, len(maps))):
            others = [kept for index, kept in enumerate(maps) if index not in fold]
            of_others = self.good_material(others, by_side=good.border.by_side)
            yield from self.judged([maps[index] for index in fold], of_others)


def _good_maxima(finisher: MapMaker, relative: Tensor, extent: Extent) -> GoodMaxima:
    """Those of a map (1, h, w) that is not yet opened, nor at its final size."""
    diameter, size = finisher.settings.opening_diameter, extent.size
    counts: Tensor | None = ~relative.isnan()
    assert counts is not None
    if counts.all():
        counts = None
    else:
        relative = torch.where(counts, relative, torch.where(counts, relative, torch.inf).min())
        counts = resize(counts.to(relative), size) > _WHOLLY
    opened = resize(grey_opening(relative, diameter), size)[0].cpu().numpy()
    found = finisher.without_small_regions(opened, share=extent.share)
    return GoodMaxima.of(
        unknown(torch.from_numpy(found), None if counts is None else counts[0].cpu()).numpy()
    )


def _first_bytes(maps: Iterable[KeptMap], n_bytes: int) -> Iterator[KeptMap]:
    """The first maps that together reach so many bytes; at least one, if there is one."""
    for kept in maps:
        yield kept
        n_bytes -= kept.smooth.nbytes + kept.values.nbytes
        if n_bytes <= 0:
            return
