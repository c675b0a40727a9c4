"""The border of an image counts like the rest of it."""

import numpy as np
import pytest

from sklearn_ssimae import L2AutoencoderDetector, SSIMAutoencoderDetector

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
@pytest.mark.parametrize(("n", "is_told"), [(40, False), (60, True)])
def test_sides_are_told_apart_where_enough_images_are_kept(n, is_told):
    """Of 40 images four are kept, of 60 six."""
    detector = L2AutoencoderDetector(patch_size=PATCH, latent_dim=4, n_patches=32, max_iter=1)
    profile = detector.fit(weave(n, seed=0)).border_profile_
    assert profile.shape == (4, PATCH // 2 + 1)
    assert (profile != profile[0]).any() == is_told
    detector.fit_threshold(weave(6, seed=1))
    assert (detector.border_profile_ != detector.border_profile_[0]).any()
