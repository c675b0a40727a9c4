"""A process that loaded a detector, and forks: the child can score."""

import os
import subprocess
import sys
from pathlib import Path

import joblib
import numpy as np
import pytest
import skops.io
from numpy.testing import assert_array_equal
from shared import cheap, texture

import sklearn_ssimae
from sklearn_ssimae._networks.devices import to_channels_last
from sklearn_ssimae._networks.storage import network_from_arrays, network_to_arrays

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

IMAGES = texture(2, 32, 32).astype(np.float32)
# Scores in a child are those of the fit; a child that hangs is ended by its own alarm.
SCRIPT = """
import copy, os, pickle, signal, sys
import joblib, numpy as np, skops.io, torch
from sklearn.base import clone
assert torch.get_num_threads() == 2
torch.use_deterministic_algorithms(sys.argv[1] == "deterministic")
detectors = [joblib.load("detector.joblib")]
trusted = skops.io.get_untrusted_types(file="detector.skops")
detectors.append(skops.io.load("detector.skops", trusted=trusted))
detectors.append(copy.deepcopy(detectors[0]))
detectors.append(pickle.loads(pickle.dumps(detectors[0])))
clone(detectors[0]).set_params(latent_dim=300)
detectors[0].threshold_, repr(detectors[0]), dir(detectors[0])
X = np.load("images.npy")
child = os.fork()
if child == 0:
    signal.alarm(300)
    np.save("scores.npy", [detector.score_samples(X) for detector in detectors])
    os._exit(0)
sys.exit(os.waitpid(child, 0)[1])
"""


@pytest.fixture(scope="module")
def fitted():
    # Weights of more values than torch copies by one thread, 32,768.
    detector = cheap(patch_size=32, latent_dim=300, max_iter=1, smoothing=1.0, stride=None)
    detector.set_params(residual="plain", contamination=0.2)
    return detector.fit(IMAGES)


@pytest.mark.parametrize("mode", ["as usual", "deterministic"])
def test_fork_after_a_load(fitted, mode, tmp_path):
    largest = max(param.numel() for param in fitted.network_.parameters())
    assert largest > 32_768
    joblib.dump(fitted, tmp_path / "detector.joblib")
    skops.io.dump(fitted, tmp_path / "detector.skops")
    np.save(tmp_path / "images.npy", IMAGES)
    root = Path(sklearn_ssimae.__file__).parents[1]
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": "2",
        "OMP_WAIT_POLICY": "passive",
        "PYTHONPATH": str(root),
    }
    command = [sys.executable, "-c", SCRIPT, mode]
    subprocess.run(command, cwd=tmp_path, check=True, env=environment, timeout=400)
    expected = fitted.score_samples(IMAGES)
    for scores in np.load(tmp_path / "scores.npy"):
        # Two threads may round otherwise than one.
        np.testing.assert_allclose(scores, expected, rtol=1e-4)


def test_loaded_weights_lie_as_a_fit_leaves_them(fitted):
    """The kernels that torch chooses, and so the last bits of scores, depend on it."""
    stored = network_to_arrays(fitted.network_)
    loaded = network_from_arrays(type(fitted.network_), stored)
    weights = to_channels_last(fitted.network_).state_dict()
    assert loaded.state_dict().keys() == weights.keys()
    for name, tensor in loaded.state_dict().items():
        assert tensor.stride() == weights[name].stride()
        assert tensor.dtype == weights[name].dtype
        assert tensor.data_ptr() % 64 == 0
        assert_array_equal(tensor.numpy(), weights[name].numpy())
        assert not np.shares_memory(tensor.numpy(), stored["weights"][name])
