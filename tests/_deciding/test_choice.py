"""The map that is chosen by drawn defects: what is drawn, how a map is judged, what is taken."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from shared import cheap, texture
from sklearn.metrics import average_precision_score

from sklearn_ssimae import SSIMAutoencoderDetector, VAEDetector
from sklearn_ssimae._deciding.choice import (
    Candidates,
    Drawn,
    _best,
    average_precision,
    choose_map,
    cut_tiles,
    draw_into,
    found_of_kinds,
    n_drawn,
    precision_of,
    quality_of_kinds,
    share_found,
    smoothings,
)
from sklearn_ssimae._deciding.false_alarms import GoodMaxima, false_alarm_threshold
from sklearn_ssimae._deciding.probes import make_probes
from sklearn_ssimae._maps.making import Comparison, MapMaker
from sklearn_ssimae._maps.settings import MapSettings

DRAWS_ALL_DEFECTS = True

PATCH = 32
KINDS = sorted(make_probes(PATCH))
FINE, COARSE = {"noise": 0.0}, {"noise": 0.3}


def planes(n, height, width, channels=1):
    """Good images (c, h, w) of one texture."""
    return [
        torch.from_numpy(image).float().permute(2, 0, 1)
        for image in texture(n, height, width, channels)
    ]


class HandMade(MapMaker):
    """The reconstruction of every tile is the tile without its defect, whatever the network.

    Its map has a constant of its own, the strength of a noise; a Gaussian takes fine noise out.
    """

    def __init__(self, clean, noise=0.0, drawn=1.0):
        settings = MapSettings(stride=PATCH, smoothing=1.0)
        comparison = Comparison(None, None, "reconstruction")
        super().__init__(comparison, settings, patch_size=PATCH, n_channels=1, device="cpu")
        self.clean = clean
        self.noise = noise
        self.drawn = drawn

    def reconstruct(self, cases):
        for drawn, image in cases:
            yield drawn, image, self.drawn * self.clean[None]

    def compare(self, images, values):
        noise = np.random.default_rng(0).random(images[:, 0].shape)
        strength = self.noise + self.settings.constants["noise"]
        return (images[:, 0] - self.clean).abs() + strength * torch.from_numpy(noise).float()


@pytest.fixture
def tile():
    return planes(1, 64, 64)[0]


def candidates(maker, constants=(FINE,), sigmas=None):
    return [
        replace(maker.settings, constants=constant, smoothing=sigma)
        for constant in constants
        for sigma in sigmas or smoothings(PATCH)
    ]


def chosen(maker, tile, seed=0, *, fine=(), coarse=(), **usual):
    maps = Candidates(
        candidates(maker, **usual), candidates(maker, fine), candidates(maker, coarse)
    )
    rng = np.random.default_rng(seed)
    return choose_map(maker, maps, [tile] * 3, rng, is_relative=False)


# What is taken ------------------------------------------------------------------------


def test_the_constants_that_find_drawn_defects_best(tile):
    choice = chosen(HandMade(tile[0]), tile, constants=[COARSE, FINE, {"noise": 0.1}])
    assert choice.constants == FINE
    assert len(choice.table) == 3 * 4
    assert {row["noise"] for row in choice.table} == {0.0, 0.1, 0.3}


def test_noise_asks_for_smoothing_and_its_absence_for_none(tile):
    noisy, clear = (chosen(HandMade(tile[0], noise=noise), tile) for noise in (0.6, 0.0))
    sigmas = [row["smoothing"] for row in noisy.table]
    assert sigmas == [0.5, 1.0, 2.0, 3.5]  # those of patches of 128, in proportion
    assert clear.smoothing == 0.5
    assert noisy.smoothing > 0.5


def test_what_is_given_is_not_chosen(tile):
    choice = chosen(HandMade(tile[0]), tile, constants=[FINE, COARSE], sigmas=[2.5])
    assert choice.smoothing == 2.5
    assert [row["smoothing"] for row in choice.table] == [2.5, 2.5]


def test_kinds_count_alike_and_the_best_mean_is_taken(tile):
    choice = chosen(HandMade(tile[0], noise=0.2), tile)
    settings = ["smoothing", "noise", "found"]
    for row in choice.table:
        assert sorted(row) == sorted([*KINDS, *settings, "mean"])
        assert row["mean"] == pytest.approx(np.mean([row[kind] for kind in KINDS]))
        assert all(0 <= row[kind] <= 1 for kind in KINDS)
    assert choice.smoothing == max(choice.table, key=lambda row: row["mean"])["smoothing"]


def test_kinds_that_could_not_be_drawn_do_not_count():
    rows = [
        {"smoothing": 1.0, "scratch": 0.3, "stain": 0.5, "found": 0.4},
        {"smoothing": 2.0, "scratch": 0.5, "stain": 0.4, "found": 0.4},
    ]
    assert _best(rows, ["scratch", "stain", "grain"], 2) == 1
    assert [row["mean"] for row in rows] == pytest.approx([0.4, 0.45])


@pytest.mark.parametrize(("found", "best"), [(0.4, 1), (0.5, 1), (0.6, 2)])
def test_a_coarse_map_is_taken_where_it_finds_more_defects(found, best):
    rows = [
        {"smoothing": 1.0, "stain": 0.3, "found": 0.5},
        {"smoothing": 2.0, "stain": 0.5, "found": 0.3},
        {"smoothing": 1.0, "stain": 0.1, "found": found},
    ]
    assert _best(rows, ["stain"], 2) == best


def test_fine_and_coarse_maps_are_for_grain_that_is_not_predicted(tile):
    """Less than half of the contrast is redrawn, or all of it."""
    for drawn, n_rows in ((0.4, 12), (1.0, 4)):
        maker = HandMade(tile[0], drawn=drawn)
        choice = chosen(maker, tile, fine=[COARSE], coarse=[{"noise": 0.2}])
        assert len(choice.table) == n_rows
        assert choice.constants == FINE


def test_the_choice_repeats_and_depends_on_the_generator(tile):
    first, again, other = (chosen(HandMade(tile[0]), tile, seed).table for seed in (0, 0, 1))
    assert first == again
    assert first != other


def test_nothing_can_be_drawn_into_small_images(tile):
    small = tile[:, :15]
    maker = HandMade(small[0])
    rng = np.random.default_rng(0)
    maps = Candidates([maker.settings], [], [])
    assert choose_map(maker, maps, [small], rng, is_relative=False) is None


# What is drawn ------------------------------------------------------------------------


def test_tiles_are_squares_that_lie_side_by_side():
    random = np.random.RandomState(0)
    image = torch.arange(100 * 70).reshape(1, 100, 70) / 7000
    tiles = cut_tiles([image, image[:, :15], image[:, :40, :20]], 16, 1, random)
    assert sorted(tile.shape[1] for tile in tiles) == [20, 20, *[32] * 6]
    assert all(tile.shape[1] == tile.shape[2] for tile in tiles)
    corners = {tile[0, 0, 0].item() for tile in tiles if tile.shape[1] == 32}
    assert corners == {image[0, y, x].item() for y in (0, 32, 64) for x in (0, 32)}


def test_tiles_of_many_images_are_a_choice():
    images = planes(30, 64, 64)
    first, second = (cut_tiles(images, 32, 1, np.random.RandomState(seed)) for seed in (0, 1))
    assert len(first) == len(second) == 16
    assert not all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize(
    ("n_tiles", "side", "n_each"), [(1, 64, 16), (3, 48, 29), (20, 64, 16), (2, 16, 32)]
)
def test_every_kind_is_drawn_the_oftener_the_smaller_the_squares(n_tiles, side, n_each):
    tiles = planes(n_tiles, side, side)
    assert n_drawn(tiles, PATCH) == n_each
    cases = list(draw_into(tiles, PATCH, np.random.RandomState(0), make_probes(PATCH)))
    kinds = [drawn.kind for drawn, _ in cases]
    assert kinds[:n_tiles] == ["good"] * n_tiles
    assert {kind: kinds.count(kind) for kind in KINDS} == dict.fromkeys(KINDS, n_each)
    for index, (drawn, altered) in enumerate(cases):
        place = index if index < n_tiles else (index - n_tiles) % n_each % n_tiles
        same = (altered == tiles[place]).all(dim=0).numpy()
        assert drawn.mask.any() == (drawn.kind != "good")
        assert same[~drawn.mask].all()


def test_flat_material_shows_some_kinds_alone():
    flat = [torch.full((1, 48, 48), 0.5)]
    random = np.random.RandomState(0)
    kinds = {drawn.kind for drawn, _ in draw_into(flat, PATCH, random, make_probes(PATCH))}
    assert kinds >= {"good", "scratch", "stain", "lump"}
    assert not kinds & {"patch", "blur", "grain"}


# How a map is judged ------------------------------------------------------------------


def test_average_precision_is_scikit_learns():
    random = np.random.default_rng(0)
    truth, scores = random.random(500) < 0.2, random.random(500)
    assert average_precision(truth, scores) == pytest.approx(average_precision_score(truth, scores))
    assert average_precision(np.zeros(5, dtype=bool), scores[:5]) == 0


def blotch():
    mask = np.zeros((40, 40), dtype=bool)
    mask[10:20, 10:22] = True
    return mask


@pytest.mark.parametrize(
    ("threshold", "share"), [(1e-9, 1.0), (1.0, 0.5), (np.exp(0.3), 1 / (1 + np.e)), (1e9, 0.0)]
)
def test_the_share_of_defects_that_are_found(threshold, share):
    pair = (blotch(), blotch().astype(np.float32))
    assert share_found([pair], threshold, logarithmic=False) == pytest.approx(share, abs=1e-4)
    nothing = (blotch(), np.zeros((40, 40)))
    both = share_found([pair, nothing], threshold, logarithmic=False)
    assert both == pytest.approx(share / 2, abs=1e-4)


def test_a_map_that_is_bright_elsewhere_is_poor():
    assert precision_of([(blotch(), 1 + ~blotch())]) < 0.12


def test_the_unit_of_a_map_does_not_count_and_logarithms_are_shifted():
    random = np.random.default_rng(1)
    pairs = [(blotch(), random.random((40, 40)) + blotch()) for _ in range(3)]
    plain = share_found(pairs, 1.4, logarithmic=False)
    scaled = share_found([(mask, 7 * values) for mask, values in pairs], 9.8, logarithmic=False)
    assert scaled == pytest.approx(plain)
    logs = [(mask, np.log(values) - 5) for mask, values in pairs]
    assert share_found(logs, np.log(1.4) - 5, logarithmic=True) == pytest.approx(plain)


def test_each_kind_is_held_against_the_threshold_of_all_good_tiles():
    values = torch.from_numpy(np.random.default_rng(2).random((40, 40)) + blotch())
    maps = [
        (Drawn("good", np.zeros((40, 40), dtype=bool)), torch.full((40, 40), 0.5)),
        (Drawn("stain", blotch()), values),
        (Drawn("good", np.zeros((40, 40), dtype=bool)), torch.full((40, 40), 1.5)),
        (Drawn("lump", blotch()), values / 2),
    ]
    good = [GoodMaxima.of(np.full((40, 40), value)) for value in (0.5, 1.5)]
    threshold = false_alarm_threshold(good).value
    assert threshold > 1.5
    pairs = {"stain": [(blotch(), values.numpy())], "lump": [(blotch(), values.numpy() / 2)]}
    found = {kind: share_found(pair, threshold, logarithmic=False) for kind, pair in pairs.items()}
    assert found_of_kinds(maps, logarithmic=False) == found
    assert found["stain"] > found["lump"]
    assert quality_of_kinds(maps, logarithmic=False) == pytest.approx(
        {kind: (found[kind] + precision_of(pair)) / 2 for kind, pair in pairs.items()}
    )


def test_precision_is_that_of_every_other_pixel():
    values = np.random.default_rng(3).random((40, 40)) + 0.3 * blotch()
    expected = average_precision_score(blotch()[::2, ::2].ravel(), values[::2, ::2].ravel())
    assert precision_of([(blotch(), values)]) == pytest.approx(expected)


# In a fit -----------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize(("make", "n_settings"), [(SSIMAutoencoderDetector, 16), (VAEDetector, 4)])
def test_the_table_of_a_fit(make, n_settings):
    detector = cheap(make).fit(texture(4, 32, 40))
    assert len(detector.map_choice_) == n_settings
    names = ["smoothing"]
    if make is SSIMAutoencoderDetector:
        names += ["c1", "c2", "map_window_size", "map_blur"]
    taken = tuple(getattr(detector, f"{name}_") for name in names)
    assert taken in {tuple(row[name] for name in names) for row in detector.map_choice_}


def test_squares_that_do_not_count_as_a_whole_are_left_out():
    image = torch.rand(1, 64, 96)
    counts = torch.ones(1, 64, 96)
    counts[:, 5, 70] = 0
    tiles = cut_tiles([torch.cat([image, counts])], 16, 1, np.random.RandomState(0))
    assert len(tiles) == 5
    assert all(tile.shape == (1, 32, 32) for tile in tiles)
