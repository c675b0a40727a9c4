"""Is what `detectability` says of drawn defects true of real ones?

Counts the real defects that trained detectors locate, by size, beside what the curve of the nearest
drawn kind says of defects of the same sizes; and the false alarms on the good test images. The
defects are drawn into those. DATA holds categories in the layout of MVTec AD, and each
detector's file is named after its category::

    python docs/benchmarks/real_defects.py DATA detectors/grid.skops detectors/paper.skops

One thread, about two minutes of a core a category. The figures are in `real_defects.json`, beside
this script; a run renews those of its categories and leaves the others, then prints a table, fills
that of `docs/misses.md`, and draws `docs/images/real_defects.png`. Without arguments it does
these three alone.
"""

import json
import math
from argparse import ArgumentParser
from collections import defaultdict
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from figures import fill
from matplotlib.ticker import FixedLocator, NullLocator, ScalarFormatter
from scipy.stats import binomtest

from sklearn_ssimae._cli.files import load_detector
from sklearn_ssimae.datasets import load_mvtec_ad
from sklearn_ssimae.inspection import detectability
from sklearn_ssimae.inspection._pod import Curve

FIGURES = Path(__file__).with_suffix(".json")
DOCS = Path(__file__).parents[1]
PICTURE, PAGE = DOCS / "images" / "real_defects.png", DOCS / "misses.md"
# Classes of sizes: square roots of the areas of the true masks, in pixels.
BOUNDS = (0, 8, 16, 32, 64, math.inf)
# The kind that looks most like real defects of a category, or of a type of them.
NEAREST = {
    "grid/type0": "dent",  # bent wires
    "grid/type1": "patch",  # broken wires: another part of the pattern
    "grid/type2": "stain",  # glue
    "grid/type3": "lump",  # pieces of metal
    "grid/type4": "thread",
    "paper": "lump",  # dark specks
    "fabric": "scratch",  # lines along the weft, and specks
    "leather": "dent",  # folds, pressed and smooth spots, cuts, holes
    "ksdd": "scratch",  # cracks
}
OTHERWISE = "stain"
BLUE, GREY = "#0072b2", "#cccccc"


def measure(file: Path, data: Path) -> dict:
    """Sizes of the real defects and whether they are located, false alarms, and the curves."""
    name = file.stem
    detector = load_detector(file)
    images = load_mvtec_ad(data, name)
    is_good = np.asarray(images.target) == 1
    real = defaultdict(lambda: {"sizes": [], "hits": []})
    n_alarms = 0
    for index, residual in enumerate(detector.transform(images.test)):
        marked = residual > detector.threshold_
        if is_good[index]:
            n_alarms += bool(marked.any())
            continue
        # All of an image's mask is one defect: masks break a thread or a wire into pieces.
        mask = np.asarray(images.masks[index], dtype=bool)
        rows = real[Path(images.test[index]).parent.name]
        rows["sizes"].append(round(math.sqrt(mask.sum()), 1))
        rows["hits"].append(bool(marked[mask].any()))
    good = [path for path, is_one in zip(images.test, is_good, strict=True) if is_one]
    drawn = detectability(detector, good, random_state=0)
    return {
        "category": name,
        "threshold": round(float(detector.threshold_), 4),
        "patch_size": detector.network_.config["patch_size"] / detector.scale,
        "good": len(good),
        "false_alarms": n_alarms,
        "real": real,
        "drawn": {kind: as_json(found) for kind, found in drawn.items()},
    }


def as_json(found) -> dict:
    """A curve, and what it rests on. JSON has no nan."""
    curve = {name: float(found[name]) for name in Curve._fields}
    return {
        **{name: None if math.isnan(value) else round(value, 3) for name, value in curve.items()},
        "drawn": len(found.sizes),
        "found": int(found.hits.sum()),
        "smallest": round(float(found.sizes.min()), 1) if len(found.sizes) else None,
        "largest": round(float(found.sizes.max()), 1) if len(found.sizes) else None,
        "contrast": round(float(np.median(found.contrasts)), 3) if len(found.sizes) else None,
    }


def share_said(row: dict, sizes: np.ndarray) -> np.ndarray:
    """What the curve of a kind says; beyond the sizes that were drawn, what it says at the end."""
    if row["slope"] is None:
        return np.zeros(len(sizes))
    curve = Curve(row["intercept"], row["slope"], *[math.nan] * 3)
    return curve(np.clip(sizes, row["smallest"], row["largest"]))


def classes(category: dict) -> list[dict]:
    """For each class of sizes the real defects, those located, and the share that is said."""
    sizes, hits, said = [], [], []
    for type_, rows in category["real"].items():
        name = category["category"]
        kind = NEAREST.get(f"{name}/{type_}", NEAREST.get(name, OTHERWISE))
        sizes += rows["sizes"]
        hits += rows["hits"]
        said += share_said(category["drawn"][kind], np.array(rows["sizes"])).tolist()
    places = np.searchsorted(BOUNDS, sizes, side="left") - 1
    found = []
    for place, (low, high) in enumerate(pairwise(BOUNDS)):
        chosen = places == place
        if n := int(chosen.sum()):
            n_hits = int(np.array(hits)[chosen].sum())
            interval = binomtest(n_hits, n).proportion_ci(method="wilson")
            found.append(
                {
                    "class": f"{low:g}-{high:g}" if high < math.inf else f"over {low:g}",
                    "size": float(np.exp(np.log(np.array(sizes)[chosen]).mean())),
                    "n": n,
                    "hits": n_hits,
                    "interval": (interval.low, interval.high),
                    "said": float(np.array(said)[chosen].mean()),
                }
            )
    return found


def table(categories: list[dict]) -> Iterator[list[str]]:
    """Located of all by class of sizes, and the share that is said."""
    names = [f"{low:g}-{high:g}" for low, high in pairwise(BOUNDS)]
    names[-1] = f"over {BOUNDS[-2]:g}"
    yield ["material", *names, "all", "false alarms"]
    for category in categories:
        rows = {row["class"]: row for row in classes(category)}
        n, hits = (sum(row[key] for row in rows.values()) for key in ("n", "hits"))
        said = sum(row["n"] * row["said"] for row in rows.values()) / n
        rows["all"] = {"n": n, "hits": hits, "said": said}
        alarms = f"{category['false_alarms']}/{category['good']}"
        cells = [cell(rows[name]) if name in rows else "" for name in (*names, "all")]
        yield [category["category"], *cells, alarms]


def cell(row: dict) -> str:
    return f"{row['hits']}/{row['n']}, {100 * row['said']:.0f} %"


def draw(categories: list[dict]) -> None:
    n_columns = min(3, len(categories) + 1)
    n_rows = -(-(len(categories) + 1) // n_columns)
    figure, axes = plt.subplots(
        n_rows,
        n_columns,
        figsize=(3.2 * n_columns, 2.7 * n_rows),
        layout="constrained",
        squeeze=False,
        sharey=True,
    )
    for ax, category in zip(axes.ravel(), categories, strict=False):
        draw_category(ax, category)
    handles, labels = axes[0, 0].get_legend_handles_labels()
    for ax in axes.ravel()[len(categories) :]:
        ax.axis("off")
    axes.ravel()[len(categories)].legend(handles, labels, loc="center", frameon=False)
    figure.savefig(PICTURE, dpi=100)
    plt.close(figure)


def draw_category(ax, category: dict) -> None:
    rows = classes(category)
    sizes = np.array([row["size"] for row in rows])
    at = np.geomspace(sizes.min() / 1.3, sizes.max() * 1.3, 100)
    curves = np.array([share_said(row, at) for row in category["drawn"].values() if row["drawn"]])
    ax.fill_between(at, curves.min(0), curves.max(0), color=GREY, label="all drawn kinds", lw=0)
    said = [row["said"] for row in rows]
    ax.plot(sizes, said, "s", mfc="none", color=BLUE, ms=8, label="said: nearest drawn kind")
    shares = np.array([row["hits"] / row["n"] for row in rows])
    errors = np.abs(np.array([row["interval"] for row in rows]).T - shares)
    ax.errorbar(sizes, shares, errors, fmt="ko", label="real defects, with 95 % interval")
    for row, share in zip(rows, shares, strict=True):
        ax.annotate(
            row["n"], (row["size"], share), xytext=(6, -3), textcoords="offset points", fontsize=8
        )
    ax.set(title=category["category"], xscale="log", ylim=(-0.05, 1.08))
    ax.set(xlabel="size: pixels", ylabel="share located")
    ax.xaxis.set_major_locator(FixedLocator([4, 8, 16, 32, 64, 128]))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.xaxis.set_major_formatter(ScalarFormatter())


def main() -> None:
    parser = ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("data", type=Path, nargs="?", help="folder of the categories")
    parser.add_argument("detectors", type=Path, nargs="*", help="CATEGORY.skops or .joblib")
    options = parser.parse_args()
    stored = json.loads(FIGURES.read_text(encoding="utf-8")) if FIGURES.exists() else []
    by_name = {category["category"]: category for category in stored}
    for file in options.detectors:
        by_name[file.stem] = measure(file, options.data)
        lines = ",\n".join(map(json.dumps, by_name.values()))
        FIGURES.write_text(f"[\n{lines}\n]\n", encoding="utf-8")
    rows = list(table(list(by_name.values())))
    for cells in rows:
        print(*cells, sep=" | ")
    fill(PAGE, "real_defects", rows)
    draw(list(by_name.values()))


if __name__ == "__main__":
    main()
