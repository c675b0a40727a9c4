from __future__ import annotations

import numpy as np
import pytest

from sklearn_ssimae._deciding.probes import make_probes
from sklearn_ssimae.datasets._drawing import draw_defect

KINDS = ["scratch", "thread", "stain", "dent", "patch", "lump", "blur", "grain"]


def _texture(side: int, n_channels: int = 1) -> np.ndarray:
    noise = np.random.default_rng(0).random((side, side, n_channels))
    waves = 0.3 + 0.2 * np.sin(np.arange(side) / 2)[:, None, None]
    return waves + 0.3 * noise


def test_the_kinds():
    assert sorted(make_probes(128)) == sorted(KINDS)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("side", "n_channels"), [(128, 1), (64, 3)])
def test_a_defect_alters_its_mask_alone(kind, side, n_channels):
    canvas = _texture(side, n_channels)
    random = np.random.RandomState(0)
    altered, mask = draw_defect(canvas, [kind], random, 0, make_probes(64))
    assert mask.any()
    assert not mask.all()
    np.testing.assert_array_equal(altered[~mask], canvas[~mask])
    assert np.abs(altered - canvas)[mask].mean() > 0.03
    assert altered.min() >= 0 and altered.max() <= 1


@pytest.mark.parametrize("kind", ["stain", "lump", "blur", "grain"])
def test_blots_of_all_sizes(kind):
    """Radii of 1/16 to 1/2 of the patch: areas of the smallest and largest differ much."""
    canvas, random, probes = _texture(256), np.random.RandomState(1), make_probes(128)
    areas = [draw_defect(canvas, [kind], random, 0, probes)[1].sum() for _ in range(30)]
    assert np.sqrt(min(areas) / np.pi) < 12
    assert np.sqrt(max(areas) / np.pi) > 40


def test_a_lump_hides_the_texture_and_grain_keeps_its_brightness():
    canvas, random, probes = _texture(256), np.random.RandomState(2), make_probes(128)
    altered, weight = probes["grain"](canvas, random)
    inside = weight == 1
    assert altered[inside].mean() == pytest.approx(canvas[inside].mean(), abs=0.05)
    altered, weight = probes["lump"](canvas, random)
    inside = weight == 1
    assert abs(np.corrcoef(altered[inside].ravel(), canvas[inside].ravel())[0, 1]) < 0.2
