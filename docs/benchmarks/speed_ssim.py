"""What speed.py measures of SSIM itself."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from speed_timing import Rows, alternate, ms, ratio
from torch import Tensor

from sklearn_ssimae import ssim_map

PATCH = 128


def ssim_loss(repeats: int) -> Rows:
    """SSIM as a loss, 32×1×128×128, window 11: forward, and forward with backward."""
    rows: Rows = []
    x, y = torch.rand(2, 32, 1, PATCH, PATCH)
    for window in ("uniform", "gaussian"):
        losses = _ssim_peers(window)
        forward_only = alternate(
            {name: _no_grad(loss, x, y) for name, loss in losses.items()}, repeats
        )
        both = alternate({name: _with_grad(loss, x, y) for name, loss in losses.items()}, repeats)
        ours = ssim_map(x, y, window=window)[..., 5:-5, 5:-5].mean(dim=(1, 2, 3))
        for name, loss in losses.items():
            theirs = loss(x, y) if name != "ours" else loss(x, y)[..., 5:-5, 5:-5]
            difference = (theirs.reshape(32, -1).mean(dim=1) - ours).abs().max()
            rows.append(
                {
                    "window": window,
                    "library": name,
                    "forward ms": ms(forward_only[name]),
                    "both ms": ms(both[name]),
                    "times ours, forward": ratio(forward_only[name], forward_only["ours"]),
                    "times ours, both": ratio(both[name], both["ours"]),
                    "difference": f"{float(difference):.0e}",
                }
            )
    return rows


def _ssim_peers(window: str) -> dict[str, Callable[[Tensor, Tensor], Tensor]]:
    """SSIM of each image by each library: ours of all pixels, theirs without a border.

    kornia knows Gaussian windows alone.
    """
    from kornia.metrics import ssim as kornia_ssim
    from pytorch_msssim import ssim as msssim
    from torchmetrics.functional.image import structural_similarity_index_measure

    box = torch.full((1, 1, 1, 11), 1 / 11) if window == "uniform" else None
    peers: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
        "ours": lambda x, y: ssim_map(x, y, window=window),
        "pytorch-msssim": lambda x, y: msssim(x, y, data_range=1, size_average=False, win=box),
        "torchmetrics": lambda x, y: structural_similarity_index_measure(
            x,
            y,
            gaussian_kernel=window == "gaussian",
            kernel_size=11,
            data_range=1.0,
            return_full_image=True,
        )[1][..., 5:-5, 5:-5],
    }
    if window == "gaussian":
        peers["kornia"] = lambda x, y: kornia_ssim(x, y, 11)[..., 5:-5, 5:-5]
    return peers


def _no_grad(loss: Callable[[Tensor, Tensor], Tensor], x: Tensor, y: Tensor) -> Callable[[], Any]:
    @torch.no_grad()
    def run() -> None:
        loss(x, y).mean()

    return run


def _with_grad(loss: Callable[[Tensor, Tensor], Tensor], x: Tensor, y: Tensor) -> Callable[[], Any]:
    drawn = y.clone().requires_grad_()

    def run() -> None:
        drawn.grad = None
        (1 - loss(x, drawn).mean()).backward()

    return run


def ssim_numpy(repeats: int) -> Rows:
    """`ssim_map` of 1024×1024 arrays against scikit-image's structural_similarity(full=True)."""
    from skimage.metrics import structural_similarity

    x, y = np.random.default_rng(0).random((2, 1024, 1024), dtype=np.float32)
    rows: Rows = []
    for window in ("uniform", "gaussian"):
        options = {
            "win_size": 11,
            "gaussian_weights": window == "gaussian",
            "use_sample_covariance": False,
            "data_range": 1.0,
            "full": True,
        }
        cases = {
            "ours": lambda window=window: ssim_map(x, y, window=window),
            "theirs": lambda options=options: structural_similarity(x, y, **options)[1],
        }
        times = alternate(cases, repeats)
        rows.append(
            {
                "window": window,
                "ours ms": ms(times["ours"]),
                "scikit-image ms": ms(times["theirs"]),
                "times faster": ratio(times["theirs"], times["ours"]),
                "difference": f"{np.abs(cases['ours']() - cases['theirs']()).max():.0e}",
            }
        )
    return rows
