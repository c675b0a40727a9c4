"""Training: random crops in, a fitted network out. Pure torch and NumPy."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from copy import deepcopy
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from sklearn_ssimae._tiling import pad_to_patch

#: Calls the network in the chosen precision and returns float32.
Forward = Callable[..., Any]
#: Mean loss of a batch of patches: (forward, patches, warmth) -> scalar. `warmth`, in [0, 1],
#: is 0 until the network beats the mean image and then climbs to 1. It is the factor of
#: whatever would keep a network from learning at first.
Loss = Callable[[Forward, Tensor, float], Tensor]

# Prepared images kept in memory. A data set beyond it is visited in groups of this size.
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
    order of all.

    Parameters
    ----------
    load : callable
        Index to image, Tensor (c, h, w), float32.
    n_images, patch_size : int
    rng : numpy Generator
    """

    def __init__(
        self,
        load: Callable[[int], Tensor],
        n_images: int,
        patch_size: int,
        rng: np.random.Generator,
    ) -> None:
        self._load = load
        self._n_images = n_images
        self._patch_size = patch_size
        self._rng = rng
        self._order: list[int] = []
        self._group: list[Tensor] = []

    def batches(self, n_patches: int, batch_size: int) -> Iterator[Tensor]:
        """Batches (batch_size, c, p, p) of n_patches crops in all; the last may be smaller."""
        if len(self._group) < self._n_images:
            self._next_group(n_patches)
        patch = self._patch_size
        room = np.array([image.shape[1:] for image in self._group]) - patch + 1
        areas = room.prod(axis=1).astype(float)
        chosen = self._rng.choice(len(areas), size=n_patches, p=areas / areas.sum())
        corners = self._rng.integers(room[chosen])
        for start in range(0, n_patches, batch_size):
            batch = slice(start, start + batch_size)
            yield torch.stack(
                [
                    self._group[index][:, y : y + patch, x : x + patch]
                    for index, (y, x) in zip(chosen[batch], corners[batch], strict=True)
                ]
            )

    def _next_group(self, n_patches: int) -> None:
        self._group = []
        members: set[int] = set()
        most = min(self._n_images, max(1, n_patches // _CROPS_PER_READ))
        size = 0
        while size < CACHE_BYTES and len(members) < most:
            if not self._order:
                order = self._rng.permutation(self._n_images).tolist()
                # Taken from the end: what this group holds comes last, and not twice in it.
                self._order = sorted(order, key=lambda index: index not in members)
            index = self._order.pop()
            image = pad_to_patch(self._load(index), self._patch_size)
            self._group.append(image)
            members.add(index)
            size += image.nbytes


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
    """

    def __init__(
        self,
        network: nn.Module,
        loss: Loss,
        probe: Probe,
        *,
        is_warm: bool,
        learning_rate_init: float,
        schedule: str,
        total_steps: int,
        weight_decay: float,
        precision: str,
    ) -> None:
        self.network = network
        self.loss = loss
        self.probe = probe
        self.precision = precision
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
        a broken network; the network is then as it was before the epoch.
        """
        before = deepcopy(self.network.state_dict())
        self.network.train()
        total, value, n_patches = 0.0, 0.0, 0
        for batch in batches:
            patches = to_device(batch, self.network)
            loss = self.loss(self.forward, patches, self.warmth)
            value = loss.item()
            if not np.isfinite(value):
                break
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
            if self.scheduler is not None:
                self.scheduler.step()
            self.n_steps += 1
            total += value * len(patches)
            n_patches += len(patches)
        self.network.eval()
        remaining = self.probe.remaining() if np.isfinite(value) else value
        if not np.isfinite(remaining):
            self.network.load_state_dict(before)
            return remaining
        if self._learnt_at == math.inf and remaining < LEARNING:
            self._learnt_at = self.n_steps
        return total / n_patches

    @property
    def warmth(self) -> float:
        """See `Loss`."""
        return max(0.0, min(1.0, (self.n_steps - self._learnt_at) / self._warm_up))

    def forward(self, *args: Any) -> Any:
        return forward(self.network, self.precision, *args)


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
