"""The numbers that tell how an image looks: each answers to its own change alone."""

import numpy as np
import pytest
import torch
from scipy import ndimage
from shared import texture

from sklearn_ssimae._deciding.looks import GoodLooks, kinds_of
from sklearn_ssimae._maps.counting import with_counts

TOLERANCES = dict(brightness=0.01, contrast=0.02, detail=0.05, scale=0.006, turn=0.4, likeness=0.1)


def cloth(turn=0.0, scale=1.0, side=160, seed=0):
    """Two crossing gratings, with some light and shade within."""
    down, right = np.mgrid[:side, :side] / scale
    angle = np.deg2rad(turn)
    along, across = (
        np.cos(angle) * right + np.sin(angle) * down,
        np.cos(angle) * down - np.sin(angle) * right,
    )
    waves = np.sin(2 * np.pi * along / 9) + 0.7 * np.sin(2 * np.pi * across / 13)
    return 0.4 + 0.1 * waves + 0.01 * np.random.default_rng(seed).normal(size=waves.shape)


def planes(image):
    return torch.from_numpy(np.float32(image))[None]


@pytest.fixture(scope="module")
def good():
    # With noise of their own: that of the images would be found where it was.
    return GoodLooks.of([planes(cloth(seed=1)), planes(cloth(seed=2))], 2, 1)


def shifts(good, image):
    return dict(zip(kinds_of(1), good.look(planes(image), 1) - good.looks[0], strict=True))


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        (cloth(), {}),
        (1.1 * cloth(), {"brightness": np.log(1.1)}),
        (0.4 + 1.2 * (cloth() - 0.4), {"contrast": np.log(1.2)}),
        (cloth(turn=3), {"turn": 3}),
        (cloth(turn=-7), {"turn": -7}),
        (cloth(scale=1.05), {"scale": np.log(1.05)}),
    ],
)
def test_what_moved_is_told_by_how_much(good, image, expected):
    found = shifts(good, image)
    for kind, tolerance in TOLERANCES.items():
        if kind == "detail" and "scale" in expected:
            continue  # a larger pattern is finer in each pixel
        assert found[kind] == pytest.approx(expected.get(kind, 0), abs=tolerance), kind


def test_blur_and_noise_move_the_fine_detail(good):
    noise = np.random.default_rng(1).normal(0, 8 / 255, (160, 160))
    assert shifts(good, ndimage.gaussian_filter(cloth(), 1))["detail"] < -0.5
    assert shifts(good, cloth() + noise)["detail"] > 0.5
    assert abs(shifts(good, cloth() + noise)["turn"]) < 0.5


def test_another_product_is_unlike(good):
    assert good.looks[0, 5] > 0.9
    assert good.look(planes(texture(1, 160, 160)[0]), 1)[5] < 0.3


def test_a_defect_moves_nothing():
    image = cloth(side=512)
    good = GoodLooks.of([planes(cloth(side=512, seed=1)), planes(image)], 2, 1)
    image[40:200, 40:200] = 0
    found = good.look(planes(image), 1) - good.looks[0]
    assert np.abs(found / list(TOLERANCES.values())).max() < 1


def test_what_does_not_count_has_no_influence(good):
    counts = np.zeros((160, 160), dtype=bool)
    counts[20:150, 30:160] = True
    inside = with_counts(planes(cloth()), counts)
    other = with_counts(planes(np.where(counts, cloth(), 1)), counts)
    np.testing.assert_array_equal(good.look(inside, 1), good.look(other, 1))
    assert abs(good.look(inside, 1) - good.looks[0])[0] < 0.01


def test_no_pixel_counts(good):
    nothing = with_counts(planes(cloth()), np.zeros((160, 160), dtype=bool))
    assert np.isnan(good.look(nothing, 1)).all()
    assert len(GoodLooks.of([planes(cloth()), nothing], 2, 1).looks) == 0


@pytest.mark.parametrize("shape", [(1, 300), (3, 5), (700, 20), (130, 131)])
def test_any_size_and_flat_images(good, shape):
    for image in (np.zeros(shape), np.ones(shape), np.random.default_rng(0).random(shape)):
        assert np.isfinite(good.look(planes(image), 1)).all()


def test_colours():
    image = torch.from_numpy(np.float32([cloth(), 1.1 * cloth(), cloth()]))
    good = GoodLooks.of([image] * 2, 2, 3)
    assert kinds_of(3)[-2:] == ("red", "blue")
    redder = image * torch.tensor([1.1, 1, 1])[:, None, None]
    found = good.look(redder, 3) - good.looks[0]
    assert found[6] > 0.05
    assert found[7] < -0.02


def test_one_image_leaves_nothing_to_compare_with():
    assert GoodLooks.of([planes(cloth())], 1, 1).looks.shape == (0, 6)
