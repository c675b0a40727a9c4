"""The map that finds drawn defects best: σ, constants, profile, looks; chosen on good images."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from typing import Any, NamedTuple

import numpy as np
import torch
from scipy.special import expit
from torch import Tensor

from sklearn_ssimae._deciding.false_alarms import GoodMaxima, false_alarm_threshold
from sklearn_ssimae._deciding.good import learn_good_material
from sklearn_ssimae._deciding.probes import make_probes
from sklearn_ssimae._maps.counting import split_counts
from sklearn_ssimae._maps.filters import gaussian_smoothing
from sklearn_ssimae._maps.making import MapMaker, repair
from sklearn_ssimae._maps.settings import MapSettings
from sklearn_ssimae.datasets._drawing import MIN_SIDE, Painter, draw_defect

# σ of the candidates, for patches of 128 pixels; others in proportion.
_SIGMAS = (2, 4, 6, 8, 11, 14)
_PATCH_SIZE = 128
# Kept images are cut into squares of two patches at most, of which so many are drawn on, smaller
# ones up to twice as many. Few are drawn on again and again.
_TILES = 16
# Good squares, at least, that tell whether the look pays: a profile by look is learnt from half of
# them, and a threshold from the other half.
_LEAST_TILES = 8
# Quality that the look must add to be taken: it costs much where drawn defects err, and they did
# where it added up to 0.025.
_LOOK_ADDS = 0.04
# Mean average precision that the second look must add.
_SECOND_LOOK_ADDS = 0.0075
# Logarithm by which a defect exceeds the threshold, or falls short of it, and still counts as
# three quarters of one found, or a quarter.
_SOFTNESS = 0.3
# Squares that are smoothed or compared at once: one by one, small ones would take most of a fit.
_BATCH = 16

#: A mask and a residual map, both of shape (h, w).
Pair = tuple[np.ndarray, np.ndarray]


class Drawn(NamedTuple):
    """A square of good material with a drawn defect, or without (`kind` is then "good")."""

    kind: str
    mask: np.ndarray
    #: Which half of the squares it belongs to.
    half: int = 0


class Residual(NamedTuple):
    """The residual map of such a square, and the values that it was compared from."""

    drawn: Drawn
    residual: Tensor
    values: Tensor


#: Such a square, its image (c, h, w) and its averaged values (k, h, w).
Case = tuple[Drawn, Tensor, Tensor]


class Choice(NamedTuple):
    """A map, and why it was chosen.

    Parameters
    ----------
    smoothing : float
    constants : dict of float
    by_look : bool
        Whether maps are relative to the look of the reconstruction, besides the border.
    second_look : bool
        Whether what exceeds the threshold is looked at a second time.
    table : list of dict
        A row for each setting: "smoothing", the constants, the average precision of each kind of
        defect, and "mean", by which the choice is made. Two more rows, "by_halves", tell whether
        the look pays: "by_look" or not, with the best settings, the `quality_of_kinds`, one half
        of the squares judged by what the other shows. The last two rows tell whether the second
        look pays, with all that was chosen before.
    """

    smoothing: float
    constants: dict[str, float]
    by_look: bool
    second_look: bool
    table: list[dict[str, Any]]


def smoothings(patch_size: int) -> list[float]:
    """σ in pixels of the maps to choose from, for detectors of patches of that size."""
    return [sigma * patch_size / _PATCH_SIZE for sigma in _SIGMAS]


def choose_map(
    maker: MapMaker,
    candidates: Sequence[MapSettings],
    planes: Iterable[Tensor],
    rng: np.random.Generator,
    *,
    is_relative: bool,
) -> Choice | None:
    """The map with which defects drawn into good images are found best.

    Parameters
    ----------
    maker : MapMaker
        Of a trained network, for plain residuals.
    candidates : sequence of MapSettings
        The maps to choose from, at least one; those of the same constants side by side.
    planes : iterable of Tensor (c, h, w)
        Kept images at the network's scale, as of `with_counts`: squares that do not count as a
        whole are left out.
    rng : numpy Generator
    is_relative : bool
        Whether maps are to be relative to what good material shows.

    Returns
    -------
    choice : Choice or None
        None if nothing could be drawn: the images are smaller than 16 pixels.

    Notes
    -----
    Kinds count alike: all pixels of all kinds together would say what is best for the largest and
    plainest. A defect's pixels are held against all others of the same images, among them those
    that it spoils around it. The look does little for that: where it pays, it lowers what good
    material shows at its oddest, and with it the threshold. So it is judged by what is found as
    well. By that alone it would win where it levels good material and defects alike.
    """
    random = np.random.RandomState(int(rng.integers(2**31 - 1)))
    tiles = cut_tiles(planes, maker.patch_size, maker.n_channels, random)
    if not tiles:
        return None
    probes = make_probes(maker.patch_size)
    cases = list(maker.reconstruct(draw_into(tiles, maker.patch_size, random, probes)))
    trial = _Trial(maker, cases, list(probes), is_relative)
    table, best = trial.best_of(candidates)
    choice = Choice(best.smoothing, best.constants, False, False, table)
    can_look = is_relative and maker.comparison.averages_reconstructions
    if not can_look or len(tiles) < _LEAST_TILES:
        return choice
    return trial.choose_looks(choice)


@dataclass
class _Trial:
    """Squares with drawn defects, on which maps are tried.

    Parameters
    ----------
    maker : MapMaker
        For plain residuals.
    cases : list of Case
    kinds : list of str
    is_relative : bool
    """

    maker: MapMaker
    cases: list[Case]
    kinds: list[str]
    is_relative: bool

    def best_of(
        self, candidates: Sequence[MapSettings]
    ) -> tuple[list[dict[str, Any]], MapSettings]:
        """A row for each of the candidates, and the one with the best mean over the kinds."""
        table = []
        for constants, alike in groupby(candidates, key=lambda settings: settings.constants):
            residuals = self._residuals(constants)
            table += [self._row(residuals, settings) for settings in alike]
        means = [row["mean"] for row in _with_means(table, self.kinds)]
        return table, candidates[int(np.argmax(means))]

    def choose_looks(self, choice: Choice) -> Choice:
        """The choice with its looks: by the look of the reconstruction or not, one or two."""
        settings = self.maker.with_settings(
            smoothing=choice.smoothing, constants=choice.constants
        ).settings
        residuals = self._residuals(choice.constants)
        by_halves = [
            self._row(residuals, settings, by_look=by_look, by_halves=True)
            for by_look in (False, True)
        ]
        without, with_look = _with_means(by_halves, self.kinds)
        by_look = look_pays(without, with_look, self.kinds)
        again = self._looked_at_again(residuals, settings, by_look)
        looks = [
            self._row(items, settings, by_look=by_look, second_look=second_look)
            for second_look, items in ((False, residuals), (True, again))
        ]
        once, twice = _with_means(looks, self.kinds)
        second_look = twice["mean"] > once["mean"] + _SECOND_LOOK_ADDS
        table = [*choice.table, *by_halves, *looks]
        return Choice(choice.smoothing, choice.constants, by_look, second_look, table)

    def _residuals(self, constants: dict[str, float]) -> list[Residual]:
        drawn, images, values = zip(*self.cases, strict=True)
        compare = self.maker.with_settings(constants=constants).compare
        residuals = _together(compare, images, values)
        return [Residual(*item) for item in zip(drawn, residuals, values, strict=True)]

    def _looked_at_again(
        self, residuals: list[Residual], settings: MapSettings, by_look: bool
    ) -> list[Residual]:
        """The residuals, compared from what a second look gives."""
        smooth = _smoothed(residuals, settings.smoothing)
        found = self._relative(smooth, by_look=by_look, by_halves=False)
        level = _threshold_of([(item.drawn, item.residual) for item in found])
        drawn, images, values = zip(*self.cases, strict=True)
        maps = [item.residual for item in found]
        repaired = _together(partial(repair, level=level), images, values, maps)
        again = self.maker.reconstruct(zip(drawn, repaired, strict=True))
        pairs = zip(again, images, strict=True)
        cases = [(tag, image, values) for (tag, _, values), image in pairs]
        return _Trial(self.maker, cases, self.kinds, self.is_relative)._residuals(
            settings.constants
        )

    def _row(
        self,
        residuals: list[Residual],
        settings: MapSettings,
        *,
        by_look: bool = False,
        by_halves: bool = False,
        second_look: bool = False,
    ) -> dict[str, Any]:
        """The row of the table for a setting."""
        smooth = _smoothed(residuals, settings.smoothing)
        if self.is_relative:
            smooth = self._relative(smooth, by_look=by_look, by_halves=by_halves)
        maps = [(item.drawn, item.residual) for item in smooth]
        if by_halves:
            logarithmic = self.maker.comparison.gives_logarithms
            values = quality_of_kinds(maps, logarithmic=logarithmic)
        else:
            values = {kind: precision_of(pairs) for kind, pairs in _by_kind(maps).items()}
        looks = {"by_look": by_look, "by_halves": by_halves, "second_look": second_look}
        return {"smoothing": settings.smoothing, **settings.constants, **looks, **values}

    def _relative(
        self, smooth: list[Residual], *, by_look: bool, by_halves: bool
    ) -> list[Residual]:
        """Maps relative to what the good squares show; by halves: those of the other half.

        Sides are not told apart: squares are cut from anywhere.
        """
        results = []
        for halves in [{0}, {1}] if by_halves else [{0, 1}]:
            good = learn_good_material(
                [
                    (item.residual, item.values)
                    for item in smooth
                    if item.drawn.kind == "good" and not (by_halves and item.drawn.half in halves)
                ],
                patch_size=self.maker.patch_size,
                logarithmic=self.maker.comparison.gives_logarithms,
                by_look=by_look,
            )
            judged = [item for item in smooth if item.drawn.half in halves]
            results += _replaced(judged, good.relative)
        return results


def look_pays(without: dict[str, Any], by_look: dict[str, Any], kinds: Collection[str]) -> bool:
    """Whether the look adds enough: to the mean of the two rows, and to the kind found worst.

    The mean alone would mind that what is plain either way becomes a little less so.
    """

    def worth(row: dict[str, Any]) -> float:
        return float(row["mean"] + min(row[kind] for kind in kinds if kind in row)) / 2

    return worth(by_look) > worth(without) + _LOOK_ADDS


def _with_means(rows: list[dict[str, Any]], kinds: Collection[str]) -> list[dict[str, Any]]:
    """The rows, which are given their mean over the kinds that were drawn."""
    for row in rows:
        row["mean"] = float(np.mean([row[kind] for kind in kinds if kind in row]))
    return rows


def cut_tiles(
    planes: Iterable[Tensor], patch_size: int, n_channels: int, random: np.random.RandomState
) -> list[Tensor]:
    """Squares of the images, of the side of two patches or of the image's shorter one.

    All of a square counts.
    """
    tiles: list[Tensor] = []
    for image in planes:
        size = min(2 * patch_size, *image.shape[1:])
        if size < MIN_SIDE:
            continue
        rows, columns = (range(0, length - size + 1, size) for length in image.shape[1:])
        squares = [image[:, y : y + size, x : x + size] for y in rows for x in columns]
        for square, counts in (split_counts(square, n_channels) for square in squares):
            if counts is None or counts.all():
                tiles.append(square)
        if len(tiles) > 8 * _TILES:
            break
    if not tiles:
        return []
    chosen = random.permutation(len(tiles))[: n_drawn(tiles, patch_size)]
    return [tiles[index].clamp(0, 1) for index in chosen]


def n_drawn(tiles: list[Tensor], patch_size: int) -> int:
    """Drawn defects of each kind: the more, the smaller the squares, to twice as many."""
    pixels = float(np.mean([tile[0].numel() for tile in tiles]))
    by_area = math.ceil(_TILES * (2 * patch_size) ** 2 / max(pixels, patch_size**2))
    return min(by_area, 2 * _TILES)


def draw_into(
    tiles: list[Tensor], patch_size: int, random: np.random.RandomState, probes: dict[str, Painter]
) -> Iterator[tuple[Drawn, Tensor]]:
    """The squares, and n_drawn of each kind of defect, drawn into them by turns."""
    for index, tile in enumerate(tiles):
        yield Drawn("good", np.zeros(tile.shape[1:], dtype=bool), index % 2), tile
    for kind in probes:
        for index in range(n_drawn(tiles, patch_size)):
            place = index % len(tiles)
            canvas = tiles[place].permute(1, 2, 0).double().numpy()
            try:
                altered, mask = draw_defect(canvas, [kind], random, index, probes)
            except ValueError:  # flat material shows no dent and no patch
                continue
            yield Drawn(kind, mask, place % 2), torch.from_numpy(altered).permute(2, 0, 1).float()


def _together(function: Callable[..., Tensor], *tensors: Sequence[Tensor]) -> list[Tensor]:
    """What a function of batches says of each item, a `_BATCH` of one shape at a time."""
    by_shape: dict[torch.Size, list[int]] = {}
    for index, tensor in enumerate(tensors[0]):
        by_shape.setdefault(tensor.shape, []).append(index)
    results: dict[int, Tensor] = {}
    for indices in by_shape.values():
        for start in range(0, len(indices), _BATCH):
            batch = indices[start : start + _BATCH]
            stacked = [torch.stack([items[index] for index in batch]) for items in tensors]
            results.update(zip(batch, function(*stacked), strict=True))
    return [results[index] for index in range(len(results))]


def _by_kind(maps: Iterable[tuple[Drawn, Tensor]]) -> dict[str, list[Pair]]:
    """Masks and maps (h, w) of each kind of defect."""
    by_kind: dict[str, list[Pair]] = {}
    for drawn, values in maps:
        if drawn.kind != "good":
            by_kind.setdefault(drawn.kind, []).append((drawn.mask, values.cpu().numpy()))
    return by_kind


def found_of_kinds(maps: Sequence[tuple[Drawn, Tensor]], *, logarithmic: bool) -> dict[str, float]:
    """The `share_found` of each kind of defect in maps (h, w), which are of good squares too."""
    threshold = _threshold_of(maps)
    return {
        kind: share_found(pairs, threshold, logarithmic=logarithmic)
        for kind, pairs in _by_kind(maps).items()
    }


def _threshold_of(maps: Sequence[tuple[Drawn, Tensor]]) -> float:
    """That of a fit which keeps the good squares; their largest value hangs on a single one."""
    maxima = [GoodMaxima.of(values.cpu().numpy()) for drawn, values in maps if drawn.kind == "good"]
    return false_alarm_threshold(maxima).value


def quality_of_kinds(
    maps: Sequence[tuple[Drawn, Tensor]], *, logarithmic: bool
) -> dict[str, float]:
    """How well each kind is found, in [0, 1]: its pixels, and that there is a defect.

    The mean of `precision_of` and `share_found`.
    """
    found = found_of_kinds(maps, logarithmic=logarithmic)
    return {kind: (precision_of(pairs) + found[kind]) / 2 for kind, pairs in _by_kind(maps).items()}


def _smoothed(items: list[Residual], smoothing: float) -> list[Residual]:
    return _replaced(items, lambda maps, _: gaussian_smoothing(maps, smoothing))


def _replaced(
    items: list[Residual], function: Callable[[Tensor, Tensor], Tensor]
) -> list[Residual]:
    """The same with other maps: a function of maps (n, h, w) and values (n, k, h, w)."""
    maps = _together(function, [item.residual for item in items], [item.values for item in items])
    return [item._replace(residual=residual) for item, residual in zip(items, maps, strict=True)]


def share_found(pairs: list[Pair], threshold: float, *, logarithmic: bool) -> float:
    """The share of defects that are found, which a step would count by ones.

    Parameters
    ----------
    pairs : list of (mask, map), both of shape (h, w)
    threshold : float
        Of images.
    logarithmic : bool
        Whether maps are logarithms.

    Returns
    -------
    share : float
        In [0, 1]: the mean of the logistic function of the logarithm by which the largest value
        on a defect exceeds the threshold.
    """
    largest = np.array([values[mask].max() for mask, values in pairs], dtype=np.float64)
    if logarithmic:
        excess = largest - threshold
    else:
        excess = np.log(np.maximum(largest, 1e-12) / max(threshold, 1e-12))
    return float(expit(excess / _SOFTNESS).mean())


def precision_of(pairs: list[Pair]) -> float:
    """Average precision of the pixels of pairs of a mask and a map (h, w)."""
    # Every other pixel of every other row: neighbours are alike.
    truth = np.concatenate([mask[::2, ::2].ravel() for mask, _ in pairs])
    scores = np.concatenate([values[::2, ::2].ravel() for _, values in pairs])
    return average_precision(truth, scores)


def average_precision(truth: np.ndarray, scores: np.ndarray) -> float:
    """Mean over the positives of the share of positives among what scores as high; 0 for none."""
    # A stable sort takes ten times as long; what is equal is equal only where nothing is seen.
    found = truth[np.argsort(-scores)]
    precision = np.cumsum(found) / np.arange(1, len(found) + 1)
    return float(precision[found].mean()) if found.any() else 0.0
