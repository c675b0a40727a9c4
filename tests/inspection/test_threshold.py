"""The display of scores beside the threshold, and the units that scales name."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
from inspection_reports import fitted, stripes_with_spots
from shared import cheap, texture
from sklearn import config_context
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LinearRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from sklearn_ssimae import L2AutoencoderDetector, ResidualThresholder, VAEDetector
from sklearn_ssimae.inspection import ResidualMapDisplay, ThresholdDisplay
from sklearn_ssimae.model_selection import synthetic_defect_scorer

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


@pytest.fixture(autouse=True)
def closed_figures():
    yield
    plt.close("all")


@pytest.fixture(scope="module")
def images():
    return stripes_with_spots(6)[0]


@pytest.fixture(scope="module")
def detector(images):
    return fitted(images[::2])


def places(dots):
    """Largest residuals and heights of the dots of a row."""
    return np.asarray(dots.get_offsets()).T


def row_names(display):
    return [label.get_text() for label in display.ax_.get_yticklabels()]


def test_dots_lie_at_the_largest_residuals(detector, images):
    good, inspected = images[::2], images[1::2]
    display = ThresholdDisplay.from_estimator(detector, good, inspected)
    for row, X in enumerate((good, inspected)):
        largest, heights = places(display.dots_[row])
        np.testing.assert_allclose(largest, detector.transform(X).max(axis=(1, 2)))
        assert np.all(np.abs(heights - row) < 0.5)
        assert len(set(heights)) == len(X)
    assert display.line_.get_xdata()[0] == display.threshold == detector.threshold_
    n_above = (detector.predict(inspected) == -1).sum()
    assert row_names(display)[1] == f"3 inspected\n{n_above} above"
    assert display.ax_.yaxis_inverted()  # good ones on top
    assert f"{detector.threshold_:.3g}" in display.ax_.get_title()


def test_good_images_alone(detector, images):
    display = ThresholdDisplay.from_estimator(detector, images[::2])
    assert display.inspected_scores is None
    assert len(display.dots_) == len(row_names(display)) == 1


def test_the_threshold_itself_is_not_above():
    """As in predict."""
    display = ThresholdDisplay.from_predictions([-1.0, -2.0, -3.0], 2.0, [-2.0])
    assert row_names(display) == ["3 good\n1 above", "1 inspected\n0 above"]


def test_axes_of_the_user_and_the_same_picture_again():
    _, ax = plt.subplots()
    display = ThresholdDisplay.from_predictions(np.linspace(-2, -1, 30), 1.5, ax=ax)
    assert display.ax_ is ax
    assert display.figure_ is ax.figure
    before = places(display.dots_[0])
    np.testing.assert_array_equal(places(display.plot().dots_[0]), before)


@pytest.mark.parametrize("wrap", ["pipeline", "thresholder", "frozen", "search"])
def test_what_holds_a_detector(detector, images, wrap):
    good = images[::2]
    estimator = {
        "pipeline": lambda: make_pipeline(FunctionTransformer(), detector).fit(good),
        "thresholder": lambda: make_pipeline(detector, ResidualThresholder(strategy="max")).fit(
            good
        ),
        "frozen": lambda: FrozenEstimator(detector),
        "search": lambda: GridSearchCV(
            detector, {"max_iter": [1]}, scoring=synthetic_defect_scorer(), cv=[([0, 1], [2])]
        ).fit(good),
    }[wrap]()
    display = ThresholdDisplay.from_estimator(estimator, images[::2], images[1::2])
    np.testing.assert_array_equal(display.good_scores, detector.score_samples(images[::2]))
    assert display.unit == "times the residual of good images"
    if wrap == "thresholder":
        assert display.threshold == estimator[-1].threshold_ == -display.good_scores.min()
    else:
        assert display.threshold == detector.threshold_


def test_a_thresholder_alone(images):
    maps = np.random.default_rng(0).random((5, 8, 8))
    thresholder = ResidualThresholder(threshold=0.9).fit(maps)
    display = ThresholdDisplay.from_estimator(thresholder, maps)
    np.testing.assert_array_equal(display.good_scores, -maps.max(axis=(1, 2)))
    assert display.unit == "residual"


@pytest.mark.parametrize("with_thresholder", [False, True])
def test_data_frames(with_thresholder):
    """Under transform_output="pandas" rows become frames on the way."""
    rows = texture(6, 16, 24).reshape(6, -1)
    estimator = cheap(image_shape=(16, 24))
    if with_thresholder:
        estimator = make_pipeline(estimator, ResidualThresholder(strategy="max"))
    expected = ThresholdDisplay.from_estimator(estimator.fit(rows), rows[:4], rows[4:])
    with config_context(transform_output="pandas"):
        display = ThresholdDisplay.from_estimator(estimator.fit(rows), rows[:4], rows[4:])
    np.testing.assert_array_equal(display.good_scores, expected.good_scores)
    np.testing.assert_array_equal(display.inspected_scores, expected.inspected_scores)
    assert display.threshold == expected.threshold


def test_refuses_other_estimators(images):
    with pytest.raises(TypeError, match="got LinearRegression as the last step"):
        ThresholdDisplay.from_estimator(make_pipeline(LinearRegression()), images)
    with pytest.raises(NotFittedError):
        ThresholdDisplay.from_estimator(L2AutoencoderDetector(), images)


@pytest.mark.parametrize("scores", [[], [[-1.0]], [-1.0, np.nan], 3.0])
def test_refuses_scores(scores):
    with pytest.raises(ValueError, match="inspected must hold finite scores of one image or more"):
        ThresholdDisplay.from_predictions([-1.0], 1.0, scores)


@pytest.mark.parametrize(
    ("make", "residual", "unit"),
    [
        (L2AutoencoderDetector, "relative", "times the residual of good images"),
        (L2AutoencoderDetector, "plain", "residual"),
        (VAEDetector, "relative", "difference from the residual of good images"),
        (VAEDetector, "plain", "residual, a logarithm"),
    ],
)
def test_scales_name_their_unit(images, make, residual, unit):
    detector = fitted(images[::2], make, residual=residual)
    display = ResidualMapDisplay.from_estimator(detector, images[:1])
    label = display.colorbar_.ax.get_xlabel()
    assert label == f"{unit}\nthreshold {detector.threshold_:.3g}"
    scores = ThresholdDisplay.from_estimator(detector, images)
    assert scores.ax_.get_xlabel() == f"largest residual of an image: {unit}"
