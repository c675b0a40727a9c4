"""Areas and seconds of a fitted detector at several strides, as JSON lines and as a picture::

    python docs/benchmarks/detection.py DATA/grid --detectors ssim --output KEPT
    python docs/benchmarks/strides.py DATA/grid KEPT/DETECTOR.joblib --json strides.jsonl
    python docs/benchmarks/strides.py --draw strides.jsonl --output docs/images/strides.png

Seconds are those of one thread's processor time for one image.
"""

import argparse
import json
import time
from pathlib import Path

import joblib
import matplotlib.pyplot as plt
import torch

from sklearn_ssimae.datasets import load_mvtec_ad
from sklearn_ssimae.metrics import pixel_average_precision_score, pixel_roc_auc_score

STRIDES = (16, 30, 48, 64, 96, 128)


def measure(folder: Path, stored: Path, output: Path) -> None:
    torch.set_num_threads(1)
    data = load_mvtec_ad(folder.parent, folder.name)
    detector = joblib.load(stored)
    for stride in STRIDES:
        detector.set_params(stride=stride)
        started = time.process_time()
        maps = detector.transform(data.test)
        seconds = time.process_time() - started
        row = {
            "data": folder.name,
            "stride": stride,
            "pixel_roc_auc": round(pixel_roc_auc_score(data.masks, maps), 4),
            "average_precision": round(pixel_average_precision_score(data.masks, maps), 4),
            "cpu_seconds": round(seconds / len(maps), 4),
        }
        print(json.dumps(row), flush=True)
        with output.open("a") as file:
            print(json.dumps(row), file=file)


def draw(rows: list[dict], output: Path) -> None:
    """Areas against seconds, a line for each material, the default stride filled."""
    fig, axes = plt.subplots(1, 2, figsize=(9, 3.4), layout="constrained", sharex=True)
    titles = {"pixel_roc_auc": "pixel ROC AUC", "average_precision": "average precision"}
    for ax, (name, title) in zip(axes, titles.items(), strict=True):
        for material, marker in zip(
            dict.fromkeys(row["data"] for row in rows), "osd^", strict=False
        ):
            own = [row for row in rows if row["data"] == material]
            x, y = [row["cpu_seconds"] for row in own], [row[name] for row in own]
            filled = [row["stride"] == 64 for row in own]
            (line,) = ax.plot(x, y, marker=marker, fillstyle="none", label=material)
            ax.plot(x[filled.index(True)], y[filled.index(True)], marker, color=line.get_color())
            for row in own:
                place = row["cpu_seconds"], row[name]
                ax.annotate(
                    f"{row['stride']}", place, (0, 5), textcoords="offset points", fontsize=8
                )
        ax.margins(0.08, 0.12)
        ax.set(xscale="log", xlabel="CPU seconds an image, one thread", title=title)
    axes[0].legend(frameon=False)
    fig.savefig(output, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, nargs="?", help="data of MVTec AD's layout")
    parser.add_argument("stored", type=Path, nargs="?", help="a fitted detector, joblib")
    parser.add_argument("--json", type=Path, help="file that rows are appended to")
    parser.add_argument("--draw", type=Path, help="rows to draw, in place of measuring")
    parser.add_argument("--output", type=Path, default=Path("strides.png"))
    args = parser.parse_args()
    if args.draw:
        draw([json.loads(line) for line in args.draw.read_text().splitlines()], args.output)
    else:
        measure(args.folder, args.stored, args.json)


if __name__ == "__main__":
    main()
