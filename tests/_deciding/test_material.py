"""What a material looks like: its period or its grain, and how much of it is predicted."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from sklearn_ssimae._deciding.material import Material, share_predicted


def test_the_share_that_is_predicted():
    random = np.random.default_rng(0)
    grain, other = torch.from_numpy(random.random((2, 1, 64, 64))).float()
    assert share_predicted([(grain, grain)]) == pytest.approx(1)
    assert share_predicted([(grain, grain + 0.2)]) == pytest.approx(1, abs=1e-5)
    assert abs(share_predicted([(grain, other)])) < 0.05
    assert share_predicted([(grain, torch.zeros_like(grain))]) == pytest.approx(0)
    assert share_predicted([(grain, 0.5 * grain)]) == pytest.approx(2 * 0.5 / 1.25)
    assert share_predicted([(torch.ones(1, 64, 64),) * 2]) == 1


def waves(period, noise, seed=0):
    """An image (1, 96, 96) of stripes along both axes, with noise."""
    random = np.random.default_rng(seed)
    ramp = np.arange(96) * 2 * np.pi / period
    image = np.sin(ramp)[:, None] + np.sin(ramp) + noise * random.normal(size=(96, 96))
    return torch.from_numpy(image[None]).float()


@pytest.mark.parametrize("period", [6, 12, 24])
def test_the_period_of_a_pattern(period):
    image = waves(period, noise=0.3)
    material = Material.of([(image, image)])
    assert material.period == pytest.approx(period, abs=1)
    assert f"repeats every {material.period:.3g} pixels, {64 / material.period:.2g} times" in (
        material.in_words(64)
    )


@pytest.mark.parametrize("sigma", [1, 3])
def test_the_grain_of_a_random_texture(sigma):
    """Of noise that is smoothed by a Gaussian, the autocorrelation is one of σ times √2."""
    noise = np.random.default_rng(0).normal(size=(256, 256))
    image = torch.from_numpy(gaussian_filter(noise, sigma, mode="wrap")[None]).float()
    material = Material.of([(image, image)])
    assert material.period is None
    assert material.length == pytest.approx(2 * sigma, abs=1)
    assert "no repeat, grain of" in material.in_words(64)
    assert "half the scale" not in material.in_words(64)


def test_half_the_scale_is_named_where_it_would_redraw_more():
    """Coarse structure is redrawn, fine grain is not."""
    random = np.random.default_rng(0)
    coarse = torch.from_numpy(gaussian_filter(random.normal(size=(1, 128, 128)), (0, 3, 3))).float()
    grain = torch.from_numpy(random.normal(size=(1, 128, 128))).float() * coarse.std()
    material = Material.of([(coarse + grain, coarse)])
    assert material.predicted < 0.6
    assert material.predicted_at_half > material.predicted + 0.05
    assert "half the scale may find more" in material.in_words(64)


def test_flat_images_have_neither():
    flat = torch.full((1, 32, 32), 0.5)
    assert Material.of([(flat, flat)])[:3] == (None, 0.0, 1.0)
