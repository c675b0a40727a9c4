"""Real detectors in scikit-learn's searches and pipelines."""

import time

import joblib
import numpy as np
import pytest
import torch
from shared import DETECTORS, cheap
from skimage import color, data, filters, io
from sklearn.base import clone
from sklearn.exceptions import UndefinedMetricWarning
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import (
    GridSearchCV,
    KFold,
    StratifiedKFold,
    cross_val_score,
    cross_validate,
    learning_curve,
)
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer

from sklearn_ssimae import (
    L2AutoencoderDetector,
    ResidualThresholder,
    SSIMAutoencoderDetector,
    metrics,
)
from sklearn_ssimae.datasets import add_synthetic_defects
from sklearn_ssimae.model_selection import LockingMemory, pixel_scorer

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


def surface(n=6, height=24, width=32):
    """Cuts of a real texture, every second one with drawn defects, and the masks."""
    gravel = data.gravel() / 255
    X = np.stack([gravel[40 * i : 40 * i + height, 31 * i : 31 * i + width] for i in range(n)])
    masks = np.zeros(X.shape, dtype=bool)
    X[::2], masks[::2] = add_synthetic_defects(X[::2], random_state=0)
    assert masks[::2].any(axis=(1, 2)).all()
    return X, masks


def weights(detector):
    return torch.cat([tensor.ravel() for tensor in detector.network_.state_dict().values()])


def assert_same_model(detector, expected):
    assert torch.equal(weights(detector), weights(expected))
    assert detector.loss_curve_ == expected.loss_curve_
    assert detector.threshold_ == expected.threshold_


# What is learnt from ------------------------------------------------------------------


@pytest.mark.parametrize("cls", DETECTORS)
def test_refit_has_learnt_from_what_is_good_only(cls):
    X, masks = surface()
    search = GridSearchCV(
        cheap(cls), {"latent_dim": [2, 5]}, scoring=pixel_scorer("average_precision"), cv=KFold(2)
    ).fit(X, masks)
    chosen = cheap(cls, **search.best_params_)
    assert_same_model(search.best_estimator_, chosen.fit(X, masks))
    with_defects = clone(chosen).fit(X)
    assert not torch.equal(weights(with_defects), weights(chosen))
    assert with_defects.threshold_ != chosen.threshold_


@pytest.mark.parametrize("kind", ["masks", "list", "labels", "rows"])
def test_folds_have_learnt_from_what_is_good_only(kind):
    X, masks = surface()
    labels = np.where(masks.any(axis=(1, 2)), -1, 1)
    pipeline = make_pipeline(FunctionTransformer(), cheap(image_shape=X.shape[1:]))
    given, y, scorer = {
        "masks": (X, masks, pixel_scorer("roc_auc")),
        "list": (list(X), list(masks), pixel_scorer("roc_auc")),
        "labels": (X, labels, "roc_auc"),
        "rows": (X.reshape(6, -1), masks, pixel_scorer("roc_auc")),
    }[kind]
    folds = list(KFold(3).split(X))
    result = cross_validate(
        pipeline, given, y, scoring=scorer, cv=folds, return_estimator=True, error_score="raise"
    )
    for (train, test), fitted, score in zip(
        folds, result["estimator"], result["test_score"], strict=True
    ):
        expected = cheap().fit(X[train], labels[train] if kind == "labels" else masks[train])
        assert_same_model(fitted[-1], expected)
        y_test = labels[test] if kind == "labels" else masks[test]
        assert score == pytest.approx(expected.score(X[test], y_test))


# Searches -----------------------------------------------------------------------------


def test_grid_over_window_latent_dim_and_threshold():
    X, masks = surface()
    grid = {"window_size": [3, 7], "latent_dim": [2, 5], "threshold": [0.1, 0.4]}
    search = GridSearchCV(
        cheap(SSIMAutoencoderDetector, smoothing=0), grid, scoring=pixel_scorer("iou"), cv=KFold(2)
    ).fit(X, masks)
    scores = search.cv_results_["mean_test_score"]
    assert len(scores) == 8 and len(set(scores)) > 4
    assert search.best_score_ == max(scores)
    best = search.best_estimator_
    assert best.get_params().items() >= search.best_params_.items()
    assert best.network_.config["latent_dim"] == search.best_params_["latent_dim"]
    assert best.threshold_ == search.best_params_["threshold"]
    expected = metrics.iou_score(masks, best.segment(X))
    assert search.score(X, masks) == pixel_scorer("iou")(search, X, masks) == expected


def rgb_to_grey(X):
    return color.rgb2gray(X)


def smooth(X, sigma=1.0):
    return np.stack([filters.gaussian(image, sigma) for image in X])


@pytest.mark.parametrize("with_thresholder", [False, True])
def test_nested_pipelines_with_preprocessing_in_front(with_thresholder):
    X, masks = surface()
    coloured = X[..., None] * [0.5, 1.0, 0.8]
    prepare = make_pipeline(FunctionTransformer(rgb_to_grey), FunctionTransformer(smooth))
    pipeline = Pipeline([("prepare", prepare), ("detector", cheap())])
    if with_thresholder:
        pipeline = Pipeline([("maps", pipeline), ("thresholder", ResidualThresholder())])
    path = "maps__" if with_thresholder else ""
    sigmas = f"{path}prepare__functiontransformer-2__kw_args"
    grid = {sigmas: [{"sigma": 0.5}, {"sigma": 2.0}], f"{path}detector__latent_dim": [3]}
    search = GridSearchCV(
        pipeline, grid, scoring=pixel_scorer("iou"), cv=KFold(3), error_score="raise"
    ).fit(coloured, masks)
    sigma = search.best_params_[sigmas]["sigma"]
    prepared = smooth(rgb_to_grey(coloured), sigma)
    expected = cheap(latent_dim=3).fit(prepared, masks)
    fitted = search.best_estimator_
    assert_same_model((fitted[0] if with_thresholder else fitted)["detector"], expected)
    if with_thresholder:
        threshold = np.quantile(expected.transform(prepared[1::2]).astype(float), 0.999)
        assert fitted[-1].threshold_ == pytest.approx(threshold)
        found = expected.transform(prepared) > threshold
        np.testing.assert_array_equal(search.predict(coloured) == -1, found.any(axis=(1, 2)))
    else:
        found = expected.segment(prepared)
        np.testing.assert_array_equal(search.predict(coloured), expected.predict(prepared))
    assert search.score(coloured, masks) == metrics.iou_score(masks, found)


def test_learning_curve():
    X, masks = surface(8)
    sizes, train_scores, test_scores = learning_curve(
        cheap(),
        X,
        masks,
        train_sizes=[2, 4],
        scoring=pixel_scorer("roc_auc"),
        cv=KFold(2),
        error_score="raise",
    )
    assert sizes.tolist() == [2, 4]
    expected = cheap().fit(X[[4, 5]], masks[[4, 5]]).score(X[:4], masks[:4])
    assert test_scores[0, 0] == pytest.approx(expected)
    assert train_scores.shape == test_scores.shape == (2, 2)
    assert np.all((test_scores > 0) & (test_scores < 1))


@pytest.mark.parametrize("cls", DETECTORS)
def test_clone_and_set_params(cls):
    X, masks = surface(4)
    pipeline = Pipeline([("prepare", FunctionTransformer(smooth)), ("detector", cheap(cls))])
    fitted = clone(pipeline).set_params(detector__latent_dim=2).fit(X, masks)
    copy = clone(fitted)
    assert copy["detector"].latent_dim == 2
    assert not hasattr(copy["detector"], "network_")
    assert_same_model(copy.fit(X, masks)["detector"], fitted["detector"])
    changed = clone(fitted).set_params(detector__latent_dim=3).fit(X, masks)
    assert weights(changed["detector"]).shape != weights(fitted["detector"]).shape


def test_cross_val_score_without_scoring_uses_masks_or_labels():
    X, masks = surface(8)
    labels = np.where(masks.any(axis=(1, 2)), -1, 1)
    folds = list(StratifiedKFold(2).split(labels, labels))
    of_pixels = cross_val_score(cheap(), X, masks, cv=folds)
    by_scorer = cross_val_score(cheap(), X, masks, cv=folds, scoring=pixel_scorer("roc_auc"))
    np.testing.assert_array_equal(of_pixels, by_scorer)
    of_images = cross_val_score(cheap(), X, labels, cv=folds)
    by_name = cross_val_score(cheap(), X, labels, cv=folds, scoring="roc_auc")
    np.testing.assert_allclose(of_images, by_name)
    assert not np.array_equal(of_images, of_pixels)


def test_roc_auc_of_labels_is_inverted_if_defects_are_1():
    X, masks = surface(8)
    is_defect = masks.any(axis=(1, 2))
    X[is_defect, :8, :8] = 0
    fitted = FrozenEstimator(cheap().fit(X[~is_defect]))
    cv = StratifiedKFold(2)
    right = cross_val_score(fitted, X, np.where(is_defect, -1, 1), cv=cv, scoring="roc_auc")
    np.testing.assert_array_equal(right, 1)
    inverted = cross_val_score(fitted, X, is_defect.astype(int), cv=cv, scoring="roc_auc")
    np.testing.assert_array_equal(inverted, 0)


# Thresholds without training ----------------------------------------------------------


class LoggedDetector(L2AutoencoderDetector):
    """Writes a line for each fit, whichever process it is in: the number of torch's threads."""

    def __init__(self, *, log=None, patch_size=16, n_patches=16, max_iter=1, random_state=0):
        super().__init__(
            patch_size=patch_size, n_patches=n_patches, max_iter=max_iter, random_state=random_state
        )
        self.log = log

    def fit(self, X, y=None):
        with open(self.log, "a") as file:
            file.write(f"{torch.get_num_threads()}\n")
        # Long enough for another worker to come to the same fold.
        time.sleep(0.3)
        return super().fit(X, y)


THRESHOLDS = [0.001, 0.003, 0.01, 0.03, 0.1, 0.3]


def search_thresholds(detector, memory=None, **params):
    steps = [("detector", detector), ("thresholder", ResidualThresholder())]
    pipeline = Pipeline(steps, memory=memory)
    grid = {"thresholder__threshold": THRESHOLDS}
    return GridSearchCV(pipeline, grid, scoring=pixel_scorer("iou"), **params)


def test_grid_over_thresholds_trains_once_a_fold(tmp_path):
    X, masks = surface()
    log = tmp_path / "log"
    search = search_thresholds(LoggedDetector(log=log), str(tmp_path / "cache"), cv=KFold(3))
    search.fit(X, masks)
    assert len(log.read_text().splitlines()) == 4  # three folds and the refit
    detector = L2AutoencoderDetector(patch_size=16, n_patches=16, max_iter=1, random_state=0)
    scores = np.zeros((len(THRESHOLDS), 3))
    for fold, (train, test) in enumerate(KFold(3).split(X)):
        maps = detector.fit(X[train], masks[train]).transform(X[test])
        scores[:, fold] = [metrics.iou_score(masks[test], maps > t) for t in THRESHOLDS]
    np.testing.assert_array_equal(search.cv_results_["mean_test_score"], scores.mean(axis=1))
    assert_same_model(search.best_estimator_["detector"], detector.fit(X, masks))


@pytest.mark.slow
def test_two_workers_train_once_a_fold_with_one_thread_each(tmp_path, monkeypatch):
    # Without it the workers get their share of the cores; with it, what it says.
    monkeypatch.delenv("OMP_NUM_THREADS")
    X, masks = surface()
    log = tmp_path / "log"
    search = search_thresholds(
        LoggedDetector(log=log), LockingMemory(tmp_path / "cache"), cv=KFold(3), n_jobs=2
    )
    search.fit(X, masks)
    n_threads = [int(line) for line in log.read_text().splitlines()]
    assert len(n_threads) == 4
    assert n_threads[-1] == torch.get_num_threads()  # the refit, in this process
    assert max(n_threads[:-1]) <= max(1, joblib.cpu_count() // 2)
    one_job = clone(search).set_params(n_jobs=1).fit(X, masks)
    assert len(log.read_text().splitlines()) == 4
    for key in ("params", "mean_test_score"):
        np.testing.assert_array_equal(search.cv_results_[key], one_job.cv_results_[key])


@pytest.mark.parametrize("with_memory", [False, True])
def test_frozen_detector_is_never_trained(tmp_path, with_memory):
    X, masks = surface()
    log = tmp_path / "log"
    fitted = LoggedDetector(log=log).fit(X[1::2])
    frozen = FrozenEstimator(make_pipeline(FunctionTransformer(), fitted))
    memory = str(tmp_path / "cache") if with_memory else None
    search = search_thresholds(frozen, memory, cv=KFold(2)).fit(X, masks)
    assert len(log.read_text().splitlines()) == 1
    best = search.best_params_["thresholder__threshold"]
    found = fitted.transform(X) > best
    assert search.score(X, masks) == metrics.iou_score(masks, found)
    np.testing.assert_array_equal(search.predict(X) == -1, found.any(axis=(1, 2)))


# LockingMemory ------------------------------------------------------------------------


def slow_sum(a, b, log=None):
    with open(log, "a") as file:
        file.write("sum\n")
    time.sleep(0.2)
    return a + b


def test_locking_memory_computes_each_result_once(tmp_path):
    log = tmp_path / "log"
    cached = LockingMemory(tmp_path / "cache").cache(slow_sum, ignore=["log"])
    jobs = [joblib.delayed(cached)(a, b=1, log=log) for a in (1, 1, 2, 2, 1, 2)]
    assert joblib.Parallel(n_jobs=2, backend="threading")(jobs) == [2, 2, 3, 3, 2, 3]
    assert len(log.read_text().splitlines()) == 2
    assert cached(2, b=1, log=None) == 3


def test_locking_memory_is_a_memory(tmp_path, capsys):
    log = tmp_path / "log"
    memory = LockingMemory(tmp_path / "cache")

    @memory.cache(ignore=["log"])
    def product(a, log=None):
        slow_sum(a, 0, log)
        return 2 * a

    assert product(3, log=log) == product(3, log=log) == 6
    assert product.__name__ == "product"
    assert clone(Pipeline([("a", ResidualThresholder())], memory=memory)).memory.location == (
        memory.location
    )
    memory.clear(warn=False)
    assert product(3, log=log) == 6
    assert len(log.read_text().splitlines()) == 2
    with pytest.raises(ZeroDivisionError):
        memory.cache(divmod)(1, 0)
    assert capsys.readouterr().out == ""


# Bad input ----------------------------------------------------------------------------


def bad_masks(X, masks):
    y = list(masks)
    y[4] = y[4][:, 1:]
    return {
        "shape in a list": (X, y, r"y\[4\] has the shape \(24, 31\), but image 4 has \(24, 32\)"),
        "list": (list(X), y, r"y\[4\] has the shape \(24, 31\), but image 4 has \(24, 32\)"),
        "colour": (X[..., None], y, r"y\[4\] has the shape \(24, 31\), but image 4 has \(24, 32\)"),
        "shape": (X, masks[:, 1:], r"y\[0\] has the shape \(23, 32\), but image 0 has \(24, 32\)"),
        "rows": (
            X.reshape(6, -1),
            masks.swapaxes(1, 2),
            r"y\[0\] has the shape \(32, 24\), but image 0 has \(24, 32\)",
        ),
        "values": (X, 3 * masks, r"y\[0\] is no binary mask: it holds 0, 3"),
        "length": (X, masks[1:], "y has 5 entries for 6 images"),
        "labels": (X, [1, -1], "y has 2 entries for 6 images"),
        "no good image": (X, np.ones_like(masks), "y marks all 6 images as defective.*Add good"),
        "no good label": (X, -np.ones(6), "y marks all 6 images as defective.*Add good"),
    }


@pytest.mark.parametrize("method", ["fit", "partial_fit"])
@pytest.mark.parametrize("name", bad_masks(*surface()))
def test_bad_y_in_fit(name, method):
    X, y, message = bad_masks(*surface())[name]
    with pytest.raises(ValueError, match=message):
        getattr(cheap(image_shape=(24, 32)), method)(X, y)


SCORE_MESSAGES = {
    "shape in a list": r"\[4\] has the shape \(24, 31\), but .*\[4\] has \(24, 32\)",
    "list": r"\[4\] has the shape \(24, 31\), but .*\[4\] has \(24, 32\)",
    "shape": r"\[0\] has the shape \(23, 32\), but .*\[0\] has \(24, 32\)",
    "values": r"\[0\] is no binary mask: it holds 0, 3",
    "length": "has 5 images, .* has 6",
    "labels": "y has 2 entries for 6 images",
}


@pytest.mark.parametrize("name", SCORE_MESSAGES)
def test_bad_y_in_score(name):
    X, y, _ = bad_masks(*surface())[name]
    with pytest.raises(ValueError, match=SCORE_MESSAGES[name]):
        cheap().fit(X).score(X, y)


def test_masks_of_files_are_compared_when_the_files_are_read(tmp_path):
    X, masks = surface()
    paths = [tmp_path / f"{i}.png" for i in range(6)]
    for path, image in zip(paths, X, strict=True):
        io.imsave(path, (255 * image).astype(np.uint8), check_contrast=False)
    y = list(masks)
    y[4] = y[4][:, 1:]
    for ask in (cheap().fit, cheap().fit(paths, list(masks)).score):
        with pytest.raises(ValueError, match=r"\(24, 31\), .*\(24, 32\)"):
            ask(paths, y)


def test_no_good_image_in_a_fold():
    X, masks = surface()
    with pytest.raises(ValueError, match="y marks all 3 images as defective"):
        labels = np.where(masks.any(axis=(1, 2)), -1, 1)
        cross_val_score(cheap(), X, labels, cv=[([0, 2, 4], [1, 3, 5])], error_score="raise")


def test_one_class_alone_scores_nan():
    X, masks = surface()
    detector = cheap().fit(X, masks)
    with pytest.warns(UndefinedMetricWarning, match="-1 marks a defective image.*masks.*True"):
        assert np.isnan(detector.score(X, [0, 1, 2, 0, 1, 2]))
    with pytest.warns(UndefinedMetricWarning, match=r"defect pixels \(True\).*0 defect pixels"):
        assert np.isnan(detector.score(X[1::2], masks[1::2]))


def test_sample_weight_is_refused():
    X, masks = surface()
    with pytest.raises(TypeError, match="sample_weight"):
        cheap().fit(X, masks, sample_weight=np.ones(6))
