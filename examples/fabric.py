r"""
Faults in woven cloth: SSIM beside squared error
================================================

Two autoencoders learn what good cloth looks like: one is trained on structural similarity (SSIM),
the other on the squared error (:math:`\ell^2`); they differ in nothing else. Then they look for
the faults of weaving: missing picks, broken ends, floats, slubs, holes, stains, foreign threads.
The table says which were found, and whether good cloth raised a false alarm; the figure shows
what both see::

    python examples/fabric.py

The cloth is made by :func:`~sklearn_ssimae.datasets.make_fabric`. Images of your own take its
place::

    python examples/fabric.py --good DIR --test DIR [--masks DIR]

Folders are searched to any depth. A mask has the name of its test image, with or without
``_mask`` at the end, and lies in a sub-folder of the same name if the image lies in one; it is
black where the material is good. Test images without a mask count as good. The folders
``train/good``, ``test`` and ``ground_truth`` of MVTec AD are of this layout. Without masks, the
scores and labels of the test images are printed.
"""

# sphinx_gallery_thumbnail_path = "images/fabric.png"
from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from PIL import Image, ImageOps

from sklearn_ssimae import L2AutoencoderDetector, SSIMAutoencoderDetector
from sklearn_ssimae.datasets import list_images, make_fabric
from sklearn_ssimae.metrics import pixel_roc_auc_score

# Small patches train fastest; these hold four repeats of the weave in each direction. Of one weave
# 16 numbers draw nearly as much as the default's 100, and leave less room for its faults. Ten
# of the forty pieces are kept for the threshold: from fewer it is more cautious. Images of one's
# own get the default fit, unless the options say otherwise.
CLOTH = {
    "patch_size": 64,
    "latent_dim": 16,
    "n_patches": 1000,
    "max_iter": 20,
    "validation_fraction": 0.25,
}
# The figure's rows: faults of the cloth, and how many images of one's own.
SHOWN_FAULTS = ("broken_end", "hole", "stain", "missing_pick")
N_SHOWN = 4
# Vermilion and blue, which the colour-blind can tell apart.
FOUND = {"colors": "#d55e00", "linestyles": "solid"}
TRUE = {"colors": "#0072b2", "linestyles": "dashed"}


@dataclass
class Material:
    """Images, or paths of image files, of one material. Masks are True on defects."""

    good: Sequence[Any]
    test: Sequence[Any]
    kinds: Sequence[str]
    masks: Sequence[np.ndarray] | None
    shown: Sequence[int]


@dataclass
class Findings:
    """A fitted detector, its residual maps of the test images, and which it calls defective."""

    detector: Any
    maps: Sequence[np.ndarray]

    @property
    def marked(self) -> np.ndarray:
        return np.array([residual.max() > self.detector.threshold_ for residual in self.maps])


def cloth() -> Material:
    """Good cloth to learn from; other pieces to test on, some with a fault, some without."""
    good = make_fabric(40, random_state=0)
    faulty = make_fabric(24, defects=True, random_state=1)
    more = make_fabric(16, random_state=2)
    return Material(
        good=good.images,
        test=np.concatenate([faulty.images, more.images]),
        kinds=faulty.kinds + more.kinds,
        masks=np.concatenate([faulty.masks, more.masks]),
        shown=[faulty.kinds.index(kind) for kind in SHOWN_FAULTS],
    )


def material_in_folders(good: Path, test: Path, masks: Path | None) -> Material:
    images = list_images(test)
    truth = None if masks is None else read_masks(images, test, masks)
    candidates = [index for index in range(len(images)) if truth is None or truth[index].any()]
    places = np.linspace(0, len(candidates) - 1, min(N_SHOWN, len(candidates)))
    return Material(
        good=list_images(good),
        test=images,
        kinds=[Path(image).parent.name for image in images],
        masks=truth,
        shown=[candidates[round(place)] for place in places],
    )


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
    parameters = {} if options.good else dict(CLOTH)
    for name in ("scale", "patch_size", "n_patches", "max_iter"):
        if getattr(options, name) is not None:
            parameters[name] = getattr(options, name)
    # To the end of the learning rate's cycle; on the cloth both train for as long.
    parameters |= {"n_iter_no_change": 10**9, "random_state": options.random_state, "verbose": 1}
    return {
        "SSIM": SSIMAutoencoderDetector(**parameters),
        "L2": L2AutoencoderDetector(**parameters),
    }


def find_defects(detector: Any, material: Material) -> Findings:
    detector.fit(material.good)
    return Findings(detector, detector.transform(material.test))


def judge(material: Material, found: Findings) -> dict[str, str]:
    """The lines of the table, by their titles."""
    is_bad = np.array([mask.any() for mask in material.masks])
    kinds = np.array(material.kinds)
    area = pixel_roc_auc_score(material.masks, found.maps)
    lines = {"pixel ROC AUC": f"{area:.3f}", "found": share(found.marked[is_bad])}
    for kind in sorted(set(kinds[is_bad])):
        lines[f"  {kind}"] = share(found.marked[is_bad & (kinds == kind)])
    if not is_bad.all():
        lines["false alarms"] = share(found.marked[~is_bad])
    return lines


def share(marked: np.ndarray) -> str:
    return f"{marked.sum()} of {len(marked)}"


def print_table(judgements: dict[str, dict[str, str]]) -> None:
    print(f"\n{'':<20}" + "".join(f"{title:>12}" for title in judgements))
    for line in next(iter(judgements.values())):
        print(f"{line:<20}" + "".join(f"{lines[line]:>12}" for lines in judgements.values()))


def print_labels(material: Material, findings: dict[str, Findings]) -> None:
    """Largest residual of each image, and whether it is above the detector's threshold."""
    print("\nlargest residual" + "".join(f"{title:>18}" for title in findings))
    thresholds = [found.detector.threshold_ for found in findings.values()]
    print("threshold       " + "".join(f"{value:18.4f}" for value in thresholds))
    for index, image in enumerate(material.test):
        cells = (
            f"{found.maps[index].max():9.4f} {'defect' if found.marked[index] else 'good':>8}"
            for found in findings.values()
        )
        print(" " * 16 + "".join(cells) + f"  {image}")


def draw(
    material: Material, findings: dict[str, Findings], judgements: dict[str, dict[str, str]]
) -> plt.Figure:
    """A row for each image: what both detectors redraw, where it differs, what they mark."""
    n_rows, n_columns = len(material.shown), 1 + 2 * len(findings)
    aspect = np.divide(*findings["SSIM"].maps[material.shown[0]].shape)
    fig, axes = plt.subplots(
        n_rows,
        n_columns,
        figsize=(11, 11 / n_columns * aspect * n_rows + 1.9),
        layout="constrained",
        squeeze=False,
    )
    fig.suptitle(
        "Autoencoders that learnt good material redraw what they know.\n"
        "Where the image differs from that, the map is bright.",
    )
    axes[0, 0].set_title("image", fontsize=10)
    for column, (title, lines) in enumerate(judgements.items()):
        axes[0, 1 + 2 * column].set_title(f"{title} redraws", fontsize=10)
        axes[0, 2 + 2 * column].set_title(f"{title} marks\n{in_short(lines)}", fontsize=10)
    for row, index in zip(axes, material.shown, strict=True):
        draw_row(row, material, findings, index)
    bar = fig.colorbar(
        axes[-1, -1].images[0], ax=axes, location="bottom", shrink=0.5, aspect=50, extend="max"
    )
    bar.set_label("map; the threshold is 1")
    handles = [Line2D([], [], color=FOUND["colors"], label="found: above the threshold")]
    if material.masks is not None:
        handles.append(Line2D([], [], color=TRUE["colors"], linestyle="dashed", label="true"))
    fig.legend(handles=handles, loc="lower left", frameon=False)
    return fig


def in_short(lines: dict[str, str]) -> str:
    """The heads of the table: area and share of the defective images."""
    return f"AUC {lines['pixel ROC AUC']}, {lines['found']}" if lines else ""


def draw_row(
    row: Sequence[Axes], material: Material, findings: dict[str, Findings], index: int
) -> None:
    image = material.test[index]
    low, high = findings["SSIM"].detector.data_range_
    row[0].imshow(read_image(image), cmap="gray", vmin=low, vmax=high)
    row[0].set_ylabel(material.kinds[index].replace("_", " "))
    for redrawn, marked, found in zip(row[1::2], row[2::2], findings.values(), strict=True):
        reconstruction = found.detector.reconstruct([image])[0]
        unit = np.clip((reconstruction - low) / (high - low), 0, 1)
        redrawn.imshow(unit, cmap="gray", vmin=0, vmax=1)
        # Beside the threshold, so that one scale holds for detectors of different residuals.
        residual = found.maps[index] / found.detector.threshold_
        marked.imshow(residual, cmap="cividis", vmin=0, vmax=2)
        outline(marked, residual > 1, FOUND)
        if material.masks is not None:
            outline(marked, material.masks[index], TRUE)
    for ax in row:
        ax.set(xticks=[], yticks=[])


def outline(ax: Axes, mask: np.ndarray, style: dict[str, str]) -> None:
    if mask.any():  # matplotlib warns of a contour that is nowhere
        ax.contour(mask, levels=[0.5], colors="white", linewidths=2.4)
        ax.contour(mask, levels=[0.5], linewidths=1.6, **style)


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="SSIM and L2 autoencoders on cloth.")
    add = parser.add_argument
    add("--good", type=Path, help="folder of good images to learn from")
    add("--test", type=Path, help="folder of images to look for defects in")
    add("--masks", type=Path, help="folder of the test images' masks")
    add("--scale", type=float, help="factor that images are resized by (1)")
    add("--patch-size", type=int, help="side of the patches in pixels (64; folders: 128)")
    add("--n-patches", type=int, help="patches an epoch")
    add("--max-iter", type=int, help="epochs of training")
    add("--random-state", type=int, default=0, help="seed (0)")
    add("--output", type=Path, default=Path("fabric.png"), help="the figure (fabric.png)")
    options = parser.parse_args(arguments)
    if (options.good is None) != (options.test is None):
        parser.error("--good and --test go together")
    if options.masks and not options.good:
        parser.error("--masks needs --good and --test")
    return options


def main(arguments: Sequence[str] | None = None) -> None:
    options = parse(arguments)
    if options.good:
        material = material_in_folders(options.good, options.test, options.masks)
    else:
        material = cloth()
    started = time.perf_counter()
    findings = {}
    for title, detector in make_detectors(options).items():
        print(f"\n{title} learns from {len(material.good)} good images", flush=True)
        findings[title] = find_defects(detector, material)
    if material.masks is None:
        judgements = {title: {} for title in findings}
        print_labels(material, findings)
    else:
        judgements = {title: judge(material, found) for title, found in findings.items()}
        print_table(judgements)
    draw(material, findings, judgements).savefig(options.output, dpi=80)
    seconds = time.perf_counter() - started
    print(f"\n{seconds:.0f} s of learning and looking. The figure is {options.output}.")


if __name__ == "__main__":
    main()
