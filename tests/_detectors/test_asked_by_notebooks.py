"""What notebooks and completion ask of an estimator: all its names, its repr, its diagram."""

import pickle
import re

import numpy as np
import pytest
import skops.io
from PIL import Image
from shared import cheap, texture
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.pipeline import make_pipeline

from sklearn_ssimae import L2AutoencoderDetector, ResidualThresholder

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

STACK = texture(4, 64, 64).astype(np.float32)
KINDS = ["rows", "stack", "list", "paths"]
# Attributes that a fit of any kind leaves, and what `dir` names besides.
FITTED = ["threshold_", "offset_", "network_", "image_shape_", "trained_on_"]
METHODS = ["fit", "transform", "predict", "get_feature_names_out", "fit_threshold", "latent_dim"]


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    folder = tmp_path_factory.mktemp("images")
    paths = [str(folder / f"{index}.png") for index in range(len(STACK))]
    for path, image in zip(paths, STACK, strict=True):
        Image.fromarray((255 * image).astype(np.uint8)).save(path)
    return {
        "rows": STACK.reshape(len(STACK), -1),
        "stack": STACK,
        "list": [image[: 40 + 2 * index] for index, image in enumerate(STACK)],
        "paths": paths,
    }


@pytest.fixture(scope="module")
def fitted(images):
    """Of each kind of input, a detector, fitted once."""
    return {kind: cheap(smoothing=1.0, stride=None).fit(X) for kind, X in images.items()}


def through_skops(detector):
    content = skops.io.dumps(detector)
    return skops.io.loads(content, trusted=skops.io.get_untrusted_types(data=content))


def assert_answers(detector, expected):
    """Every question of a notebook has an answer, with or without a pipeline around."""
    assert set(METHODS) <= set(dir(detector))
    assert [name for name in FITTED if name in dir(detector)] == expected
    assert [name for name in FITTED if hasattr(detector, name)] == expected
    for name in dir(type(detector)):
        hasattr(detector, name)  # raises nothing
    assert repr(detector).startswith(type(detector).__name__)
    for estimator in (detector, make_pipeline(detector)):
        html = estimator._repr_html_()
        assert type(detector).__name__ in html
        assert [name for name in FITTED if f">{name}<" in re.sub(r"\s", "", html)] == expected


@pytest.mark.parametrize("store", [None, "pickle", "skops"])
@pytest.mark.parametrize("kind", KINDS)
def test_fitted_on_any_kind_of_input(fitted, kind, store):
    detector = fitted[kind]
    if store == "pickle":
        detector = pickle.loads(pickle.dumps(detector))
    elif store == "skops":
        detector = through_skops(detector)
    assert_answers(detector, FITTED)


def test_every_detector(cls):
    assert_answers(cheap(cls), [])
    assert_answers(cheap(cls).fit(list(STACK[:, :20, :24])), FITTED)


@pytest.mark.parametrize("store", [pickle.loads, through_skops, clone])
def test_unfitted(fitted, store):
    detector = clone(fitted["paths"])
    copy = store(pickle.dumps(detector)) if store is pickle.loads else store(detector)
    assert_answers(copy, [])
    with pytest.raises(NotFittedError):
        copy.get_feature_names_out()


def test_what_was_not_learnt_is_not_there():
    """A threshold that was given at fit and taken back; a map that was plain at fit."""
    detector = L2AutoencoderDetector(
        **{**cheap().get_params(), "threshold": 1.0, "residual": "plain", "smoothing": 1.0}
    ).fit(list(STACK[:, :20, :24]))
    detector.set_params(threshold=None, residual="relative")
    missing = {"threshold_", "offset_", "border_profile_", "place_profile_"}
    assert missing.isdisjoint(dir(detector))
    assert_answers(detector, [name for name in FITTED if name not in missing])
    with pytest.raises(ValueError, match="No threshold was learnt"):
        detector.threshold_  # noqa: B018
    with pytest.raises(ValueError, match="none were kept"):
        detector.transform(STACK)
    thresholder = ResidualThresholder(threshold=1.0).fit(STACK).set_params(threshold=None)
    assert {"threshold_", "offset_"}.isdisjoint(dir(thresholder))
    assert "ResidualThresholder" in thresholder._repr_html_()
    with pytest.raises(ValueError, match="No threshold was learnt"):
        thresholder.predict(STACK)


@pytest.mark.parametrize("kind", KINDS[1:])
def test_names_of_features_are_those_of_rows(fitted, images, kind):
    for estimator, X in ((fitted[kind], images[kind]), (ResidualThresholder(), STACK)):
        if estimator is not fitted[kind]:
            estimator.fit(list(X) if kind == "list" else X)
        with pytest.raises(ValueError, match=r"was fitted on images.* no feature names") as caught:
            estimator.get_feature_names_out()
        assert not isinstance(caught.value, NotFittedError)


@pytest.mark.parametrize("kind", KINDS)
def test_no_list_of_all_pixels(fitted, kind):
    """scikit-learn shows names of features, the first hundred of them at most."""
    detector = fitted[kind]
    for estimator in (detector, make_pipeline(detector, "passthrough")):
        names = re.findall(r"l2autoencoderdetector\d+", estimator._repr_html_())
        assert len(names) == (100 if kind == "rows" else 0)
    if kind == "rows":
        assert len(detector.get_feature_names_out()) == 64 * 64
