"""Process-wide settings, made before scipy, torch and matplotlib read them."""

import os

# Without it two of scikit-learn's estimator checks skip themselves.
os.environ["SCIPY_ARRAY_API"] = "1"
# More threads make these small fits slower, many times so on a busy machine.
os.environ["OMP_NUM_THREADS"] = "1"
os.environ["MPLBACKEND"] = "Agg"

import torch

torch.set_num_threads(1)

import pytest  # noqa: E402
from shared import DETECTORS  # noqa: E402

from sklearn_ssimae._deciding import choice  # noqa: E402

# Defects by which fits choose their map: few, since they take half of a small fit. Set here, for
# the detectors that a module fits when it is imported.
ALL_TILES = choice._TILES
choice._TILES = ALL_TILES // 16


@pytest.fixture(scope="module", autouse=True)
def drawn_defects(request):
    """All of them in modules that say `DRAWS_ALL_DEFECTS = True`."""
    with pytest.MonkeyPatch.context() as patch:
        if getattr(request.module, "DRAWS_ALL_DEFECTS", False):
            patch.setattr(choice, "_TILES", ALL_TILES)
        yield


@pytest.fixture
def all_drawn_defects(monkeypatch):
    """All of them in one test, such as one that compares with fits in other processes."""
    monkeypatch.setattr(choice, "_TILES", ALL_TILES)


@pytest.fixture(params=DETECTORS, ids=lambda cls: cls.__name__)
def cls(request):
    """Each class of detectors."""
    return request.param


def pytest_report_header(config):
    """pytest-xdist does not print how many tests are deselected."""
    if config.option.markexpr == "not slow and not browser":
        return (
            "left out: slow tests and tests in a Chromium; run them by `pytest -m slow` and "
            "`pytest -m browser`"
        )
    return None
