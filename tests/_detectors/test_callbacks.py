"""Epochs as tasks of scikit-learn's callbacks, and training that stops or goes on."""

import pickle
from itertools import pairwise

import numpy as np
import pytest
import torch
from shared import cheap
from skimage import data
from sklearn.callback import ProgressBar, ScoringMonitor
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import GridSearchCV, KFold
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer

from sklearn_ssimae import ResidualThresholder
from sklearn_ssimae.datasets import add_synthetic_defects
from sklearn_ssimae.model_selection import pixel_scorer

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


def surface(n=4):
    """Cuts of a real texture, every second one with drawn defects, and the masks."""
    gravel = data.gravel() / 255
    X = np.stack([gravel[40 * i : 40 * i + 20, 31 * i : 31 * i + 28] for i in range(n)])
    masks = np.zeros(X.shape, dtype=bool)
    X[::2], masks[::2] = add_synthetic_defects(X[::2], random_state=0)
    return X, masks


def weights(detector):
    return torch.cat([tensor.ravel().clone() for tensor in detector.network_.state_dict().values()])


class Recorder:
    """A callback that keeps what it is given, and calls a function at the end of an epoch."""

    def __init__(self, at_epoch_end=lambda epoch: None):
        self.at_epoch_end = at_epoch_end
        self.events = []
        self.models = []
        self.weights = []

    def setup(self, estimator, context):
        self.events.append("setup")

    def teardown(self, estimator, context):
        self.events.append("teardown")

    def on_fit_task_begin(self, estimator, context):
        self.events.append(f"begin {context.task_name}")
        if context.task_name == "fit":
            self.max_subtasks = context.max_subtasks
            self.weights_before = weights(estimator)

    def on_fit_task_end(self, estimator, context, *, X, y, fitted_estimator):
        self.events.append(f"end {context.task_name}")
        self.X, self.y = X, y
        self.models.append(fitted_estimator)
        self.weights.append(weights(estimator))
        if context.task_name != "fit":
            return self.at_epoch_end(int(context.task_name.removeprefix("epoch ")))
        return None


# Epochs as tasks ----------------------------------------------------------------------


def test_an_epoch_is_a_task(cls):
    X, masks = surface()
    recorder = Recorder()
    cheap(cls).set_callbacks(recorder).fit(X, masks)
    assert recorder.events == [
        "setup",
        "begin fit",
        *("begin epoch 1", "end epoch 1", "begin epoch 2", "end epoch 2"),
        "end fit",
        "teardown",
    ]
    assert recorder.max_subtasks == 2
    assert recorder.X is X and recorder.y is masks


def test_callbacks_do_not_change_what_is_learnt(cls):
    X, masks = surface()
    plain, watched = cheap(cls).fit(X, masks), cheap(cls).set_callbacks(Recorder()).fit(X, masks)
    assert torch.equal(weights(watched), weights(plain))
    assert watched.loss_curve_ == plain.loss_curve_
    assert watched.threshold_ == plain.threshold_


def test_every_epoch_gives_a_fitted_detector_of_its_own(cls):
    X, masks = surface()
    recorder = Recorder()
    detector = cheap(cls, learning_rate="constant", max_iter=3).set_callbacks(recorder)
    detector.fit(X, masks)
    *models, last = recorder.models
    assert [model.n_iter_ for model in models] == [1, 2, 3]
    assert [len(model.loss_curve_) for model in models] == [1, 2, 3]
    for model, then in zip(models, recorder.weights, strict=False):
        # Training went on, but not with this network.
        assert torch.equal(weights(model), then)
        maps = model.transform(X)
        np.testing.assert_array_equal(model.segment(X), maps > model.threshold_)
        np.testing.assert_array_equal(model.score_samples(X), -maps.max(axis=(1, 2)))
        np.testing.assert_array_equal(model.predict(X) == -1, model.segment(X).any(axis=(1, 2)))
        assert model.reconstruct(X).shape == X.shape
        assert 0 < model.score(X, masks) < 1
    for earlier, later in pairwise(models):
        assert np.abs(earlier.transform(X) - later.transform(X)).max() > 0
    for model in (models[-1], last):
        np.testing.assert_array_equal(model.transform(X), detector.transform(X))
        assert model.threshold_ == detector.threshold_
    np.testing.assert_array_equal(
        models[0].reconstruct(X),
        cheap(cls, learning_rate="constant", max_iter=1).fit(X, masks).reconstruct(X),
    )


def test_scoring_monitor(cls):
    X, masks = surface()
    names = ["roc_auc", "average_precision", "iou"]
    monitor = ScoringMonitor(scoring={name: pixel_scorer(name) for name in names})
    recorder = Recorder()
    detector = cheap(cls, max_iter=3, threshold=0.1).set_callbacks(monitor, recorder)
    detector.fit(X, masks)
    rows = [row for row in monitor.get_logs().data if row["task_name"] != "fit"]
    assert [row["task_name"] for row in rows] == ["epoch 1", "epoch 2", "epoch 3"]
    for row, model in zip(rows, recorder.models, strict=False):
        for name in names:
            assert row[name] == pixel_scorer(name)(model, X, masks)
    (whole,) = (row for row in monitor.get_logs().data if row["task_name"] == "fit")
    assert whole["roc_auc"] == rows[-1]["roc_auc"] == detector.score(X, masks)


def test_scoring_monitor_in_pipeline_and_search():
    X, masks = surface()
    monitor = ScoringMonitor(scoring={"iou": pixel_scorer("iou")})
    pipeline = Pipeline(
        [
            ("prepare", FunctionTransformer(np.sqrt)),
            ("detector", cheap(threshold=0.1).set_callbacks(monitor)),
            ("thresholder", ResidualThresholder()),
        ]
    )
    search = GridSearchCV(
        pipeline, {"detector__latent_dim": [2, 3]}, scoring=pixel_scorer("iou"), cv=KFold(2)
    ).fit(X, masks)
    scores = [row["iou"] for row in monitor.get_logs().data if row["task_name"] == "epoch 2"]
    assert len(scores) == 5  # two candidates, two folds, the refit
    detector = search.best_estimator_["detector"]
    assert pixel_scorer("iou")(detector, np.sqrt(X), masks) in scores  # the refit's


@pytest.mark.parametrize("kind", ["detector", "pipeline", "search", "search of pipelines"])
def test_progress_bar(kind, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    X, masks = surface()
    pipeline = make_pipeline(cheap(), ResidualThresholder())
    options = dict(param_grid={}, scoring=pixel_scorer("iou"), cv=KFold(2))
    estimator, bar, n_fits = {
        "detector": (cheap(), ProgressBar(), 1),
        "pipeline": (pipeline, ProgressBar(), 1),
        "search": (GridSearchCV(cheap(), **options), ProgressBar(), 3),
        "search of pipelines": (
            GridSearchCV(pipeline, **options),
            ProgressBar(max_propagation_depth=2),
            3,
        ),
    }[kind]
    estimator.set_callbacks(bar).fit(X, masks)
    lines = capsys.readouterr().out.splitlines()
    assert all("100%" in line for line in lines)
    for name in ["L2AutoencoderDetector"] + ["ResidualThresholder"] * ("pipeline" in kind):
        assert sum(f"{name} - fit" in line for line in lines) == n_fits


def test_silent_by_default(capsys):
    cheap().fit(surface()[0])
    assert capsys.readouterr() == ("", "")


# Training that stops ------------------------------------------------------------------


@pytest.mark.parametrize("in_pipeline", [False, True])
def test_true_stops_training(in_pipeline):
    X, masks = surface()
    recorder = Recorder(at_epoch_end=lambda epoch: epoch == 2)
    detector = cheap(max_iter=5).set_callbacks(recorder)
    (make_pipeline(detector, ResidualThresholder()) if in_pipeline else detector).fit(X, masks)
    assert detector.n_iter_ == len(detector.loss_curve_) == 2
    assert recorder.events[-3:] == ["end epoch 2", "end fit", "teardown"]
    assert torch.equal(weights(detector), recorder.weights[1])
    assert detector.predict(X).shape == (4,)


@pytest.mark.parametrize("epoch", [1, 2])
def test_keyboard_interrupt_keeps_the_network(cls, epoch):
    X, masks = surface()
    labels = np.where(masks.any(axis=(1, 2)), -1, 1)

    def press_ctrl_c(current):
        if current == epoch:
            raise KeyboardInterrupt

    recorder = Recorder(at_epoch_end=press_ctrl_c)
    detector = cheap(cls, max_iter=3, contamination=0.1).set_callbacks(recorder)
    with pytest.warns(ConvergenceWarning, match="interrupted"):
        detector.fit(X, labels)
    assert detector.n_iter_ == len(detector.loss_curve_) == epoch
    assert recorder.events[-2:] == [f"end epoch {epoch}", "teardown"]
    assert torch.equal(weights(detector), recorder.weights[-1])
    assert detector.threshold_ == -np.percentile(detector.score_samples(X[1::2]), 10)
    assert 0 < detector.score(X, masks) < 1


def test_keyboard_interrupt_within_an_epoch(monkeypatch):
    X, _ = surface()
    steps = []

    def step(optimizer, closure=None):
        steps.append(optimizer)
        if len(steps) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(torch.optim.Adam, "step", step)
    with pytest.warns(ConvergenceWarning, match="interrupted"):
        # Two steps an epoch.
        detector = cheap(n_patches=16, learning_rate="constant", batch_size=8).fit(X)
    assert detector.n_iter_ == 1
    assert np.isfinite(detector.transform(X)).all()


def test_early_stopping_waits_until_the_network_has_begun_to_learn():
    stale = dict(max_iter=8, n_iter_no_change=1, tol=10.0)
    # Of flat images the mean is all there is to learn.
    assert cheap(**stale).fit(np.full((3, 20, 20), 0.4)).n_iter_ < 8
    # Noise is never told from its mean: the loss is as flat, but no reason to stop.
    noise = np.random.default_rng(0).random((3, 20, 20))
    assert cheap(latent_dim=1, **stale).fit(noise).n_iter_ == 8


# Training that goes on ----------------------------------------------------------------


@pytest.mark.parametrize("method", ["fit", "partial_fit"])
def test_training_goes_on_from_the_network_as_it_was(cls, method):
    X, masks = surface(8)
    detector = cheap(cls, max_iter=3, warm_start=method == "fit")
    getattr(detector, method)(X[:4], masks[:4])
    before, loss_curve = weights(detector), list(detector.loss_curve_)
    recorder = Recorder()
    getattr(detector.set_callbacks(recorder), method)(X[4:], masks[4:])
    assert torch.equal(recorder.weights_before, before)
    assert not torch.equal(recorder.weights[0], before)
    n_epochs = {"fit": 3, "partial_fit": 1}[method]
    assert recorder.max_subtasks == n_epochs
    assert detector.loss_curve_[:-n_epochs] == loss_curve
    assert detector.n_iter_ == 2 * n_epochs


def test_partial_fit_keeps_the_data_range_and_learns_from_good_images(cls):
    X, masks = surface()
    labels = np.where(masks.any(axis=(1, 2)), -1, 1)
    detector = cheap(cls).partial_fit(3 * X, labels)
    data_range = detector.data_range_
    assert data_range != (0, 1)
    detector.partial_fit(X, labels)
    of_good = cheap(cls).partial_fit(3 * X[1::2]).partial_fit(X[1::2])
    assert detector.data_range_ == of_good.data_range_ == data_range
    assert torch.equal(weights(detector), weights(of_good))
    assert detector.threshold_ == of_good.threshold_


@pytest.mark.parametrize("method", ["fit", "partial_fit"])
def test_a_stored_detector_goes_on_as_the_one_in_memory(method):
    X, masks = surface()
    detector = cheap(warm_start=True).fit(X, masks)
    stored = pickle.loads(pickle.dumps(detector))
    for each in (detector, stored):
        getattr(each, method)(X, masks)
    assert torch.equal(weights(stored), weights(detector))
