"""Gradient steps: a network, its loss, its optimizer and its schedule. Pure torch."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from copy import deepcopy
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from sklearn_ssimae._maps.counting import split_counts
from sklearn_ssimae._networks.devices import forward, keep_freed_memory, to_device
from sklearn_ssimae._training.corruption import Corruption
from sklearn_ssimae._training.muon import Muon
from sklearn_ssimae._training.probe import LEARNING, Probe
from sklearn_ssimae._training.ranks import Ranks

#: Calls the network on the batch, which it sees corrupted, in the chosen precision; returns
#: float32. Takes what else the network takes.
Forward = Callable[..., Any]
#: Mean loss of a batch of patches: (forward, patches, warmth) -> scalar. `warmth`, in [0, 1],
#: is 0 until the network beats the mean image and then climbs to 1. It is the factor of
#: whatever would keep a network from learning at first.
Loss = Callable[[Forward, Tensor, float], Tensor]

# Trapezoid: shares of the steps over which the learning rate climbs, and falls to 0.
_CLIMB = 0.05
_FALL = 0.4
# Learning rate of biases and of layers with one channel on a side, which Adam steps, over that
# of the matrices.
_ADAM_RATE = 0.2
# Share of the steps over which `warmth` climbs.
_WARM_UP = 0.2


class Trainer:
    """A network, its loss and its optimizer.

    Parameters
    ----------
    network : Module
        On its device, in channels-last format.
    loss : Loss
    probe : Probe
    is_warm : bool
        Whether the network has learnt before.
    corruption : Corruption
        What the network sees in place of the patches.
    schedule : {"constant", "trapezoid"}
        Of the learning rate, over `total_steps` steps.
    total_steps : int
        Of the training; `lengthen` makes it longer.
    precision : {"float32", "bfloat16"}
    ranks : Ranks, default=None
        The processes that train together, of which each takes a share of every batch. None for
        this one alone.
    """

    def __init__(
        self,
        network: nn.Module,
        loss: Loss,
        probe: Probe,
        *,
        ranks: Ranks | None = None,
        is_warm: bool,
        corruption: Corruption,
        learning_rate_init: float,
        schedule: str,
        total_steps: int,
        weight_decay: float,
        precision: str,
    ) -> None:
        keep_freed_memory()
        self.network = network
        self.loss = loss
        self.probe = probe
        self.corruption = corruption
        self.precision = precision
        self.ranks = ranks or Ranks()
        self._synchronized = self.ranks.wrap(network)
        self.n_steps = 0
        self.total_steps = total_steps
        #: What `Probe.remaining` said after the last epoch.
        self.remaining = math.nan
        self._climb = max(1.0, _CLIMB * total_steps)
        self._warm_up = _WARM_UP * total_steps
        self._learnt_at = -math.inf if is_warm else math.inf
        self.optimizers = _make_optimizers(network, learning_rate_init, weight_decay, precision)
        self.schedulers = [
            torch.optim.lr_scheduler.LambdaLR(optimizer, self._trapezoid)
            for optimizer in self.optimizers
            if schedule == "trapezoid"
        ]

    def change_length(self, total_steps: int) -> None:
        """Train for so many steps in all.

        A trapezoid falls later or sooner. It must not have begun to, else the rate would jump.
        """
        self.total_steps = total_steps

    def _trapezoid(self, step: int) -> float:
        """Factor of the learning rate at a step: up, level, and down to nearly 0."""
        fall = max(1.0, _FALL * self.total_steps)
        return min(1.0, (step + 1) / self._climb, max(0.0, self.total_steps - step) / fall)

    def run_epoch(self, batches: Iterable[Tensor]) -> float:
        """One step for each batch, as `CropSampler` makes them. Returns the patches' mean loss.

        A loss that is not finite is returned at once, and nan for an epoch that ends with
        a broken network; the network is then as it was before the epoch, and so it is when
        a batch raises an error.
        """
        before = deepcopy(self.network.state_dict())
        try:
            mean = self._run_steps(batches)
        except Exception:
            self.network.load_state_dict(before)
            raise
        finally:
            self.network.eval()
        remaining = self.ranks.agree(self.probe.remaining()) if np.isfinite(mean) else mean
        if not np.isfinite(remaining):
            self.network.load_state_dict(before)
            return remaining
        self.remaining = remaining
        if self._learnt_at == math.inf and remaining < LEARNING:
            self._learnt_at = self.n_steps
        return mean

    def _run_steps(self, batches: Iterable[Tensor]) -> float:
        """The mean loss of the patches, or the first loss that is not finite."""
        self.network.train()
        total, n_patches = 0.0, 0
        for batch in batches:
            loss = self._loss(batch)
            value = self.ranks.mean(loss)
            if not np.isfinite(value):
                return value
            self.network.zero_grad()
            loss.backward()
            for optimizer in self.optimizers:
                optimizer.step()
            for scheduler in self.schedulers:
                scheduler.step()
            self.n_steps += 1
            total += value * len(batch)
            n_patches += len(batch)
        return total / n_patches

    def _loss(self, batch: Tensor) -> Tensor:
        """The part of the batch's mean loss that is this process's."""
        clean, counts = split_counts(batch, self.probe.patches.shape[1])
        share, weight = self.ranks.share(clean)
        # The whole batch is corrupted: each process draws the same.
        seen, _ = self.ranks.share(self.corruption(clean))
        patches, seen = (to_device(part, self.network) for part in (share, seen))
        call: Forward = partial(forward, self._synchronized, self.precision, seen)
        if counts is not None:
            counts = self.ranks.share(counts)[0].to(patches.device)
            call = _counting(call, self.network, counts, patches)
        return weight * self.loss(call, patches, self.warmth)

    @property
    def is_settling(self) -> bool:
        """Whether a loss that does not fall any more says that training is done."""
        # A rate that is to fall yet will lower the loss once more.
        settles_at = (1 - _FALL) * self.total_steps if self.schedulers else 0.0
        return self.warmth == 1 and self.n_steps >= settles_at

    @property
    def warmth(self) -> float:
        """See `Loss`."""
        return max(0.0, min(1.0, (self.n_steps - self._learnt_at) / self._warm_up))

    def state_dict(self) -> dict[str, Any]:
        """Network, optimizer, schedule and warmth, as references to the live tensors."""
        return {
            "network": self.network.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "schedulers": [scheduler.state_dict() for scheduler in self.schedulers],
            "corruption": self.corruption.state_dict(),
            "n_steps": self.n_steps,
            "total_steps": self.total_steps,
            "learnt_at": self._learnt_at,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from `state_dict` of a trainer that was made alike."""
        self.network.load_state_dict(state["network"])
        for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        for scheduler, saved in zip(self.schedulers, state["schedulers"], strict=True):
            scheduler.load_state_dict(saved)
        self.corruption.load_state_dict(state["corruption"])
        self.n_steps, self.total_steps = state["n_steps"], state["total_steps"]
        self._learnt_at = state["learnt_at"]


def _counting(call: Forward, network: Any, counts: Tensor, patches: Tensor) -> Forward:
    """The forward call, blind to the errors of pixels that do not count."""
    return lambda *args: network.where_counts(counts, call(*args), patches)


def _make_optimizers(
    network: nn.Module, learning_rate: float, weight_decay: float, precision: str
) -> list[torch.optim.Optimizer]:
    """Muon for the matrices, Adam for the rest; either only if it has something to do."""
    matrices: list[nn.Parameter] = []
    rest: list[nn.Parameter] = []
    for param in network.parameters():
        is_matrix = param.ndim > 1 and min(param.shape[:2]) > 1
        (matrices if is_matrix else rest).append(param)
    optimizers: list[torch.optim.Optimizer] = []
    if matrices:
        optimizers.append(Muon(matrices, learning_rate, weight_decay, getattr(torch, precision)))
    if rest:
        optimizers.append(torch.optim.Adam(rest, _ADAM_RATE * learning_rate, fused=True))
    return optimizers
