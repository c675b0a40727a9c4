import itertools
import weakref

import numpy as np
import pytest
import scipy.signal
import torch
from numpy.testing import assert_allclose, assert_array_equal

from sklearn_ssimae._maps.tiling import BATCH_SIZE, map_patches, pad_to_patch, positions
from sklearn_ssimae._networks.autoencoders import Autoencoder
from sklearn_ssimae._networks.devices import to_channels_last


def random_image(*shape, seed=0):
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def results(images, function, patch_size, stride, **options):
    """The maps alone."""
    images = ((None, image) for image in images)
    mapped = map_patches(images, function, patch_size=patch_size, stride=stride, **options)
    return [values for _, _, values in mapped]


def with_position_dependence(patches):
    """A function whose values differ between overlapping patches: two maps a patch."""
    ramp = torch.arange(patches[0, 0].numel()).reshape(patches.shape[2:]) / patches[0, 0].numel()
    level = patches.mean(dim=(1, 2, 3), keepdim=True)
    return torch.cat([patches[:, :1] * ramp + level, level - 3 * ramp], dim=1)


def averaged_by_hand(image, function, patch_size, stride, log_mean):
    """One patch at a time, in float64, weighted by a Hann window."""
    starts = [[*range(0, side - patch_size, stride), side - patch_size] for side in image.shape[1:]]
    hann = scipy.signal.windows.hann(2 * patch_size + 1)[1::2]
    total = np.zeros((2, *image.shape[1:]))
    weight = np.zeros(image.shape[1:])
    for y, x in itertools.product(*starts):
        window = np.s_[..., y : y + patch_size, x : x + patch_size]
        values = function(image[window][None].double())[0].numpy()
        total[window] += np.outer(hann, hann) * (np.exp(values) if log_mean else values)
        weight[window] += np.outer(hann, hann)
    return np.log(total / weight) if log_mean else total / weight


# Where the patches lie ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("size", "patch_size", "stride", "expected"),
    [
        (100, 32, 30, [0, 30, 60, 68]),
        (92, 32, 30, [0, 30, 60]),
        (32, 32, 30, [0]),
        (33, 32, 30, [0, 1]),
        (40, 32, 30, [0, 8]),
        (40, 16, 16, [0, 16, 24]),
        (35, 32, 1, [0, 1, 2, 3]),
    ],
)
def test_positions(size, patch_size, stride, expected):
    assert positions(size, patch_size, stride) == expected


@pytest.mark.parametrize("patch_size", [16, 48])
@pytest.mark.parametrize("stride", [1, 7, 16])
def test_positions_cover_every_pixel(patch_size, stride):
    for size in range(patch_size, patch_size + 60):
        starts = positions(size, patch_size, stride)
        covered = {start + offset for start in starts for offset in range(patch_size)}
        assert covered == set(range(size))
        assert starts == sorted(set(starts))


@pytest.mark.parametrize(
    ("shape", "margins"),
    [
        ((1, 1), ((7, 8), (7, 8))),
        ((5, 16), ((5, 6), (0, 0))),
        ((40, 15), ((0, 0), (0, 1))),
        ((16, 16), ((0, 0), (0, 0))),
        ((20, 30), ((0, 0), (0, 0))),
    ],
)
@pytest.mark.parametrize("n_channels", [1, 3])
def test_small_images_are_padded_by_replication(shape, margins, n_channels):
    image = random_image(n_channels, *shape)
    expected = np.pad(image.numpy(), ((0, 0), *margins), mode="edge")
    assert_array_equal(pad_to_patch(image, 16), expected)


# Averages -----------------------------------------------------------------------------

SHAPES = [(16, 16), (17, 40), (64, 64), (50, 33)]


@pytest.mark.parametrize("shape", [*SHAPES, (1, 1), (3, 50), (15, 15)])
@pytest.mark.parametrize("stride", [5, 16])
@pytest.mark.parametrize("n_channels", [1, 3])
def test_identity_gives_the_image_back(shape, stride, n_channels):
    image = random_image(n_channels, *shape)
    mapped = map_patches([("tag", image)], lambda patches: patches, patch_size=16, stride=stride)
    ((tag, given, mean),) = mapped
    assert tag == "tag" and given is image
    torch.testing.assert_close(mean, image, rtol=1e-6, atol=0)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("stride", [3, 10, 16])
@pytest.mark.parametrize("log_mean", [False, True])
def test_overlaps_are_averaged(shape, stride, log_mean):
    image = random_image(1, *shape)
    (mean,) = results([image], with_position_dependence, 16, stride, log_mean=log_mean)
    expected = averaged_by_hand(image, with_position_dependence, 16, stride, log_mean)
    assert mean.shape == expected.shape
    assert_allclose(mean, expected, rtol=0, atol=3e-6)


@pytest.mark.parametrize("level", [-5000.0, 5000.0])
def test_logarithms_of_numbers_beyond_float32(level):
    image = random_image(1, 40, 25)

    def function(patches):
        return with_position_dependence(patches) + level

    (mean,) = results([image], function, 16, 7, log_mean=True)
    expected = averaged_by_hand(image, with_position_dependence, 16, 7, True) + level
    assert_allclose(mean, expected, rtol=1e-6)


def test_logarithm_of_zero():
    def impossible(patches):
        return torch.full_like(patches, -torch.inf)

    (mean,) = results([random_image(1, 20, 20)], impossible, 16, 2, log_mean=True)
    assert (mean == -torch.inf).all()


def test_patches_are_seen_in_reading_order_at_one_batch_size():
    height, width = 40, 50
    image = torch.arange(height * width).reshape(1, height, width).float()
    batches = []

    def record(patches):
        batches.append(patches.clone())
        return patches

    list(map_patches([(0, image)], record, patch_size=16, stride=10))
    assert {tuple(batch.shape) for batch in batches} == {(BATCH_SIZE, 1, 16, 16)}
    corners = torch.cat(batches)[:, 0, 0, 0].tolist()
    expected = [y * width + x for y in (0, 10, 20, 24) for x in (0, 10, 20, 30, 34)]
    assert corners[: len(expected)] == expected


@pytest.mark.parametrize("n_images", [1, 15, 16, 17, 40])
def test_every_image_comes_back_once_in_order(n_images):
    sizes = [(16 + 7 * (i % 5), 10 + 9 * (i % 3)) for i in range(n_images)]
    images = [random_image(1, *size, seed=i) for i, size in enumerate(sizes)]
    tagged = enumerate(images)
    mapped = list(map_patches(tagged, lambda patches: 2 * patches, patch_size=16, stride=12))
    assert len(mapped) == n_images
    for index, (tag, given, mean) in enumerate(mapped):
        image = images[index]
        assert tag == index and given is image
        torch.testing.assert_close(mean, 2 * image)


def test_no_images():
    assert results([], lambda patches: patches, 16, 16) == []


def test_images_are_left_alone():
    images = [random_image(1, 40, 40), random_image(1, 9, 9)]
    copies = [image.clone() for image in images]
    results(images, lambda patches: patches.mul_(0), 16, 5)
    assert all(torch.equal(image, copy) for image, copy in zip(images, copies, strict=True))


# Bits ---------------------------------------------------------------------------------


def network_function(patch_size, n_channels, dtype=torch.float32):
    network = Autoencoder(n_channels=n_channels, patch_size=patch_size, latent_dim=20)
    patches = random_image(8, n_channels, patch_size, patch_size)
    network.initialize(patches, torch.Generator().manual_seed(0))
    network = to_channels_last(network).eval()

    @torch.no_grad()
    def function(patches):
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=dtype == torch.bfloat16):
            return network(patches.to(memory_format=torch.channels_last)).float()

    return function


@pytest.mark.parametrize("patch_size", [16, 32, 48, 64, 128])
@pytest.mark.parametrize("n_channels", [1, 3])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_an_image_alone_and_among_others_gives_the_same_bits(patch_size, n_channels, dtype):
    function = network_function(patch_size, n_channels, dtype)
    images = [
        random_image(n_channels, patch_size + height, patch_size + width, seed=height)
        for height, width in [(0, 0), (5, 20), (-3, 4), (9, 0), (1, 1)]
    ]
    together = results(images, function, patch_size, 12)
    backwards = results(images[::-1], function, patch_size, 12)[::-1]
    for index, image in enumerate(images):
        (alone,) = results([image], function, patch_size, 12)
        assert torch.equal(alone, together[index])
        assert torch.equal(alone, backwards[index])


@pytest.mark.parametrize("patch_size", [16, 32, 128])
def test_every_place_in_a_batch_gives_the_same_bits(patch_size):
    function = network_function(patch_size, 1)
    image = random_image(1, patch_size, patch_size)
    first, *others = results([image] * BATCH_SIZE, function, patch_size, patch_size)
    assert all(torch.equal(first, other) for other in others)


# Memory -------------------------------------------------------------------------------


def test_images_are_taken_one_at_a_time():
    taken = []

    def images():
        for index in range(100):
            taken.append(index)
            yield random_image(1, 64, 64, seed=index)

    # 16 patches an image: a batch is full with each.
    mapped = map_patches(enumerate(images()), lambda patches: patches, patch_size=16, stride=16)
    assert taken == []
    for index in range(5):
        next(mapped)
        assert taken == list(range(index + 1))


@pytest.mark.parametrize(("side", "most"), [(64, 2), (40, 4), (16, BATCH_SIZE + 1)])
def test_images_are_let_go_when_they_are_done(side, most):
    alive = weakref.WeakSet()
    counts = []

    def images():
        for index in range(60):
            image = random_image(1, side, side, seed=index)
            alive.add(image)
            yield image
            del image
            counts.append(len(alive))

    for _ in map_patches(enumerate(images()), lambda patches: patches, patch_size=16, stride=16):
        pass
    assert max(counts) <= most
