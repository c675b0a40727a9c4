"""Seconds and bytes a megapixel for scoring and training, with one and two worker processes.

    python docs/benchmarks/cost_model.py

takes two minutes or so, and prints the table of docs/cost.md. Every process computes with one
thread, so a worker is one core.
"""

import os

os.environ["OMP_NUM_THREADS"] = "1"

import argparse
import io
import json
import math
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from skimage import data

from sklearn_ssimae import SSIMAutoencoderDetector

SIDE = 512


def images(n):
    rng = np.random.default_rng(0)
    textures = np.stack([data.brick(), data.grass(), data.gravel()])
    return textures[rng.integers(3, size=n)]


def small_fit(**parameters):
    """A detector of the default network, hardly trained: its speed is that of a good one."""
    defaults = dict(n_patches=64, max_iter=1, threshold=1.0, device="cpu", random_state=0)
    return SSIMAutoencoderDetector(**{**defaults, **parameters}).fit(images(2))


def patches_of(side, stride, patch_size=128):
    """Patches of a square image."""
    return (math.ceil((side - patch_size) / stride) + 1) ** 2


def peak_megabytes():
    # Not ru_maxrss, which a process inherits from the one that starts it.
    (line,) = (
        line for line in Path("/proc/self/status").read_text().splitlines() if "VmHWM" in line
    )
    return int(line.split()[1]) * 1024 / 1e6


def scoring(n_workers, stride, n_images, side=SIDE, n_rounds=2):
    """Seconds a megapixel and worker on a local dask cluster; the best of a few rounds."""
    import dask.array as da
    from distributed import Client, LocalCluster

    detector = small_fit(stride=stride)
    X = images(n_images)[:, :side, :side]
    lazy = detector.score_samples(da.from_array(X, chunks=(1, -1, -1)))
    seconds = []
    with (
        LocalCluster(n_workers, threads_per_worker=1, dashboard_address=":0") as cluster,
        Client(cluster) as client,
    ):
        client.compute(lazy[:n_workers]).result()  # imports
        for _ in range(n_rounds):
            started = time.perf_counter()
            client.compute(lazy).result()
            seconds.append(time.perf_counter() - started)
        memory = max(client.run(peak_megabytes).values())
    return min(seconds) * n_workers / (X.size / 1e6), memory


def training_child(folder):
    """One process of a training: what it takes for the crops of all epochs but the first."""
    n_patches = 128
    detector = SSIMAutoencoderDetector(
        n_patches=n_patches,
        batch_size=32 // int(os.environ.get("WORLD_SIZE", "1")),
        threshold=1.0,
        residual="plain",
        smoothing=8,
        c1=0.01**2,
        c2=0.03**2,
        device="cpu",
        random_state=0,
    )
    seconds = []
    for _ in range(4):
        started = time.perf_counter()
        detector.partial_fit(images(20))
        seconds.append(time.perf_counter() - started)
    if os.environ.get("RANK", "0") == "0":
        megapixels = n_patches * 128**2 / 1e6
        result = [min(seconds[1:]) / megapixels, peak_megabytes()]
        Path(folder, "result").write_text(json.dumps(result))


def training(n_workers):
    """Seconds a megapixel of crops and worker, in batches of 32 crops in all."""
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(n_workers)]
    with tempfile.TemporaryDirectory() as folder:
        child = [__file__, "--child", folder]
        launched = [sys.executable, *(launch if n_workers > 1 else []), *child]
        subprocess.run(launched, check=True, stdout=subprocess.DEVNULL)
        seconds, memory = json.loads(Path(folder, "result").read_text())
    return seconds * n_workers, memory


def reading():
    """Seconds and bytes a megapixel of a PNG file in memory."""
    stream = io.BytesIO()
    Image.fromarray(data.gravel()).save(stream, "png")
    started = time.perf_counter()
    n_rounds = 50
    for _ in range(n_rounds):
        np.asarray(Image.open(io.BytesIO(stream.getvalue())))
    megapixels = SIDE**2 / 1e6
    seconds = (time.perf_counter() - started) / n_rounds / megapixels
    return seconds, len(stream.getvalue()) / 1e6 / megapixels


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--child", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    if arguments.child:
        training_child(arguments.child)
        return
    print("| what | workers | worker-seconds per megapixel | and per patch | peak MB of a worker |")
    print("|---|---|---|---|---|")
    runs = [(1, 30, 4, SIDE), (2, 30, 8, SIDE), (1, 64, 8, SIDE), (2, 64, 16, SIDE)]
    for n_workers, stride, n_images, side in [*runs, (1, 64, 32, SIDE // 2)]:
        seconds, memory = scoring(n_workers, stride, n_images, side)
        what = f"scoring {n_images} images of {side} × {side}, stride {stride}"
        patch = seconds * side**2 / 1e6 / patches_of(side, stride)
        print(f"| {what} | {n_workers} | {seconds:.2f} | {patch:.4f} | {memory:.0f} |", flush=True)
    for n_workers in (1, 2):
        seconds, memory = training(n_workers)
        patch = seconds * 128**2 / 1e6
        what = "training, of crops"
        print(f"| {what} | {n_workers} | {seconds:.2f} | {patch:.4f} | {memory:.0f} |", flush=True)
    seconds, size = reading()
    print(f"| reading a grey PNG of {size:.2f} MB a megapixel | 1 | {seconds:.3f} | | |")
    print(f"\nOne process: {peak_megabytes():.0f} MB. Cores of this machine: {os.cpu_count()}.")


if __name__ == "__main__":
    main()
