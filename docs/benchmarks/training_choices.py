"""Which way of training detects best in the same number of crops?

Trains the SSIM detector on a data set in the layout of MVTec AD, one choice changed at a
time, and prints the pixel ROC AUC of the default map for every seed, and the processor's
seconds::

    python docs/benchmarks/training_choices.py DATA/grid --set scale=0.5 --seeds 0 1

What the detectors do not offer is put into the package's own trainer.
The masks of the test images measure; choices made by this table are made for all data together.
"""

import argparse
import json
import time
import warnings
from pathlib import Path

import numpy as np
import torch
from detection import cpu_seconds, parse_parameters
from sklearn.exceptions import ConvergenceWarning
from torch import nn
from torch.optim.lr_scheduler import LambdaLR

from sklearn_ssimae import SSIMAutoencoderDetector
from sklearn_ssimae._detectors import fit
from sklearn_ssimae._training import muon
from sklearn_ssimae._training.corruption import Corruption
from sklearn_ssimae._training.trainer import Trainer
from sklearn_ssimae.datasets import load_mvtec_ad
from sklearn_ssimae.metrics import pixel_average_precision_score, pixel_roc_auc_score

DEFAULTS = {"precision": "bfloat16", "threshold": 1.0}
CROPS_PER_EPOCH = 1000


class AdamTrainer(Trainer):
    """Adam for all weights, with the schedule of the default."""

    def __init__(self, network, loss, probe, *, learning_rate_init, **options):
        super().__init__(network, loss, probe, learning_rate_init=learning_rate_init, **options)
        adam = torch.optim.Adam(network.parameters(), learning_rate_init, fused=True)
        factors = [scheduler.lr_lambdas[0] for scheduler in self.schedulers[:1]]
        self.optimizers = [adam]
        self.schedulers = [LambdaLR(adam, factor) for factor in factors]


class NoCorruption(Corruption):
    """Crops as they are."""

    def __call__(self, patches):
        return patches


class CleanTrainer(Trainer):
    """The network sees what it should draw."""

    def __init__(self, network, loss, probe, **options):
        options["corruption"] = NoCorruption(np.random.default_rng(0))
        super().__init__(network, loss, probe, **options)


class IndependentTrainer(Trainer):
    """The decoder begins with independent weights, as large as the encoder's adjoint."""

    def __init__(self, network, loss, probe, **options):
        generator = torch.Generator().manual_seed(0)
        with torch.no_grad():
            for layer in network.decoder:
                if isinstance(layer, nn.ConvTranspose2d):
                    deviation = layer.weight.square().mean().sqrt()
                    drawn = torch.randn(layer.weight.shape, generator=generator)
                    layer.weight.copy_(deviation * drawn)
        super().__init__(network, loss, probe, **options)


def rows_together(most):
    """A trainer whose optimizer makes so many rows of a matrix orthogonal together."""

    class BlockTrainer(Trainer):
        def run_epoch(self, batches):
            before, muon._MOST_ROWS = muon._MOST_ROWS, most
            try:
                return super().run_epoch(batches)
            finally:
                muon._MOST_ROWS = before

    return BlockTrainer


SMALL = {"batch_size": 16, "learning_rate_init": 1.5e-3}
CHOICES = {
    "default": (Trainer, {}),
    "float32": (Trainer, {"precision": "float32"}),
    "rate 5e-3": (Trainer, {"learning_rate_init": 5e-3}),
    "rate 1.25e-3": (Trainer, {"learning_rate_init": 1.25e-3}),
    "batches of 16, rate 1.5e-3": (Trainer, SMALL),
    "constant": (Trainer, {"learning_rate": "constant"}),
    "no corruption": (CleanTrainer, {}),
    "independent decoder": (IndependentTrainer, {}),
    "128 rows together": (rows_together(128), {}),
    "256 rows together": (rows_together(256), {}),
    "Adam, batches of 8, rate 1e-3": (AdamTrainer, {"batch_size": 8, "learning_rate_init": 1e-3}),
    "flips and rotations": (Trainer, {"augment": True}),
}


def run(choice, seed, options, data):
    """One fit, and what its map is worth."""
    trainer, parameters = CHOICES[choice]
    length = {"n_patches": CROPS_PER_EPOCH} | dict.fromkeys(
        ("max_iter", "n_iter_no_change"), options.epochs
    )
    parameters = DEFAULTS | length | options.set | parameters
    detector = SSIMAutoencoderDetector(random_state=seed, **parameters)
    fit.Trainer = trainer
    started, cpu_started = time.perf_counter(), cpu_seconds()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        detector.fit(data.train)
    seconds, cpu = time.perf_counter() - started, cpu_seconds() - cpu_started
    chosen = slice(None, None, options.every)
    maps, masks = detector.transform(data.test[chosen]), data.masks[chosen]
    return {
        "choice": choice,
        "seed": seed,
        "pixel_roc_auc": pixel_roc_auc_score(masks, maps),
        "average_precision": pixel_average_precision_score(masks, maps),
        "fit_seconds": seconds,
        "fit_cpu_seconds": cpu,
        "loss": detector.loss_curve_[-1],
    }


def summary(rows):
    """A line of a table in Markdown for each choice: means over seeds, and each seed's area."""
    lines = [
        "| choice | pixel ROC AUC | each seed | average precision | fit CPU s |",
        "|---" * 5 + "|",
    ]
    for choice in dict.fromkeys(row["choice"] for row in rows):
        own = [row for row in rows if row["choice"] == choice]
        areas = [row["pixel_roc_auc"] for row in own]
        precision, cpu = (
            np.mean([row[key] for row in own]) for key in ("average_precision", "fit_cpu_seconds")
        )
        each = ", ".join(f"{area:.3f}" for area in areas)
        lines.append(f"| {choice} | {np.mean(areas):.4f} | {each} | {precision:.3f} | {cpu:.0f} |")
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("folder", type=Path, help="category in the layout of MVTec AD")
    add("--choices", nargs="+", choices=CHOICES, default=list(CHOICES))
    add("--epochs", type=int, default=20, help=f"of {CROPS_PER_EPOCH} crops")
    add("--every", type=int, default=1, help="score every so many-th test image")
    add("--set", type=parse_parameters, default={}, help="parameters of all, NAME=VALUE,...")
    add("--seeds", type=int, nargs="+", default=[0, 1])
    add("--output", type=Path, default=Path("training_choices.json"))
    options = parser.parse_args()
    folder = options.folder.resolve()
    data = load_mvtec_ad(folder.parent, folder.name)
    print(data.DESCR, f"torch {torch.__version__}, {torch.get_num_threads()} threads", sep="\n")
    rows = []
    for seed in options.seeds:
        for choice in options.choices:
            rows.append(run(choice, seed, options, data))
            print(json.dumps(rows[-1]), flush=True)
            # Kept after every fit: the whole takes hours.
            options.output.write_text(json.dumps(rows, indent=2) + "\n")
    print(summary(rows))


if __name__ == "__main__":
    main()
