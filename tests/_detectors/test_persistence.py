"""Detectors in joblib's files: other versions, other machines, damaged files."""

import copy
import io
import os
import pickle
import pickletools
import random
import subprocess
import sys
import warnings
from inspect import signature
from pathlib import Path

import joblib
import numpy as np
import pytest
import shared
import skops.io
import torch
from numpy.testing import assert_array_equal
from shared import CHEAPEST, cheap
from skimage import data
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning, InconsistentVersionWarning

import sklearn_ssimae
from sklearn_ssimae import (
    __version__,
)

DETECTORS = [cheap(cls) for cls in shared.DETECTORS]
IDS = [type(detector).__name__ for detector in DETECTORS]
IMAGES = np.stack([data.grass()[9 * i : 9 * i + 24, :30] for i in range(5)])


def fit(detector):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return clone(detector).fit(IMAGES)


@pytest.fixture(scope="module", params=DETECTORS, ids=IDS)
def fitted(request):
    return fit(request.param)


@pytest.fixture(scope="module")
def l2_detector():
    return fit(DETECTORS[1])


def dumps(detector, **options):
    stream = io.BytesIO()
    joblib.dump(detector, stream, **options)
    return stream.getvalue()


def loads(content):
    return joblib.load(io.BytesIO(content))


def from_state(detector, state):
    """Loaded from a file that holds this state."""
    loaded = type(detector).__new__(type(detector))
    loaded.__setstate__(state)
    return loaded


@pytest.fixture(scope="module")
def found_by_a_fresh_process(tmp_path_factory):
    """Of each detector: itself, and the maps and the offset that another process makes of its file.

    One process for all of them: to start it takes longer than to load and score.
    """
    folder = tmp_path_factory.mktemp("detectors")
    detectors = [fit(detector) for detector in DETECTORS]
    for detector in detectors:
        joblib.dump(detector, folder / f"{type(detector).__name__}.joblib")
    np.save(folder / "images.npy", IMAGES)
    script = """
import joblib, numpy as np, pathlib
images = np.load("images.npy")
for file in pathlib.Path().glob("*.joblib"):
    detector = joblib.load(file)
    np.savez(file.with_suffix(".npz"), maps=detector.transform(images), offset=detector.offset_)
"""
    root = Path(sklearn_ssimae.__file__).parents[1]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(root)}
    command = [sys.executable, "-W", "error", "-c", script]
    subprocess.run(command, cwd=folder, check=True, env=environment)
    return [
        (detector, np.load(folder / f"{type(detector).__name__}.npz")) for detector in detectors
    ]


@pytest.mark.parametrize("index", range(len(DETECTORS)), ids=IDS)
def test_a_fresh_process_makes_the_same_maps(found_by_a_fresh_process, index):
    detector, found = found_by_a_fresh_process[index]
    assert_array_equal(found["maps"], detector.transform(IMAGES))
    assert found["offset"] == detector.offset_


def test_a_file_names_public_classes_alone(fitted):
    """Modules may move; files stay."""
    strings: list[str] = []
    names = set()
    for operation, argument, _ in pickletools.genops(pickle.dumps(fitted)):
        if isinstance(argument, str):
            strings.append(argument)
        if operation.name == "GLOBAL":
            names.add(argument)
        elif operation.name == "STACK_GLOBAL":
            names.add(f"{strings[-2]} {strings[-1]}")
    own = {name for name in names if name.startswith("sklearn_ssimae")}
    assert own == {f"sklearn_ssimae {type(fitted).__name__}"}


def test_size_of_the_file(fitted):
    weights = sum(tensor.nbytes for tensor in fitted.network_.state_dict().values())
    # And what the calibration holds, however small the network: of good images' looks a spectrum.
    most = 1.1 * weights + 110_000
    assert weights < len(dumps(fitted)) < most
    assert weights < len(skops.io.dumps(fitted)) < most


def test_loading_leaves_the_process_alone(fitted, monkeypatch):
    """No seed, no draw, no device, no connection."""
    content, skops_content = dumps(fitted), skops.io.dumps(fitted)
    trusted = skops.io.get_untrusted_types(data=skops_content)

    def refuse(*args, **options):
        raise AssertionError("loading needs none of this")

    monkeypatch.setattr("socket.socket.connect", refuse)
    monkeypatch.setattr(torch.cuda, "_lazy_init", refuse)
    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", refuse)
    monkeypatch.setattr("sklearn_ssimae._detectors.fit.choose_device", refuse)

    def state():
        return (
            torch.get_rng_state().tolist(),
            np.random.get_state()[1].tolist(),
            random.getstate(),
            torch.get_default_dtype(),
            torch.get_num_threads(),
            torch.is_grad_enabled(),
        )

    before = state()
    loads(content)
    skops.io.loads(skops_content, trusted=trusted)
    assert state() == before


@pytest.mark.parametrize("device", ["cuda", "cuda:7", "mps"])
def test_a_device_that_is_not_here_matters_to_fit_alone(fitted, device):
    elsewhere = pickle.loads(pickle.dumps(fitted)).set_params(device=device)
    loaded = loads(dumps(elsewhere))
    assert loaded.device == device
    assert_array_equal(loaded.transform(IMAGES), fitted.transform(IMAGES))
    assert_array_equal(loaded.predict(IMAGES), fitted.predict(IMAGES))


def test_path_of_a_checkpoint_is_stored_as_a_string(fitted):
    detector = pickle.loads(pickle.dumps(fitted)).set_params(checkpoint=Path("folder") / "file")
    assert loads(dumps(detector)).checkpoint == str(Path("folder") / "file")
    assert isinstance(detector.checkpoint, Path)


# Versions ----------------------------------------------------------------------------


def test_the_same_version_loads_in_silence(fitted):
    assert fitted.__getstate__()["_sklearn_ssimae_version"] == __version__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for loaded in (loads(dumps(fitted)), copy.copy(fitted), copy.deepcopy(fitted)):
            assert vars(loaded).keys() == vars(fitted).keys()


@pytest.mark.parametrize("version", ["0.0.1", "99.0", None])
def test_another_version_is_reported(fitted, version):
    state = fitted.__getstate__()
    if version is None:
        del state["_sklearn_ssimae_version"]
    else:
        state["_sklearn_ssimae_version"] = version
    with pytest.warns(InconsistentVersionWarning) as caught:
        loaded = from_state(fitted, state)
    (warning,) = caught
    assert warning.message.original_sklearn_version == (version or "unknown")
    assert warning.message.current_sklearn_version == __version__
    assert warning.message.estimator_name == f"sklearn_ssimae.{type(fitted).__name__}"
    assert warning.filename == __file__
    assert_array_equal(loaded.transform(IMAGES), fitted.transform(IMAGES))


def test_parameters_that_an_old_state_lacks(fitted):
    names = [name for name in signature(type(fitted)).parameters if name not in CHEAPEST]
    state = {name: v for name, v in fitted.__getstate__().items() if name not in names}
    state["_sklearn_ssimae_version"] = "0.0.1"
    del state["network_"]["checksum"]
    with pytest.warns(InconsistentVersionWarning, match=r"0\.0\.1"):
        loaded = from_state(fitted, state)
    for name in names:
        assert getattr(loaded, name) == signature(type(fitted)).parameters[name].default
    assert_array_equal(loaded.transform(IMAGES), fitted.transform(IMAGES))
    assert_array_equal(loaded.predict(IMAGES), fitted.predict(IMAGES))
    assert loaded.get_params().keys() == fitted.get_params().keys()


def test_an_unfitted_detector_of_another_version():
    state = {**DETECTORS[0].__getstate__(), "_sklearn_ssimae_version": "0.0.1"}
    del state["smoothing"]
    with pytest.warns(InconsistentVersionWarning):
        loaded = from_state(DETECTORS[0], state)
    assert loaded.get_params() == DETECTORS[0].get_params()


# Damaged files -----------------------------------------------------------------------


@pytest.mark.parametrize("share", [0.0, 0.01, 0.3, 0.7, 0.99])
@pytest.mark.parametrize("compress", [0, 3])
def test_a_truncated_file_is_no_detector(l2_detector, share, compress):
    content = dumps(l2_detector, compress=compress)
    with pytest.raises((EOFError, ValueError, IndexError, pickle.UnpicklingError)):
        loads(content[: int(share * len(content))])


@pytest.mark.parametrize("name", ["encoder.0.weight", "decoder.0.bias"])
def test_a_changed_bit_in_the_weights_is_found(l2_detector, name):
    content = bytearray(dumps(l2_detector))
    weights = l2_detector.network_.state_dict()[name].numpy()
    place = content.find(np.ascontiguousarray(weights).tobytes())
    assert place > 0
    content[place + weights.nbytes // 2] ^= 1
    with pytest.raises(ValueError, match=r"weights are damaged.*Load another copy"):
        loads(bytes(content))


def test_a_changed_bit_in_a_skops_file_is_found(l2_detector):
    content = bytearray(skops.io.dumps(l2_detector))
    trusted = skops.io.get_untrusted_types(data=bytes(content))
    content[len(content) // 2] ^= 1
    with pytest.raises(Exception, match="CRC"):
        skops.io.loads(bytes(content), trusted=trusted)


@pytest.mark.parametrize("mode", ["r", "r+", "c"])
def test_memory_mapped(fitted, mode, tmp_path):
    """No warning of arrays that cannot be written to, which torch gives once a process."""
    joblib.dump(fitted, tmp_path / "detector.joblib")
    images = np.stack([data.grass()[9 * i : 9 * i + 24, 30:60] for i in range(3)])
    images.flags.writeable = False
    torch.set_warn_always(True)
    try:
        detector = joblib.load(tmp_path / "detector.joblib", mmap_mode=mode)
        assert_array_equal(detector.transform(images), fitted.transform(images))
        detector.fit_threshold(images)
    finally:
        torch.set_warn_always(False)
