"""Fits that Ctrl-C or an error ends, and the detector that is left."""

import errno
import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from filelock import FileLock
from killed import (
    IMAGES,
    Killed,
    assert_same_model,
    cheap,
    dies_after,
    leave_checkpoint,
    n_epochs_run,
)
from skimage import io
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning, NotFittedError

from sklearn_ssimae import (
    VAEDetector,
)
from sklearn_ssimae._training import checkpoint as checkpoints
from sklearn_ssimae._training.trainer import Trainer

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


# Ctrl-C ------------------------------------------------------------------------------


def losses_and_ctrl_c(monkeypatch, losses):
    """Let epochs report these losses; Ctrl-C in the epoch after the last."""
    run_epoch, left = Trainer.run_epoch, iter(losses)
    weights = []

    def run(self, batches):
        batches = iter(batches)
        loss = next(left, None)
        if loss is None:
            run_epoch(self, [next(batches)])
            raise KeyboardInterrupt
        run_epoch(self, batches)
        weights.append({k: v.clone() for k, v in self.network.state_dict().items()})
        return loss

    monkeypatch.setattr(Trainer, "run_epoch", run)
    return weights


@pytest.mark.parametrize(("losses", "best"), [((0.3, 0.1, 0.2), 1), ((0.3, 0.2, 0.1), 2)])
def test_ctrl_c_keeps_the_best_network(cls, losses, best, path, monkeypatch):
    detector = cheap(cls, contamination=0.01, max_iter=9, checkpoint=path)
    with monkeypatch.context() as patch:
        # The divergence of the VAE is faded in, which makes early losses incomparable.
        patch.setattr(Trainer, "warmth", 1.0)
        weights = losses_and_ctrl_c(patch, losses)
        with pytest.warns(ConvergenceWarning, match="interrupted.*lowest loss"):
            detector.fit(IMAGES)
    kept = detector.network_.state_dict()
    assert all(torch.equal(kept[name], tensor) for name, tensor in weights[best].items())
    assert detector.loss_curve_ == list(losses) and detector.n_iter_ == 3
    assert not detector.network_.training
    scores = detector.score_samples(IMAGES)
    assert detector.threshold_ == -np.percentile(scores, 1)
    # The training itself has not gone back: the next fit goes on where it was.
    assert path.exists()
    assert n_epochs_run(detector, IMAGES) == 6
    assert detector.n_iter_ == 9 and not path.exists()


def test_the_best_network_survives_a_kill(path, monkeypatch):
    detector = cheap(max_iter=9, checkpoint=path)
    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "warmth", 1.0)
        weights = losses_and_ctrl_c(patch, (0.3, 0.1, 0.2, 0.4))
        dies_after(patch, 3)
        with pytest.raises(Killed):
            clone(detector).fit(IMAGES)
    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "warmth", 1.0)
        losses_and_ctrl_c(patch, (0.4,))
        with pytest.warns(ConvergenceWarning, match="interrupted"):
            detector.fit(IMAGES)
    kept = detector.network_.state_dict()
    assert all(torch.equal(kept[name], tensor) for name, tensor in weights[1].items())
    assert detector.loss_curve_ == [0.3, 0.1, 0.2, 0.4]


def test_ctrl_c_in_the_first_epoch_keeps_that_moment(cls, monkeypatch):
    detector = cheap(cls)
    with monkeypatch.context() as patch:
        losses_and_ctrl_c(patch, ())
        with pytest.warns(ConvergenceWarning, match="interrupted"):
            detector.fit(IMAGES)
    assert detector.n_iter_ == 0 and detector.loss_curve_ == []
    assert np.isfinite(detector.transform(IMAGES)).all() and np.isfinite(detector.threshold_)
    assert_same_model(detector.fit(IMAGES), cheap(cls).fit(IMAGES))


# Errors in the middle ----------------------------------------------------------------


def assert_usable(detector, n_epochs, X=IMAGES):
    assert detector.n_iter_ == len(detector.loss_curve_) == n_epochs
    assert not detector.network_.training
    maps = detector.transform(X)
    np.testing.assert_array_equal(detector.score_samples(X), -maps.max(axis=(1, 2)))
    np.testing.assert_array_equal(detector.segment(X), maps > detector.threshold_)
    pickle.loads(pickle.dumps(detector)).predict(X)


def network_after(n_epochs, X=IMAGES, **params):
    """The network of a fit that ends after so many of its epochs."""

    class Stop:
        def setup(self, estimator, context): ...
        def teardown(self, estimator, context): ...
        def on_fit_task_begin(self, estimator, context): ...
        def on_fit_task_end(self, estimator, context):
            return context.task_name == f"epoch {n_epochs}"

    return cheap(**params).set_callbacks(Stop()).fit(X)


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_disk_full(call, path, monkeypatch):
    def fail(*args):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    detector = cheap(checkpoint=path)
    leave_checkpoint(detector, IMAGES)
    before = path.read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(checkpoints.os, call, fail)
        with pytest.raises(
            OSError, match=r"No space left on device.*Make room.*training\.chec"
        ) as e:
            detector.fit(IMAGES)
    assert e.value.errno == errno.ENOSPC and e.value.filename == str(path)
    assert_usable(detector, 3)
    assert_same_model(detector, network_after(3))
    assert path.read_bytes() == before and os.listdir(path.parent) == [path.name]
    assert_same_model(detector.fit(IMAGES), cheap().fit(IMAGES))


@pytest.mark.slow
def test_disk_full_in_a_process_with_a_file_size_limit(path):
    script = """
import sys, signal, resource, warnings
warnings.simplefilter("ignore")
import numpy as np
from sklearn_ssimae import L2AutoencoderDetector
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
X = np.random.default_rng(0).random((3, 20, 20))
detector = L2AutoencoderDetector(patch_size=16, latent_dim=4, n_patches=32, max_iter=2,
                                 stride=16, random_state=0, checkpoint=sys.argv[1])
try:
    detector.fit(X)
except OSError as error:
    print(type(error).__name__, error.filename, detector.n_iter_, detector.predict(X).shape)
"""
    root = Path(checkpoints.__file__).parents[1]
    run = subprocess.run(
        [sys.executable, "-c", script, path],
        capture_output=True,
        text=True,
        cwd=root,
        check=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert run.stdout == f"OSError {path} 1 (3,)\n"
    assert os.listdir(path.parent) == []


def test_a_folder_that_cannot_be_written_is_found_before_training(path, monkeypatch):
    def refuse(self, *args, **options):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), "lock")

    monkeypatch.setattr(FileLock, "acquire", refuse)
    detector = cheap(checkpoint=path)
    with pytest.raises(PermissionError, match=r"Permission denied.*training\.checkpoint"):
        detector.fit(IMAGES)
    assert not hasattr(detector, "network_")


def test_a_folder_that_is_missing(tmp_path):
    for missing in (tmp_path / "no" / "such" / "file", f"{tmp_path}/folder/"):
        with pytest.raises(
            FileNotFoundError, match=r"checkpoint='.*(file|folder/)' does not exist"
        ):
            cheap(checkpoint=missing).fit(IMAGES)


class Vanishing:
    """Removes files when an epoch is over."""

    def __init__(self, files, epoch):
        self.files, self.epoch = files, epoch

    def setup(self, estimator, context): ...
    def teardown(self, estimator, context): ...
    def on_fit_task_begin(self, estimator, context): ...

    def on_fit_task_end(self, estimator, context):
        if context.task_name == f"epoch {self.epoch}":
            for file in self.files:
                file.unlink()


@pytest.mark.parametrize("threshold", [None, 0.5])
def test_images_that_vanish(cls, threshold, files):
    detector = cheap(cls, threshold=threshold, contamination=0.01, max_iter=9)
    gone, rest = files[2:], files[:2]
    detector.set_callbacks(Vanishing(gone, epoch=2))
    with pytest.raises(FileNotFoundError, match=r"\d\.png is gone"):
        detector.fit(files)
    # The epoch that found it out was not the one after: images stay in memory for an epoch.
    assert detector.n_iter_ == len(detector.loss_curve_) >= 2
    assert not detector.network_.training
    expected = -np.percentile(detector.score_samples(rest), 1) if threshold is None else threshold
    assert detector.threshold_ == expected
    assert len(detector.transform(rest)) == 2


def test_the_network_is_that_of_the_last_epoch(files):
    detector = cheap(cls=VAEDetector, max_iter=9).set_callbacks(Vanishing(files, epoch=2))
    originals = [io.imread(file) for file in files]
    with pytest.raises(FileNotFoundError):
        detector.fit(files)
    expected = network_after(detector.n_iter_, originals, cls=VAEDetector, max_iter=9)
    weights = expected.network_.state_dict()
    for name, tensor in detector.network_.state_dict().items():
        assert torch.equal(tensor, weights[name])


def test_no_threshold_when_nothing_can_be_read(files):
    detector = cheap().fit(files)
    with pytest.raises(FileNotFoundError):
        detector.set_params(max_iter=9).set_callbacks(Vanishing(files, epoch=1)).fit(files)
    # The threshold of the first fit is none for the second's network.
    assert not hasattr(detector, "threshold_") and hasattr(detector, "network_")
    with pytest.raises(NotFittedError):
        detector.predict(IMAGES)


def test_an_error_in_the_first_epoch_leaves_the_detector_as_it_was(cls, monkeypatch):
    def fail(self, batches):
        next(iter(batches))
        raise OSError("gone")

    detector = cheap(cls).fit(IMAGES)
    before = pickle.dumps(detector)
    new = cheap(cls)
    monkeypatch.setattr(Trainer, "_run_steps", fail)
    for estimator, X in [(detector, IMAGES[:, 1:, 1:] / 7.0), (new, IMAGES)]:
        with pytest.raises(OSError, match="gone"):
            estimator.fit(X)
    assert_same_model(detector, pickle.loads(before))
    assert detector.image_shape_ == (20, 24) and detector.predict(IMAGES).shape == (10,)
    assert not hasattr(new, "network_") and not hasattr(new, "n_features_in_")


@pytest.mark.parametrize("method", ["fit", "partial_fit"])
def test_training_that_goes_on_and_fails(method, monkeypatch):
    detector = cheap(warm_start=True, batch_size=8).fit(IMAGES)
    before = pickle.loads(pickle.dumps(detector))
    step, steps = torch.optim.Adam.step, []

    def fail(optimizer, closure=None):
        steps.append(1)
        if len(steps) == 3:
            raise RuntimeError("broken")
        return step(optimizer, closure)

    with monkeypatch.context() as patch:
        patch.setattr(torch.optim.Adam, "step", fail)
        with pytest.raises(RuntimeError, match="broken"):
            getattr(detector, method)(IMAGES)
    assert_same_model(detector, before)
    assert_same_model(getattr(detector, method)(IMAGES), getattr(before, method)(IMAGES))
