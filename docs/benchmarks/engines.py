"""The same network run by torch, by Inductor's kernels and by ONNX Runtime, on one thread.

Inductor needs a C++ compiler; with frozen weights it fuses the activations into oneDNN's
convolutions. Processor time, in turns::

    pip install -c constraints.txt -e ".[bench,onnx]"
    python docs/benchmarks/engines.py
"""

import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch

from sklearn_ssimae._networks.autoencoders import Autoencoder

N_PATCHES = 16
TURNS = 8


def patches(n: int) -> torch.Tensor:
    return torch.rand(n, 1, 128, 128).contiguous(memory_format=torch.channels_last)


def of_onnx_runtime(network: torch.nn.Module) -> Callable[[], Any]:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "network.onnx"
        torch.onnx.export(network, (patches(N_PATCHES),), path, dynamo=True, verbose=False)
        session = onnxruntime.InferenceSession(path, options)
    feed = {session.get_inputs()[0].name: patches(N_PATCHES).contiguous().numpy()}
    return lambda: session.run(None, feed)


def of_inductor(network: torch.nn.Module, *, freezing: bool) -> Callable[[], Any]:
    torch._dynamo.reset()
    torch._inductor.config.freezing = freezing
    compiled, batch = torch.compile(network), patches(N_PATCHES)
    started = time.perf_counter()
    compiled(batch)
    print(f"compiled in {time.perf_counter() - started:.0f} s, freezing={freezing}")
    return lambda: compiled(batch)


def of_torch(network: torch.nn.Module, n: int, *, bfloat16: bool = False) -> Callable[[], Any]:
    batch = patches(n)

    def run() -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
            network(batch)

    return run


@torch.no_grad()
def main() -> None:
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    network = Autoencoder(latent_dim=100, n_channels=1, patch_size=128).eval()
    network = network.to(memory_format=torch.channels_last)
    cases = {
        "torch": (N_PATCHES, of_torch(network, N_PATCHES)),
        "torch, batches of 32": (32, of_torch(network, 32)),
        "torch, batches of 64": (64, of_torch(network, 64)),
        "torch, bfloat16": (N_PATCHES, of_torch(network, N_PATCHES, bfloat16=True)),
        "ONNX Runtime": (N_PATCHES, of_onnx_runtime(network)),
        "Inductor": (N_PATCHES, of_inductor(network, freezing=False)),
        "Inductor, frozen": (N_PATCHES, of_inductor(network, freezing=True)),
    }
    times: dict[str, list[float]] = {name: [] for name in cases}
    for _ in range(TURNS):
        for name, (n, run) in cases.items():
            started = time.process_time()
            run()
            times[name].append((time.process_time() - started) / n)
    for name, seconds in times.items():
        ratios = np.array(seconds[1:]) / times["torch"][1:]
        median = 1000 * np.median(seconds[1:])
        print(f"{name:<22}{median:6.2f} ms a patch, {np.median(ratios):.2f} of torch's")


if __name__ == "__main__":
    main()
