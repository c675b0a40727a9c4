"""Whether a network knows more than the mean image."""

import numpy as np
import pytest
import torch
from shared import Gain, random_patches
from skimage import data

from sklearn_ssimae import ssim_map
from sklearn_ssimae._training.crops import CropSampler
from sklearn_ssimae._training.probe import LEARNING, Probe


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


@pytest.mark.parametrize("patch_size", [32, 128])
def test_one_colour_has_learnt_nothing_by_ssim(patch_size):
    image = torch.from_numpy(data.brick() / 255).float()[None]
    for seed in range(4):
        sampler = CropSampler(lambda i: image, 1, patch_size, 1, np.random.default_rng(seed))
        (patches,) = sampler.batches(64, 64)
        probe = Probe(
            patches,
            lambda x, patches=patches: torch.full_like(x, patches.mean()),
            lambda x, y: (1 - ssim_map(x, y)).mean(dim=1),
        )
        assert probe.remaining() >= LEARNING
