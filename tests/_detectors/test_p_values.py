"""p-values of images against good ones."""

import pickle

import dask.array as da
import numpy as np
import pytest
import skops.io
from numpy.testing import assert_array_equal
from shared import cheap, texture

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

IMAGES = texture(40, 20, 24).astype(np.float32)
DEFECTIVE = IMAGES[30:36].copy()
DEFECTIVE[:, 4:14, 4:14] = np.linspace(0, 1, 6)[:, None, None]
INSPECTED = np.concatenate([IMAGES[20:40], DEFECTIVE])


@pytest.fixture(scope="module")
def detector():
    return cheap().fit(IMAGES[:20])


@pytest.mark.parametrize("rate", [0.01, 0.05, 0.2])
def test_p_values_agree_with_predict(detector, rate):
    detector = pickle.loads(pickle.dumps(detector)).fit_threshold(
        IMAGES[:20], false_alarm_rate=rate
    )
    p = detector.p_values(INSPECTED)
    assert p.shape == (26,) and p.dtype == np.float64 and p.min() >= 0 and p.max() <= 1
    assert_array_equal(p < rate, detector.predict(INSPECTED) == -1)
    assert ("by rank" in detector.p_values_basis_) == (rate >= 0.05)


def test_smaller_for_larger_residuals(detector):
    order = np.argsort(detector.score_samples(INSPECTED))
    assert (np.diff(detector.p_values(INSPECTED)[order]) >= 0).all()


def test_a_threshold_by_hand_alters_nothing(detector):
    p = detector.p_values(INSPECTED)
    by_hand = pickle.loads(pickle.dumps(detector)).set_params(threshold=1e-3)
    assert_array_equal(by_hand.p_values(INSPECTED), p)
    assert (by_hand.predict(INSPECTED) == -1).all()


def test_stored(detector, tmp_path):
    skops.io.dump(detector, tmp_path / "detector.skops")
    names = skops.io.get_untrusted_types(file=tmp_path / "detector.skops")
    loaded = skops.io.load(tmp_path / "detector.skops", trusted=names)
    assert names == ["sklearn_ssimae.L2AutoencoderDetector"]
    assert_array_equal(loaded.p_values(INSPECTED), detector.p_values(INSPECTED))
    assert_array_equal(loaded._trained_digests, detector._trained_digests)
    assert loaded._trained_digests.dtype == np.uint64


def test_dask(detector):
    lazy = detector.p_values(da.from_array(INSPECTED, chunks=(13, -1, -1)))
    assert_array_equal(lazy.compute(), detector.p_values(INSPECTED))


def test_another_map(detector):
    changed = pickle.loads(pickle.dumps(detector)).set_params(opening_diameter=None)
    with pytest.warns(UserWarning, match="good images of another map: opening_diameter is None"):
        changed.p_values(INSPECTED)


def test_no_good_images():
    detector = cheap(contamination=0.1, residual="plain", smoothing=0).fit(IMAGES[:20])
    assert detector.p_values_basis_ == "nothing"
    with pytest.raises(ValueError, match=r"this fit kept none\. Give some to fit_threshold"):
        detector.p_values(INSPECTED)
