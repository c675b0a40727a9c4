"""Fits that die on the way, and what is compared after."""

import numpy as np
import pytest
import shared
import torch
from skimage import data
from sklearn.base import clone

from sklearn_ssimae import (
    L2AutoencoderDetector,
)
from sklearn_ssimae._training import checkpoint as checkpoints
from sklearn_ssimae._training.trainer import Trainer

# More images than an epoch reads, so that every epoch visits others.
IMAGES = np.stack([data.grass()[9 * i : 9 * i + 20, :24] for i in range(10)])


class Killed(BaseException):
    """Ends a fit as SIGKILL would: nobody catches it."""


def cheap(cls=L2AutoencoderDetector, **params):
    return shared.cheap(cls, **{"max_iter": 4, **params})


def assert_same_model(one, other):
    weights = other.network_.state_dict()
    assert one.network_.state_dict().keys() == weights.keys()
    for name, tensor in one.network_.state_dict().items():
        assert torch.equal(tensor, weights[name]), name
    assert one.loss_curve_ == other.loss_curve_
    assert one.n_iter_ == other.n_iter_
    assert one.threshold_ == other.threshold_
    assert one.data_range_ == other.data_range_


def dies_after(monkeypatch, n_epochs, error=Killed):
    """Let a fit die when so many checkpoints are written."""
    saved = []
    save = checkpoints.Checkpoint.save

    def save_and_die(self, state):
        save(self, state)
        saved.append(self.path)
        if len(saved) == n_epochs:
            raise error

    monkeypatch.setattr(checkpoints.Checkpoint, "save", save_and_die)


def leave_checkpoint(detector, X, y=None, n_epochs=2):
    with pytest.MonkeyPatch.context() as monkeypatch:
        dies_after(monkeypatch, n_epochs)
        with pytest.raises(Killed):
            clone(detector).fit(X, y)


def n_epochs_run(detector, X):
    """Epochs that a fit goes through itself."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        run_epoch, runs = Trainer.run_epoch, []
        monkeypatch.setattr(Trainer, "run_epoch", lambda *args: runs.append(1) or run_epoch(*args))
        detector.fit(X)
    return len(runs)
