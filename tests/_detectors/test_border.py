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
