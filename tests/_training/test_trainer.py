"""Epochs of training on toy networks."""

import copy

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from shared import Gain, random_patches
from torch import nn

from sklearn_ssimae._training.probe import Probe
from sklearn_ssimae._training.trainer import Trainer


@pytest.fixture(autouse=True)
def seed():
    """The layers of the tests' own networks draw from the global generator."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


class Untouched:
    """A corruption that leaves patches alone."""

    def __call__(self, patches):
        return patches

    def state_dict(self):
        return {}


def squared_maps(patches, reconstructions):
    return (patches - reconstructions).square().sum(dim=1)


def squared_error(forward, patches, *_):
    return (forward() - patches).square().mean()


def make_trainer(network, loss=squared_error, **options):
    n_channels = next(network.parameters()).shape[1]
    patches = random_patches(8, n_channels, 8, 8, seed=9)
    probe = Probe(patches, network, lambda x, y: (x - y).square())
    defaults = dict(
        is_warm=False,
        corruption=Untouched(),
        learning_rate_init=0.05,
        schedule="constant",
        total_steps=100,
        weight_decay=0.0,
        precision="float32",
    )
    return Trainer(network, loss, probe, **defaults | options)


@pytest.mark.parametrize("schedule", ["constant", "trapezoid"])
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_epochs_lower_the_loss(schedule, precision):
    batches = random_patches(80, 1, 8, 8).split(8)
    network = nn.Conv2d(1, 1, 1)
    with torch.no_grad():
        network.weight.zero_()
    trainer = make_trainer(network, schedule=schedule, precision=precision)
    losses = [trainer.run_epoch(batches) for _ in range(10)]
    assert losses[-1] < 0.15 * losses[0]
    assert not network.training
    assert network.weight.dtype == torch.float32


def test_the_loss_is_the_mean_of_the_patches():
    # The last batch is smaller.
    batches = [torch.full((4, 1, 8, 8), 1.0), torch.full((1, 1, 8, 8), 6.0)]
    trainer = make_trainer(
        Gain(1.0), lambda forward, patches, *_: forward().mean(), learning_rate_init=1e-9
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


def learning_rates(
    schedule, n_epochs=5, n_batches=20, rate=0.01, total_steps=None, between=lambda *_: None
):
    rates = []

    def loss(forward, patches, *_):
        rates.append(trainer.optimizers[0].param_groups[0]["lr"])
        return squared_error(forward, patches)

    trainer = make_trainer(
        nn.Conv2d(2, 2, 1),
        loss,
        learning_rate_init=rate,
        schedule=schedule,
        total_steps=total_steps or n_epochs * n_batches,
    )
    for epoch in range(n_epochs):
        trainer.run_epoch(random_patches(n_batches, 2, 8, 8).split(1))
        between(trainer, epoch + 1)
    return np.array(rates)


def test_trapezoid_climbs_stays_and_falls_to_0():
    rates = learning_rates("trapezoid")
    assert len(rates) == 100
    assert_allclose(rates[:5], 0.01 * np.arange(1, 6) / 5)
    assert_allclose(rates[5:60], 0.01)
    assert_allclose(rates[60:], 0.01 * np.arange(40, 0, -1) / 40)


@pytest.mark.parametrize("at", [1, 3])
def test_a_lengthened_trapezoid_keeps_its_climb_and_falls_later(at):
    def lengthen(trainer, n_epochs_run):
        if n_epochs_run == at:
            trainer.change_length(200)

    rates = learning_rates("trapezoid", n_epochs=10, total_steps=100, between=lengthen)
    assert_allclose(rates[:5], 0.01 * np.arange(1, 6) / 5)
    assert_allclose(rates[5:120], 0.01)
    assert_allclose(rates[120:], 0.01 * np.arange(80, 0, -1) / 80)


def test_what_remains_is_of_the_last_epoch_that_counted():
    network = nn.Conv2d(1, 1, 1)
    finite = True

    def loss(forward, patches, *_):
        return squared_error(forward, patches) * (1 if finite else torch.nan)

    trainer = make_trainer(network, loss)
    assert np.isnan(trainer.remaining)
    trainer.run_epoch(random_patches(40, 1, 8, 8).split(4))
    remaining = trainer.remaining
    assert remaining == trainer.probe.remaining()
    finite = False
    trainer.run_epoch(random_patches(40, 1, 8, 8).split(4))
    assert trainer.remaining == remaining


def test_constant_rate():
    assert_allclose(learning_rates("constant"), 0.01)


def test_weight_decay_pulls_the_weights_to_0():
    network = nn.Conv2d(2, 2, 1, bias=False)
    before = network.weight.abs().sum().item()
    trainer = make_trainer(
        network, lambda forward, patches, *_: 0 * forward().mean(), weight_decay=0.1
    )
    trainer.run_epoch([random_patches(4, 2, 8, 8)] * 10)
    assert network.weight.abs().sum().item() == pytest.approx(before * (1 - 0.1 * 0.05) ** 10)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_the_same_batches_give_the_same_bits(precision):
    start = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.Tanh(), nn.Conv2d(8, 1, 3, padding=1))
    batches = random_patches(40, 1, 16, 16).split(8)
    weights = []
    for _ in range(2):
        network = copy.deepcopy(start).to(memory_format=torch.channels_last)
        trainer = make_trainer(network, schedule="trapezoid", precision=precision)
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

    trainer = make_trainer(network, loss, learning_rate_init=0.25)
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
        lambda forward, patches, warmth: forward().square().mean(),
        Probe(patches, network, squared_maps),
        is_warm=False,
        corruption=Untouched(),
        learning_rate_init=1e30,
        schedule="constant",
        total_steps=9,
        weight_decay=0.0,
        precision="float32",
    )
    assert not np.isfinite(trainer.run_epoch([patches]))
    assert network.weight.item() == 1


def test_a_trapezoid_settles_when_its_rate_falls():
    trainer = make_trainer(Gain(), schedule="trapezoid", total_steps=10, is_warm=True)
    settled = []
    for _ in range(10):
        trainer.run_epoch([random_patches(4, 1, 8, 8)])
        settled.append(trainer.is_settling)
    assert settled == [False] * 5 + [True] * 5
    assert make_trainer(Gain(), schedule="constant", is_warm=True).is_settling
