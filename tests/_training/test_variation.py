"""Images in other light, turned and zoomed."""

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from scipy import ndimage
from shared import random_patches

from sklearn_ssimae._maps.counting import with_counts
from sklearn_ssimae._training.variation import Change, Variation, varied


def smooth_image(height=60, width=50):
    values = ndimage.gaussian_filter(np.random.default_rng(0).random((height, width)), 3)
    values = (values - values.min()) / np.ptp(values)
    return torch.from_numpy(0.2 + 0.6 * values).float()[None]


def middle(image):
    return (image.shape[1] - 1) / 2, (image.shape[2] - 1) / 2


def test_no_change_cuts_a_crop():
    image = random_patches(3, 40, 30)
    crop = varied(image, 3, Change(), (10 + 7.5, 3 + 7.5), (16, 16))
    assert_allclose(crop, image[:, 10:26, 3:19], atol=1e-5)


def test_brightness_is_a_factor_and_contrast_one_about_the_mean():
    image = smooth_image()
    crop = varied(image, 1, Change(brightness=1.1, contrast=0.8), middle(image), (60, 50))
    assert float(crop.mean()) == pytest.approx(1.1 * float(image.mean()), abs=1e-5)
    assert float(crop.std()) == pytest.approx(0.8 * float(image.std()), rel=1e-4)


def test_light_ends_at_white_unless_the_image_went_beyond():
    image = smooth_image()
    bright = varied(image, 1, Change(brightness=1.5), middle(image), (60, 50))
    assert float(bright.max()) == 1
    beyond = varied(2 * image, 1, Change(brightness=1.5), middle(image), (60, 50))
    assert float(beyond.max()) == pytest.approx(float(2 * image.max()))


def test_a_quarter_turn_is_exact():
    image = smooth_image(41, 41)
    turned = varied(image, 1, Change(turn=90), (20, 20), (41, 41))
    assert_allclose(turned, torch.rot90(image, 1, (1, 2)), atol=1e-4)


@pytest.mark.parametrize(("degrees", "zoom"), [(5.0, 1.0), (0.0, 1.1), (-3.0, 0.95)])
def test_turn_and_zoom_agree_with_scipy(degrees, zoom):
    image = smooth_image()
    angle, centre = np.deg2rad(degrees), np.array(middle(image))
    matrix = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]]) / zoom
    expected = ndimage.affine_transform(
        image[0].double().numpy(), matrix, centre - matrix @ centre, order=3, mode="mirror"
    )
    moved = varied(image, 1, Change(turn=degrees, zoom=zoom), middle(image), (60, 50))
    assert_allclose(moved[0], expected, atol=5e-3)


def test_what_does_not_count_is_moved_along():
    counts = np.ones((41, 41), bool)
    counts[:, :10] = False
    planes = with_counts(smooth_image(41, 41), counts)
    turned = varied(planes, 1, Change(turn=90), (20, 20), (41, 41))
    expected = torch.rot90(torch.from_numpy(counts), 1)
    assert torch.equal(turned[1, :, :], expected.float())


def test_changes_reach_what_is_given_and_no_farther():
    changes = np.array(Variation(0.2, 5, 0.1).draw(2000, np.random.default_rng(0)))
    low, high = changes.min(axis=0), changes.max(axis=0)
    assert_allclose(high, [1.2, 1.2, 5, 1.1], rtol=0.01)
    assert_allclose(low, [1 / 1.2, 1 / 1.2, -5, 1 / 1.1], rtol=0.01)
    assert set(Variation(turn=5).draw(3, np.random.default_rng(0))[0][:2]) == {1.0}
