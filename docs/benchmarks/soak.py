"""Whether memory and time stay flat over very many predict calls.

Fits a small detector, then calls predict on one small image after another, new pixels each time.
Prints the resident memory and the processor time of every thousand calls; other programs that
run at the same time matter little to either::

    python docs/benchmarks/soak.py
    python docs/benchmarks/soak.py --calls 100000 --size 512
"""

import argparse
import gc
import os
import time
import warnings
from pathlib import Path

import numpy as np
import torch
from skimage import data
from sklearn.exceptions import ConvergenceWarning

from sklearn_ssimae import SSIMAutoencoderDetector


def resident_mib() -> float:
    """Memory of this process that is in use now (Linux)."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--calls", type=int, default=10_000)
    parser.add_argument("--size", type=int, default=64, help="side of the square images")
    parser.add_argument("--threads", type=int, default=1, help="of torch")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)

    brick = data.brick()
    detector = SSIMAutoencoderDetector(
        patch_size=32, latent_dim=16, n_patches=200, max_iter=3, stride=32, random_state=0
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        detector.fit(brick[None, :256])
    rng = np.random.default_rng(0)
    corners = rng.integers(512 - args.size + 1, size=(args.calls, 2))
    print(" calls  RSS in MiB  seconds  objects")
    print(f"{0:6d}  {resident_mib():10.1f}           {len(gc.get_objects()):8d}")
    started = time.process_time()
    for call, (y, x) in enumerate(corners, start=1):
        detector.predict(brick[None, y : y + args.size, x : x + args.size])
        if call % 1000 == 0:
            seconds = time.process_time() - started
            n_objects = len(gc.get_objects())
            print(f"{call:6d}  {resident_mib():10.1f}  {seconds:7.1f}  {n_objects:8d}", flush=True)
            started = time.process_time()


if __name__ == "__main__":
    main()
