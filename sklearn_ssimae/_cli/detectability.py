"""``ssimae detectability``."""

from __future__ import annotations

import json
import math
import sys
from argparse import Namespace
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from sklearn_ssimae._cli.files import check_folder, load_detector
from sklearn_ssimae._writing import replacing, sha256_of
from sklearn_ssimae.datasets import list_images
from sklearn_ssimae.datasets._folders import check_good_folder
from sklearn_ssimae.inspection import DetectabilityDisplay
from sklearn_ssimae.inspection._detectability import Trials
from sklearn_ssimae.inspection._limits import FILE, NOT_DRAWN, as_size
from sklearn_ssimae.inspection._plotting import require_matplotlib

# Bounds of the classes of sizes, in pixels, whose shares of hits are printed.
_CLASSES = (0, 8, 16, 32, 64, math.inf)


def run(options: Namespace) -> int:
    """Print a table, a row for each kind of defect; write it as JSON and as a picture."""
    require_matplotlib("ssimae detectability")
    check_folder(options.good)
    check_good_folder(options.good)
    detector = load_detector(options.detector)
    trials = Trials(detector, list_images(options.good), random_state=0)
    options.output.mkdir(parents=True, exist_ok=True)
    is_complete = _run_trials(trials)
    if trials.n_images == 0:
        raise KeyboardInterrupt
    found = trials.found(options.mm_per_pixel)
    unit = "pixels" if options.mm_per_pixel is None else "mm"
    content = {
        "detector": str(options.detector),
        "sha256": sha256_of(options.detector),
        "threshold": float(detector.threshold_),
        "n_images": trials.n_images,
        "n_false_alarms": trials.n_marked,
        "complete": is_complete,
        "mm_per_pixel": options.mm_per_pixel,
        "unit": unit,
        "kinds": {kind: _as_json(values) for kind, values in found.items()},
    }
    with replacing(options.output / FILE) as file:
        file.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    _draw(DetectabilityDisplay(found=found, unit=unit), options.output / "detectability.png")
    for line in _table(content, options.mm_per_pixel or 1.0):
        print(line)
    return 0


def _run_trials(trials: Trials) -> bool:
    """Whether all images were tried; Ctrl-C ends it earlier."""
    try:
        for n_done in trials:
            print(f"\rimage {n_done} of {len(trials)}", end="", file=sys.stderr, flush=True)
    except KeyboardInterrupt:
        print("\ninterrupted: what was measured is kept", file=sys.stderr)
        return False
    print(file=sys.stderr)
    return True


def _draw(display: DetectabilityDisplay, path: Path) -> None:
    from matplotlib.figure import Figure

    # A figure of its own needs no window and no global state.
    figure = Figure(figsize=(13, 8), layout="constrained")
    display.plot(figure=figure)
    with replacing(path) as file:
        figure.savefig(file, format="png", dpi=120)


def _as_json(found: Any) -> dict[str, Any]:
    numbers = ("a50", "a90", "a90_95", "intercept", "slope")
    return {
        "n_drawn": len(found.sizes),
        "n_found": int(found.hits.sum()),
        # JSON has no nan.
        **{name: None if math.isnan(found[name]) else found[name] for name in numbers},
        **_lists(found),
        "faded": _lists(found.faded),
    }


def _lists(table: Any) -> dict[str, list[Any]]:
    sizes, contrasts = (table[name].round(4).tolist() for name in ("sizes", "contrasts"))
    return {"sizes": sizes, "contrasts": contrasts, "hits": table["hits"].tolist()}


def _table(content: dict[str, Any], unit: float) -> Iterable[str]:
    """A row for each kind: its sizes, and the share found by classes of sizes."""
    bounds = [bound * unit for bound in _CLASSES]
    classes = [f"to {bound:.3g}" for bound in bounds[1:-1]] + [f"over {bounds[-2]:.3g}"]
    yield f"sizes in {content['unit']}; share found of defects of the sizes"
    yield _row("kind", "a50", "a90", "a90/95", *classes)
    for kind, row in content["kinds"].items():
        if row["n_drawn"] == 0:
            yield f"{kind:<10} {NOT_DRAWN}"
            continue
        sizes, hits = np.array(row["sizes"]), np.array(row["hits"])
        places = np.searchsorted(bounds, sizes, side="left") - 1
        shares = [hits[places == place] for place in range(len(classes))]
        cells = [f"{share.mean():.0%}" if len(share) else "-" for share in shares]
        yield _row(kind, *(as_size(row[name]) for name in ("a50", "a90", "a90_95")), *cells)
    yield (
        f"{content['n_false_alarms']} of {content['n_images']} good images are called defective "
        "without a drawn defect"
    )


def _row(kind: str, *cells: str) -> str:
    return f"{kind:<10}" + "".join(f"{cell:>10}" for cell in cells)
