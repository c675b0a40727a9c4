"""The scorer that draws defects into good images."""

import pickle

import numpy as np
import pytest
from shared import cheap, texture
from sklearn.base import clone
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import check_scoring
from sklearn.model_selection import GridSearchCV, cross_validate
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from sklearn_ssimae import L2AutoencoderDetector, ResidualThresholder, SSIMAutoencoderDetector
from sklearn_ssimae.model_selection import pixel_scorer, synthetic_defect_scorer

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
SCORE = synthetic_defect_scorer()


def stripes(n, seed=0):
    """Good images (n, 32, 40): stripes of one period, of any phase, under some noise."""
    random = np.random.default_rng(seed)
    phase = random.uniform(0, 2 * np.pi, (n, 1, 1))
    images = 0.5 + 0.3 * np.sin(2 * np.pi * np.arange(40) / 8 + phase) * np.ones((1, 32, 1))
    return (images + random.normal(0, 0.02, images.shape)).clip(0, 1)


@pytest.fixture(scope="module")
def good():
    return stripes(12)


@pytest.fixture(scope="module")
def unseen():
    return stripes(2, seed=1)[:, :, :32]


@pytest.fixture(scope="module")
def detector(good):
    return cheap().fit(good)


def trained(n_epochs, good):
    return L2AutoencoderDetector(
        patch_size=16, latent_dim=8, n_patches=200, max_iter=n_epochs, random_state=0
    ).fit(good)


def test_training_pays(good, unseen):
    """Larger is better: a trained network scores far above one that has hardly begun."""
    scores = [SCORE(trained(n_epochs, good), unseen) for n_epochs in (1, 8)]
    assert 0 <= scores[0] < scores[1] - 0.1 < 1


def test_search_without_a_defect(good):
    """The bottleneck of one number cannot hold the phase of the stripes."""
    search = GridSearchCV(
        L2AutoencoderDetector(patch_size=16, n_patches=200, max_iter=8, random_state=0),
        {"latent_dim": [1, 8]},
        scoring=SCORE,
        cv=[(range(2, 12), range(2))],
        error_score="raise",
    ).fit(good)
    assert search.best_params_ == {"latent_dim": 8}
    assert search.score(good) == SCORE(search.best_estimator_, good)


def test_all_detectors(cls, good, unseen):
    fitted = cheap(cls).fit(good)
    assert 0 < SCORE(fitted, unseen) < 1


def test_scores_repeat_and_depend_on_what_is_drawn(detector, unseen):
    assert SCORE(detector, unseen) == synthetic_defect_scorer()(detector, unseen)
    assert SCORE(detector, unseen) != synthetic_defect_scorer(random_state=1)(detector, unseen)


def test_detector_and_images_are_left_alone(detector, unseen):
    threshold, table, before = detector.threshold_, detector.map_choice_, unseen.copy()
    SCORE(detector, unseen)
    assert detector.threshold_ == threshold
    assert detector.map_choice_ is table
    np.testing.assert_array_equal(unseen, before)


def test_the_threshold_has_no_effect(detector, unseen):
    expected = SCORE(detector, unseen)
    assert SCORE(clone(detector).set_params(threshold=1e3).fit(stripes(12)), unseen) == expected


def double(X):
    return 2 * X


def test_what_holds_a_detector(detector, good, unseen):
    expected = SCORE(detector, unseen)
    thresholder = ResidualThresholder(threshold=1.0)
    for estimator in (
        make_pipeline(FunctionTransformer(), detector),
        make_pipeline(FunctionTransformer(), detector, thresholder),
        make_pipeline(make_pipeline(FunctionTransformer(), FrozenEstimator(detector))),
        FrozenEstimator(detector),
    ):
        assert SCORE(estimator, unseen) == expected
    scaled = make_pipeline(FunctionTransformer(double), clone(detector)).fit(good)
    assert SCORE(scaled, unseen) == SCORE(scaled[-1], 2 * unseen)


@pytest.mark.parametrize("form", ["list", "rows", "colour"])
def test_forms_of_images(form):
    X = texture(6, 32, 32, 3) if form == "colour" else texture(6, 32, 32)
    if form == "list":
        X = [*X[:5], X[5, :24]]
    elif form == "rows":
        X = X.reshape(6, -1)
    assert 0 < SCORE(cheap().fit(X), X) < 1


def test_defective_images_are_left_out(detector, unseen):
    bad = np.ones((1, 32, 32))
    X, labels = np.concatenate([bad, unseen]), [-1, 1, 1]
    masks = np.zeros(X.shape, dtype=bool)
    masks[0, 3:9, 3:9] = True
    expected = SCORE(detector, unseen)
    assert SCORE(detector, X, labels) == SCORE(detector, X, masks) == expected
    assert SCORE(detector, X) != expected
    with pytest.raises(ValueError, match="y marks all 3 images as defective"):
        SCORE(detector, X, [-1] * 3)


def test_beside_other_scorers(good):
    masks = np.zeros(good.shape, dtype=bool)
    masks[::3, 4:8, 4:8] = True
    scoring = {"drawn": SCORE, "masks": pixel_scorer("roc_auc")}
    scores = cross_validate(cheap(), good, masks, scoring=scoring, cv=2, error_score="raise")
    assert np.all((scores["test_drawn"] > 0) & (scores["test_drawn"] < 1))
    assert len(scores["test_masks"]) == 2


def test_scikit_learn_accepts_copies_and_shows_the_scorer(detector, unseen):
    assert check_scoring(detector, scoring=SCORE) is SCORE
    assert repr(SCORE) == "synthetic_defect_scorer(random_state=0)"
    copy = pickle.loads(pickle.dumps(SCORE))
    assert copy(detector, unseen) == SCORE(detector, unseen)


def test_too_small_images(good):
    small = [image[:15] for image in good]
    with pytest.raises(ValueError, match=r"squares of 16 pixels or more, and none of the 12 good"):
        SCORE(cheap().fit(small), small)
    shrunk = cheap(scale=0.25).fit(good)
    with pytest.raises(ValueError, match=r"at scale=0\.25"):
        SCORE(shrunk, good)


def test_flat_images():
    """What can be drawn into them counts."""
    flat = np.full((4, 32, 32), 0.5)
    assert 0 < SCORE(cheap(SSIMAutoencoderDetector).fit(flat), flat) <= 1


@pytest.mark.parametrize("wrap", [lambda e: e, make_pipeline, FrozenEstimator])
@pytest.mark.parametrize("other", [LogisticRegression(), ResidualThresholder()])
def test_other_estimators_are_refused(wrap, other):
    name = type(other).__name__
    fitted = other.fit([[0.0], [1.0]], [0, 1])
    with pytest.raises(TypeError, match=f"needs a detector, .* got {name} as the last step"):
        SCORE(wrap(fitted), np.zeros((2, 16, 16)))


@pytest.mark.parametrize("random_state", [None, 0.5, np.random.RandomState(0)])
def test_random_state_must_be_an_int(random_state):
    with pytest.raises(TypeError, match="random_state must be an int, got"):
        synthetic_defect_scorer(random_state=random_state)
