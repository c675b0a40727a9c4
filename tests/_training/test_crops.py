"""The crops that an epoch trains on."""

import weakref

import numpy as np
import pytest
import torch
from numpy.testing import assert_array_equal
from scipy import stats
from shared import random_patches

from sklearn_ssimae._training import crops
from sklearn_ssimae._training.crops import CropSampler
from sklearn_ssimae._training.variation import Variation


def coordinates(height, width, offset=0):
    """An image whose pixels hold their own index."""
    return offset + torch.arange(height * width).reshape(1, height, width).float()


def make_sampler(images, patch_size=16, seed=0):
    return CropSampler(
        images.__getitem__, len(images), patch_size, len(images[0]), np.random.default_rng(seed)
    )


@pytest.mark.parametrize(
    ("n_patches", "batch_size", "sizes"),
    [(10, 4, [4, 4, 2]), (8, 4, [4, 4]), (3, 8, [3]), (1, 1, [1]), (5, 1, [1] * 5)],
)
def test_batches_add_up_to_n_patches(n_patches, batch_size, sizes):
    batches = list(make_sampler([random_patches(3, 40, 30)]).batches(n_patches, batch_size))
    assert [tuple(batch.shape) for batch in batches] == [(size, 3, 16, 16) for size in sizes]
    assert all(batch.dtype == torch.float32 for batch in batches)


def test_augmented_crops_are_turned_in_eight_ways():
    image = coordinates(16, 16)
    sampler = CropSampler(lambda i: image, 1, 16, 1, np.random.default_rng(0), augment=True)
    crops = torch.cat(list(sampler.batches(800, 8)))
    square = image[0].numpy()
    turned = [np.rot90(side, k) for side in (square, square.T) for k in range(4)]
    counts = [(crops[:, 0].numpy() == way).all(axis=(1, 2)).sum() for way in turned]
    assert sum(counts) == 800
    assert min(counts) > 60


def test_the_light_of_crops_varies_by_the_seed():
    def crops(seed):
        rng, variation = np.random.default_rng(seed), Variation(light=0.2)
        sampler = CropSampler(lambda i: image, 1, 16, 3, rng, variation=variation)
        return torch.cat(list(sampler.batches(200, 8)))

    image = torch.full((3, 40, 30), 0.5)
    light = crops(0)[:, 0, 8, 8]
    assert torch.equal(crops(0), crops(0))
    assert not torch.equal(crops(0), crops(1))
    assert 0.5 / 1.2 <= light.min() < 0.43
    assert 0.58 < light.max() <= 0.5 * 1.2


def test_crops_are_cut_from_the_images():
    images = [coordinates(40, 30), coordinates(17, 50, offset=10_000)]
    (batch,) = make_sampler(images).batches(200, 200)
    for crop in batch:
        image = images[int(crop[0, 0, 0] >= 10_000)]
        y, x = np.argwhere(image[0].numpy() == float(crop[0, 0, 0]))[0]
        assert torch.equal(crop, image[:, y : y + 16, x : x + 16])


def test_corners_reach_half_a_patch_beyond_the_border():
    n_patches = 20_000
    (batch,) = make_sampler([coordinates(25, 21)]).batches(n_patches, n_patches)
    y, x = np.divmod(batch[:, 0, 0, 0].numpy().astype(int), 21)
    for corners, side in ((y, 25), (x, 21)):
        moved = np.clip(np.arange(-8, side - 8), 0, side - 16)
        expected = n_patches * np.bincount(moved) / side
        assert stats.chisquare(np.bincount(corners), expected).pvalue > 0.001


def test_every_pixel_is_seen_about_equally_often():
    n_patches = 4000
    (batch,) = make_sampler([coordinates(64, 48)]).batches(n_patches, n_patches)
    counts = np.bincount(batch.int().flatten(), minlength=64 * 48).reshape(64, 48)
    # At an edge half as often as elsewhere, at a corner a quarter; with corners that are drawn
    # within the image it were a sixteenth and less.
    assert counts.min() > 0.2 * np.median(counts)
    edges = np.concatenate([counts[0, 16:-16], counts[-1, 16:-16], counts[16:-16, 0]])
    assert edges.mean() > 0.4 * np.median(counts)
    assert counts.max() < 2.5 * np.median(counts)


def test_images_are_drawn_in_proportion_to_their_area():
    rooms = [(1, 1), (10, 10), (30, 5), (40, 20)]
    images = [torch.full((1, 15 + h, 15 + w), float(i)) for i, (h, w) in enumerate(rooms)]
    n_patches = 20_000
    (batch,) = make_sampler(images).batches(n_patches, n_patches)
    counts = np.bincount(batch[:, 0, 0, 0].int(), minlength=4)
    areas = np.prod(np.array(rooms) + 15, axis=1)
    assert stats.chisquare(counts, n_patches * areas / areas.sum()).pvalue > 0.001


def test_the_generator_decides():
    def draw(seed):
        sampler = make_sampler([coordinates(60, 60), coordinates(30, 90, offset=10_000)], seed=seed)
        return [torch.cat(list(sampler.batches(50, 8))) for _ in range(3)]

    state, numpy_state = torch.get_rng_state(), np.random.get_state()[1].copy()
    first, again, other = draw(0), draw(0), draw(1)
    assert all(torch.equal(one, two) for one, two in zip(first, again, strict=True))
    assert not torch.equal(first[0], other[0])
    assert not torch.equal(first[0], first[1])
    assert torch.equal(torch.get_rng_state(), state)
    assert_array_equal(np.random.get_state()[1], numpy_state)


@pytest.mark.parametrize("shape", [(1, 1), (7, 40), (40, 7), (15, 15)])
def test_small_images_are_padded(shape):
    image = random_patches(3, *shape)
    (batch,) = make_sampler([image]).batches(20, 20)
    assert batch.shape == (20, 3, 16, 16)
    assert set(batch.unique().tolist()) <= set(image.unique().tolist())


def test_images_that_fit_are_loaded_once():
    loaded = []

    def load(index):
        loaded.append(index)
        return random_patches(1, 32, 32, seed=index)

    sampler = CropSampler(load, 7, 16, 1, np.random.default_rng(0))
    assert loaded == []
    for _ in range(4):
        list(sampler.batches(1000, 50))
    assert sorted(loaded) == list(range(7))


IMAGE_BYTES = 4 * 32 * 32


class Loader:
    """Constant images that hold their index; it knows how many of them are alive."""

    def __init__(self):
        self.alive = weakref.WeakSet()
        self.most = 0

    def __call__(self, index):
        image = torch.full((1, 32, 32), float(index))
        self.alive.add(image)
        self.most = max(self.most, len(self.alive))
        return image


@pytest.mark.parametrize("n_cached", [1, 2, 3, 5])
def test_memory_is_bounded_and_every_image_visited(n_cached, monkeypatch):
    monkeypatch.setattr(crops, "CACHE_BYTES", n_cached * IMAGE_BYTES)
    loader = Loader()
    sampler = CropSampler(loader, 12, 16, 1, np.random.default_rng(0))
    seen = []
    n_group = -(-n_cached // 2)  # the next group is read while one is in use
    for _ in range(-(-12 // n_group)):
        (batch,) = sampler.batches(1000, 1000)
        seen.append(set(batch[:, 0, 0, 0].int().tolist()))
        assert len(seen[-1]) <= n_group
    sampler.close()
    assert set().union(*seen) == set(range(12))
    assert loader.most <= n_cached + 1


@pytest.mark.parametrize("n_patches", [1, 8, 20, 100])
def test_few_crops_need_few_images(n_patches):
    loader = Loader()
    sampler = CropSampler(loader, 50, 16, 1, np.random.default_rng(0))
    list(sampler.batches(n_patches, 8))
    sampler.close()
    assert loader.most <= 2 * max(1, n_patches // 8)


@pytest.mark.parametrize("n_images", [9, 10, 12, 20, 200])
def test_every_image_is_visited_after_a_first_draw_of_some(n_images):
    images = [torch.full((1, 32, 32), float(i)) for i in range(n_images)]
    sampler = CropSampler(images.__getitem__, n_images, 16, 1, np.random.default_rng(0))
    next(sampler.batches(64, 64))
    seen = set()
    for _ in range(20):
        (batch,) = sampler.batches(1000, 1000)
        n_seen = len(set(batch[:, 0, 0, 0].int().tolist()))
        # No epoch is spent on the few images that an order ends with.
        assert n_seen >= min(n_images, 100)
        seen |= set(batch[:, 0, 0, 0].int().tolist())
