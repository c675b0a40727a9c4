"""`learn_good`: further good images are learnt, and everything else stays as it is."""

import copy
import pickle
import re
import warnings

import numpy as np
import pytest
import skops.io
import torch
from numpy.testing import assert_allclose, assert_array_equal
from shared import cheap, texture
from sklearn.exceptions import ConvergenceWarning, NotFittedError

from sklearn_ssimae._detectors import learning
from sklearn_ssimae._images.collection import ImageCollection
from sklearn_ssimae._training.examples import (
    as_planes,
    as_stored,
    crops_around,
    mixed_batches,
    stored_crops,
    stored_windows,
)

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

IMAGES = np.rint(255 * texture(20, 20, 20)).astype(np.uint8)
# Darker, and with a light bar: the detector has seen nothing of the kind.
NOVEL = np.rint(0.6 * IMAGES[:6, ::-1]).astype(np.uint8)
NOVEL[:, 4:9, 3:16] = 250


@pytest.fixture(autouse=True)
def few_steps(monkeypatch):
    monkeypatch.setattr(learning, "_N_STEPS", 3)


@pytest.fixture(scope="module")
def stored():
    """A detector that was fitted, as bytes."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return pickle.dumps(cheap(max_iter=1, residual="plain").fit(IMAGES))


@pytest.fixture
def fitted(stored):
    return pickle.loads(stored)


def weights_of(detector):
    return {name: tensor.clone() for name, tensor in detector.network_.state_dict().items()}


def assert_same_state(one, other):
    """Of two detectors: weights, decisions and memory."""
    for name, tensor in weights_of(one).items():
        assert torch.equal(tensor, other.network_.state_dict()[name])
    assert one.threshold_ == other.threshold_
    assert one.lessons_ == other.lessons_
    assert_array_equal(one._trained_digests, other._trained_digests)
    assert_array_equal(one._examples["crops"], other._examples["crops"])
    assert len(one._examples["kept"]) == len(other._examples["kept"])


def digests(images):
    return ImageCollection(images[..., None], "array").short_digests(range(len(images)))


def test_all_detectors(cls):
    detector = cheap(cls, max_iter=1).fit(IMAGES)
    before, threshold = weights_of(detector), detector.threshold_
    assert detector.lessons_ == []
    assert detector.learn_good(NOVEL) is detector
    assert any(not torch.equal(before[name], now) for name, now in weights_of(detector).items())
    (lesson,) = detector.lessons_
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", lesson.pop("time"))
    assert lesson == {
        "n_images": 6,
        "n_kept": 2,
        "n_kept_above": lesson["n_kept_above"],
        "threshold_before": threshold,
        "threshold_after": detector.threshold_,
    }
    assert "residuals of 2 good images" in detector.threshold_basis_
    assert not detector.network_.training
    assert np.isfinite(detector.transform(NOVEL)).all()


def test_an_image_is_learnt_or_kept(fitted):
    fitted.learn_good(NOVEL)
    assert np.isin(digests(NOVEL), fitted._trained_digests).sum() == 4


def test_copies_count_as_one(fitted):
    fitted.learn_good(np.concatenate([NOVEL[:3], NOVEL[:3]]))
    assert fitted.lessons_[0]["n_images"] == 3


def test_the_threshold_rests_on_earlier_kept_images(fitted):
    """Their largest residuals, as the network that has learnt makes them."""
    fitted.learn_good(NOVEL)
    kept = IMAGES[~np.isin(digests(IMAGES), fitted._trained_digests)]
    levels = fitted._calibration.levels
    assert len(kept) == 2
    assert_allclose(sorted(levels.largest), sorted(-fitted.score_samples(kept)), rtol=1e-4)
    assert fitted.threshold_ == levels.threshold(0.01).value


def test_kept_new_images_tell_whether_the_kind_was_learnt(fitted):
    fitted.learn_good(NOVEL)
    kept = NOVEL[~np.isin(digests(NOVEL), fitted._trained_digests)]
    assert fitted.lessons_[0]["n_kept_above"] == (fitted.predict(kept) == -1).sum()


def test_steps_bring_the_new_ones_down(fitted, monkeypatch):
    monkeypatch.setattr(learning, "_N_STEPS", 40)
    untaught = copy.deepcopy(fitted)
    fitted.learn_good(NOVEL[:2])
    assert fitted.lessons_[0]["n_kept"] == 0
    assert (fitted.transform(NOVEL[:2]).mean() < untaught.transform(NOVEL[:2]).mean()).all()


def test_one_image_alone_is_learnt(fitted):
    fitted.learn_good(NOVEL[:1])
    assert (fitted.lessons_[0]["n_images"], fitted.lessons_[0]["n_kept"]) == (1, 0)


def test_repeatable_and_every_lesson_is_another(fitted):
    other = copy.deepcopy(fitted)
    for _ in range(2):
        assert_same_times(fitted.learn_good(NOVEL), other.learn_good(NOVEL))
    assert fitted.lessons_[0]["threshold_after"] == fitted.lessons_[1]["threshold_before"]


def assert_same_times(one, other):
    """As `assert_same_state`, of lessons that may have been given a second apart."""
    for lesson, of_other in zip(one.lessons_, other.lessons_, strict=True):
        of_other["time"] = lesson["time"]
    assert_same_state(one, other)


@pytest.mark.parametrize("store", ["skops", "pickle"])
def test_a_stored_detector_learns_the_same(fitted, store):
    if store == "skops":
        content = skops.io.dumps(fitted.learn_good(NOVEL))
        loaded = skops.io.loads(content, trusted=skops.io.get_untrusted_types(data=content))
    else:
        loaded = pickle.loads(pickle.dumps(fitted.learn_good(NOVEL)))
    assert_same_state(fitted, loaded)
    assert_same_times(fitted.learn_good(NOVEL[1:]), loaded.learn_good(NOVEL[1:]))
    assert len(loaded.lessons_) == 2


@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt])
@pytest.mark.parametrize("step", ["crops_around", "taught", "stored_crops"])
def test_an_interrupted_lesson_changes_nothing(fitted, monkeypatch, error, step):
    def fail(*args, **kwargs):
        raise error

    before = copy.deepcopy(fitted)
    monkeypatch.setattr(learning, step, fail)
    with pytest.raises(error):
        fitted.learn_good(NOVEL)
    assert_same_state(fitted, before)


def test_a_loss_that_is_not_finite(fitted):
    before = copy.deepcopy(fitted)
    fitted.set_params(learning_rate_init=1e30)
    with pytest.raises(ValueError, match=r"The loss became .* Lower learning_rate_init.* 1e\+30"):
        fitted.learn_good(NOVEL)
    assert_same_state(fitted, before)


def test_a_threshold_that_is_set_stays(fitted):
    fitted.set_params(threshold=0.5).learn_good(NOVEL)
    assert fitted.threshold_ == 0.5
    assert fitted.lessons_[0]["threshold_after"] == 0.5
    assert (
        fitted.set_params(threshold=None).threshold_
        == fitted._calibration.levels.threshold(0.01).value
    )


@pytest.mark.parametrize(
    ("params", "rate"), [({}, 0.1), ({"contamination": 0.2}, 0.2), ({"contamination": 0.2}, 0.1)]
)
def test_the_rate_stays(params, rate):
    detector = cheap(max_iter=1, **params).fit(IMAGES)
    if rate == 0.1:
        detector.fit_threshold(IMAGES[:4], false_alarm_rate=0.1)
    detector.learn_good(NOVEL)
    assert detector.threshold_basis_.startswith(f"exceeded by {rate} of good images")


def test_nothing_was_kept():
    detector = cheap(max_iter=1, contamination=0.1, residual="plain", smoothing=1).fit(IMAGES)
    threshold = detector.threshold_
    with pytest.warns(UserWarning, match="so the threshold stays as it was"):
        detector.learn_good(NOVEL)
    assert detector.threshold_ == threshold
    detector.set_params(threshold=2).learn_good(NOVEL)


def test_another_map_than_the_threshold_was_learnt_for(fitted):
    with pytest.raises(ValueError, match=r"opening_diameter is 2 and was 4.* fit_threshold"):
        fitted.set_params(opening_diameter=2).learn_good(NOVEL)


def test_without_examples():
    detector = cheap(max_iter=1, store_examples=False).fit(IMAGES)
    assert detector._examples is None
    assert_array_equal(detector.transform(NOVEL), cheap(max_iter=1).fit(IMAGES).transform(NOVEL))
    with pytest.raises(ValueError, match="store_examples=False"):
        detector.learn_good(NOVEL)


def test_before_a_fit():
    with pytest.raises(NotFittedError):
        cheap().learn_good(NOVEL)


def test_what_does_not_count_has_no_part():
    """Outside the region, and where y marks a defect."""
    region = np.ones((20, 20), dtype=bool)
    region[:, 16:] = False
    marks = np.zeros(NOVEL.shape, dtype=bool)
    marks[:, :3] = True
    other = NOVEL.copy()
    other[:, :, 17:], other[marks] = 0, 255
    one = cheap(max_iter=1, region=region).fit(IMAGES)
    two = copy.deepcopy(one)
    assert_allclose(
        one.learn_good(NOVEL, marks).transform(IMAGES),
        two.learn_good(other, marks).transform(IMAGES),
        rtol=1e-5,
    )


@pytest.mark.parametrize("method", ["fit", "partial_fit"])
def test_fits_that_continue_remember(fitted, method):
    fitted.set_params(warm_start=True).learn_good(NOVEL)
    taught, n_crops = fitted._trained_digests, len(fitted._examples["crops"])
    getattr(fitted, method)(IMAGES)
    assert np.isin(taught, fitted._trained_digests).all()
    assert len(fitted.lessons_) == 1
    assert len(fitted._examples["crops"]) == n_crops
    fitted.learn_good(NOVEL)
    assert len(fitted.lessons_) == 2


def test_another_fit_forgets(fitted):
    assert fitted.learn_good(NOVEL).fit(IMAGES).lessons_ == []


def test_nothing_global_changes(fitted):
    other = copy.deepcopy(fitted)
    torch_state, numpy_state = torch.get_rng_state(), np.random.get_state()[1].copy()
    n_threads = torch.get_num_threads()
    with torch.inference_mode():
        fitted.learn_good(NOVEL)
    assert_same_times(fitted, other.learn_good(NOVEL))
    assert torch.equal(torch.get_rng_state(), torch_state)
    assert_array_equal(np.random.get_state()[1], numpy_state)
    assert torch.get_num_threads() == n_threads


# What is stored -----------------------------------------------------------------------------


@pytest.mark.parametrize("contrast", [1.0, 0.01])
def test_size(contrast):
    """At most 3 MB, of images of any size and contrast."""
    rng = np.random.default_rng(0)
    crops = [contrast * torch.rand(3, 128, 128) for _ in range(40)]
    kept = [contrast * torch.rand(3, 300 + i, 500) for i in range(10)]
    stored = stored_crops(crops, 3, rng)
    windows = stored_windows(iter(kept), len(kept), 128, 3, rng)
    n_bytes = stored.nbytes + sum(window.nbytes for window in windows)
    assert 2e6 < n_bytes <= 3e6
    assert stored.dtype == windows[0].dtype == (np.uint8 if contrast == 1 else np.float16)
    assert len(windows) == 10
    assert all(min(window.shape[1:]) >= 128 for window in windows)


def test_small_images_are_kept_whole():
    kept = [torch.rand(1, 40, 30 + i) for i in range(5)]
    windows = stored_windows(iter(kept), 5, 16, 1, np.random.default_rng(0))
    for window, planes in zip(windows, kept, strict=True):
        assert_allclose(as_planes(window), planes, atol=0.5 / 255 + 1e-6)


@pytest.mark.parametrize("scale", [1, 0.01, 300])
def test_values_survive(scale):
    planes = scale * torch.rand(2, 8, 8)
    assert_allclose(as_planes(as_stored(planes, 2)), planes, atol=0.003 * scale)


def test_crops_show_what_is_marked():
    marked = np.zeros((64, 80), dtype=bool)
    marked[10, 70] = True
    planes = torch.from_numpy(marked[None].astype(np.float32))
    crops = crops_around(planes, marked, 40, 16, np.random.default_rng(0))
    assert all(crop.shape == (1, 16, 16) for crop in crops)
    assert sum(bool(crop.any()) for crop in crops) >= 30


def test_half_of_a_batch_is_new():
    new, earlier = [torch.ones(1, 4, 4)] * 3, [torch.zeros(1, 4, 4)] * 5
    batches = list(
        mixed_batches(
            new,
            earlier,
            n_batches=4,
            batch_size=6,
            n_channels=1,
            augment=True,
            rng=np.random.default_rng(0),
        )
    )
    assert len(batches) == 4
    assert all(batch.mean() == 0.5 for batch in batches)
