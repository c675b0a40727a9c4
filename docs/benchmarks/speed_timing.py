"""How speed.py takes the time."""

import resource
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

Rows = list[dict[str, Any]]
Times = dict[str, np.ndarray]
# Side of the square matrices whose product stands for what the machine can do.
MATRIX = 2048
SHORTEST_TURN = 0.2


def cpu_seconds() -> float:
    """Processor time of all threads and of processes that ended."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


CLOCKS = {"wall": time.perf_counter, "cpu": cpu_seconds}
chosen_clock = "wall"


def alternate(cases: dict[str, Callable[[], Any]], repeats: int) -> Times:
    """Seconds of each case in each of the repeats, after a turn that warms up.

    In a turn a case runs once, or as often as a fifth of a second allows; that is its mean.
    """
    clock = CLOCKS[chosen_clock]
    times: dict[str, list[float]] = {name: [] for name in cases}
    for turn in range(repeats + 1):
        for name, run in cases.items():
            started, n_runs, seconds = clock(), 0, 0.0
            while seconds < SHORTEST_TURN:
                run()
                n_runs += 1
                seconds = clock() - started
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
