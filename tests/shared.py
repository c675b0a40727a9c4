"""What several test files share."""

import numpy as np
import torch
from skimage import data
from torch import nn

from sklearn_ssimae import (
    FMAEDetector,
    L2AutoencoderDetector,
    SSIMAutoencoderDetector,
    VAEDetector,
)

DETECTORS = [SSIMAutoencoderDetector, L2AutoencoderDetector, VAEDetector, FMAEDetector]
CHEAPEST = dict(patch_size=16, latent_dim=8, n_patches=32, max_iter=2, stride=6, random_state=0)

with torch.random.fork_rng(devices=[]):
    torch.manual_seed(0)
    EXTRACTOR = nn.Conv2d(3, 4, 3)


def cheap(cls=L2AutoencoderDetector, **params):
    """A detector that fits in a moment."""
    own = {"feature_extractor": EXTRACTOR} if issubclass(cls, FMAEDetector) else {}
    return cls(**{**CHEAPEST, **own, **params})


def texture(n, height, width, *channels):
    """Cuts (n, h, w[, c]) out of a real texture, floats in [0, 1]."""
    grass = data.grass() / 255
    cuts = np.stack([grass[9 * i : 9 * i + height, 5 * i : 5 * i + width] for i in range(n)])
    if not channels:
        return cuts
    return np.stack([cuts ** (1 + c / 2) for c in range(channels[0])], axis=-1)


def random_patches(*shape, seed=0):
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


class Gain(nn.Module):
    """One weight: a factor of the patches."""

    def __init__(self, weight=0.0):
        super().__init__()
        self.weight = nn.Parameter(torch.full((1, 1, 1, 1), weight))

    def forward(self, patches):
        return self.weight * patches
