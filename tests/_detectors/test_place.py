"""Detectors of one camera: a band at one side neither alarms nor hides defects elsewhere."""

import pickle

import numpy as np
import onnxruntime
import pytest
import skops.io
from scipy.ndimage import gaussian_filter
from shared import cheap, texture

from sklearn_ssimae import L2AutoencoderDetector
from sklearn_ssimae.export import to_onnx

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


def camera(n, seed):
    """Images (n, 64, 160): a woven texture, and a table full of noise in the first 40 columns."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[:64, :160]
    rows, columns = random.uniform(0, 2 * np.pi, (2, n, 1, 1))
    images = 0.5 + 0.2 * np.sin(np.pi * y / 4 + rows) * np.sin(np.pi * x / 4 + columns)
    images += random.normal(0, 0.02, images.shape)
    noise = gaussian_filter(random.normal(0, 1, (n, 64, 40)), (0, 1.5, 1.5))
    images[:, :, :40] = 0.5 + 0.25 * noise / noise.std()
    return images.clip(0, 1)


@pytest.fixture(scope="module")
def detector():
    return L2AutoencoderDetector(
        patch_size=32, latent_dim=16, n_patches=400, max_iter=8, random_state=0
    ).fit(camera(60, seed=0))


def test_faults_beside_a_noisy_band_are_found_and_the_band_is_no_alarm(detector):
    columns, rows = detector.place_profile_
    assert rows is None
    assert columns[:30].min() > 3 * np.median(columns)
    good, faulty = camera(20, seed=1), camera(20, seed=2)
    masks = np.zeros(faulty.shape, dtype=bool)
    masks[:, 24:36, 90:104] = True
    faulty[masks] = (faulty[masks] + 0.25).clip(0, 1)
    assert (detector.predict(good) == 1).mean() >= 0.95
    assert (detector.segment(faulty) & masks).any(axis=(1, 2)).mean() >= 0.9


def test_without_place_the_band_hides_them(detector):
    faulty = camera(20, seed=2)
    faulty[:, 24:36, 90:104] = (faulty[:, 24:36, 90:104] + 0.25).clip(0, 1)
    plain = pickle.loads(pickle.dumps(detector)).set_params(residual="plain")
    maps = plain.transform(faulty)
    assert (maps[:, :, :40].max(axis=(1, 2)) > maps[:, 24:36, 90:104].max(axis=(1, 2))).mean() > 0.5


def test_stored_detectors_and_the_exported_graph_have_the_profile(detector, tmp_path):
    X = camera(2, seed=3).astype(np.float32)
    maps = detector.transform(X)
    by_skops = skops.io.loads(
        skops.io.dumps(detector), trusted=["sklearn_ssimae.L2AutoencoderDetector"]
    )
    for again in (pickle.loads(pickle.dumps(detector)), by_skops):
        np.testing.assert_array_equal(again.transform(X), maps)
    to_onnx(detector, tmp_path / "detector.onnx", (64, 160))
    session = onnxruntime.InferenceSession(tmp_path / "detector.onnx")
    np.testing.assert_allclose(session.run(["maps"], {"images": X})[0], maps, rtol=2e-3, atol=2e-3)


def test_images_of_another_size_have_no_place(detector):
    X = camera(1, seed=4)[:, :, 40:]
    assert np.isfinite(detector.transform(X)).all()


def test_few_images_have_no_profile():
    assert cheap().fit(texture(12, 32, 40)).place_profile_ == (None, None)
