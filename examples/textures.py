r"""
Defects on real textures: SSIM against squared error
====================================================

Two detectors learn what one half of a texture looks like: autoencoders of the same
architecture, one trained on structural similarity (SSIM) and one on the squared error
(:math:`\ell^2`). They then look for defects drawn into the other half. The table shows the
area under the ROC curve over all pixels, the figure what both see.

Without arguments the textures are the photographs of brick, gravel and grass that come with
scikit-image. Images of your own take their place::

    python examples/textures.py --good DIR --test DIR [--masks DIR]

Folders are searched to any depth. A mask has the name of its test image, with or without
``_mask`` at the end, and lies in a sub-folder of the same name if the image lies in one; it is
black where the material is good. Test images without a mask count as good. The folders
``train/good``, ``test`` and ``ground_truth`` of MVTec AD are of this layout. Without masks, the
scores and labels of the test images are printed.
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from PIL import Image, ImageOps
from skimage import data
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning

from sklearn_ssimae import L2AutoencoderDetector, SSIMAutoencoderDetector
from sklearn_ssimae.datasets import add_synthetic_defects, list_images
from sklearn_ssimae.metrics import pixel_roc_auc_score

# Small patches train fastest, and at half their size the photographs still show every stone.
PHOTOGRAPHS = {"scale": 0.5, "patch_size": 32, "max_iter": 15}
# What is drawn in. A piece of gravel moved to another place, the kind "patch", is gravel still.
KINDS = ("scratch", "stain", "dent", "thread")
# The paper's patches.
FOLDERS = {"scale": 1.0, "patch_size": 128, "max_iter": 20}
# Epochs of fewer crops could not visit hundreds of images.
N_PATCHES = 2000
# Rows of the figure for images in folders.
N_SHOWN = 3


@dataclass
class Material:
    """Images, or paths of image files, of one material. Masks are True on defects."""

    name: str
    good: Sequence[Any]
    test: Sequence[Any]
    masks: Sequence[np.ndarray] | None
    shown: Sequence[int]


@dataclass
class Findings:
    """A fitted detector and its residual maps of the test images."""

    detector: Any
    maps: list[np.ndarray]
    seconds: float


def photographs() -> list[Material]:
    """Left halves to learn from; squares out of the right halves, with defects."""
    materials = []
    for seed, name in enumerate(("brick", "gravel", "grass")):
        left, right = np.hsplit(getattr(data, name)(), 2)
        # The photographer stood in the middle: the mirror image shows the right half's slant.
        good = [left, left[:, ::-1]]
        squares = np.vsplit(right, 2)
        test, masks = add_synthetic_defects(squares * 2, kinds=KINDS, random_state=seed)
        materials.append(Material(name, good, test, masks, shown=[0]))
    return materials


def material_in_folders(good: Path, test: Path, masks: Path | None) -> Material:
    images = list_images(test)
    truth = None if masks is None else read_masks(images, test, masks)
    candidates = [index for index in range(len(images)) if truth is None or truth[index].any()]
    places = np.linspace(0, len(candidates) - 1, min(N_SHOWN, len(candidates)))
    shown = [candidates[round(place)] for place in places]
    return Material(test.name, list_images(good), images, truth, shown)


def read_masks(images: list[str], test: Path, masks: Path) -> list[np.ndarray]:
    """Masks of the test images, False everywhere for an image that has none."""
    files = {}
    for file in list_images(masks):
        place = Path(file).relative_to(masks)
        files[place.with_name(place.stem.removesuffix("_mask"))] = file
    results = []
    for image in images:
        shape = read_image(image).shape[:2]
        file = files.pop(Path(image).relative_to(test).with_suffix(""), None)
        mask = np.zeros(shape, dtype=bool)
        if file is not None:
            mask = np.asarray(Image.open(file).convert("L")) > 0
        if mask.shape != shape:
            raise SystemExit(f"{file} has the shape {mask.shape}, its image {image} {shape}.")
        results.append(mask)
    n_defective = sum(bool(mask.any()) for mask in results)
    print(f"{n_defective} of {len(images)} test images show defects, by their masks.")
    if files:
        print(f"{len(files)} masks belong to no test image, one of them {min(files.values())}.")
    if n_defective == 0:
        raise SystemExit(f"No mask in {masks} marks a defect in an image of {test}.")
    return results


def read_image(image: str | np.ndarray) -> np.ndarray:
    if isinstance(image, np.ndarray):
        return image
    with Image.open(image) as file:
        return np.asarray(ImageOps.exif_transpose(file))


def make_detectors(options: argparse.Namespace) -> dict[str, Any]:
    """Two detectors that differ in nothing but the loss, which is also their residual."""
    defaults = FOLDERS if options.good else PHOTOGRAPHS
    given = {name: getattr(options, name) for name in defaults}
    parameters = {name: given[name] or value for name, value in defaults.items()}
    parameters |= {
        "stride": parameters["patch_size"] // 4,
        "latent_dim": options.latent_dim,
        "n_patches": options.n_patches,
        "precision": options.precision,
        "random_state": options.random_state,
        "verbose": 1,
        # Both train for the same time, to the end of the learning rate's cycle.
        "tol": 0.0,
        "n_iter_no_change": 10**9,
    }
    return {
        "SSIM": SSIMAutoencoderDetector(**parameters),
        "L2": L2AutoencoderDetector(**parameters),
    }


def epochs_within(minutes: float, detector: Any, images: Sequence[Any]) -> int:
    """How many epochs take so long, judged by an epoch that is thrown away.

    The learning rate follows a cycle, which has to know its length beforehand.
    """
    trial = clone(detector).set_params(threshold=1.0, verbose=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        # The first step of all takes longer than those that follow.
        trial.set_params(max_iter=1, n_patches=detector.batch_size).fit(images)
        started = time.perf_counter()
        trial.set_params(n_patches=detector.n_patches).partial_fit(images)
    return max(1, round(60 * minutes / (time.perf_counter() - started)))


def find_defects(detector: Any, material: Material) -> Findings:
    started = time.perf_counter()
    detector.fit(material.good)
    seconds = time.perf_counter() - started
    return Findings(detector, list(detector.transform(material.test)), seconds)


def print_areas(materials: list[Material], findings: list[dict[str, Findings]]) -> None:
    areas = [
        [pixel_roc_auc_score(material.masks, found.maps) for found in both.values()]
        for material, both in zip(materials, findings, strict=True)
    ]
    print(f"\n{'pixel ROC AUC':<20}" + "".join(f"{title:>8}" for title in findings[0]))
    names = [material.name for material in materials]
    if len(areas) > 1:
        names, areas = [*names, "mean"], [*areas, np.mean(areas, axis=0)]
    for name, row in zip(names, areas, strict=True):
        print(f"{name:<20}" + "".join(f"{area:8.3f}" for area in row))


def print_labels(material: Material, findings: dict[str, Findings]) -> None:
    """Largest residual of each image, and whether it is above the detector's threshold."""
    print("\nlargest residual" + "".join(f"{title:>18}" for title in findings))
    thresholds = [found.detector.threshold_ for found in findings.values()]
    print("threshold       " + "".join(f"{value:18.4f}" for value in thresholds))
    for index, image in enumerate(material.test):
        largest = [found.maps[index].max() for found in findings.values()]
        print(
            f"{'':16}"
            + "".join(
                f"{value:9.4f} {'defect' if value > threshold else 'good':>8}"
                for value, threshold in zip(largest, thresholds, strict=True)
            )
            + f"  {image}"
        )


def draw(materials: list[Material], findings: list[dict[str, Findings]]) -> plt.Figure:
    """Image, reconstructions, residual maps and mask, a row for each image."""
    rows = [
        (material, both, index)
        for material, both in zip(materials, findings, strict=True)
        for index in material.shown
    ]
    has_masks = rows[0][0].masks is not None
    titles = ["image", *(f"{title} reconstruction" for title in findings[0])]
    titles += [f"{title} residual" for title in findings[0]]
    titles.append("mask" if has_masks else "found by SSIM")
    aspect = np.divide(*rows[0][1]["SSIM"].maps[rows[0][2]].shape)
    fig, axes = plt.subplots(
        len(rows),
        len(titles),
        figsize=(13, 13 / len(titles) * aspect * len(rows) + 1.2),
        layout="constrained",
        squeeze=False,
    )
    for ax, title in zip(axes[0], titles, strict=True):
        ax.set_title(title)
    for row, (material, both, index) in zip(axes, rows, strict=True):
        draw_row(row, material, both, index)
    for column, name in zip(axes.T, ["", "", "", "1 − SSIM", "squared error", ""], strict=True):
        add_colour_bar(column, name)
    return fig


def draw_row(
    row: Sequence[Axes], material: Material, findings: dict[str, Findings], index: int
) -> None:
    image = material.test[index]
    shown = read_image(image)
    low, high = findings["SSIM"].detector.data_range_
    row[0].set_ylabel(material.name if isinstance(image, np.ndarray) else short_name(image))
    row[0].imshow(shown, cmap="gray", vmin=low, vmax=high)
    for column, found in enumerate(findings.values(), start=1):
        reconstruction = found.detector.reconstruct([image])[0]
        unit = np.clip((reconstruction - low) / (high - low), 0, 1)
        row[column].imshow(unit, cmap="gray", vmin=0, vmax=1)
        row[column + 2].imshow(found.maps[index], cmap="magma", vmin=0)
    ssim = findings["SSIM"]
    masks = material.masks
    mask = masks[index] if masks is not None else ssim.maps[index] > ssim.detector.threshold_
    row[5].imshow(mask, cmap="gray", vmin=0, vmax=1)
    for ax in row:
        ax.set(xticks=[], yticks=[])


def short_name(path: str) -> str:
    return "/".join(Path(path).parts[-2:])


def add_colour_bar(column: Sequence[Axes], name: str) -> None:
    """One scale for the maps of a column, and a bar below, which is seen if it has a name."""
    drawn = [ax.images[0] for ax in column]
    bar = plt.colorbar(drawn[0], ax=list(column), location="bottom", label=name, pad=0.01)
    bar.ax.set_visible(bool(name))
    if name:
        # A few extreme pixels would leave everything else dark.
        values = np.concatenate([np.ravel(image.get_array().data) for image in drawn])
        for image in drawn:
            image.set_clim(0, np.percentile(values, 99.8))


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="SSIM and L2 autoencoders on textures.")
    add = parser.add_argument
    add("--good", type=Path, help="folder of good images to learn from")
    add("--test", type=Path, help="folder of images to look for defects in")
    add("--masks", type=Path, help="folder of the test images' masks")
    add("--scale", type=float, help="factor that images are resized by (0.5; folders: 1)")
    add("--patch-size", type=int, help="side of the patches in pixels (32; folders: 128)")
    add("--latent-dim", type=int, default=100, help="size of the latent space (100)")
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--minutes", type=float, help="training time of each detector")
    length.add_argument("--max-iter", type=int, help="epochs of training (15; folders: 20)")
    add("--n-patches", type=int, default=N_PATCHES, help=f"patches an epoch ({N_PATCHES})")
    add("--precision", choices=["float32", "bfloat16"], default="float32")
    add("--random-state", type=int, default=0, help="seed (0)")
    add("--output", type=Path, default=Path("textures.png"), help="the figure (textures.png)")
    options = parser.parse_args(arguments)
    if (options.good is None) != (options.test is None):
        parser.error("--good and --test go together")
    if options.masks and not options.good:
        parser.error("--masks needs --good and --test")
    return options


def main(arguments: Sequence[str] | None = None) -> None:
    options = parse(arguments)
    if options.good:
        materials = [material_in_folders(options.good, options.test, options.masks)]
    else:
        materials = photographs()
    findings = []
    for material in materials:
        print(f"\n{material.name}", flush=True)
        detectors = make_detectors(options)
        if options.minutes:
            for detector in detectors.values():
                n_epochs = epochs_within(options.minutes, detector, material.good)
                detector.set_params(max_iter=n_epochs)
        findings.append(
            {title: find_defects(detector, material) for title, detector in detectors.items()}
        )
    if materials[0].masks is None:
        print_labels(materials[0], findings[0])
    else:
        print_areas(materials, findings)
    draw(materials, findings).savefig(options.output, dpi=100)
    total = sum(found.seconds for both in findings for found in both.values())
    print(f"\n{total:.0f} s of fitting. The figure is {options.output}.")


if __name__ == "__main__":
    main()
