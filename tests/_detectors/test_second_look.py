"""The second look of a detector: when it is taken, what it leaves alone, where it goes along."""

import copy
import pickle

import numpy as np
import onnxruntime
import pytest
import skops.io
from shared import cheap, texture

from sklearn_ssimae import L2AutoencoderDetector, SSIMAutoencoderDetector, VAEDetector
from sklearn_ssimae._deciding import calibration, choice
from sklearn_ssimae.export import to_onnx

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

GOOD = texture(4, 32, 40)
SPOILT = GOOD[:2].copy()
SPOILT[:, 8:20, 10:26] = 1 - SPOILT[:, 8:20, 10:26]


@pytest.fixture
def always(monkeypatch):
    """Drawn defects speak for the second look."""
    choose = calibration.choose_map
    monkeypatch.setattr(
        calibration, "choose_map", lambda *args: choose(*args)._replace(second_look=True)
    )


def fitted(make=SSIMAutoencoderDetector, **params):
    return cheap(make, n_patches=320, **params).fit(GOOD)


def without(detector):
    """The same, looking once."""
    once = copy.deepcopy(detector)
    once._calibration.level = None
    return once


@pytest.mark.parametrize("make", [SSIMAutoencoderDetector, L2AutoencoderDetector])
def test_it_alters_the_maps_of_images_above_the_threshold_alone(always, make):
    detector = fitted(make)
    threshold = np.median(without(detector).transform(SPOILT))
    detector._calibration.level = float(threshold)
    once, twice = without(detector).transform(SPOILT), detector.transform(SPOILT)
    assert np.isfinite(twice).all()
    assert not np.array_equal(once, twice)
    detector._calibration.level = float(once.max())
    np.testing.assert_array_equal(detector.transform(SPOILT), once)


def test_the_level_is_the_learnt_threshold_whatever_is_set(always):
    detector = fitted()
    learnt = float(detector.threshold_)
    assert detector._calibration.level == learnt
    maps = detector.transform(SPOILT)
    np.testing.assert_array_equal(detector.set_params(threshold=0.1).transform(SPOILT), maps)
    detector.set_params(threshold=None).fit_threshold(GOOD, false_alarm_rate=0.2)
    assert detector._calibration.level == detector.threshold_ != learnt


def test_the_share_of_a_contamination_is_met(always):
    detector = fitted(contamination=0.5, threshold=None)
    assert (detector.predict(GOOD) == -1).sum() == 2
    assert detector._calibration.level != detector.threshold_


def test_plain_maps_and_averaged_residuals_have_none(always):
    detector = fitted()
    detector._calibration.level = 1e-3  # all pixels
    for params in ({"residual": "plain"}, {"aggregate": "residual"}):
        other = copy.deepcopy(detector).set_params(**params)
        np.testing.assert_array_equal(other.transform(SPOILT), without(other).transform(SPOILT))
    assert fitted(residual="plain")._calibration.level is None


def test_stored_detectors_and_the_exported_graph_give_the_same_maps(always, tmp_path):
    detector = fitted()
    # Nearly everything of the spoilt images, nothing of the good ones.
    detector._calibration.level = float(np.quantile(detector.transform(GOOD), 0.9))
    X = np.concatenate([SPOILT, GOOD[2:]]).astype(np.float32)
    maps = detector.transform(X)
    assert not np.allclose(maps, without(detector).transform(X), atol=1e-3)
    trusted = ["sklearn_ssimae.SSIMAutoencoderDetector"]
    by_skops = skops.io.loads(skops.io.dumps(detector), trusted=trusted)
    for again in (pickle.loads(pickle.dumps(detector)), by_skops):
        np.testing.assert_array_equal(again.transform(X), maps)
    to_onnx(detector, tmp_path / "detector.onnx", (32, 40))
    session = onnxruntime.InferenceSession(tmp_path / "detector.onnx")
    np.testing.assert_allclose(session.run(["maps"], {"images": X})[0], maps, rtol=2e-3, atol=2e-3)


# When it is taken ------------------------------------------------------------------------


def test_two_rows_of_the_table_tell(monkeypatch):
    monkeypatch.setattr(choice, "_TILES", choice._LEAST_TILES)
    once, twice = fitted().map_choice_[-2:]
    assert (once["second_look"], twice["second_look"]) == (False, True)
    gain = twice["mean"] - once["mean"]
    for adds, taken in ((gain - 1e-6, True), (gain, False)):
        monkeypatch.setattr(choice, "_SECOND_LOOK_ADDS", adds)
        detector = fitted()
        assert (detector._calibration.level is not None) == taken
        assert ("with a second look" in detector._calibration.choice_in_words()) == taken


def test_densities_have_no_rows_for_it():
    assert not any(row["second_look"] for row in fitted(VAEDetector).map_choice_)
