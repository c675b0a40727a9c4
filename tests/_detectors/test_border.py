"""The border of an image counts like the rest of it."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from sklearn_ssimae import L2AutoencoderDetector, SSIMAutoencoderDetector
from sklearn_ssimae._deciding import calibration
from sklearn_ssimae._deciding.calibration import (
    Calibration,
    Extent,
    KeptMap,
    _good_material,
    _judged_by_others,
)

PATCH = 32


def weave(n, seed):
    """Images (n, 80, 80) of one periodic texture in any phase, under some noise."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[:80, :80]
    rows, columns = random.uniform(0, 2 * np.pi, (2, n, 1, 1))
    images = np.sin(np.pi * y / 4 + rows) * np.sin(np.pi * x / 4 + columns)
    return (0.5 + 0.25 * images + random.normal(0, 0.02, images.shape)).clip(0, 1)


@pytest.mark.parametrize("make", [L2AutoencoderDetector, SSIMAutoencoderDetector])
def test_unseen_good_images_show_no_more_at_the_border(make):
    """The mean residual of the outer half patch is within a fifth of the inner one's."""
    detector = make(patch_size=PATCH, latent_dim=16, n_patches=400, max_iter=8, random_state=0)
    detector.fit(weave(20, seed=0))
    inside = np.zeros((80, 80), dtype=bool)
    inside[PATCH // 2 : -PATCH // 2, PATCH // 2 : -PATCH // 2] = True
    for residual in ("plain", "relative"):
        maps = detector.set_params(residual=residual).transform(weave(10, seed=1))
        assert maps[:, ~inside].mean() == pytest.approx(maps[:, inside].mean(), rel=0.2)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize(
    ("n", "width", "is_told"),
    [(40, 80, False), (60, 80, True), (8, 330, False), (10, 330, True)],
)
def test_sides_are_told_apart_where_enough_are_seen(n, width, is_told):
    """Of 40 images four are kept, of 60 six; of large ones a strip each, with three sides."""
    detector = L2AutoencoderDetector(patch_size=PATCH, latent_dim=4, n_patches=32, max_iter=1)
    profile = detector.fit(np.resize(weave(n, seed=0), (n, 80, width))).border_profile_
    assert profile.shape == (4, PATCH // 2 + 1)
    assert (profile != profile[0]).any() == is_told


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize(("n_maps", "is_told"), [(4, False), (5, True)])
def test_large_images_keep_their_maps_alone(monkeypatch, n_maps, is_told):
    """Without a look nothing but float32 maps is held, so that five of large images are."""
    monkeypatch.setattr(calibration, "_SAMPLE_BYTES", n_maps * 80 * 80 * 4)
    detector = L2AutoencoderDetector(patch_size=PATCH, latent_dim=4, n_patches=32, max_iter=1)
    profile = detector.fit(weave(60, seed=0)).border_profile_
    assert (profile != profile[0]).any() == is_told


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_a_selvage_raises_the_profile_of_its_side():
    images = weave(10, seed=0).repeat(4, axis=2)
    images[:, :, :6] = np.random.default_rng(1).random((10, 80, 6))
    detector = L2AutoencoderDetector(patch_size=PATCH, latent_dim=4, n_patches=64, max_iter=2)
    top, right, bottom, left = detector.fit(images).border_profile_[:, 0]
    assert left > 1.5 * max(top, right, bottom)


def test_what_is_judged_by_other_images_is_judged_by_sides_as_well():
    """Of five images each is judged by four, which alone would tell no side from another."""
    random = np.random.default_rng(0)
    maps = []
    for _ in range(5):
        smooth, values = random.random((2, 128, 128)).astype(np.float32) + 0.5
        smooth[:, :8] *= 4
        extent = Extent(smooth.shape, (True, True, True, True))
        maps.append(KeptMap(extent, torch.from_numpy(smooth), torch.from_numpy(values[None])))
    detector = SimpleNamespace(
        network_=SimpleNamespace(config={"patch_size": PATCH}),
        residual="relative",
        _residual_is_logarithm=False,
        _calibration=Calibration(2.0, by_look=True),
    )
    detector._calibration.good = _good_material(detector, maps)
    judged = [relative[0].numpy() for _, relative in _judged_by_others(detector, maps)]
    selvage, rest = (
        np.quantile(np.stack(judged)[..., part], 0.95) for part in (np.s_[:6], np.s_[16:])
    )
    assert selvage == pytest.approx(rest, rel=0.15)
