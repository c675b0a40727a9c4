"""`learn_good`: regions like those of further good images are no defects, and all else stays."""

import pickle
import warnings

import numpy as np
import pytest
import skops.io
from numpy.testing import assert_array_equal
from shared import cheap, texture
from sklearn.exceptions import ConvergenceWarning, NotFittedError

from sklearn_ssimae import VAEDetector
from sklearn_ssimae._maps.harmless import Harmless, regions_of
from sklearn_ssimae.export import to_onnx

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

IMAGES = np.rint(255 * texture(20, 40, 48)).astype(np.uint8)


def with_bar(images, height=4, width=20):
    """A light bar somewhere in each."""
    drawn, random = images.copy(), np.random.default_rng(0)
    for image in drawn:
        y, x = random.integers(4, 40 - height - 4), random.integers(4, 48 - width - 4)
        image[y : y + height, x : x + width] = 255
    return drawn


NOVEL, FURTHER = with_bar(IMAGES[:10]), with_bar(IMAGES[10:])
OTHERS = with_bar(IMAGES[:5], height=22, width=22)


@pytest.fixture(scope="module")
def stored():
    """A detector that was fitted, as bytes; bars exceed its threshold, and little else does."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        detector = cheap(residual="plain", smoothing=1).fit(IMAGES)
    maxima = -detector.score_samples(IMAGES)
    return pickle.dumps(detector.set_params(threshold=float(1.05 * maxima.max())))


@pytest.fixture
def fitted(stored):
    return pickle.loads(stored)


# The regions --------------------------------------------------------------------------


def bar(y, x, height, width, value=3.0):
    residual = np.zeros((60, 60))
    residual[y : y + height, x : x + width] = value
    return residual


def test_a_region_is_known_by_its_size_shape_and_height():
    (one,), (moved,), (turned,), (larger,), (higher,) = (
        regions_of(residual, 1.0, logarithmic=False)[1]
        for residual in (
            bar(5, 5, 4, 20),
            bar(40, 30, 4, 20),
            bar(5, 5, 20, 4),
            bar(5, 5, 8, 40),
            bar(5, 5, 4, 20, 6.0),
        )
    )
    np.testing.assert_allclose(moved, one)
    np.testing.assert_allclose(turned, one)
    assert np.linalg.norm(larger - one) > 0.6
    assert np.linalg.norm(higher - one) > 0.6


def test_logarithms_are_compared_by_difference():
    plain = regions_of(bar(5, 5, 4, 20), 1.5, logarithmic=False)[1]
    with np.errstate(divide="ignore"):
        logs = regions_of(np.log(bar(5, 5, 4, 20)), np.log(1.5), logarithmic=True)[1]
    np.testing.assert_allclose(logs, plain)


def test_regions_that_are_alike_are_lowered_to_the_level_and_no_others():
    regions = regions_of(bar(5, 5, 4, 20), 1.0, logarithmic=False)[1]
    kind = Harmless.of(1.0, regions, logarithmic=False)
    both = np.maximum(bar(30, 20, 4, 20), bar(5, 40, 15, 15))
    lowered = kind.lowered(both)
    assert_array_equal(lowered > 1.0, bar(5, 40, 15, 15) > 1.0)
    assert_array_equal(lowered, np.where(bar(30, 20, 4, 20) > 1, 1.0, both))
    assert_array_equal(kind.lowered(np.full((9, 9), 0.5)), np.full((9, 9), 0.5))


def test_what_is_alike_follows_what_was_taught():
    """Bars of many lengths let more pass than bars of one, within bounds."""
    lengths = {"one": [20, 20, 20], "many": [14, 18, 23, 30]}
    radii = {
        name: Harmless.of(
            1.0,
            np.concatenate(
                [regions_of(bar(5, 5, 4, n), 1.0, logarithmic=False)[1] for n in several]
            ),
            logarithmic=False,
        ).radius
        for name, several in lengths.items()
    }
    assert 0.25 == radii["one"] < radii["many"] <= 0.6


def test_what_is_alike_leaves_defects_alone():
    """Of forty defects two may be like the taught region, the third may not."""
    taught = regions_of(bar(5, 5, 4, 20), 1.0, logarithmic=False)[1]
    defects = [taught + shift for shift in (0.01, 0.02, 0.03)] + [taught + 9] * 37
    kind = Harmless.of(1.0, taught, defects, logarithmic=False)
    assert [kind.are_alike(defect)[0] for defect in defects[:4]] == [True, True, False, False]
    assert kind.are_alike(taught).all()
    assert Harmless.of(1.0, taught, defects[3:], logarithmic=False).radius == 0.25


# The lesson ---------------------------------------------------------------------------


def test_alarms_of_the_kind_are_gone_and_other_defects_are_found(fitted):
    threshold = fitted.threshold_
    assert (fitted.predict(NOVEL) == -1).all() and (fitted.predict(OTHERS) == -1).all()
    good = fitted.transform(IMAGES)
    assert fitted.learn_good(NOVEL) is fitted
    assert (fitted.predict(NOVEL) == 1).all()
    assert (fitted.predict(FURTHER) == 1).mean() >= 0.8
    assert (fitted.predict(OTHERS) == -1).all()
    assert fitted.threshold_ == threshold
    assert_array_equal(fitted.transform(IMAGES), good)
    (lesson,) = fitted.lessons_
    assert (lesson["n_images"], lesson["n_alarms"]) == (10, 10)
    assert lesson["n_regions"] >= 10 and 5 <= lesson["n_alike"] <= 10


def test_mask_score_and_label_agree(fitted):
    fitted.learn_good(NOVEL)
    images = np.concatenate([FURTHER, OTHERS])
    marked = fitted.segment(images).any(axis=(1, 2))
    assert_array_equal(fitted.predict(images) == -1, marked)
    assert_array_equal(fitted.decision_function(images) < 0, marked)


def test_all_detectors(cls):
    detector = cheap(cls, max_iter=1).fit(IMAGES)
    detector.threshold = float(np.median(-detector.score_samples(NOVEL)))
    alarms = NOVEL[detector.predict(NOVEL) == -1]
    assert len(alarms)
    assert (detector.learn_good(alarms).predict(alarms) == 1).all()


def test_images_that_are_no_alarms_teach_nothing(fitted):
    fitted.learn_good(IMAGES[:3])
    assert fitted.lessons_[0]["n_alarms"] == fitted.lessons_[0]["n_regions"] == 0
    assert (fitted.predict(NOVEL) == -1).all()


def test_defects_are_not_learnt(fitted):
    fitted.learn_good(np.concatenate([NOVEL, OTHERS]), [1] * 10 + [-1] * 5)
    assert (fitted.predict(OTHERS) == -1).all()
    assert fitted.lessons_[0]["n_images"] == 10


def test_lessons_add_up_and_a_fit_begins_anew(fitted):
    fitted.learn_good(NOVEL).learn_good(OTHERS)
    assert (fitted.predict(np.concatenate([NOVEL, OTHERS])) == 1).all()
    assert len(fitted.lessons_) == 2
    fitted.fit(IMAGES)
    assert fitted.lessons_ == []
    assert (fitted.predict(NOVEL) == -1).all()


def test_a_threshold_that_is_learnt_anew_keeps_the_lesson(fitted):
    taught = fitted.learn_good(NOVEL).set_params(threshold=None).fit_threshold(IMAGES)
    taught.threshold = taught._calibration.settings.harmless[0].level
    assert (taught.predict(NOVEL) == 1).all()


@pytest.mark.parametrize("keep", ["pickle", "skops"])
def test_a_lesson_is_stored(fitted, keep):
    fitted.learn_good(NOVEL)
    if keep == "pickle":
        loaded = pickle.loads(pickle.dumps(fitted))
    else:
        content = skops.io.dumps(fitted)
        trusted = skops.io.get_untrusted_types(data=content)
        assert trusted == ["sklearn_ssimae.L2AutoencoderDetector"]
        loaded = skops.io.loads(content, trusted=trusted)
    assert_array_equal(loaded.transform(FURTHER), fitted.transform(FURTHER))
    assert loaded.lessons_ == fitted.lessons_


# Errors -------------------------------------------------------------------------------


def test_unfitted():
    with pytest.raises(NotFittedError):
        cheap().learn_good(NOVEL)


def test_another_map_than_the_thresholds(fitted):
    fitted.set_params(threshold=None, smoothing=3)
    with pytest.raises(ValueError, match=r"smoothing is 3.*fit_threshold"):
        fitted.learn_good(NOVEL)


def test_an_error_changes_nothing(fitted):
    with pytest.raises(ValueError, match="channels"):
        fitted.learn_good(np.zeros((2, 40, 48, 3), np.uint8))
    assert fitted.lessons_ == []
    assert (fitted.predict(NOVEL) == -1).all()


@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError])
def test_a_lesson_that_is_broken_off_changes_nothing(fitted, monkeypatch, error):
    def broken_off(*args, **options):
        raise error

    monkeypatch.setattr(type(fitted), "_defects_in", broken_off)
    with pytest.raises(error):
        fitted.learn_good(NOVEL)
    assert fitted.lessons_ == []
    assert (fitted.predict(NOVEL) == -1).all()


def test_a_taught_detector_is_not_exported(fitted, tmp_path):
    with pytest.raises(ValueError, match="taught by learn_good"):
        to_onnx(fitted.learn_good(NOVEL), tmp_path / "d.onnx", (40, 48))


def test_logarithmic_maps():
    detector = cheap(VAEDetector, max_iter=1).fit(IMAGES)
    detector.threshold = float(np.quantile(-detector.score_samples(NOVEL), 0.2))
    kind = detector.learn_good(NOVEL)._calibration.settings.harmless[0]
    assert kind.logarithmic
