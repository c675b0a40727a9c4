"""Where a training stands after an epoch, and whether it should stop."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import numpy as np
from torch import Generator

from sklearn_ssimae._training.crops import CropSampler
from sklearn_ssimae._training.trainer import Trainer


class EarlyStopping:
    """MLPClassifier's rule: stop when the loss has not fallen by tol for too many epochs."""

    def __init__(self, tol: float, n_iter_no_change: int) -> None:
        self.tol = tol
        self.n_iter_no_change = n_iter_no_change
        self.best = np.inf
        self.n_stale = 0

    def update(self, loss: float, counts: bool) -> bool:
        """Whether to stop after an epoch; one that does not count starts the rule anew."""
        if not counts:
            self.best, self.n_stale = loss, 0
            return False
        self.n_stale = self.n_stale + 1 if loss > self.best - self.tol else 0
        self.best = min(self.best, loss)
        return self.n_stale > self.n_iter_no_change

    def state_dict(self) -> dict[str, Any]:
        return {"best": float(self.best), "n_stale": self.n_stale}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.best, self.n_stale = state["best"], state["n_stale"]


class Progress:
    """Where a training stands after an epoch: all that the epochs to come depend on.

    Parameters
    ----------
    trainer : Trainer
    sampler : CropSampler
    stopping : EarlyStopping
    generator : Generator
        The source of the loss's noise.
    """

    def __init__(
        self,
        trainer: Trainer,
        sampler: CropSampler,
        stopping: EarlyStopping,
        generator: Generator,
    ) -> None:
        self.trainer = trainer
        self.sampler = sampler
        self.stopping = stopping
        self.generator = generator
        self.n_epochs = 0
        #: Whether no epoch is to come, however many are left.
        self.is_done = False
        #: Weights after the epoch with the lowest loss; None before the first.
        self.best: dict[str, Any] | None = None

    def end_epoch(self, loss: float) -> None:
        """Take note of an epoch's loss."""
        self.n_epochs += 1
        self.is_done = self.stopping.update(loss, counts=self.trainer.warmth == 1)
        if loss == self.stopping.best:
            self.best = deepcopy(self.trainer.network.state_dict())

    def restore_best(self) -> None:
        """Leave the network of the epoch with the lowest loss, or as it is in the first epoch."""
        if self.best is not None:
            self.trainer.network.load_state_dict(self.best)

    def state_dict(self) -> dict[str, Any]:
        return {
            "trainer": self.trainer.state_dict(),
            "sampler": self.sampler.state_dict(),
            "stopping": self.stopping.state_dict(),
            "generator": self.generator.get_state(),
            "n_epochs": self.n_epochs,
            "is_done": self.is_done,
            "best": self.best,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.trainer.load_state_dict(state["trainer"])
        self.sampler.load_state_dict(state["sampler"])
        self.stopping.load_state_dict(state["stopping"])
        self.generator.set_state(state["generator"])
        self.n_epochs, self.is_done = state["n_epochs"], state["is_done"]
        self.best = state["best"]
