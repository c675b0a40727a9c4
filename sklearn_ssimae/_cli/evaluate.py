"""``ssimae evaluate``."""

from __future__ import annotations

import json
import math
from argparse import Namespace
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.metrics import roc_auc_score

from sklearn_ssimae._cli.files import check_folder, load_detector
from sklearn_ssimae._writing import replacing
from sklearn_ssimae.datasets import load_mvtec_ad
from sklearn_ssimae.metrics import (
    located_images,
    pixel_average_precision_score,
    pixel_roc_auc_score,
    pro_auc_score,
)

AREAS = {
    "pixel_roc_auc": "pixel AUC",
    "average_precision": "AP",
    "pro_auc": "PRO",
    "image_roc_auc": "image AUC",
}


def run(options: Namespace) -> int:
    """Print a table of figures, a row a category, and store it as JSON if that is wanted."""
    detector = load_detector(options.detector)
    root, names = find_categories(options.data, options.category)
    categories = {name: load_mvtec_ad(root, name) for name in names}
    rows = []
    with replacing(options.json) if options.json else nullcontext() as file:
        print(
            table_row("category", *AREAS.values(), "found", "located", "false alarms"), flush=True
        )
        for name, data in categories.items():
            rows.append({"category": name, **evaluate(detector, data)})
            print(format_figures(rows[-1]), flush=True)
        if elsewhere := found_elsewhere(rows):
            print(elsewhere)
        if file:
            content = {"detector": str(options.detector), "categories": rows}
            file.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    return 0


def find_categories(folder: Path, wanted: Sequence[str] | None) -> tuple[Path, list[str]]:
    """The folder of the categories, and their names."""
    check_folder(folder)
    if (folder / "test").is_dir() and not wanted:
        folder = folder.resolve()
        return folder.parent, [folder.name]
    names = wanted or sorted(path.parent.name for path in folder.glob("*/test"))
    if not names:
        raise ValueError(
            f"{str(folder)!r} is laid out neither as a category (train/good, test/TYPE, "
            "ground_truth/TYPE) nor as a folder of categories."
        )
    return folder, list(names)


def evaluate(detector: Any, data: Any) -> dict[str, Any]:
    """Figures of a detector; None for those that need images of both kinds, if one is missing."""
    maps = detector.transform(data.test)
    largest = np.array([residual.max() for residual in maps])
    is_marked = largest > detector.threshold_
    is_defective = data.target == -1
    has_both = is_defective.any() and not is_defective.all()
    figures = {
        "pixel_roc_auc": pixel_roc_auc_score(data.masks, maps),
        "average_precision": pixel_average_precision_score(data.masks, maps),
        "pro_auc": pro_auc_score(data.masks, maps),
        "image_roc_auc": roc_auc_score(is_defective, largest) if has_both else math.nan,
    }
    return {
        # JSON has no nan.
        **{name: None if math.isnan(area) else float(area) for name, area in figures.items()},
        "n_found": int(is_marked[is_defective].sum()),
        "n_located": sum(
            located_images(data.masks, [residual > detector.threshold_ for residual in maps])
        ),
        "n_defective": int(is_defective.sum()),
        "n_false_alarms": int(is_marked[~is_defective].sum()),
        "n_good": int((~is_defective).sum()),
        "threshold": float(detector.threshold_),
    }


def format_figures(row: dict[str, Any]) -> str:
    areas = ["-" if row[name] is None else f"{row[name]:.4f}" for name in AREAS]
    found = f"{row['n_found']} of {row['n_defective']}"
    located = f"{row['n_located']} of {row['n_defective']}"
    false_alarms = f"{row['n_false_alarms']} of {row['n_good']}"
    return table_row(row["category"], *areas, found, located, false_alarms)


def found_elsewhere(rows: Sequence[dict[str, Any]]) -> str:
    """How many images are found and not located, in words; nothing if there are none."""
    n_images = sum(row["n_found"] - row["n_located"] for row in rows)
    if n_images == 0:
        return ""
    images_were, their = ("image was", "its") if n_images == 1 else ("images were", "their")
    return f"{n_images} {images_were} called defective for something that is not {their} defect"


def table_row(category: str, *cells: str) -> str:
    return f"{category:<14}" + "".join(f"{cell:>13}" for cell in cells)
