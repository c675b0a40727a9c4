"""Memory of a fit on 1,000 and on 100,000 files, and the speed of training from files.

    python docs/benchmarks/large_data.py

takes about five minutes and 400 MB of disk, which it gives back.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path

import numpy as np
from PIL import Image
from skimage import data

from sklearn_ssimae import SSIMAutoencoderDetector

# Files of one content: file systems bound the number of names that a file may have.
LINKS = 20_000


def make_files(folder, n_files, side):
    """Names of n_files images of side × side pixels, which share the content of a few."""
    rng = np.random.default_rng(0)
    textures = [data.brick(), data.grass(), data.gravel()]
    paths = []
    for index in range(n_files):
        path = folder / f"{index:07d}.png"
        if index % LINKS == 0:
            y, x = rng.integers(512 - side + 1, size=2)
            source = folder / f"source{index}.png"
            Image.fromarray(textures[rng.integers(3)][y : y + side, x : x + side]).save(source)
        os.link(source, path)
        paths.append(path)
    return paths


def resident(field):
    """Megabytes of this process in memory: now, VmRSS, or at most so far, VmHWM."""
    # Not ru_maxrss, which a process inherits from the one that starts it.
    lines = Path("/proc/self/status").read_text().splitlines()
    (line,) = (line for line in lines if line.startswith(field))
    return int(line.split()[1]) * 1024 / 1e6


def measure_memory(folder, n_files):
    """In a process of its own: what the paths take, and what the fit adds at its peak."""
    paths = sorted(folder.glob("[0-9]*.png"))[:n_files]
    detector = SSIMAutoencoderDetector(
        patch_size=64, n_patches=1000, max_iter=3, stride=64, random_state=0
    )
    detector.fit(paths[:100])  # torch's own memory
    before = resident("VmRSS")
    started = time.perf_counter()
    detector.fit(paths)
    seconds = time.perf_counter() - started
    peak = resident("VmHWM")
    print(
        f"{len(paths):7d} files: {before:.0f} MB before the fit, {peak:.0f} MB at its peak, "
        f"{seconds:.1f} s"
    )


class Epochs:
    """Seconds of the epochs of a fit."""

    def __init__(self):
        self.ends = []

    def setup(self, estimator, context): ...

    def teardown(self, estimator, context): ...

    def on_fit_task_begin(self, estimator, context, **_): ...

    def on_fit_task_end(self, estimator, context, **_):
        self.ends.append(time.perf_counter())

    max_estimator_depth = None


def seconds_of_an_epoch(X, n_epochs, **parameters):
    detector = SSIMAutoencoderDetector(
        patch_size=64, n_patches=1000, max_iter=n_epochs, threshold=1, random_state=0, **parameters
    )
    epochs = Epochs()
    detector.set_callbacks(epochs).fit(X)
    return float(np.median(np.diff(epochs.ends[:-1])))


def measure_speed(folder, side):
    """Training from files against training from memory, in turns."""
    paths = make_files(folder, 500, side)
    images = np.stack([np.asarray(Image.open(path)) for path in paths])
    for _ in range(3):
        files, memory = (seconds_of_an_epoch(X, 6) for X in (paths, images))
        print(
            f"{side} × {side} px: {files:.2f} s an epoch of 1000 crops from files, "
            f"{memory:.2f} s from memory, ratio {files / memory:.3f}"
        )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--files", type=int, nargs="+", default=[1000, 100_000])
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    if arguments.child:
        measure_memory(Path(arguments.child[0]), int(arguments.child[1]))
        return
    with tempfile.TemporaryDirectory() as folder:
        make_files(Path(folder), max(arguments.files), 64)
        for n_files in arguments.files:
            command = [sys.executable, __file__, "--child", folder, str(n_files)]
            subprocess.run(command, check=True)
    for side in (256, 512):
        with tempfile.TemporaryDirectory() as folder:
            measure_speed(Path(folder), side)


if __name__ == "__main__":
    main()
