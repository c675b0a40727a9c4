"""`DriftMonitor`: it says what moved, since which image, and nothing of defects."""

import pickle
import warnings
from dataclasses import replace

import numpy as np
import pytest
from shared import cheap
from sklearn.exceptions import ConvergenceWarning

from sklearn_ssimae._deciding.looks import GoodLooks
from sklearn_ssimae.inspection import DriftMonitor

SIZE = 48


def cloth(n_images, seed):
    """Stripes whose place and light differ a little from image to image."""
    random = np.random.default_rng(seed)
    phases = random.uniform(0, 6, (n_images, 1, 1))
    light = random.normal(0.5, 0.01, (n_images, 1, 1))
    noise = random.normal(0, 0.01, (n_images, SIZE, SIZE))
    return light * (1 + 0.4 * np.sin(0.8 * np.arange(SIZE) + phases)) + noise


@pytest.fixture(scope="module")
def detector():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return cheap(stride=16).fit(cloth(60, 0))


@pytest.fixture
def monitor(detector):
    return DriftMonitor(detector)


def test_good_images_do_not_drift(monitor):
    assert monitor.update(cloth(40, 1)) is monitor
    assert (monitor.drifted_, monitor.since_, monitor.moved_) == (False, None, {})
    assert monitor.describe() == "no drift in 40 images"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda images: 1.15 * images, "brightness 1"),
        (lambda images: images.mean((1, 2), keepdims=True) * 0.3 + 0.7 * images, "contrast 3"),
        (
            lambda images: images + np.random.default_rng(0).normal(0, 0.03, images.shape),
            "noise 2",
        ),
        (lambda images: (images + np.roll(images, 1, 1)) / 2, "sharpness 5"),
    ],
)
def test_what_moved_is_named(monitor, change, words):
    monitor.update(cloth(12, 1)).update(change(cloth(40, 2)))
    assert monitor.drifted_
    assert words in monitor.describe()
    assert monitor.describe().endswith(f" the training images since image {monitor.since_}")
    assert abs(monitor.since_ - 13) <= 2


def test_another_product_is_said_to_be_one(monitor):
    monitor.update(cloth(16, 1).transpose(0, 2, 1))
    assert monitor.describe().startswith("this does not look like what was learnt")
    assert monitor.describe().endswith("since image 1")


def test_a_few_defects_are_no_drift(monitor):
    images = cloth(60, 1)
    images[::10, 10:22, 10:22] = 1
    images[30:33, 10:22, 10:22] = 1
    assert not monitor.update(images).drifted_


def test_what_has_come_back_is_no_drift(monitor):
    assert monitor.update(1.2 * cloth(30, 1)).drifted_
    assert not monitor.update(cloth(45, 2)).drifted_
    assert monitor.describe() == "no drift in 75 images"
    assert monitor.update(1.2 * cloth(30, 3)).since_ >= 75


def test_a_stored_detector_says_the_same(detector, monitor):
    images = 1.2 * cloth(20, 1)
    stored = pickle.loads(pickle.dumps(detector))
    assert DriftMonitor(stored).update(images).describe() == monitor.update(images).describe()


def test_batches_make_no_difference(detector, monitor):
    images = 1.2 * cloth(24, 1)
    other = DriftMonitor(detector)
    for image in images:
        other.update(image[None])
    assert other.describe() == monitor.update(images).describe()


def test_images_of_other_sizes(monitor):
    images = cloth(12, 1)
    monitor.update([image[:40, : 30 + index] for index, image in enumerate(images)])
    assert monitor.n_images_ == 12


def test_images_of_which_nothing_counts_are_passed_over(detector):
    image = np.zeros((1, SIZE, SIZE))
    monitor = DriftMonitor(detector)
    measures = monitor._measure(image[0][..., None], np.zeros((SIZE, SIZE), bool), image[0])
    assert not monitor._take(measures)
    assert monitor.n_images_ == 0


def test_residuals_count_only_where_kept_ones_are_of_the_same_map(detector):
    assert "residual" in DriftMonitor(detector)._kinds
    other = pickle.loads(pickle.dumps(detector)).set_params(smoothing=9.0)
    assert "residual" not in DriftMonitor(other)._kinds
    other._calibration = replace(detector._calibration, levels=None)
    assert "residual" not in DriftMonitor(other)._kinds


def test_fits_without_kept_images_are_watched_too():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        detector = cheap(
            stride=16, contamination=0.1, residual="plain", smoothing=2.0, max_iter=1
        ).fit(cloth(30, 0))
    assert DriftMonitor(detector).update(1.3 * cloth(40, 1)).drifted_


@pytest.mark.parametrize(
    "looks", [None, GoodLooks(np.zeros((180, 128), np.float32), np.empty((0, 6)))]
)
def test_nothing_to_compare_with(detector, looks):
    other = pickle.loads(pickle.dumps(detector))
    other._calibration = replace(detector._calibration, looks=looks)
    with pytest.raises(ValueError, match="Fit it on more good images"):
        DriftMonitor(other)


def test_bad_input(monitor):
    with pytest.raises(TypeError, match="DriftMonitor needs a fitted detector"):
        DriftMonitor("detector.skops")
    with pytest.raises(ValueError, match=r"one image or more|0 sample"):
        monitor.update([])
    with pytest.raises(ValueError, match="channels"):
        monitor.update([np.zeros((SIZE, SIZE, 3))])
    assert monitor.n_images_ == 0


def test_the_picture(monitor):
    assert monitor.plot().ax_.get_title() == "no drift in 0 images"
    monitor.update(1.2 * cloth(20, 1)).plot()
    assert monitor.ax_.get_title() == monitor.describe()
    assert "brightness" in [text.get_text() for text in monitor.ax_.get_legend().get_texts()]
    assert monitor.figure_ is monitor.ax_.figure


def test_the_picture_of_many_images_holds_some_of_them(monitor):
    for _ in range(5000):
        monitor._remember(np.zeros(len(monitor._kinds)))
        monitor.n_images_ += 1
    assert 1000 <= len(monitor._history) <= 2000
    assert monitor._history[-1][0] > 4990
