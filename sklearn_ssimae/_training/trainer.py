"""Gradient steps: a network, its loss, its optimizer and its schedule. Pure torch."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from copy import deepcopy
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from sklearn_ssimae._networks.devices import forward, keep_freed_memory, to_device
from sklearn_ssimae._training.probe import LEARNING, Probe
from sklearn_ssimae._training.ranks import Ranks

#: Calls the network in the chosen precision and returns float32.
Forward = Callable[..., Any]
#: Mean loss of a batch of patches: (forward, patches, warmth) -> scalar. `warmth`, in [0, 1],
#: is 0 until the network beats the mean image and then climbs to 1. It is the factor of
#: whatever would keep a network from learning at first.
Loss = Callable[[Forward, Tensor, float], Tensor]

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
    schedule : {"constant", "one_cycle"}
        Of the learning rate, over `total_steps` steps.
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
        self.precision = precision
        self.ranks = ranks or Ranks()
        self._synchronized = self.ranks.wrap(network)
        self.n_steps = 0
        self._warm_up = _WARM_UP * total_steps
        self._learnt_at = -math.inf if is_warm else math.inf
        self.optimizer = torch.optim.Adam(
            network.parameters(), lr=learning_rate_init, weight_decay=weight_decay, fused=True
        )
        self.scheduler: torch.optim.lr_scheduler.LRScheduler | None = None
        if schedule == "one_cycle" and total_steps > 1:  # a single step has no cycle
            self.scheduler = torch.optim.lr_scheduler.OneCycleLR(
                self.optimizer, learning_rate_init, total_steps, cycle_momentum=False
            )

    def run_epoch(self, batches: Iterable[Tensor]) -> float:
        """One step for each batch. Returns the mean loss of the patches.

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
        if self._learnt_at == math.inf and remaining < LEARNING:
            self._learnt_at = self.n_steps
        return mean

    def _run_steps(self, batches: Iterable[Tensor]) -> float:
        """The mean loss of the patches, or the first loss that is not finite."""
        self.network.train()
        total, n_patches = 0.0, 0
        for batch in batches:
            share, weight = self.ranks.share(batch)
            patches = to_device(share, self.network)
            loss = weight * self.loss(self.forward, patches, self.warmth)
            value = self.ranks.mean(loss)
            if not np.isfinite(value):
                return value
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
            if self.scheduler is not None:
                self.scheduler.step()
            self.n_steps += 1
            total += value * len(batch)
            n_patches += len(batch)
        return total / n_patches

    @property
    def warmth(self) -> float:
        """See `Loss`."""
        return max(0.0, min(1.0, (self.n_steps - self._learnt_at) / self._warm_up))

    def forward(self, *args: Any) -> Any:
        return forward(self._synchronized, self.precision, *args)

    def state_dict(self) -> dict[str, Any]:
        """Network, optimizer, schedule and warmth, as references to the live tensors."""
        return {
            "network": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scheduler": None if self.scheduler is None else self.scheduler.state_dict(),
            "n_steps": self.n_steps,
            "learnt_at": self._learnt_at,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from `state_dict` of a trainer that was made alike."""
        self.network.load_state_dict(state["network"])
        self.optimizer.load_state_dict(state["optimizer"])
        if self.scheduler is not None:
            self.scheduler.load_state_dict(state["scheduler"])
        self.n_steps, self._learnt_at = state["n_steps"], state["learnt_at"]
