"""Whether what `detectability` states is true.

Without arguments: detectors of known curves are simulated, and it is counted how often the bound
a90/95 holds; a table, a row for each steepness. It takes some minutes.

With a detector's file and a category in the layout of MVTec AD: the share of real defects that are
found, by classes of sizes, beside the share of drawn ones, in a table and a picture:

    python docs/benchmarks/detectability.py --detector grid.skops DATA/grid
"""

from __future__ import annotations

import math
from argparse import ArgumentParser
from itertools import pairwise
from pathlib import Path

import numpy as np
from scipy.special import expit, logit
from skimage.measure import label, regionprops
from sklearn.utils import Bunch

from sklearn_ssimae._cli.files import load_detector
from sklearn_ssimae.datasets import list_images, load_mvtec_ad
from sklearn_ssimae.inspection import detectability
from sklearn_ssimae.inspection._pod import Curve, fit_curve

# Half of what the simulated detectors find, in pixels; sizes and number of the defects.
A50, SIZES, N_DEFECTS = 12.0, (3.0, 110.0), 120
CLASSES = (0, 8, 16, 32, 64, 128, math.inf)


def simulate(n_seeds: int) -> None:
    """Print how often a90/95 is at least the size that is truly found in 90 % of cases."""
    print("slope   true a90   bound holds   no bound   bound / true a90 (median)")
    for slope in (1.5, 3, 6, 15):
        truth = A50 * np.exp(logit(0.9) / slope)
        random = np.random.default_rng(int(10 * slope))
        bounds = np.array([_bound(random, slope) for _ in range(n_seeds)])
        has_none = np.isnan(bounds)
        holds = (has_none | (bounds >= truth)).mean()
        print(
            f"{slope:5}   {truth:8.1f}   {holds:11.1%}   {has_none.mean():8.1%}   "
            f"{np.nanmedian(bounds) / truth:.2f}",
            flush=True,
        )


def _bound(random: np.random.Generator, slope: float) -> float:
    sizes = np.exp(random.uniform(*np.log(SIZES), N_DEFECTS))
    hits = random.uniform(size=N_DEFECTS) < expit(slope * np.log(sizes / A50))
    return fit_curve(sizes, hits).a90_95


def real_defects(detector: object, category: Path) -> tuple[np.ndarray, np.ndarray]:
    """Sizes of the regions of the true masks, and whether a pixel of them is marked."""
    data = load_mvtec_ad(category.parent, category.name)
    marked = detector.segment(data.test)
    sizes, hits = [], []
    for mask, found in zip(data.masks, marked, strict=True):
        regions = label(mask, connectivity=2)
        for region in regionprops(regions):
            sizes.append(math.sqrt(region.area))
            hits.append(bool(found[tuple(region.coords.T)].any()))
    return np.array(sizes), np.array(hits, dtype=bool)


def compare(detector: object, good: list[str], category: Path, picture: Path) -> None:
    """Print and draw the share found by classes of sizes: real defects, and each drawn kind."""
    drawn = detectability(detector, good, random_state=0)
    sizes, hits = real_defects(detector, category)
    rows = {kind: (found.sizes, found.hits) for kind, found in drawn.items()}
    rows = {"real": (sizes, hits), **rows}
    names = [f"{low:g}-{high:g}" for low, high in pairwise(CLASSES)]
    print(f"{'share found':<12}" + "".join(f"{name:>14}" for name in names))
    for kind, (of_kind, found) in rows.items():
        places = np.searchsorted(CLASSES, of_kind, side="left") - 1
        cells = [_cell(found[places == place]) for place in range(len(names))]
        print(f"{kind:<12}" + "".join(f"{cell:>14}" for cell in cells))
    _draw(drawn, sizes, hits, picture)


def _cell(hits: np.ndarray) -> str:
    return f"{hits.mean():.0%} of {len(hits)}" if len(hits) else "-"


def _draw(drawn: dict[str, Bunch], sizes: np.ndarray, hits: np.ndarray, picture: Path) -> None:
    import matplotlib.pyplot as plt

    figure, ax = plt.subplots(figsize=(7, 4.5), layout="constrained")
    for kind, found in drawn.items():
        if np.isfinite(found.slope):
            at = np.geomspace(found.sizes.min(), found.sizes.max(), 100)
            ax.plot(at, Curve(*(found[name] for name in Curve._fields))(at), label=kind, lw=1)
    bins = np.array_split(np.argsort(sizes), max(1, len(sizes) // 10))
    middles = [np.exp(np.log(sizes[chosen]).mean()) for chosen in bins]
    ax.plot(middles, [hits[chosen].mean() for chosen in bins], "ko", label="real defects")
    ax.set(xscale="log", xlabel="size: square root of the area in pixels", ylabel="share found")
    ax.legend(fontsize="small")
    figure.savefig(picture, dpi=120)


def main() -> None:
    parser = ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seeds", type=int, default=1000, help="simulated detectors a row")
    parser.add_argument("--detector", type=Path, help="file of a trained detector")
    parser.add_argument("--good", type=Path, help="folder of good images for the drawn defects")
    parser.add_argument("--picture", type=Path, default=Path("detectability_real.png"))
    parser.add_argument("category", type=Path, nargs="?", help="with real defects")
    options = parser.parse_args()
    if options.detector is None:
        simulate(options.seeds)
        return
    good = list_images(options.good or options.category / "test" / "good")
    compare(load_detector(options.detector), good, options.category, options.picture)


if __name__ == "__main__":
    main()
