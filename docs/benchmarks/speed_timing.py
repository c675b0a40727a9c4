"""How speed.py takes the time."""

import resource
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any

import numpy as np
import torch

Rows = list[dict[str, Any]]
Times = dict[Any, np.ndarray]
# Side of the square matrices whose product stands for what the machine can do.
MATRIX = 2048
SHORTEST_TURN = 0.2


def cpu_seconds() -> float:
    """Processor time of all threads and of processes that ended."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


CLOCKS = {"wall": time.perf_counter, "cpu": cpu_seconds}
chosen_clock = "wall"


def own_process() -> ProcessPoolExecutor:
    """A new process, whose allocator no other measurement has taught."""
    return ProcessPoolExecutor(1, get_context("spawn"))


class Elsewhere:
    """A case in a process of its own."""

    def __init__(self, function: Callable[..., Any], *args: Any) -> None:
        self._case = function, *args
        self._process = own_process()

    def seconds(self) -> float:
        """What the case took, without the way there and back."""
        return self._process.submit(_seconds, chosen_clock, *self._case).result()


def _seconds(clock_name: str, run: Callable[..., Any], *args: Any) -> float:
    clock = CLOCKS[clock_name]
    started = clock()
    run(*args)
    return clock() - started


def alternate(cases: Mapping[Any, Callable[[], Any] | Elsewhere], repeats: int) -> Times:
    """Seconds of each case in each of the repeats, after a turn that warms up.

    In a turn a case runs once, or as often as a fifth of a second allows; that is its mean.
    """
    times: dict[Any, list[float]] = {name: [] for name in cases}
    for turn in range(repeats + 1):
        for name, run in cases.items():
            n_runs, seconds = 0, 0.0
            while seconds < SHORTEST_TURN:
                if isinstance(run, Elsewhere):
                    seconds += run.seconds()
                else:
                    seconds += _seconds(chosen_clock, run)
                n_runs += 1
            if turn:
                times[name].append(seconds / n_runs)
    return {name: np.array(values) for name, values in times.items()}


def ms(seconds: np.ndarray) -> float:
    return round(1000 * float(np.median(seconds)), 1)


def ratio(numerator: np.ndarray, denominator: np.ndarray) -> float:
    return round(float(np.median(numerator / denominator)), 2)


def matrix_product(dtype: torch.dtype = torch.float32) -> Callable[[], Any]:
    """A product of 2 * MATRIX**3 floating-point operations."""
    a, b = torch.rand(2, MATRIX, MATRIX).to(dtype)
    out = torch.empty_like(a)
    return lambda: torch.mm(a, b, out=out)


def gflops(seconds: np.ndarray, operations: float = 2 * MATRIX**3) -> np.ndarray:
    return operations / seconds / 1e9
