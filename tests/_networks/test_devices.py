"""Where networks compute, and in which precision."""

import pytest
import torch
from numpy.testing import assert_allclose
from shared import Gain, random_patches
from torch import nn

from sklearn_ssimae._networks.devices import choose_device, forward, to_device


@pytest.fixture(autouse=True)
def seed():
    """The layers of the tests' own networks draw from the global generator."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


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


@pytest.mark.parametrize("device", ["hpu", "privateuseone", "meta"])
def test_unusual_devices(device):
    with pytest.raises(ValueError, match="cannot be used here"):
        choose_device(device)
