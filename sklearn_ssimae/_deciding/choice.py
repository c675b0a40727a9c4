"""The map that finds drawn defects best, chosen on good images."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from itertools import groupby
from typing import Any, NamedTuple

import numpy as np
import torch
from scipy.special import expit
from torch import Tensor
from torch.nn import functional as F

from sklearn_ssimae._deciding.false_alarms import GoodMaxima, false_alarm_threshold
from sklearn_ssimae._deciding.good import learn_good_material
from sklearn_ssimae._deciding.material import Material
from sklearn_ssimae._deciding.probes import make_probes
from sklearn_ssimae._maps.counting import split_counts
from sklearn_ssimae._maps.filters import gaussian_smoothing
from sklearn_ssimae._maps.making import MapMaker
from sklearn_ssimae._maps.place import NO_AXES
from sklearn_ssimae._maps.settings import MapSettings
from sklearn_ssimae.datasets._drawing import MIN_SIDE, Painter, draw_defect

# σ of the candidates, for patches of 128 pixels; others in proportion.
_SIGMAS = (2, 4, 8, 14)
_PATCH_SIZE = 128
# Kept images are cut into squares of two patches at most, of which so many are drawn on, smaller
# ones up to twice as many. Few are drawn on again and again.
_TILES = 16
# Logarithm by which a defect exceeds the threshold, or falls short of it, and still counts as
# three quarters of one found, or a quarter.
_SOFTNESS = 0.3
# Material of which the network redraws less than this share is grain that nobody can predict.
_PREDICTED = 0.7
# σ in pixels from which maps are judged at half their size: nothing finer is left in them.
_HALVED_FROM = 2.0
# Squares that are smoothed or compared at once: one by one, small ones would take most of a fit.
_BATCH = 16

#: A mask and a residual map, both of shape (h, w).
Pair = tuple[np.ndarray, np.ndarray]


class Drawn(NamedTuple):
    """A square of good material with a drawn defect, or without (`kind` is then "good")."""

    kind: str
    mask: np.ndarray


#: Such a square, and its residual map (h, w).
Residual = tuple[Drawn, Tensor]


class Choice(NamedTuple):
    """A map, and why it was chosen.

    Parameters
    ----------
    smoothing : float
    constants : dict of float
    table : list of dict
        A row for each setting: "smoothing", the constants, the average precision of each kind of
        defect, "mean", that of all kinds, and "found", the share of all defects above the
        threshold.
    material : Material or None
        What good squares show; None of maps without reconstructions.
    """

    smoothing: float
    constants: dict[str, float]
    table: list[dict[str, Any]]
    material: Material | None


class Candidates(NamedTuple):
    """Maps to choose from, at least one; those of the same constants side by side.

    Parameters
    ----------
    usual : list of MapSettings
    fine, coarse : list of MapSettings
        Further ones, for grain that cannot be predicted: they see finer detail, or hide it.
    """

    usual: list[MapSettings]
    fine: list[MapSettings]
    coarse: list[MapSettings]


def smoothings(patch_size: int) -> list[float]:
    """σ in pixels of the maps to choose from, for detectors of patches of that size."""
    return [sigma * patch_size / _PATCH_SIZE for sigma in _SIGMAS]


def choose_map(
    maker: MapMaker,
    candidates: Candidates,
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
    candidates : Candidates
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
    that it spoils around it. A coarse map spoils more around a defect, so that the precision of
    pixels cannot judge it: it is taken where more defects lie above the threshold.
    """
    random = np.random.RandomState(int(rng.integers(2**31 - 1)))
    tiles = cut_tiles(planes, maker.patch_size, maker.n_channels, random)
    if not tiles:
        return None
    probes = make_probes(maker.patch_size)
    cases = list(maker.reconstruct(draw_into(tiles, maker.patch_size, random, probes)))
    material, finest, coarse = None, candidates.usual, []
    if maker.comparison.averages_reconstructions:
        material = Material.of([case[1:] for case in cases if case[0].kind == "good"])
    if material is not None and material.predicted < _PREDICTED:
        finest, coarse = [*candidates.usual, *candidates.fine], candidates.coarse
    settings = [*finest, *coarse]
    table = _table(maker, cases, settings, is_relative=is_relative)
    best = settings[_best(table, probes, len(finest))]
    return Choice(best.smoothing, best.constants, table, material)


def _table(
    maker: MapMaker,
    cases: list[tuple[Drawn, Tensor, Tensor]],
    candidates: list[MapSettings],
    *,
    is_relative: bool,
) -> list[dict[str, Any]]:
    """A row for each candidate."""
    step = 2 if min(settings.smoothing for settings in candidates) >= _HALVED_FROM else 1
    table = []
    for constants, alike in groupby(candidates, key=lambda settings: settings.constants):
        residuals = _residuals(maker.with_settings(constants=constants), cases, step)
        table += [
            _row(maker, residuals, settings, step, is_relative=is_relative) for settings in alike
        ]
    return table


def _best(table: list[dict[str, Any]], kinds: Collection[str], n_finest: int) -> int:
    """Index of the row to take; rows are given their mean over the kinds that were drawn.

    Of the first `n_finest` the best mean, unless one of the others finds more defects.
    """
    for row in table:
        row["mean"] = float(np.mean([row[kind] for kind in kinds if kind in row]))
    finest = int(np.argmax([row["mean"] for row in table[:n_finest]]))
    most = int(np.argmax([row["found"] for row in table]))
    return most if most >= n_finest else finest


def _residuals(
    maker: MapMaker, cases: list[tuple[Drawn, Tensor, Tensor]], step: int
) -> list[Residual]:
    """Residual maps and masks at one `step`-th of their size."""
    drawn, images, values = zip(*cases, strict=True)
    maps = [
        F.avg_pool2d(residual[None], step)[0]
        for residual in _together(maker.compare, images, values)
    ]
    return [
        (Drawn(case.kind, _thinned(case.mask, step)), residual)
        for case, residual in zip(drawn, maps, strict=True)
    ]


def _thinned(mask: np.ndarray, step: int) -> np.ndarray:
    """Every `step`-th pixel of a mask (h, w), as many as `avg_pool2d` gives."""
    height, width = (side // step * step for side in mask.shape)
    return mask[:height:step, :width:step]


def _row(
    maker: MapMaker,
    residuals: list[Residual],
    settings: MapSettings,
    step: int,
    *,
    is_relative: bool,
) -> dict[str, Any]:
    """The row of the table for a setting."""
    logarithmic = maker.comparison.gives_logarithms
    maps = _replaced(residuals, lambda maps: gaussian_smoothing(maps, settings.smoothing / step))
    if is_relative:
        # Squares are cut from anywhere, so that place says nothing.
        good = learn_good_material(
            [residual for drawn, residual in maps if drawn.kind == "good"],
            NO_AXES,
            patch_size=maker.patch_size // step,
            logarithmic=logarithmic,
        )
        maps = _replaced(maps, good.relative)
    by_kind = _by_kind(maps)
    return {
        "smoothing": settings.smoothing,
        **settings.constants,
        **{kind: precision_of(pairs) for kind, pairs in by_kind.items()},
        "found": _share_above(by_kind.values(), _threshold_of(maps)),
    }


def _share_above(kinds: Iterable[list[Pair]], threshold: float) -> float:
    """The share of drawn defects with a pixel above a threshold; kinds count alike."""
    shares = [
        np.mean([values[mask].max(initial=-np.inf) > threshold for mask, values in pairs])
        for pairs in kinds
    ]
    return float(np.mean(shares))


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
    for tile in tiles:
        yield Drawn("good", np.zeros(tile.shape[1:], dtype=bool)), tile
    for kind in probes:
        for index in range(n_drawn(tiles, patch_size)):
            place = index % len(tiles)
            canvas = tiles[place].permute(1, 2, 0).double().numpy()
            try:
                altered, mask = draw_defect(canvas, [kind], random, index, probes)
            except ValueError:  # flat material shows no dent and no patch
                continue
            yield Drawn(kind, mask), torch.from_numpy(altered).permute(2, 0, 1).float()


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


def _replaced(items: list[Residual], function: Callable[[Tensor], Tensor]) -> list[Residual]:
    """The same with other maps: a function of maps (n, h, w)."""
    maps = _together(function, [residual for _, residual in items])
    return [(drawn, residual) for (drawn, _), residual in zip(items, maps, strict=True)]


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
