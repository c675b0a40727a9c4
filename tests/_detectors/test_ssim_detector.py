"""What the SSIM detector's map may be, apart from the loss: window, blur, exponents."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from shared import cheap, texture

from sklearn_ssimae import SSIMAutoencoderDetector, ssim_map
from sklearn_ssimae._maps.filters import gaussian_smoothing

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

BARE = dict(smoothing=0, opening_diameter=None, residual="plain", threshold=1.0)
GIVEN = dict(c1=1e-4, c2=9e-4, map_window_size=5, map_blur=1.5)


def fitted(**params):
    return cheap(SSIMAutoencoderDetector, **params).fit(texture(4, 24, 24))


def test_the_map_compares_blurred_images_with_its_own_window():
    X = texture(2, 32, 40)
    detector = fitted(**BARE, **GIVEN)
    blurred = [
        gaussian_smoothing(torch.from_numpy(images).float(), 1.5)
        for images in (X, detector.reconstruct(X))
    ]
    expected = 1 - ssim_map(*blurred, window_size=5)
    np.testing.assert_allclose(detector.transform(X), expected.numpy(), atol=1e-5)


def test_the_loss_does_not_know_the_map():
    plain = fitted(**BARE, **GIVEN | {"map_window_size": 11, "map_blur": 0})
    other = fitted(**BARE, **GIVEN)
    assert plain.loss_curve_ == other.loss_curve_
    for name, weights in plain.network_.state_dict().items():
        assert torch.equal(weights, other.network_.state_dict()[name])


def test_what_is_given_is_in_force_at_once():
    detector = fitted()
    detector.set_params(map_window_size=7, map_blur=2.5, alpha=0.5)
    assert (detector.map_window_size_, detector.map_blur_, detector.alpha_) == (7, 2.5, 0.5)
    with pytest.warns(UserWarning, match="map_window_size is 7.0 and was"):
        detector.predict(texture(1, 24, 24))


def test_a_fit_chooses_among_named_maps():
    detector = fitted()
    rows = {
        (row["c2"], row["beta"], row["map_window_size"], row["map_blur"])
        for row in detector.map_choice_
    }
    blur = 16 / 32
    assert rows == {(9e-4, 1, 11, 0), (3e-2, 1, 11, 0), (3e-2, 1, 5, 0), (9e-4, 1, 11, blur)}
    assert detector.map_window_size_ in (5, 11)
    assert detector.map_blur_ in (0, blur)


def test_exponents_that_are_left_open():
    detector = fitted(beta="auto", gamma="auto", map_window_size=11, map_blur=0)
    assert {(row["beta"], row["gamma"]) for row in detector.map_choice_} == {(1, 1), (0, 0)}
    assert detector.alpha_ == 1
    assert detector.beta_ == detector.gamma_
    assert fitted(beta="auto", contamination=0.1, **BARE | {"threshold": None}).beta_ in (0, 1)


@pytest.mark.parametrize("name", ["window_size", "map_window_size"])
@pytest.mark.parametrize("size", [4, 17])
def test_windows_that_are_none(name, size):
    with pytest.raises(ValueError, match=f"{name} must be odd and at most patch_size=16"):
        fitted(**{name: size})


def test_a_change_of_hue_alone_is_seen():
    """Channels are compared one by one, so that the same brightness does not hide it."""
    X = texture(4, 40, 40, 3)
    detector = cheap(
        SSIMAutoencoderDetector, n_patches=300, max_iter=4, **BARE, **GIVEN | {"map_blur": 0}
    ).fit(X)
    turned = X[:1].copy()
    turned[:, 10:22, 10:22, 0] -= 0.15
    turned[:, 10:22, 10:22, 2] += 0.15
    before, after = (detector.transform(images)[0] for images in (X[:1], turned))
    raised = after - before
    assert raised[12:20, 12:20].mean() > 5 * np.abs(raised[30:, 30:]).mean()
