"""What a fit keeps from training, says about it, and refuses."""

import pickle
import warnings

import numpy as np
import pytest
import torch
from shared import CHEAPEST, cheap, texture
from sklearn.exceptions import ConvergenceWarning

from sklearn_ssimae import L2AutoencoderDetector, ResidualThresholder
from sklearn_ssimae._detectors import fit
from sklearn_ssimae._detectors.kept import KeptParts
from sklearn_ssimae._images.collection import stack_of_images
from sklearn_ssimae._images.values import Preparation
from sklearn_ssimae._training.division import Part, divide
from sklearn_ssimae._training.variation import Variation

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


@pytest.mark.parametrize("fraction", [0, 1, -0.1, 1.5, "all", None, np.nan])
def test_a_fraction_that_is_none(fraction):
    with pytest.raises(ValueError, match=r"'validation_fraction'.* in the range \(0.0, 1.0\)"):
        cheap(validation_fraction=fraction).fit(texture(2, 20, 20))


def test_a_fraction_that_leaves_nothing_to_train_on():
    with pytest.raises(ValueError, match=r"validation_fraction=0\.97 keeps all 12 images .* Lower"):
        cheap(validation_fraction=0.97).fit(texture(12, 16, 16))


@pytest.mark.parametrize(("n_images", "n_kept"), [(2, 1), (14, 1), (16, 2), (40, 4)])
def test_a_tenth_is_kept(n_images, n_kept, capsys):
    """The threshold says how many images it rests on."""
    cheap(verbose=1).fit(texture(n_images, 20, 20))
    noun = "image" if n_kept == 1 else "images"
    assert f"residuals of {n_kept} good {noun}" in capsys.readouterr().out


@pytest.mark.parametrize("n_images", [1, 3, 10])
def test_of_few_and_large_images_a_strip_of_each_is_kept(n_images, capsys):
    cheap(verbose=1).fit(texture(n_images, 20, 32))
    assert f"residuals of {n_images} good image" in capsys.readouterr().out


@pytest.mark.parametrize("random_state", [0, None, np.random.RandomState(0)])
@pytest.mark.parametrize("call", ["fit", "partial_fit"])
def test_every_continuation_keeps_the_same(call, random_state, monkeypatch):
    """Another choice would take the threshold from what was trained on before."""
    kept = []

    def record(*args, **kwargs):
        division = divide(*args, **kwargs)
        kept.append(division.kept)
        return division

    monkeypatch.setattr(fit, "divide", record)
    X = texture(20, 20, 20)
    detector = cheap(random_state=random_state, max_iter=1, warm_start=True)
    for _ in range(2):
        getattr(detector, call)(X)
    getattr(pickle.loads(pickle.dumps(detector)), call)(X)
    assert kept[0] == kept[1] == kept[2]


def said_of_one_image(**params):
    with pytest.warns() as caught:
        cheap(**params).fit(texture(1, 20, 20))
    return [str(w.message) for w in caught if w.category is not ConvergenceWarning]


@pytest.mark.parametrize("params", [{}, {"threshold": 1.0}, {"contamination": 0.1}])
def test_one_small_image_is_said_in_one_warning(params):
    (message,) = said_of_one_image(**params)
    assert "nothing can be kept from training" in message
    assert "the threshold unless it is set, come from the image that was trained on" in message
    assert "fit_threshold(X)" in message


def test_no_warning_where_nothing_is_learnt_from_kept_images():
    fixed = {"threshold": 1.0, "residual": "plain", "smoothing": 1.0}
    assert said_of_one_image(**fixed) == []


def test_no_warning_where_something_is_kept():
    for X in (texture(1, 20, 32), texture(2, 20, 20)):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            warnings.simplefilter("ignore", ConvergenceWarning)
            assert np.isfinite(cheap().fit(X).threshold_)


def test_images_too_small_to_draw_into(cls, capsys):
    detector = cheap(cls, verbose=1).fit(texture(4, 15, 40))
    assert detector.map_choice_ == []
    assert detector.smoothing_ == CHEAPEST["patch_size"] / 16
    assert np.isfinite(detector.threshold_)
    said = capsys.readouterr().out
    assert "the default, since nothing can be drawn into kept images" in said


@pytest.mark.parametrize("value", [0.0, 0.5, 1.0])
def test_flat_images(cls, value, capsys):
    """What shows on them is drawn, and good ones stay good."""
    flat = np.full((12, 32, 32), value)
    detector = cheap(cls, verbose=1).fit(flat)
    settings = {"smoothing", "mean", "found", *detector._calibration.settings.constants}
    kinds = set(detector.map_choice_[0]) - settings
    assert {"scratch", "stain"} <= kinds
    assert not kinds & {"blur", "grain", "patch"}
    assert f"with which {len(kinds)} kinds of drawn defects" in capsys.readouterr().out
    assert np.all(detector.predict(flat) == 1)


@pytest.mark.parametrize("rate", [0, 1, -0.01, 2, np.nan, "low", None])
def test_a_rate_that_is_none(rate):
    X = texture(4, 20, 20)
    with pytest.raises(ValueError, match=r"false_alarm_rate must be a number in \(0, 1\)"):
        cheap().fit(X).fit_threshold(X, false_alarm_rate=rate)
    thresholder = ResidualThresholder(strategy="false_alarm", false_alarm_rate=rate)
    with pytest.raises(ValueError, match=r"'false_alarm_rate'.* in the range \(0.0, 1.0\)"):
        thresholder.fit(X)


def test_a_rarer_alarm_asks_for_a_higher_threshold():
    X = texture(12, 20, 20)
    detector = L2AutoencoderDetector(**CHEAPEST).fit(X)
    thresholds = [
        detector.fit_threshold(X, false_alarm_rate=rate).threshold_ for rate in (0.1, 0.01, 0.001)
    ]
    assert thresholds == sorted(set(thresholds))


def test_kept_images_vary_alike_each_time_they_are_read():
    images, _ = stack_of_images(texture(3, 40, 30))
    prepare = Preparation((0.0, 1.0), scale=1, n_channels=1)
    parts = [Part(0), Part(1, (slice(20, 40), slice(None))), Part(2)]
    plain, kept = (
        KeptParts(images, parts, prepare, variation)
        for variation in (None, Variation(light=0.1, turn=3, zoom=0.05))
    )
    first, second, unchanged = (
        [planes for _, planes in reading] for reading in (kept, kept, plain)
    )
    for one, other, given in zip(first, second, unchanged, strict=True):
        assert torch.equal(one, other)
        assert one.shape == given.shape
        assert 0.01 < (one - given).abs().mean() < 0.3


@pytest.mark.parametrize(
    ("vary", "message"),
    [
        ({"brightness": 0.1}, "vary takes light, turn and zoom, got brightness"),
        ({"light": 25}, r"vary\['light'\] must be a share from 0 to 0.5, got 25"),
        ({"turn": -3}, r"vary\['turn'\] must be degrees from 0 to 45, got -3"),
        ({"zoom": "3 %"}, r"vary\['zoom'\] must be a share from 0 to 0.5, got '3 %'"),
    ],
)
def test_a_variation_that_is_none(vary, message):
    with pytest.raises(ValueError, match=message):
        cheap(vary=vary).fit(texture(2, 20, 20))
