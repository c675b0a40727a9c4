import pickle

import numpy as np
import pytest
from sklearn.base import BaseEstimator, OutlierMixin, TransformerMixin, clone
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import check_scoring
from sklearn.model_selection import GridSearchCV, KFold, cross_validate, learning_curve
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer

from sklearn_ssimae import metrics
from sklearn_ssimae._detectors.thresholder import ResidualThresholder
from sklearn_ssimae._images.labels import good_images
from sklearn_ssimae.model_selection import pixel_scorer

METRICS = {
    "roc_auc": metrics.pixel_roc_auc_score,
    "average_precision": metrics.pixel_average_precision_score,
    "pro_auc": metrics.pro_auc_score,
    "iou": metrics.iou_score,
}


class MeanImageDetector(OutlierMixin, TransformerMixin, BaseEstimator):
    """A detector in miniature: residuals from the mean of the good images."""

    def __init__(self, *, power=1.0, threshold=0.5, log=None):
        self.power = power
        self.threshold = threshold
        self.log = log

    def fit(self, X, y=None):
        if self.log is not None:
            with open(self.log, "a") as file:
                file.write("fit\n")
        good = good_images(y, len(X))
        pixels = [np.mean(image) for image, is_good in zip(X, good, strict=True) if is_good]
        self.mean_ = np.mean(pixels)
        self.threshold_ = self.threshold
        self.n_good_ = len(pixels)
        return self

    def transform(self, X):
        maps = [np.abs(image - self.mean_) ** self.power for image in X]
        return maps if isinstance(X, list) else np.stack(maps)

    def segment(self, X):
        masks = [values > self.threshold_ for values in self.transform(X)]
        return masks if isinstance(X, list) else np.stack(masks)


def data(n=12, shape=(8, 9)):
    """Images with defects in every second one, and their masks."""
    rng = np.random.default_rng(0)
    X = rng.random((n, *shape))
    y = np.zeros(X.shape, dtype=bool)
    y[::2, 2:5, 3:6] = True
    X[y] += 0.5 + 0.5 * rng.random(y.sum())
    return X, y


def halve(X):
    return X / 2


# What is scored -----------------------------------------------------------------------


def estimators():
    """Estimators by name, each with what turns X into its maps and into its masks."""
    detector = MeanImageDetector(power=2.0, threshold=0.02)
    thresholder = ResidualThresholder(quantile=0.95)
    halving = FunctionTransformer(halve)
    return {
        "detector": detector,
        "preprocessed detector": make_pipeline(halving, detector),
        "nested pipelines": make_pipeline(halving, make_pipeline(halving, detector)),
        "thresholder": make_pipeline(detector, thresholder),
        "preprocessed thresholder": make_pipeline(halving, detector, thresholder),
        "thresholder of a pipeline": make_pipeline(make_pipeline(halving, detector), thresholder),
        "single step": make_pipeline(detector),
    }


def reference(name, fitted, X):
    """Maps and masks, by hand."""
    if "thresholder" in name:
        maps = fitted[:-1].transform(X)
        return maps, maps > fitted[-1].threshold_
    times_halved = {"preprocessed detector": 1, "nested pipelines": 2}.get(name, 0)
    while isinstance(fitted, Pipeline):
        fitted = fitted[-1]
    maps = fitted.transform(X / 2**times_halved)
    return maps, maps > fitted.threshold_


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("name", estimators())
def test_score_is_that_of_the_metric(name, metric):
    X, y = data()
    fitted = estimators()[name].fit(X, y)
    maps, found = reference(name, fitted, X)
    expected = METRICS[metric](y, found if metric == "iou" else maps)
    scorer = pixel_scorer(metric)
    assert scorer(fitted, X, y) == expected
    assert scorer(FrozenEstimator(fitted), X, y) == expected
    assert scorer(fitted, X, list(y)) == expected
    assert 0 < expected < 1


@pytest.mark.parametrize("metric", METRICS)
def test_thresholder_alone_scores_maps(metric):
    X, y = data()
    fitted = ResidualThresholder(quantile=0.5).fit(X, y)
    scored = fitted.transform(X) if metric == "iou" else X
    assert pixel_scorer(metric)(fitted, X, y) == METRICS[metric](y, scored)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("with_thresholder", [False, True])
def test_sequences_of_several_sizes(with_thresholder, metric):
    rng = np.random.default_rng(0)
    X = [rng.random(size) for size in ((5, 6), (9, 4), (7, 7))]
    y = [image > 0.8 for image in X]
    y[0][:] = False
    estimator = MeanImageDetector(threshold=0.3)
    if with_thresholder:
        estimator = make_pipeline(estimator, ResidualThresholder(threshold=0.3))
    maps = [np.abs(image - X[0].mean()) for image in X]
    scored = [values > 0.3 for values in maps] if metric == "iou" else maps
    score = pixel_scorer(metric)(estimator.fit(X, y), X, y)
    assert score == pytest.approx(METRICS[metric](y, scored))


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("with_thresholder", [False, True])
def test_rows(with_thresholder, metric):
    X, y = data()
    estimator = MeanImageDetector(threshold=0.3)
    if with_thresholder:
        estimator = make_pipeline(estimator, ResidualThresholder())
    rows, scorer = X.reshape(len(X), -1), pixel_scorer(metric)
    fitted = estimator.fit(rows, y)
    expected = scorer(fitted, X, y)
    assert scorer(fitted, rows, y) == expected
    assert scorer(fitted, rows, list(y)) == expected
    if metric == "pro_auc":
        with pytest.raises(ValueError, match=r"needs masks as y.*got an array of shape \(12, 72\)"):
            scorer(fitted, rows, y.reshape(rows.shape))
    else:
        assert scorer(fitted, rows, y.reshape(rows.shape)) == expected


# scikit-learn's tools -----------------------------------------------------------------


@pytest.mark.parametrize("metric", METRICS)
def test_scikit_learn_accepts_copies_and_shows_the_scorer(metric):
    scorer = pixel_scorer(metric)
    assert check_scoring(MeanImageDetector(), scoring=scorer) is scorer
    assert repr(scorer) == f"pixel_scorer({metric!r})"
    X, y = data()
    fitted = MeanImageDetector().fit(X, y)
    for copy in (pickle.loads(pickle.dumps(scorer)), clone(scorer, safe=False)):
        assert copy(fitted, X, y) == scorer(fitted, X, y)


@pytest.mark.parametrize("as_list", [False, True])
def test_grid_search_refits_on_good_images(as_list):
    X, y = data()
    if as_list:
        X, y = list(X), list(y)
    search = GridSearchCV(
        MeanImageDetector(), {"power": [0.01, 1.0]}, scoring=pixel_scorer("iou"), cv=KFold(3)
    ).fit(X, y)
    assert search.best_params_ == {"power": 1.0}
    assert search.best_estimator_.n_good_ == 6
    assert search.best_estimator_.mean_ == pytest.approx(np.mean(X[1::2]))
    assert pixel_scorer("iou")(search, X, y) == search.score(X, y)


@pytest.mark.parametrize("frozen", [False, True])
def test_grid_over_thresholds_fits_the_detector_once_a_fold(tmp_path, frozen):
    X, y = data()
    log = tmp_path / "log"
    detector = MeanImageDetector(log=log)
    if frozen:
        detector = FrozenEstimator(detector.fit(X, y))
    thresholds = [0.1, 0.3, 0.5, 0.7, 0.9]
    search = GridSearchCV(
        Pipeline(
            [("detector", detector), ("thresholder", ResidualThresholder())],
            memory=str(tmp_path / "cache"),
        ),
        {"thresholder__threshold": thresholds},
        scoring=pixel_scorer("iou"),
        cv=KFold(3),
    ).fit(X, y)
    n_fits = len(log.read_text().splitlines())
    assert n_fits == (1 if frozen else 4)  # once a fold, and the refit
    maps = search.best_estimator_[:-1].transform(X)
    by_hand = [metrics.iou_score(y, maps > threshold) for threshold in thresholds]
    assert search.best_params_ == {"thresholder__threshold": thresholds[np.argmax(by_hand)]}


def test_cross_validate_with_all_metrics():
    X, y = data()
    folds = list(KFold(3).split(X))
    scores = cross_validate(
        make_pipeline(FunctionTransformer(halve), MeanImageDetector(), ResidualThresholder()),
        X,
        y,
        scoring={metric: pixel_scorer(metric) for metric in METRICS},
        cv=folds,
        error_score="raise",
    )
    train, test = folds[1]
    mean = np.mean(X[train][1::2] / 2)
    expected = metrics.pro_auc_score(y[test], np.abs(X[test] / 2 - mean))
    assert scores["test_pro_auc"][1] == pytest.approx(expected)
    assert all(len(scores[f"test_{metric}"]) == 3 for metric in METRICS)


def test_nested_cross_validation():
    X, y = data()
    search = GridSearchCV(
        MeanImageDetector(), {"threshold": [0.1, 0.9]}, scoring=pixel_scorer("iou"), cv=2
    )
    scores = cross_validate(search, X, y, scoring=pixel_scorer("roc_auc"), cv=2)
    assert np.all(scores["test_score"] > 0.7)


def test_learning_curve():
    X, y = data(n=24)
    sizes, _, scores = learning_curve(
        MeanImageDetector(),
        X,
        y,
        train_sizes=[4, 16],
        scoring=pixel_scorer("average_precision"),
        cv=KFold(3),
        error_score="raise",
    )
    assert sizes.tolist() == [4, 16]
    assert scores.shape == (2, 3)
    assert np.all((scores > 0) & (scores < 1))


# Bad input ----------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["auc", "", None, 3])
def test_unknown_metric_lists_the_known_ones(name):
    with pytest.raises(ValueError, match="'roc_auc', 'average_precision', 'pro_auc', 'iou'"):
        pixel_scorer(name)


@pytest.mark.parametrize("metric", METRICS)
def test_labels_are_no_masks(metric):
    X, _ = data()
    fitted = MeanImageDetector().fit(X)
    with pytest.raises(ValueError, match=rf"pixel_scorer\('{metric}'\) needs masks as y.*\(12,\)"):
        pixel_scorer(metric)(fitted, X, [1] * 12)


@pytest.mark.parametrize("metric", METRICS)
def test_masks_of_other_shapes_or_values(metric):
    X, y = data()
    scorer, fitted = pixel_scorer(metric), MeanImageDetector().fit(X)
    with pytest.raises(ValueError, match=r"\[0\] has the shape \(8, 8\), but .*\[0\] has \(8, 9\)"):
        scorer(fitted, X, y[:, :, 1:])
    with pytest.raises(ValueError, match=r"y\[0\] has the shape \(8, 8\), but image 0 has \(72,\)"):
        scorer(fitted, X.reshape(12, -1), y[:, :, 1:])
    with pytest.raises(ValueError, match=r"y_true\[0\] is no binary mask: it holds 0, 2"):
        scorer(fitted, X, y * 2)
    with pytest.raises(ValueError, match=r"y_true has 11 images, .* has 12"):
        scorer(fitted, X, y[1:])


@pytest.mark.parametrize("wrap", [lambda e: e, make_pipeline, FrozenEstimator])
def test_other_estimators_are_refused(wrap):
    X, y = data()
    other = LogisticRegression().fit(np.eye(3), [0, 1, 0])
    with pytest.raises(TypeError, match="got LogisticRegression as the last step of"):
        pixel_scorer("iou")(wrap(other), X, y)
