"""Files that others hand over: skops reads them without running what they say."""

import warnings
from pathlib import Path

import numpy as np
import pytest
import shared
import skops.io
import torch
from numpy.testing import assert_array_equal
from shared import CHEAPEST, cheap
from skimage import data
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.pipeline import make_pipeline
from skops.io.exceptions import UntrustedTypesFoundException

import sklearn_ssimae
from sklearn_ssimae import (
    FMAEDetector,
    L2AutoencoderDetector,
    ResidualThresholder,
)

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

DETECTORS = [cheap(cls) for cls in shared.DETECTORS]
IMAGES = np.stack([data.grass()[9 * i : 9 * i + 24, :30] for i in range(5)])


@pytest.fixture(scope="module", params=DETECTORS, ids=lambda detector: type(detector).__name__)
def fitted(request):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return clone(request.param).fit(IMAGES)


def round_trip(estimator):
    """Through the bytes of a file; nothing but this package's own types is trusted."""
    content = skops.io.dumps(estimator)
    untrusted = skops.io.get_untrusted_types(data=content)
    assert untrusted
    public = {f"sklearn_ssimae.{name}" for name in sklearn_ssimae.__all__}
    assert set(untrusted) <= public
    return skops.io.loads(content, trusted=untrusted)


def assert_same_results(one, other, X):
    assert_array_equal(one.transform(X), other.transform(X))
    assert_array_equal(one.predict(X), other.predict(X))
    assert_array_equal(one.score_samples(X), other.score_samples(X))
    assert_array_equal(one.decision_function(X), other.decision_function(X))


def test_detector(fitted, tmp_path):
    path = tmp_path / "detector.skops"
    skops.io.dump(fitted, path)
    trusted = skops.io.get_untrusted_types(file=path)
    assert trusted == [f"{type(fitted).__module__}.{type(fitted).__name__}"]
    torch_state, numpy_state = torch.get_rng_state(), np.random.get_state()[1].copy()
    loaded = skops.io.load(path, trusted=trusted)
    assert torch.equal(torch.get_rng_state(), torch_state)
    assert_array_equal(np.random.get_state()[1], numpy_state)
    assert type(loaded) is type(fitted)
    assert_same_results(loaded, fitted, IMAGES)
    assert_array_equal(loaded.reconstruct(IMAGES), fitted.reconstruct(IMAGES))
    assert_array_equal(loaded.segment(IMAGES), fitted.segment(IMAGES))
    for name in (
        "threshold_",
        "offset_",
        "data_range_",
        "image_shape_",
        "n_features_in_",
        "trained_on_",
    ):
        assert getattr(loaded, name) == getattr(fitted, name)
        assert type(getattr(loaded, name)) is type(getattr(fitted, name))
    assert loaded.loss_curve_ == fitted.loss_curve_


def test_pipeline(fitted):
    pipeline = make_pipeline(fitted, ResidualThresholder())
    pipeline[-1].fit(fitted.transform(IMAGES))
    assert_same_results(round_trip(pipeline), pipeline, IMAGES)


def test_types_must_be_trusted(fitted):
    with pytest.raises(UntrustedTypesFoundException, match=type(fitted).__name__):
        skops.io.loads(skops.io.dumps(fitted))


@pytest.mark.parametrize("detector", DETECTORS[:3], ids=lambda detector: type(detector).__name__)
def test_loaded_detector_can_be_trained_further(detector):
    fitted = clone(detector).fit(IMAGES)
    loaded = round_trip(fitted)
    assert_same_results(loaded.partial_fit(IMAGES), fitted.partial_fit(IMAGES), IMAGES)


@pytest.mark.parametrize("detector", DETECTORS[:3], ids=lambda detector: type(detector).__name__)
def test_unfitted_detector(detector):
    loaded = round_trip(detector)
    assert loaded.get_params() == detector.get_params()
    assert_same_results(loaded.fit(IMAGES), clone(detector).fit(IMAGES), IMAGES)


@pytest.mark.parametrize(
    ("params", "X"),
    [
        (dict(image_shape=[24, 30]), IMAGES.reshape(5, -1)),
        (dict(image_shape=np.array([24, 30])), IMAGES.reshape(5, -1).astype(float)),
        (dict(threshold=0.5, data_range=(np.float64(0), np.float32(200))), IMAGES),
        (dict(patch_size=np.int64(32), scale=np.float64(0.5), threshold=np.float32(1)), IMAGES),
        (dict(contamination=0.2, random_state=np.random.RandomState(3)), IMAGES),
        (dict(opening_diameter=None, precision="bfloat16", device="cpu"), list(IMAGES)),
    ],
)
def test_parameters_of_any_type_and_containers_of_any_kind(params, X):
    detector = L2AutoencoderDetector(**{**CHEAPEST, **params}).fit(X)
    assert_same_results(round_trip(detector), detector, X)


def test_path_of_a_feature_extractor_is_stored_as_a_string():
    detector = FMAEDetector(feature_extractor=Path("folder") / "weights.pth")
    assert round_trip(detector).feature_extractor == str(Path("folder") / "weights.pth")
    assert isinstance(detector.feature_extractor, Path)
