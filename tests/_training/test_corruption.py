import numpy as np
import pytest
import torch
from shared import random_patches

from sklearn_ssimae._training.corruption import Corruption


def corruption(seed=0):
    return Corruption(np.random.default_rng(seed))


@pytest.mark.parametrize("shape", [(200, 1, 64, 64), (200, 3, 16, 16), (1, 1, 32, 32)])
def test_most_patches_change_in_part_and_stay_in_range(shape):
    patches = random_patches(*shape)
    given = patches.clone()
    corrupted = corruption()(patches)
    assert torch.equal(patches, given)
    assert corrupted.min() >= 0 and corrupted.max() <= 1
    changed = (corrupted != patches).any(dim=1).flatten(1).float().mean(dim=1)
    if len(patches) > 1:
        assert 0.6 < (changed > 0).float().mean() < 0.8
        assert 0.01 < changed[changed > 0].mean() < 0.5
        assert changed.max() > 0.1


def test_goes_on_from_its_state():
    one, other = corruption(), corruption(1)
    one(random_patches(8, 1, 32, 32))
    other.load_state_dict(one.state_dict())
    patches = random_patches(8, 1, 32, 32, seed=1)
    assert torch.equal(one(patches), other(patches))


def test_all_kinds_are_drawn():
    """A flat image beside another: one colour, a piece of the other, a step in brightness."""
    patches = torch.stack([torch.full((1, 32, 32), value) for value in (0.25, 0.75)] * 100)
    corrupted = corruption()(patches)[::2]
    values = {round(value, 3) for value in corrupted.unique().tolist()}
    assert 0.75 in values and 0.25 in values and len(values) > 50
