"""Training: random crops in, a fitted network out. Pure torch and NumPy."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Iterator
from copy import deepcopy
from typing import Any

import numpy as np
import torch
from torch import Generator, Tensor, nn

from sklearn_ssimae._distributed import Ranks
from sklearn_ssimae._reading import Reading
from sklearn_ssimae._tiling import pad_to_patch

#: Calls the network in the chosen precision and returns float32.
Forward = Callable[..., Any]
#: Mean loss of a batch of patches: (forward, patches, warmth) -> scalar. `warmth`, in [0, 1],
#: is 0 until the network beats the mean image and then climbs to 1. It is the factor of
#: whatever would keep a network from learning at first.
Loss = Callable[[Forward, Tensor, float], Tensor]

# Prepared images kept in memory. A data set beyond half of it is visited in groups of half of
# it: one that is trained on, and the next, which is read meanwhile.
CACHE_BYTES = 512 * 2**20
# An image that must be read for an epoch yields at least so many crops, or reading would
# take longer than training.
_CROPS_PER_READ = 8
#: A share of the mean image's error below this: the network has begun to learn.
LEARNING = 0.95
# Share of the steps over which `warmth` climbs.
_WARM_UP = 0.2


class CropSampler:
    """Random crops of images, which are loaded when needed and kept within a bound.

    Every pixel's place is about equally likely: within the images in memory, one is drawn
    in proportion to its area. When not all fit, each epoch visits the next group of a random
    order of all, which a thread has read during the epoch before. The thread ends with `close`.

    Parameters
    ----------
    load : callable
        Index to image, Tensor (c, h, w), float32.
    n_images, patch_size : int
    rng : numpy Generator
    augment : bool, default=False
        Whether crops are turned and flipped, in all eight ways.
    """

    def __init__(
        self,
        load: Callable[[int], Tensor],
        n_images: int,
        patch_size: int,
        rng: np.random.Generator,
        augment: bool = False,
    ) -> None:
        self._load = load
        self.n_images = n_images
        self._patch_size = patch_size
        self._rng = rng
        self._augment = augment
        self._order: list[int] = []  # of the images to come, from the last to the first
        self._group: list[Tensor] = []
        self._members: list[int] = []
        self._next: Reading | None = None

    def batches(self, n_patches: int, batch_size: int) -> Iterator[Tensor]:
        """Batches (batch_size, c, p, p) of n_patches crops in all; the last may be smaller."""
        if len(self._group) < self.n_images:
            most = min(self.n_images, max(1, n_patches // _CROPS_PER_READ))
            if self._next is not None and len(self._next.indices) != most:
                self.close()  # another n_patches than that of the epoch before
            self._next = self._next or self._read_group(most)
            self._take_group(self._next)
            are_all = len(self._group) == self.n_images
            self._next = None if are_all else self._read_group(most)
        patch = self._patch_size
        room = np.array([image.shape[1:] for image in self._group]) - patch + 1
        areas = room.prod(axis=1).astype(float)
        chosen = self._rng.choice(len(areas), size=n_patches, p=areas / areas.sum())
        corners = self._rng.integers(room[chosen])
        turns = self._rng.integers(8, size=n_patches) if self._augment else np.zeros(n_patches, int)
        for start in range(0, n_patches, batch_size):
            batch = slice(start, start + batch_size)
            yield torch.stack(
                [
                    _turned(self._group[index][:, y : y + patch, x : x + patch], turn)
                    for index, (y, x), turn in zip(
                        chosen[batch], corners[batch], turns[batch], strict=True
                    )
                ]
            )

    def _read_group(self, most: int) -> Reading:
        """Begin to read what comes next in the order, which the reading does not touch."""
        if len(self._order) < most:
            # What is left of the old order comes last in the new one, and not twice in a group.
            left = set(self._order)
            order = self._rng.permutation(self.n_images).tolist()
            self._order = sorted(order, key=lambda index: index not in left) + self._order
        candidates: dict[int, None] = {}
        for index in reversed(self._order):
            if len(candidates) == most:
                break
            candidates[index] = None
        return Reading(self._load_padded, list(candidates), CACHE_BYTES / 2)

    def _take_group(self, reading: Reading) -> None:
        self._group, self._members = [], []  # now, so that no third group is in memory
        self._group = reading.result()
        self._members = list(reading.indices[: len(self._group)])
        taken, skipped = set(self._members), []
        while taken:
            index = self._order.pop()
            if index in taken:
                taken.remove(index)
            else:
                skipped.append(index)
        self._order.extend(reversed(skipped))

    def _load_padded(self, index: int) -> Tensor:
        return pad_to_patch(self._load(index), self._patch_size)

    def close(self) -> None:
        """End the thread that reads ahead."""
        if self._next is not None:
            self._next.stop()
            self._next = None

    def state_dict(self) -> dict[str, Any]:
        """What the crops to come depend on; of the images in memory, their indices."""
        return {
            "rng": json.dumps(self._rng.bit_generator.state),
            "order": torch.tensor(self._order, dtype=torch.int64),
            "members": torch.tensor(self._members, dtype=torch.int64),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from `state_dict`; the images that were in memory are loaded again."""
        self.close()
        self._rng.bit_generator.state = json.loads(state["rng"])
        self._order = state["order"].tolist()
        loaded = dict(zip(self._members, self._group, strict=True))
        self._members = state["members"].tolist()
        self._group = [
            loaded[index] if index in loaded else self._load_padded(index)
            for index in self._members
        ]


def _turned(crop: Tensor, turn: int) -> Tensor:
    """One of the eight symmetries of a square crop (c, p, p)."""
    rotated = torch.rot90(crop, int(turn) % 4, dims=(1, 2))
    return rotated.flip(2) if turn >= 4 else rotated


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


class Probe:
    """Tells whether a network does better than the mean image.

    A network that ignores its input can still lower its loss by drawing the mean of
    all patches. It stays there for thousands of steps before it begins to learn, or for ever.

    Parameters
    ----------
    patches : Tensor (n, c, p, p)
        Crops of the training images, on the network's device.
    reconstruct : callable
        The network: patches to reconstructions.
    error : callable
        (patches, reconstructions) to residual maps.
    """

    def __init__(
        self,
        patches: Tensor,
        reconstruct: Callable[[Tensor], Tensor],
        error: Callable[[Tensor, Tensor], Tensor],
    ) -> None:
        self.patches = patches
        self.reconstruct = reconstruct
        self.error = error
        mean_image = patches.mean(dim=0, keepdim=True)
        mean_colour = mean_image.mean(dim=(2, 3), keepdim=True)
        self._baseline = min(
            float(error(patches, constant.expand_as(patches)).mean())
            for constant in (mean_image, mean_colour)
        )

    @torch.no_grad()
    def remaining(self) -> float:
        """Error as a share of the mean image's or the mean colour's; not finite if broken."""
        error = float(self.error(self.patches, self.reconstruct(self.patches)).mean())
        if self._baseline < 1e-8:  # flat images: the mean is all there is
            return 0.0 * error
        return error / self._baseline


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


def forward(network: nn.Module, precision: str, *args: Any) -> Any:
    """Outputs of a network in float32, computed in the given precision."""
    device = next(network.parameters()).device.type
    with torch.autocast(device, dtype=torch.bfloat16, enabled=precision == "bfloat16"):
        outputs = network(*args)
    if isinstance(outputs, Tensor):
        return outputs.float()
    return tuple(output.float() for output in outputs)


def to_device(patches: Tensor, network: nn.Module) -> Tensor:
    """Patches where the network is, in the memory format that its kernels are fastest in."""
    device = next(network.parameters()).device
    return patches.to(device, memory_format=torch.channels_last)


def keep_freed_memory() -> None:
    """Let the C library keep the memory that a batch frees for the next one.

    glibc gives large blocks back to the system as soon as they are freed, and all pages of a
    batch's activations would be mapped and zeroed anew. What it calls large follows the largest
    block freed so far, to at most 32 MiB (mallopt(3), M_MMAP_THRESHOLD). This one is not written
    to and takes no memory.
    """
    torch.UntypedStorage(31 * 2**20, device="cpu")


def choose_device(device: str) -> torch.device:
    """The device of a name; "auto" takes CUDA, then MPS, then the CPU."""
    if device == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        chosen = torch.device(device)
        torch.ones(1, device=chosen).item()
    except Exception as error:  # each backend that is missing raises an error of its own
        raise ValueError(
            f"device={device!r} cannot be used here: {str(error).splitlines()[0]}. "
            "Set device='auto' or 'cpu'."
        ) from error
    return chosen
