"""What speed.py measures on a GPU."""

import time
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from sklearn_ssimae import SSIMAutoencoderDetector, ssim_map
from sklearn_ssimae._networks.autoencoders import Autoencoder
from sklearn_ssimae._networks.devices import to_channels_last
from sklearn_ssimae.datasets import add_synthetic_defects, make_checkerboards

BATCH = 128


def training_on_gpu(repeats: int) -> list[dict[str, Any]]:
    """The paper's step on a GPU, in batches of 128, with and without autocast and compilation."""
    patches = torch.rand(BATCH, 1, 128, 128, device="cuda")
    patches = patches.to(memory_format=torch.channels_last)
    rate = _matrix_rate(repeats)
    rows = []
    for compiled in (False, True):
        for dtype in (torch.float32, torch.bfloat16):
            network = to_channels_last(
                Autoencoder(n_channels=1, patch_size=128, latent_dim=100).cuda()
            )
            with FlopCounterMode(display=False) as counter:
                network(patches).sum().backward()
            step = _Step(network, torch.compile(network) if compiled else network, dtype)
            seconds = np.median([_seconds(step, patches) for _ in range(repeats + 2)][2:]) / 20
            rows.append(
                {
                    "precision": str(dtype).removeprefix("torch."),
                    "compiled": compiled,
                    "patches/s": round(BATCH / seconds),
                    "share of the matrix rate": round(
                        counter.get_total_flops() / seconds / rate[dtype], 3
                    ),
                    "hours for 2 million crops": round(2e6 / BATCH * seconds / 3600, 2),
                }
            )
    return rows


class _Step:
    def __init__(self, network: nn.Module, function: Any, dtype: torch.dtype) -> None:
        self.function = function
        self.dtype = dtype
        self.optimizer = torch.optim.Adam(network.parameters(), lr=2e-4, fused=True)

    def __call__(self, patches: torch.Tensor) -> None:
        with torch.autocast("cuda", dtype=self.dtype, enabled=self.dtype != torch.float32):
            drawn = self.function(patches)
        self.optimizer.zero_grad()
        (1 - ssim_map(patches, drawn.float())).mean().backward()
        self.optimizer.step()


def _seconds(run: Any, *args: Any) -> float:
    """Seconds of 20 calls."""
    torch.cuda.synchronize()
    started = time.perf_counter()
    for _ in range(20):
        run(*args)
    torch.cuda.synchronize()
    return time.perf_counter() - started


def _matrix_rate(repeats: int) -> dict[torch.dtype, float]:
    rates = {}
    for dtype in (torch.float32, torch.bfloat16):
        a, b = torch.rand(2, 8192, 8192, device="cuda").to(dtype)
        seconds = np.median([_seconds(torch.mm, a, b) for _ in range(repeats + 1)][1:]) / 20
        rates[dtype] = 2 * 8192**3 / seconds
    return rates


def same_auc(repeats: int) -> list[dict[str, Any]]:
    """Pixel ROC AUC of one fit on the CPU and one on the GPU, to agree within 0.003."""
    good, _ = make_checkerboards(32, size=256, random_state=0)
    images, masks = add_synthetic_defects(good[:16], random_state=1)
    rows = []
    for device in ("cpu", "cuda"):
        detector = SSIMAutoencoderDetector(device=device, max_iter=30, random_state=0)
        started = time.perf_counter()
        detector.fit(good[16:])
        rows.append(
            {
                "device": device,
                "fit s": round(time.perf_counter() - started, 1),
                "pixel ROC AUC": round(detector.score(images, masks), 4),
            }
        )
    return rows
