import copy
import weakref

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from scipy import stats
from skimage import data
from torch import nn

from sklearn_ssimae import ssim_map
from sklearn_ssimae._networks.devices import choose_device, forward, to_device
from sklearn_ssimae._training import crops
from sklearn_ssimae._training.crops import CropSampler
from sklearn_ssimae._training.probe import LEARNING, Probe
from sklearn_ssimae._training.progress import EarlyStopping
from sklearn_ssimae._training.trainer import Trainer


@pytest.fixture(autouse=True)
def seed():
    """The layers of the tests' own networks draw from the global generator."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


def random_patches(*shape, seed=0):
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def coordinates(height, width, offset=0):
    """An image whose pixels hold their own index."""
    return offset + torch.arange(height * width).reshape(1, height, width).float()


def make_sampler(images, patch_size=16, seed=0):
    return CropSampler(images.__getitem__, len(images), patch_size, np.random.default_rng(seed))


# Crops --------------------------------------------------------------------------------


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
    sampler = CropSampler(lambda i: image, 1, 16, np.random.default_rng(0), augment=True)
    crops = torch.cat(list(sampler.batches(800, 8)))
    square = image[0].numpy()
    turned = [np.rot90(side, k) for side in (square, square.T) for k in range(4)]
    counts = [(crops[:, 0].numpy() == way).all(axis=(1, 2)).sum() for way in turned]
    assert sum(counts) == 800
    assert min(counts) > 60


def test_crops_are_cut_from_the_images():
    images = [coordinates(40, 30), coordinates(17, 50, offset=10_000)]
    (batch,) = make_sampler(images).batches(200, 200)
    for crop in batch:
        image = images[int(crop[0, 0, 0] >= 10_000)]
        y, x = np.argwhere(image[0].numpy() == float(crop[0, 0, 0]))[0]
        assert torch.equal(crop, image[:, y : y + 16, x : x + 16])


def test_every_position_is_equally_likely():
    n_patches = 20_000
    (batch,) = make_sampler([coordinates(25, 21)]).batches(n_patches, n_patches)
    y, x = np.divmod(batch[:, 0, 0, 0].numpy().astype(int), 21)
    counts = np.bincount(y * 6 + x, minlength=60)
    assert (y.max(), x.max()) == (9, 5)
    assert stats.chisquare(counts).pvalue > 0.001


def test_images_are_drawn_in_proportion_to_their_area():
    rooms = [(1, 1), (10, 10), (30, 5), (40, 20)]
    images = [torch.full((1, 15 + h, 15 + w), float(i)) for i, (h, w) in enumerate(rooms)]
    n_patches = 20_000
    (batch,) = make_sampler(images).batches(n_patches, n_patches)
    counts = np.bincount(batch[:, 0, 0, 0].int(), minlength=4)
    areas = np.prod(rooms, axis=1)
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

    sampler = CropSampler(load, 7, 16, np.random.default_rng(0))
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
    sampler = CropSampler(loader, 12, 16, np.random.default_rng(0))
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
    sampler = CropSampler(loader, 50, 16, np.random.default_rng(0))
    list(sampler.batches(n_patches, 8))
    sampler.close()
    assert loader.most <= 2 * max(1, n_patches // 8)


# Training -----------------------------------------------------------------------------


class Gain(nn.Module):
    """One weight: a factor of the patches."""

    def __init__(self, weight=0.0):
        super().__init__()
        self.weight = nn.Parameter(torch.full((1, 1, 1, 1), weight))

    def forward(self, patches):
        return self.weight * patches


def squared_error(forward, patches, *_):
    return (forward(patches) - patches).square().mean()


def make_trainer(network, loss=squared_error, **options):
    patches = random_patches(8, 1, 8, 8, seed=9)
    probe = Probe(patches, network, lambda x, y: (x - y).square())
    defaults = dict(
        is_warm=False,
        learning_rate_init=0.05,
        schedule="constant",
        total_steps=100,
        weight_decay=0.0,
        precision="float32",
    )
    return Trainer(network, loss, probe, **defaults | options)


@pytest.mark.parametrize("schedule", ["constant", "one_cycle"])
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_epochs_lower_the_loss(schedule, precision):
    batches = random_patches(80, 1, 8, 8).split(8)
    network = nn.Conv2d(1, 1, 1)
    with torch.no_grad():
        network.weight.zero_()
    trainer = make_trainer(network, schedule=schedule, precision=precision)
    losses = [trainer.run_epoch(batches) for _ in range(10)]
    assert losses[-1] < 0.05 * losses[0]
    assert min(losses) == pytest.approx(losses[-1], abs=1e-3)
    assert not network.training
    assert network.weight.dtype == torch.float32


def test_the_loss_is_the_mean_of_the_patches():
    # The last batch is smaller.
    batches = [torch.full((4, 1, 8, 8), 1.0), torch.full((1, 1, 8, 8), 6.0)]
    trainer = make_trainer(
        Gain(1.0), lambda forward, patches, *_: forward(patches).mean(), learning_rate_init=1e-9
    )
    assert trainer.run_epoch(batches) == pytest.approx(2.0)


def test_training_is_in_training_mode():
    network = nn.Sequential(Gain(1.0), nn.Dropout(0.0))
    modes = []

    def loss(forward, patches, *_):
        modes.append(network.training)
        return squared_error(forward, patches)

    make_trainer(network, loss).run_epoch([random_patches(4, 1, 8, 8)])
    assert modes == [True] and not network.training


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize("at", [0, 3, 9])
def test_a_loss_that_is_not_finite_restores_the_weights(value, at):
    seen = 0

    def loss(forward, patches, *_):
        nonlocal seen
        seen += 1
        bad = seen == 10 + at + 1
        return squared_error(forward, patches) * (value if bad else 1)

    network = nn.Conv2d(1, 1, 1)
    trainer = make_trainer(network, loss)
    batches = random_patches(40, 1, 8, 8).split(4)
    assert np.isfinite(trainer.run_epoch(batches))
    before = copy.deepcopy(network.state_dict())
    assert_array_equal(trainer.run_epoch(batches), value)
    assert seen == 10 + at + 1
    assert all(torch.equal(before[name], tensor) for name, tensor in network.state_dict().items())


def learning_rates(schedule, n_epochs=5, n_batches=20, rate=0.01):
    rates = []

    def loss(forward, patches, *_):
        rates.append(trainer.optimizer.param_groups[0]["lr"])
        return squared_error(forward, patches)

    trainer = make_trainer(
        Gain(), loss, learning_rate_init=rate, schedule=schedule, total_steps=n_epochs * n_batches
    )
    for _ in range(n_epochs):
        trainer.run_epoch(random_patches(n_batches, 1, 8, 8).split(1))
    return np.array(rates)


def test_one_cycle_climbs_to_the_rate_and_falls_to_0():
    rates = learning_rates("one_cycle")
    assert len(rates) == 100
    peak = rates.argmax()
    assert 20 <= peak <= 40 and rates[peak] == pytest.approx(0.01, rel=1e-3)
    assert rates[0] == pytest.approx(0.01 / 25)
    assert (np.diff(rates[: peak + 1]) > 0).all() and (np.diff(rates[peak:]) < 0).all()
    assert rates[-1] < 1e-4 * rates[peak]


def test_constant_rate():
    assert_allclose(learning_rates("constant"), 0.01)


def test_weight_decay_pulls_the_weights_to_0():
    network = Gain(1.0)
    trainer = make_trainer(
        network, lambda forward, patches, *_: 0 * forward(patches).mean(), weight_decay=0.1
    )
    trainer.run_epoch([random_patches(4, 1, 8, 8)] * 10)
    assert 0 < network.weight.item() < 0.9


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_the_same_batches_give_the_same_bits(precision):
    start = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.Tanh(), nn.Conv2d(8, 1, 3, padding=1))
    batches = random_patches(40, 1, 16, 16).split(8)
    weights = []
    for _ in range(2):
        network = copy.deepcopy(start).to(memory_format=torch.channels_last)
        trainer = make_trainer(network, schedule="one_cycle", precision=precision)
        for _ in range(3):
            trainer.run_epoch(batches)
        weights.append(network.state_dict())
    for name, tensor in weights[0].items():
        assert torch.equal(tensor, weights[1][name])


def test_warmth_climbs_when_the_network_has_learnt():
    network = Gain()
    seen = []

    def loss(forward, patches, warmth):
        seen.append(warmth)
        # Nothing is learnt before the third epoch.
        return squared_error(forward, patches) * (len(seen) > 20)

    trainer = make_trainer(network, loss)
    for _ in range(8):
        trainer.run_epoch(random_patches(40, 1, 8, 8).split(4))
    learnt = seen.index(next(filter(None, seen))) - 1
    assert learnt >= 30 and learnt % 10 == 0
    assert_allclose(seen[: learnt + 1], 0)
    # A fifth of the 100 steps.
    assert_allclose(seen[learnt : learnt + 21], np.arange(21) / 20)
    assert_allclose(seen[learnt + 20 :], 1)


def test_a_network_that_has_learnt_before_is_warm():
    seen = []

    def loss(forward, patches, warmth):
        seen.append(warmth)
        return squared_error(forward, patches)

    make_trainer(Gain(), loss, is_warm=True).run_epoch([random_patches(4, 1, 8, 8)] * 3)
    assert seen == [1, 1, 1]


# The mean image -----------------------------------------------------------------------


def squared_maps(patches, reconstructions):
    return (patches - reconstructions).square().sum(dim=1)


def absolute_maps(patches, reconstructions):
    return (patches - reconstructions).abs().sum(dim=1)


@pytest.mark.parametrize("error", [squared_maps, absolute_maps])
@pytest.mark.parametrize("n_channels", [1, 3])
def test_the_mean_image_has_learnt_nothing(error, n_channels):
    patches = random_patches(32, n_channels, 16, 16)
    mean_image = patches.mean(dim=0, keepdim=True).expand_as(patches)
    for reconstruct, expected in [
        (lambda patches: mean_image, False),
        (lambda patches: patches.mean(dim=(0, 2, 3), keepdim=True).expand_as(patches), False),
        (lambda patches: torch.zeros_like(patches), False),
        (lambda patches: patches * torch.nan, False),
        (lambda patches: patches, True),
        (lambda patches: 0.3 * patches + 0.7 * mean_image, True),
        (lambda patches: 0.001 * patches + 0.999 * mean_image, False),
    ]:
        assert (Probe(patches, reconstruct, error).remaining() < LEARNING) is expected


def test_flat_images_leave_nothing_to_learn():
    patches = torch.full((8, 1, 16, 16), 0.3)
    assert Probe(patches, lambda patches: torch.zeros_like(patches), squared_maps).remaining() == 0


def test_probe_sees_the_network_as_it_is_and_keeps_no_gradient():
    network = Gain()
    probe = Probe(random_patches(8, 1, 8, 8), network, squared_maps)
    assert probe.remaining() >= LEARNING
    with torch.no_grad():
        network.weight.fill_(1.0)
    assert probe.remaining() < LEARNING
    assert network.weight.grad is None


# Early stopping -----------------------------------------------------------------------


def epochs_until_stop(losses, tol=0.1, n_iter_no_change=3, counts=None):
    stopping = EarlyStopping(tol, n_iter_no_change)
    counts = [True] * len(losses) if counts is None else counts
    for epoch, (loss, count) in enumerate(zip(losses, counts, strict=True), start=1):
        if stopping.update(loss, count):
            return epoch
    return None


def test_a_loss_that_falls_by_more_than_tol_goes_on():
    assert epochs_until_stop(np.arange(50, 0, -0.11)) is None


def test_a_loss_that_falls_by_less_than_tol_stops():
    # The best loss so far counts, not the last one.
    stop = epochs_until_stop([5.0, 4.0, 4.05, 3.95, 4.5, 4.4, 4.3, 4.2, 4.1])
    assert stop in (5, 6)


def test_an_improvement_starts_the_count_anew():
    assert epochs_until_stop([5.0, 5.0, 5.0, 4.0, 4.0, 4.0, 3.0, 3.0, 3.0, 2.0]) is None


def test_epochs_that_do_not_count():
    losses = [5.0] * 30
    assert epochs_until_stop(losses, counts=[False] * 30) is None
    assert epochs_until_stop(losses, counts=[False] * 20 + [True] * 10) in (23, 24)


# Devices ------------------------------------------------------------------------------


@pytest.mark.parametrize("device", ["cuda:99", "nonsense", "", "cuda:-1"])
def test_a_device_that_is_not_there(device):
    with pytest.raises(ValueError, match=f"device='{device}' cannot be used here.*'cpu'"):
        choose_device(device)


def test_a_device_that_is_there():
    assert choose_device("cpu") == torch.device("cpu")
    assert choose_device("auto").type in ("cuda", "mps", "cpu")


@pytest.mark.parametrize(
    ("cuda", "mps", "expected"),
    [(True, True, "cuda"), (True, False, "cuda"), (False, True, "mps"), (False, False, "cpu")],
)
def test_auto_takes_the_fastest(cuda, mps, expected, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
    assert choose_device("auto") == torch.device(expected)


def test_patches_go_to_the_device_in_the_fast_layout():
    patches = random_patches(2, 3, 8, 8)
    moved = to_device(patches, Gain())
    assert moved.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(moved, patches)


@pytest.mark.parametrize(("precision", "atol"), [("float32", 0), ("bfloat16", 0.01)])
def test_outputs_are_float32(precision, atol):
    network = nn.Conv2d(1, 1, 3)
    patches = random_patches(2, 1, 8, 8)
    with torch.no_grad():
        output = forward(network, precision, patches)
        expected = network(patches)
    assert output.dtype == torch.float32
    assert_allclose(output, expected, rtol=0, atol=atol)
    assert torch.equal(output, expected) == (precision == "float32")


def test_several_outputs():
    class Two(Gain):
        def forward(self, patches, offset):
            return self.weight * patches + offset, patches.bfloat16()

    patches = random_patches(2, 1, 8, 8)
    one, two = forward(Two(1.0), "float32", patches, 2)
    torch.testing.assert_close(one, patches + 2)
    assert two.dtype == torch.float32


@pytest.mark.parametrize("n_images", [9, 10, 12, 20, 200])
def test_every_image_is_visited_after_a_first_draw_of_some(n_images):
    images = [torch.full((1, 32, 32), float(i)) for i in range(n_images)]
    sampler = CropSampler(images.__getitem__, n_images, 16, np.random.default_rng(0))
    next(sampler.batches(64, 64))
    seen = set()
    for _ in range(20):
        (batch,) = sampler.batches(1000, 1000)
        n_seen = len(set(batch[:, 0, 0, 0].int().tolist()))
        # No epoch is spent on the few images that an order ends with.
        assert n_seen >= min(n_images, 100)
        seen |= set(batch[:, 0, 0, 0].int().tolist())
    assert seen == set(range(n_images))


def test_weights_that_a_last_step_ruins_are_not_kept():
    class Gain(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.ones(1, 1, 1, 1))

        def forward(self, patches):
            return self.weight * patches

    network, patches = Gain(), torch.rand(4, 1, 8, 8)
    trainer = Trainer(
        network,
        lambda forward, patches, warmth: forward(patches).square().mean(),
        Probe(patches, network, squared_maps),
        is_warm=False,
        learning_rate_init=1e30,
        schedule="constant",
        total_steps=9,
        weight_decay=0.0,
        precision="float32",
    )
    assert not np.isfinite(trainer.run_epoch([patches]))
    assert network.weight.item() == 1


@pytest.mark.parametrize("patch_size", [32, 128])
def test_one_colour_has_learnt_nothing_by_ssim(patch_size):
    image = torch.from_numpy(data.brick() / 255).float()[None]
    for seed in range(4):
        sampler = CropSampler(lambda i: image, 1, patch_size, np.random.default_rng(seed))
        (patches,) = sampler.batches(64, 64)
        probe = Probe(
            patches,
            lambda x, patches=patches: torch.full_like(x, patches.mean()),
            lambda x, y: (1 - ssim_map(x, y)).mean(dim=1),
        )
        assert probe.remaining() >= LEARNING


def mlp_rule(losses, tol, n_iter_no_change):
    """BaseMultilayerPerceptron._update_no_improvement_count and what follows it."""
    best, stale = np.inf, 0
    for epoch, loss in enumerate(losses, start=1):
        stale = stale + 1 if loss > best - tol else 0
        best = min(best, loss)
        if stale > n_iter_no_change:
            return epoch
    return None


@pytest.mark.parametrize(
    "losses",
    [[5.0] * 20, list(np.arange(20, 0, -0.5)), [3, 2, 2.5, 1.9, 2.2, 1.8, 2, 2, 2]],
)
@pytest.mark.parametrize("tol", [0.0, 0.125, 0.5])
def test_rule_is_that_of_mlp_classifier(losses, tol):
    stopping = EarlyStopping(tol, 3)
    stop = next((e for e, loss in enumerate(losses, 1) if stopping.update(loss, True)), None)
    assert stop == mlp_rule(losses, tol, 3)


@pytest.mark.parametrize("device", ["hpu", "privateuseone", "meta"])
def test_unusual_devices(device):
    with pytest.raises(ValueError, match="cannot be used here"):
        choose_device(device)
