r"""
Four detectors on one texture
=============================

The four systems that the paper compares, trained on the same good images for the same number
of epochs, or for the same time: autoencoders with SSIM, with the squared error
(:math:`\ell^2`), and with the features of a pretrained network in the loss, and a
variational autoencoder. Their ROC curves over all pixels of the test images share a figure; the
table, also written as JSON, tells what they cost.

Without arguments the texture is the photograph of bricks that comes with scikit-image: the left
half is learnt from, defects are drawn into the right half. A data set in the folder layout of
MVTec AD takes its place::

    python examples/compare_detectors.py --data DIR/grid --scale 0.25 --minutes 10
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from sklearn.utils import Bunch
from textures import epochs_within, photographs

from sklearn_ssimae import (
    FMAEDetector,
    L2AutoencoderDetector,
    SSIMAutoencoderDetector,
    VAEDetector,
)
from sklearn_ssimae.datasets import load_mvtec_ad
from sklearn_ssimae.inspection import PixelCurveDisplay
from sklearn_ssimae.metrics import pixel_average_precision_score

# Colours that the colour-blind can tell apart, and styles for those who print in grey.
STYLES = {
    "SSIM": {"color": "#0072b2", "linestyle": "-"},
    "L2": {"color": "#d55e00", "linestyle": "--"},
    "VAE": {"color": "#009e73", "linestyle": "-."},
    "FM-AE": {"color": "#000000", "linestyle": ":"},
}
COLUMNS = {
    "detector": "{:<8}",
    "pixel_roc_auc": "{:>14.3f}",
    "average_precision": "{:>18.3f}",
    "epochs": "{:>7}",
    "fit_seconds": "{:>12.0f}",
    "score_seconds_per_image": "{:>24.3f}",
}


def load_images(folder: Path | None) -> Bunch:
    """Images to learn from (train), images to look for defects in (test), and their masks."""
    if folder is not None:
        resolved = folder.resolve()
        return load_mvtec_ad(resolved.parent, resolved.name)
    brick = photographs()[0]
    return Bunch(train=brick.good, test=brick.test, masks=brick.masks, DESCR="brick")


def make_detectors(options: argparse.Namespace) -> dict[str, Any]:
    parameters = {
        "scale": options.scale,
        "patch_size": options.patch_size,
        "stride": options.patch_size // 4,
        "latent_dim": options.latent_dim,
        "n_patches": options.n_patches,
        "max_iter": options.epochs,
        "precision": options.precision,
        "random_state": options.random_state,
        "verbose": 1,
        # All train for the same time, to the end of the learning rate's cycle.
        "tol": 0.0,
        "n_iter_no_change": 10**9,
        # Areas and curves need no threshold; fitting then ends with the training.
        "threshold": 1.0,
    }
    return {
        "SSIM": SSIMAutoencoderDetector(**parameters),
        "L2": L2AutoencoderDetector(**parameters),
        "VAE": VAEDetector(**parameters),
        "FM-AE": FMAEDetector(**parameters, feature_extractor=options.feature_extractor),
    }


def measure(name: str, detector: Any, images: Bunch, ax: Axes) -> dict[str, Any]:
    """The detector's line of the table. Its ROC curve is drawn."""
    started = time.perf_counter()
    detector.fit(images.train)
    fitted = time.perf_counter()
    maps = detector.transform(images.test)
    scored = time.perf_counter()
    curve = PixelCurveDisplay.from_predictions(images.masks, maps, name=name, ax=ax, **STYLES[name])
    return {
        "detector": name,
        "pixel_roc_auc": curve.area,
        "average_precision": pixel_average_precision_score(images.masks, maps),
        "epochs": detector.n_iter_,
        "fit_seconds": fitted - started,
        "score_seconds_per_image": (scored - fitted) / len(images.test),
    }


def print_table(lines: list[dict[str, Any]]) -> None:
    widths = (form[2:].split(".")[0].rstrip("}") for form in COLUMNS.values())
    print("\n" + "".join(f"{name:{width}}" for name, width in zip(COLUMNS, widths, strict=True)))
    for line in lines:
        print("".join(form.format(line[name]) for name, form in COLUMNS.items()))


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description="Four detectors on one texture.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    add("--data", type=Path, help="folder with train/good, test and ground_truth")
    add("--scale", type=float, default=0.5, help="factor that images are resized by")
    add("--patch-size", type=int, help="side of the patches in pixels (32; with --data: 128)")
    add("--latent-dim", type=int, default=100, help="size of the latent space")
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--epochs", type=int, default=10, help="epochs of training")
    length.add_argument("--minutes", type=float, help="training time of each detector")
    add("--n-patches", type=int, default=2000, help="patches an epoch")
    add("--feature-extractor", default="efficientnet_lite0", help="features of the FM-AE")
    add("--precision", choices=["float32", "bfloat16"], default="float32", help="of the network")
    add("--random-state", type=int, default=0, help="seed")
    add("--output", type=Path, default=Path("detectors.png"), help="figure; the table lies beside")
    options = parser.parse_args(arguments)
    options.patch_size = options.patch_size or (128 if options.data else 32)
    return options


def main(arguments: Sequence[str] | None = None) -> None:
    options = parse(arguments)
    images = load_images(options.data)
    print(images.DESCR, flush=True)
    figure, ax = plt.subplots(figsize=(6, 5.4), layout="constrained")
    ax.set_title(images.DESCR.split(":")[0])
    lines = []
    for name, detector in make_detectors(options).items():
        if options.minutes:
            detector.set_params(max_iter=epochs_within(options.minutes, detector, images.train))
        lines.append(measure(name, detector, images, ax))
    print_table(lines)
    figure.savefig(options.output, dpi=100)
    settings = {name: str(value) for name, value in vars(options).items()}
    table = options.output.with_suffix(".json")
    table.write_text(json.dumps({"settings": settings, "detectors": lines}, indent=2) + "\n")
    print(f"\nThe figure is {options.output}, the table {table}.")


if __name__ == "__main__":
    main()
