"""scikit-learn's `set_output`: rows come in data frames, images and lists as they are."""

from contextlib import nullcontext

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import polars as pl
import pytest
from numpy.testing import assert_array_equal
from shared import cheap, texture
from sklearn import config_context
from sklearn.pipeline import make_pipeline

from sklearn_ssimae import ResidualThresholder
from sklearn_ssimae.inspection import PixelCurveDisplay, ResidualMapDisplay, write_report
from sklearn_ssimae.model_selection import pixel_scorer

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

FRAMES = {"pandas": pd.DataFrame, "polars": pl.DataFrame}
IMAGES = texture(6, 20, 24)
ROWS = IMAGES.reshape(6, -1)
MASKS = np.zeros(IMAGES.shape, bool)
MASKS[::2, 3:9, 3:9] = True
LABELS = np.where(MASKS.any(axis=(1, 2)), -1, 1)


def of_rows():
    return cheap(smoothing=1.0, image_shape=(20, 24)).fit(ROWS)


@pytest.fixture(params=["global", "set_output"])
def asked(request):
    """How a frame is asked for: the estimator's own setting, or a context in force."""

    def ask(estimator, library):
        if request.param == "global":
            return config_context(transform_output=library)
        estimator.set_output(transform=library)
        return nullcontext()

    return ask


@pytest.mark.parametrize("library", FRAMES)
def test_rows_come_in_frames(library, asked):
    detector = of_rows()
    plain = {name: getattr(detector, name)(ROWS) for name in ("transform", "segment", "predict")}
    scores = [detector.score(ROWS, y) for y in (MASKS, LABELS)]
    with asked(detector, library):
        maps = detector.transform(ROWS)
        assert type(maps) is FRAMES[library]
        assert list(maps.columns) == list(detector.get_feature_names_out())
        assert_array_equal(maps.to_numpy(), plain["transform"])
        for name in ("segment", "predict"):
            assert_array_equal(getattr(detector, name)(ROWS), plain[name])
        assert type(detector.fit_transform(ROWS)) is FRAMES[library]
        assert [detector.score(ROWS, y) for y in (MASKS, LABELS)] == scores
        assert pixel_scorer("roc_auc")(detector, ROWS, MASKS) == scores[0]


@pytest.mark.parametrize("library", FRAMES)
@pytest.mark.parametrize("X", [IMAGES, list(IMAGES)], ids=["array", "list"])
def test_images_come_as_they_are(library, X, asked):
    detector = cheap(smoothing=1.0).fit(X)
    expected = detector.transform(X)
    with asked(detector, library):
        maps = detector.transform(X)
        assert type(maps) is type(X)
        assert_array_equal(maps, expected)
        assert 0 <= detector.score(X, list(MASKS) if isinstance(X, list) else MASKS) <= 1


@pytest.mark.parametrize("library", FRAMES)
@pytest.mark.parametrize("X", [IMAGES, list(IMAGES), ROWS], ids=["array", "list", "rows"])
def test_pipelines_with_a_thresholder(library, X, asked):
    image_shape = (20, 24) if X is ROWS else None
    pipeline = make_pipeline(
        cheap(smoothing=1.0, image_shape=image_shape), ResidualThresholder(strategy="max")
    ).fit(X)
    expected = pipeline.transform(X), pipeline.predict(X), pixel_scorer("iou")(pipeline, X, MASKS)
    with asked(pipeline, library):
        pipeline.fit(X)
        masks = pipeline.transform(X)
        assert type(masks) is (FRAMES[library] if X is ROWS else type(X))
        assert_array_equal(masks, expected[0])
        assert_array_equal(pipeline.predict(X), expected[1])
        assert pixel_scorer("iou")(pipeline, X, MASKS) == expected[2]


@pytest.mark.parametrize("library", FRAMES)
def test_displays_and_the_report(library, asked, tmp_path):
    detector, detector_of_rows = cheap(smoothing=1.0).fit(IMAGES), of_rows()
    expected = detector.transform(IMAGES)
    with asked(detector, library), asked(detector_of_rows, library):
        display = ResidualMapDisplay.from_estimator(detector, IMAGES, MASKS)
        assert_array_equal(display.axes_[0][2].images[0].get_array(), expected[0])
        for estimator, X in ((detector, IMAGES), (detector_of_rows, ROWS)):
            curve = PixelCurveDisplay.from_estimator(estimator, X, MASKS)
            assert curve.area == pytest.approx(estimator.score(X, MASKS))
        write_report(tmp_path / "report.html", detector, IMAGES, masks=MASKS)
    assert (tmp_path / "report.html").stat().st_size > 10_000
    plt.close("all")
