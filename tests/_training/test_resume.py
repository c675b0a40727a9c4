"""Training that is killed and goes on from its checkpoint."""

import multiprocessing
import os
import pickle
import signal
import sys
import warnings

import numpy as np
import pytest
from killed import (
    IMAGES,
    Killed,
    assert_same_model,
    cheap,
    dies_after,
    leave_checkpoint,
    n_epochs_run,
)
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning

from sklearn_ssimae import (
    VAEDetector,
)
from sklearn_ssimae._training import checkpoint as checkpoints

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


def fit_and_die(path, n_calls):
    """In a process of its own: SIGKILL at the n-th call of a function, Python's or C's."""
    detector = cheap(VAEDetector, checkpoint=path, n_patches=16)
    left = n_calls

    def count(frame, event, argument):
        nonlocal left
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        sys.setprofile(count)
        detector.fit(IMAGES)


@pytest.mark.slow
def test_kill_at_ten_random_moments(tmp_path):
    n_calls = [0]

    def count(frame, event, argument):
        n_calls[0] += 1

    cheap(VAEDetector, max_iter=1).fit(IMAGES)  # imports what torch needs in a first fit
    sys.setprofile(count)
    try:
        unharmed = cheap(VAEDetector, checkpoint=tmp_path / "unharmed", n_patches=16)
        expected = unharmed.fit(IMAGES)
    finally:
        sys.setprofile(None)
    processes = multiprocessing.get_context("forkserver")
    # The first fit of a process imports what torch needs; no moments are to be spent on it.
    processes.set_forkserver_preload([__name__, "torch._dynamo"])
    epochs = []
    for moment in np.random.default_rng(0).integers(1, 0.95 * n_calls[0], size=10).tolist():
        path = tmp_path / f"{moment}.checkpoint"
        process = processes.Process(target=fit_and_die, args=(path, moment))
        process.start()
        process.join()
        assert process.exitcode == -signal.SIGKILL
        resumed = cheap(VAEDetector, checkpoint=path, n_patches=16)
        epochs.append(4 - n_epochs_run(resumed, IMAGES))
        assert_same_model(resumed, expected)
    assert len(set(epochs)) > 2  # the moments were spread over the training
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("n_epochs", [1, 3, 4])
def test_a_resumed_fit_ends_with_the_same_model(cls, n_epochs, path, capsys):
    detector = cheap(cls, checkpoint=path)
    leave_checkpoint(detector, IMAGES, n_epochs=n_epochs)
    resumed = clone(detector).set_params(verbose=1)
    assert n_epochs_run(resumed, IMAGES) == 4 - n_epochs
    assert f"goes on after epoch {n_epochs}/4 from the checkpoint {path}" in capsys.readouterr().out
    assert_same_model(resumed, cheap(cls).fit(IMAGES))
    assert os.listdir(path.parent) == []


@pytest.mark.parametrize(
    "params",
    [
        dict(learning_rate="constant", tol=10.0, n_iter_no_change=1, max_iter=8),
        dict(random_state=np.random.RandomState(3)),
        dict(augment=True, precision="bfloat16", scale=0.5),
        dict(augment=True, vary={"light": 0.2, "turn": 5, "zoom": 0.1}),
    ],
)
def test_other_parameters(params, path):
    detector = cheap(VAEDetector, checkpoint=path, **params)
    leave_checkpoint(detector, IMAGES, n_epochs=3)
    expected = cheap(VAEDetector, **pickle.loads(pickle.dumps(params))).fit(IMAGES)
    assert_same_model(clone(detector).fit(IMAGES), expected)


def test_early_stopping_is_remembered(path, monkeypatch):
    detector = cheap(checkpoint=path, max_iter=9, tol=10.0, n_iter_no_change=2)
    flat = np.full((10, 20, 20), 0.4)
    expected = clone(detector).set_params(checkpoint=None).fit(flat)
    assert expected.n_iter_ < 9
    for n_epochs in (1, expected.n_iter_ - 1, expected.n_iter_):
        leave_checkpoint(detector, flat, n_epochs=n_epochs)
        assert_same_model(clone(detector).fit(flat), expected)


def test_the_drawn_seed_of_no_random_state_is_kept(path):
    detector = cheap(checkpoint=path, random_state=None)
    np.random.seed(5)
    expected = cheap(random_state=None).fit(IMAGES)
    np.random.seed(5)
    leave_checkpoint(detector, IMAGES)
    assert_same_model(clone(detector).fit(IMAGES), expected)


@pytest.mark.parametrize("call", ["write", "fsync", "replace", "fsync of the folder"])
def test_death_while_the_file_is_written(call, path, monkeypatch):
    detector = cheap(checkpoint=path)
    leave_checkpoint(detector, IMAGES, n_epochs=1)
    before = path.read_bytes()
    n_synced = []

    def fsync(handle):
        n_synced.append(handle)
        if call != "fsync of the folder" or len(n_synced) == 2:
            raise Killed

    def kill(*args):
        raise Killed

    with monkeypatch.context() as patch:
        if call == "write":
            patch.setattr(checkpoints.os, "fsync", fsync)
        patch.setattr(checkpoints.os, "replace" if call == "replace" else "fsync", kill)
        if "fsync" in call:
            patch.setattr(checkpoints.os, "fsync", fsync)
        with pytest.raises(Killed):
            clone(detector).fit(IMAGES)
    assert (path.read_bytes() == before) == (call != "fsync of the folder")
    assert_same_model(clone(detector).fit(IMAGES), cheap().fit(IMAGES))
    assert os.listdir(path.parent) == []


def test_death_while_the_threshold_is_set(path, monkeypatch):
    def die(*args, **options):
        raise Killed

    detector = cheap(checkpoint=path)
    with monkeypatch.context() as patch:
        patch.setattr("sklearn_ssimae._detectors.deciding.calibrate", die)
        with pytest.raises(Killed):
            clone(detector).fit(IMAGES)
    path.with_name(f"{path.name}.tmp").write_bytes(b"half a state")
    resumed = clone(detector)
    assert n_epochs_run(resumed, IMAGES) == 0
    assert_same_model(resumed, cheap().fit(IMAGES))
    assert os.listdir(path.parent) == []


def test_a_fit_that_goes_on_from_another(path):
    """warm_start: the network at the start is part of what must agree."""
    first = cheap(warm_start=True).fit(IMAGES)
    expected = pickle.loads(pickle.dumps(first)).fit(IMAGES)
    stored = pickle.dumps(first.set_params(checkpoint=path))
    with pytest.MonkeyPatch.context() as monkeypatch:
        dies_after(monkeypatch, 2)
        with pytest.raises(Killed):
            pickle.loads(stored).fit(IMAGES)
    with pytest.raises(ValueError, match=r"the network at the start was [0-9a-f]+ after 4 epochs"):
        cheap(warm_start=True, checkpoint=path).fit(IMAGES)
    assert_same_model(pickle.loads(stored).fit(IMAGES), expected)


def test_partial_fit_writes_none(path):
    cheap(checkpoint=path).partial_fit(IMAGES).partial_fit(IMAGES)
    assert os.listdir(path.parent) == []


def test_callbacks_see_the_epochs_that_are_left(path):
    class Names:
        names = ()

        def setup(self, estimator, context): ...
        def teardown(self, estimator, context): ...
        def on_fit_task_begin(self, estimator, context):
            self.names += (context.task_name,)

        def on_fit_task_end(self, estimator, context): ...

    detector = cheap(checkpoint=path)
    leave_checkpoint(detector, IMAGES)
    names = Names()
    assert_same_model(detector.set_callbacks(names).fit(IMAGES), cheap().fit(IMAGES))
    assert names.names == ("fit", "epoch 3", "epoch 4")
