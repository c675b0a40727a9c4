"""What speed.py measures of a training step."""

from collections.abc import Callable
from functools import cache

import numpy as np
import torch
from speed_timing import Elsewhere, Rows, alternate, gflops, matrix_product, ratio
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from sklearn_ssimae import SSIMAutoencoderDetector
from sklearn_ssimae._networks.autoencoders import Autoencoder
from sklearn_ssimae._networks.devices import forward, to_channels_last, to_device
from sklearn_ssimae._training.corruption import Corruption
from sklearn_ssimae._training.crops import CropSampler
from sklearn_ssimae._training.probe import Probe
from sklearn_ssimae._training.trainer import Trainer

PATCH = 128
PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16}
BATCH_SIZES = (8, 32, 128)  # small, the default, the paper's
# An epoch of the default length, and a part of one.
N_PATCHES, N_PLAIN = 1000, 256


def training(repeats: int) -> Rows:
    """A training step of 8, 32 and 128 patches against the machine and a plain loop.

    The plain loop has the same network in torch's own layers, pytorch-msssim's loss and Adam
    one parameter at a time. All have processes of their own.
    """
    pairs = [(precision, batch_size) for precision in PRECISIONS for batch_size in BATCH_SIZES]
    cases = {pair: Elsewhere(_train, *pair) for pair in pairs}
    plain_loops = {size: Elsewhere(_train_plainly, size) for size in BATCH_SIZES}
    matrices = {precision: matrix_product(dtype) for precision, dtype in PRECISIONS.items()}
    times = alternate(cases | plain_loops | matrices, repeats)

    operations = step_operations()
    rows: Rows = []
    for precision, batch_size in pairs:
        seconds = times[precision, batch_size] / N_PATCHES
        rate = gflops(times[precision])
        rows.append(
            {
                "precision": precision,
                "batch": batch_size,
                "patches/s": round(1 / float(np.median(seconds)), 1),
                "matrix GFLOP/s": round(float(np.median(rate))),
                "share of it": ratio(gflops(seconds, operations), rate),
                "times the plain loop": ratio(times[batch_size] / N_PLAIN, seconds),
                "times float32": ratio(times["float32", batch_size] / N_PATCHES, seconds),
            }
        )
    return rows


def _train(precision: str, batch_size: int) -> None:
    trainer, sampler = _trainer(precision)
    trainer.run_epoch(sampler.batches(N_PATCHES, batch_size))


def _train_plainly(batch_size: int) -> None:
    step = _plain_step()
    for _ in range(N_PLAIN // batch_size):
        step(torch.rand(batch_size, 1, PATCH, PATCH))


def step_operations() -> float:
    """Floating-point operations of a step, forward and backward, of one patch."""
    network = Autoencoder(n_channels=1, patch_size=PATCH, latent_dim=100)
    with FlopCounterMode(display=False) as counter:
        network(torch.rand(1, 1, PATCH, PATCH)).sum().backward()
    return float(counter.get_total_flops())


@cache
def _trainer(precision: str) -> tuple[Trainer, CropSampler]:
    """What `fit` makes of the defaults."""
    images = torch.rand(4, 1, 512, 512)
    sampler = CropSampler(images.__getitem__, 4, PATCH, 1, np.random.default_rng(0))
    crops = next(sampler.batches(64, 64))
    network = Autoencoder(n_channels=1, patch_size=PATCH, latent_dim=100)
    network.initialize(crops, torch.Generator().manual_seed(0))
    to_channels_last(network)
    # Unfitted, it has no constants that were chosen.
    detector = SSIMAutoencoderDetector(c1=0.01**2, c2=0.03**2)
    loss = detector._make_loss(1, torch.device("cpu"), torch.Generator())
    probe = Probe(
        to_device(crops, network),
        lambda patches: forward(network, precision, patches),
        detector._residual,
    )
    trainer = Trainer(
        network,
        loss,
        probe,
        is_warm=False,
        corruption=Corruption(np.random.default_rng(1)),
        learning_rate_init=detector.learning_rate_init,
        schedule=detector.learning_rate,
        total_steps=10**6,
        weight_decay=1e-5,
        precision=precision,
    )
    return trainer, sampler


def plain_network() -> torch.nn.Sequential:
    """The same layers as torch has them, in its default memory format."""
    ours = Autoencoder(n_channels=1, patch_size=PATCH, latent_dim=100)
    layers: list[torch.nn.Module] = []
    for layer in (*ours.encoder, *ours.decoder):
        if isinstance(layer, (torch.nn.Conv2d, torch.nn.ConvTranspose2d)):
            kinds = (torch.nn.Conv2d, torch.nn.ConvTranspose2d)
            kind = next(kind for kind in kinds if isinstance(layer, kind))
            sizes = (layer.kernel_size, layer.stride, layer.padding)
            layers.append(kind(layer.in_channels, layer.out_channels, *sizes))
        else:
            layers.append(torch.nn.LeakyReLU(0.2))
    return torch.nn.Sequential(*layers)


@cache
def _plain_step() -> Callable[[Tensor], None]:
    from pytorch_msssim import ssim

    network = plain_network()
    optimizer = torch.optim.Adam(
        network.parameters(), lr=1e-4, weight_decay=1e-5, foreach=False, fused=False
    )

    def step(patches: Tensor) -> None:
        optimizer.zero_grad()
        loss = 1 - ssim(patches, network(patches), data_range=1)
        loss.backward()
        loss.item()
        optimizer.step()

    return step
