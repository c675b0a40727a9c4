"""Several processes that train one network, as torchrun starts them.

Every process has all images and draws the same crops, of which it takes its share. The
gradients are averaged by torch's DistributedDataParallel, whatever else decides how the training
goes is agreed upon, and so all processes end with the same network.
"""

from __future__ import annotations

import atexit
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
from torch import Generator, Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from sklearn_ssimae._training.identity import Identity, differing_points


class Ranks:
    """The processes of one training; of a process on its own, that one.

    Parameters
    ----------
    rank, size : int
        Number of this process, and how many there are.
    """

    def __init__(self, rank: int = 0, size: int = 1) -> None:
        self.rank = rank
        self.size = size
        self._is_interrupted = False

    @property
    def is_first(self) -> bool:
        """Whether this process is the one that prints and writes files."""
        return self.rank == 0

    def wrap(self, network: nn.Module) -> nn.Module:
        """The network, with gradients that are averaged over the processes."""
        if self.size == 1:
            return network
        return DistributedDataParallel(network)

    def share(self, batch: Tensor) -> tuple[Tensor, float]:
        """The patches of a batch that are this process's, and the weight of their mean loss.

        The weighted losses average to the mean loss of the batch. A process without a
        patch takes one of weight 0, since all have to take part in every step.
        """
        mine = batch[self.rank :: self.size]
        weight = len(mine) * self.size / len(batch)
        return (mine if len(mine) else batch[:1]), weight

    def spread(self, generator: Generator) -> None:
        """Let the noise of each process be another; the first keeps its own."""
        if self.rank > 0:
            # Of a seed, torch's generator on the CPU takes the lower 32 bits.
            generator.manual_seed((generator.initial_seed() + self.rank * 0x9E3779B1) % 2**32)

    def mean(self, value: Tensor) -> float:
        """The mean of a number over the processes.

        Raises
        ------
        KeyboardInterrupt
            In all processes, if one of them was interrupted.
        """
        if self.size == 1:
            return float(value.detach())
        pair = torch.stack([value.detach(), value.new_tensor(float(self._is_interrupted))])
        dist.all_reduce(pair)
        if pair[1] > 0:
            raise KeyboardInterrupt
        return float(pair[0]) / self.size

    def agree(self, value: Any) -> Any:
        """The first process's value, in all of them."""
        if self.size == 1:
            return value
        values = [value]
        dist.broadcast_object_list(values, src=0)
        return values[0]

    def check_equal(self, describe: Callable[[], Identity]) -> None:
        """Refuse processes that would train on different things.

        Parameters
        ----------
        describe : callable
            Returns what must be equal, each point in words.

        Raises
        ------
        ValueError
            In all processes, with the points in which they differ.
        """
        if self.size == 1:
            return
        identities: list[Identity] = [{} for _ in range(self.size)]
        dist.all_gather_object(identities, describe())
        for rank, other in enumerate(identities):
            differences = [
                f"{point} is {of_first} on rank 0 and {of_other} on rank {rank}"
                for point, of_first, of_other in differing_points(identities[0], other)
            ]
            if differences:
                raise ValueError(
                    f"The {self.size} processes do not fit the same: {'; '.join(differences)}. "
                    "Give every process the same parameters and all images, not a part of them: "
                    "fit divides each batch among the processes."
                )

    @contextmanager
    def interrupted_together(self) -> Iterator[None]:
        """Make Ctrl-C wait for the next `mean`, so that no process waits for one that has left."""
        in_main_thread = threading.current_thread() is threading.main_thread()
        if self.size == 1 or not in_main_thread:
            yield
            return

        def note(*_: Any) -> None:
            self._is_interrupted = True

        before = signal.signal(signal.SIGINT, note)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, before)


def join_ranks() -> Ranks:
    """The processes that torchrun has started, or this one alone.

    They are connected if they are not yet, and then stay so until they end: what a group
    that is given up leaves with torchrun would confuse the next one.
    """
    if not dist.is_available():
        return Ranks()
    if not dist.is_initialized():
        if int(os.environ.get("WORLD_SIZE", "1")) == 1 or "RANK" not in os.environ:
            return Ranks()
        dist.init_process_group()  # NCCL for tensors on CUDA, gloo for the others
        atexit.register(_leave)
    return Ranks(dist.get_rank(), dist.get_world_size())


def _leave() -> None:
    if dist.is_initialized():
        dist.destroy_process_group()


def device_of_rank(device: torch.device) -> torch.device:
    """Of "cuda", the GPU of this process; its number on the machine is torchrun's LOCAL_RANK."""
    if device.type != "cuda" or device.index is not None or "LOCAL_RANK" not in os.environ:
        return device
    chosen = torch.device("cuda", int(os.environ["LOCAL_RANK"]) % torch.cuda.device_count())
    torch.cuda.set_device(chosen)
    return chosen
