"""Maps relative to the look of the reconstruction, in a detector."""

import pickle

import joblib
import numpy as np
import onnxruntime
import pytest
import skops.io
import torch
from shared import cheap, texture

from sklearn_ssimae import L2AutoencoderDetector, SSIMAutoencoderDetector, VAEDetector
from sklearn_ssimae._detectors import calibration, choice
from sklearn_ssimae._maps.look import LookProfile
from sklearn_ssimae.export import to_onnx

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


@pytest.fixture(params=[SSIMAutoencoderDetector, L2AutoencoderDetector])
def fitted(request, monkeypatch):
    """A detector whose drawn defects spoke for the look."""
    choose = calibration.choose_map
    monkeypatch.setattr(
        calibration, "choose_map", lambda *args: choose(*args)._replace(by_look=True)
    )
    # Enough crops that reconstructions are not nearly flat: their deviation would be rounding.
    return cheap(request.param, n_patches=320).fit(texture(4, 32, 40))


def test_the_profile(fitted):
    assert fitted.look_profile_.shape == (33, 33)
    assert (fitted.look_profile_ > 0).all()
    by_look = fitted.transform(texture(4, 32, 40))
    plain = fitted.set_params(residual="plain").transform(texture(4, 32, 40))
    assert np.isfinite(by_look).all()
    # Other than the border's profile, it divides pixels at one distance by different numbers.
    ratio = (by_look / plain)[:, 16, 18:22]
    assert np.ptp(ratio) > 0.01 * ratio.mean()


def test_stored_detectors_give_the_same_maps(fitted):
    X = texture(2, 32, 40)
    maps = fitted.transform(X)
    again = pickle.loads(pickle.dumps(fitted))
    trusted = [f"sklearn_ssimae.{type(fitted).__name__}"]
    by_skops = skops.io.loads(skops.io.dumps(fitted), trusted=trusted)
    for detector in (again, by_skops):
        np.testing.assert_array_equal(detector.transform(X), maps)


@pytest.mark.parametrize("n_images", [1, 2, 7])
def test_another_threshold_keeps_the_look(fitted, n_images):
    before = fitted.look_profile_
    fitted.fit_threshold(texture(n_images, 32, 40))
    assert np.isfinite(fitted.threshold_)
    assert fitted.look_profile_.shape == before.shape


def test_the_exported_graph_holds_it(fitted, tmp_path):
    X = texture(2, 32, 40).astype(np.float32)
    to_onnx(fitted, tmp_path / "detector.onnx", (32, 40))
    session = onnxruntime.InferenceSession(tmp_path / "detector.onnx")
    maps = session.run(["maps"], {"images": X})[0]
    np.testing.assert_allclose(maps, fitted.transform(X), rtol=2e-3, atol=2e-3)


@pytest.mark.parametrize(
    ("make", "params"),
    [
        (VAEDetector, {}),
        (SSIMAutoencoderDetector, {"aggregate": "residual"}),
        (SSIMAutoencoderDetector, {"residual": "plain"}),
    ],
)
def test_without_reconstructions_or_relative_maps_there_is_none(make, params, monkeypatch):
    monkeypatch.setattr(choice, "_TILES", choice._LEAST_TILES)  # enough to tell
    detector = cheap(make, **params).fit(texture(4, 32, 40))
    assert not any(row["by_look"] for row in detector.map_choice_)
    assert detector.look_profile_ is None


def test_memory_mapped(tmp_path):
    """No warning of arrays that cannot be written to, which torch gives once a process."""
    table = np.linspace(-1, 1, 33 * 33, dtype=np.float32).reshape(33, 33)
    ends = np.array([[0.0, 0.0], [1.0, 0.5]], np.float32)
    reconstructions = torch.from_numpy(texture(2, 32, 40).astype(np.float32))[:, None]
    expected = LookProfile(table, *ends, 3.0).expected(reconstructions)
    joblib.dump([table, *ends], tmp_path / "arrays.joblib")
    mapped = joblib.load(tmp_path / "arrays.joblib", mmap_mode="r")
    torch.set_warn_always(True)
    try:
        found = LookProfile(*mapped, 3.0).expected(reconstructions)
    finally:
        torch.set_warn_always(False)
    assert torch.equal(found, expected)
