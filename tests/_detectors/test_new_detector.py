"""The detector in CONTRIBUTING.md: as short as it says, and a detector like the others."""

import pickle
import re
import sys
import types
from pathlib import Path

import numpy as np
import pytest
from sklearn.utils.estimator_checks import check_estimator

CONTRIBUTING = Path(__file__).parents[2] / "CONTRIBUTING.md"
MAX_LINES = 60
CHEAP = {"patch_size": 16, "latent_dim": 4, "n_patches": 8, "max_iter": 1, "contamination": 0.1}


@pytest.fixture(scope="module")
def block():
    (code,) = re.findall(r"```python\n(.*?)```", CONTRIBUTING.read_text(encoding="utf-8"), re.S)
    return code


@pytest.fixture
def detector_class(block, monkeypatch):
    # A module of its own, for pickle to find the class in.
    module = types.ModuleType("new_detector")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    exec(compile(block, str(CONTRIBUTING), "exec"), vars(module))
    return module.SlopeDetector


def test_length(block):
    assert len(block.splitlines()) < MAX_LINES


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.UndefinedMetricWarning")
@pytest.mark.filterwarnings("ignore:X (has|does not have valid) feature names")
def test_estimator_checks(detector_class):
    results = check_estimator(detector_class(**CHEAP), on_skip=None, on_fail="raise")
    assert {result["status"] for result in results} == {"passed"}


def stripes(n_images, seed):
    phase = np.random.default_rng(seed).uniform(0, 6, (n_images, 1, 1))
    return np.tile(0.5 + 0.4 * np.sin(np.arange(32) + phase), (1, 32, 1))


def test_finds_a_defect(detector_class):
    detector = detector_class(
        patch_size=16, latent_dim=8, n_patches=400, max_iter=10, stride=8, random_state=0
    ).fit(stripes(8, 0))
    images = stripes(2, 1)
    images[1, 10:20, 12:18] = 0.5
    masks = np.zeros(images.shape, dtype=bool)
    masks[1, 10:20, 12:18] = True
    assert detector.score(images, masks) > 0.9
    loaded = pickle.loads(pickle.dumps(detector))
    np.testing.assert_array_equal(loaded.transform(images), detector.transform(images))
