"""Which way of training detects best in the same number of crops?

Trains the SSIM detector on a data set in the layout of MVTec AD, one choice changed at a
time, and prints the pixel ROC AUC of the default map for every seed, and the processor's
seconds::

    python docs/benchmarks/training_choices.py DATA/grid --set scale=0.5 --seeds 0 1

Optimizers and schedules that the detectors do not offer are put into the package's own trainer.
The masks of the test images measure; choices made by this table are made for all data together.
"""

import argparse
import itertools
import json
import time
import warnings
from pathlib import Path

import numpy as np
import torch
from detection import cpu_seconds, parse_parameters
from sklearn.exceptions import ConvergenceWarning
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from sklearn_ssimae import SSIMAutoencoderDetector
from sklearn_ssimae._detectors import fit
from sklearn_ssimae._training.trainer import Trainer
from sklearn_ssimae.datasets import load_mvtec_ad
from sklearn_ssimae.metrics import pixel_average_precision_score, pixel_roc_auc_score

DEFAULTS = {"precision": "bfloat16", "threshold": 1.0}
CROPS_PER_EPOCH = 1000


class CosineTrainer(Trainer):
    """The learning rate falls from the first step on."""

    def __init__(self, network, loss, probe, *, total_steps, **options):
        # A cycle would begin with a rate of its own.
        options |= {"schedule": "constant", "total_steps": total_steps}
        super().__init__(network, loss, probe, **options)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR
        self.scheduler = schedule(self.optimizer, total_steps)


class AdamWTrainer(Trainer):
    """Weights decay apart from the gradient, by a hundredth of the learning rate."""

    def __init__(self, network, loss, probe, *, total_steps, learning_rate_init, **options):
        rate = learning_rate_init
        options |= {"learning_rate_init": rate, "total_steps": total_steps}
        super().__init__(network, loss, probe, **options)
        self.optimizer = torch.optim.AdamW(
            network.parameters(), lr=rate, weight_decay=1e-2, fused=True
        )
        cycle = torch.optim.lr_scheduler.OneCycleLR
        self.scheduler = cycle(self.optimizer, rate, total_steps, cycle_momentum=False)


class AveragingTrainer(Trainer):
    """Leaves the exponential moving average of the weights after every epoch's end.

    The average is what is scored; the training goes on from the weights themselves.
    """

    def __init__(self, network, loss, probe, **options):
        super().__init__(network, loss, probe, **options)
        self.averaged = AveragedModel(network, multi_avg_fn=get_ema_multi_avg_fn(0.999))
        self.optimizer.register_step_post_hook(
            lambda *_: self.averaged.update_parameters(self.network)
        )
        self.current = None

    def run_epoch(self, batches):
        if self.current is not None:
            self.network.load_state_dict(self.current)
        mean = super().run_epoch(batches)
        self.current = {name: value.clone() for name, value in self.network.state_dict().items()}
        self.network.load_state_dict(self.averaged.module.state_dict())
        return mean


class GrowingTrainer(Trainer):
    """Batches of four times the size in the second half of the crops; one cycle over both."""

    def __init__(self, network, loss, probe, *, total_steps, **options):
        per_epoch = -(-CROPS_PER_EPOCH // SSIMAutoencoderDetector().batch_size)
        n_epochs = total_steps // per_epoch
        self.small_steps = n_epochs // 2 * per_epoch
        large_steps = (n_epochs - n_epochs // 2) * -(-per_epoch // 4)
        total_steps = self.small_steps + large_steps
        super().__init__(network, loss, probe, total_steps=total_steps, **options)

    def run_epoch(self, batches):
        if self.n_steps >= self.small_steps:
            small = iter(batches)
            batches = map(torch.cat, iter(lambda: list(itertools.islice(small, 4)), []))
        return super().run_epoch(batches)


CHOICES = {
    "default": (Trainer, {}),
    "float32": (Trainer, {"precision": "float32"}),
    "rate 5e-4": (Trainer, {"learning_rate_init": 5e-4}),
    "rate 2e-3": (Trainer, {"learning_rate_init": 2e-3}),
    "cosine": (CosineTrainer, {}),
    "constant": (Trainer, {"learning_rate": "constant"}),
    "constant, averaged weights": (AveragingTrainer, {"learning_rate": "constant"}),
    "AdamW, decay 1e-2": (AdamWTrainer, {}),
    "batches of 32, rate 2e-3": (Trainer, {"batch_size": 32, "learning_rate_init": 2e-3}),
    "batches of 8, then 32": (GrowingTrainer, {}),
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
