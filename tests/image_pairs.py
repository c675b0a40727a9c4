"""Pairs of images, and options that the tests of the structural similarity go through."""

import numpy as np
from skimage import data

from sklearn_ssimae import ssim_components

WINDOWS = ["uniform", "gaussian"]
# An exponent other than 1 leaves the fused path.
EXPONENTS = [{}, dict(gamma=0.5), dict(alpha=2, beta=0.7, gamma=1.5)]


def random_pair(shape, dtype=np.float64, seed=0, noise=0.2):
    """An image and a noisy copy, both in [0, 1]."""
    rng = np.random.default_rng(seed)
    x = rng.random(shape)
    y = np.clip(x + noise * rng.standard_normal(shape), 0, 1)
    return x.astype(dtype), y.astype(dtype)


def texture_pair(dtype):
    x = data.brick()[:200, :170] / 255.0
    y = np.clip(0.8 * np.roll(x, 1, axis=1) + 0.1, 0, 1)
    return x.astype(dtype), y.astype(dtype)


def components_product(x, y, **options):
    luminance, contrast, structure = ssim_components(x, y, **options)
    return luminance * contrast * structure
