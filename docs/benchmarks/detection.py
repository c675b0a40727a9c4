"""How well do the detectors detect? Trains them on a data set and scores its test images.

The data set is a folder in the layout of MVTec AD. Prints a table, and stores it as JSON
beside the detectors and a figure of the defective images that each does worst and best on::

    python docs/benchmarks/detection.py DATA/grid --set scale=0.5
    python docs/benchmarks/detection.py DATA/nanotwice --set latent_dim=500 --minutes 20

"found" and "false alarms" are the shares of the defective and of the good images that `predict`
calls defective; "located" is the share of the defective ones in which a marked pixel lies on the
defect. Without --minutes a fit is the detector's default one. Maps need no new fit:
--also scores the same network with other parameters, one row each::

    python docs/benchmarks/detection.py DATA/grid --set scale=0.5 --detectors ssim \
        --also smoothing=0 --also smoothing=8,window_size=19

and --again scores the detectors that an earlier run left in --output, with what --set says.

The masks of the test images measure; nothing is fitted or chosen by them here.
"""

import argparse
import ast
import copy
import json
import resource
import time
from pathlib import Path

import joblib
import matplotlib.pyplot as plt
import numpy as np
import torch
from sklearn.metrics import roc_auc_score

from sklearn_ssimae._cli.files import DETECTORS
from sklearn_ssimae._cli.train import epochs_within
from sklearn_ssimae.datasets import load_mvtec_ad
from sklearn_ssimae.inspection import ResidualMapDisplay
from sklearn_ssimae.metrics import (
    located_score,
    pixel_average_precision_score,
    pixel_roc_auc_score,
    pro_auc_score,
)

COLUMNS = {
    "detector": "{:>8}",
    "seed": "{:>4}",
    "pixel_roc_auc": "{:>13.4f}",
    "average_precision": "{:>17.3f}",
    "pro_auc": "{:>7.3f}",
    "image_roc_auc": "{:>13.3f}",
    "found": "{:>6.3f}",
    "located": "{:>8.3f}",
    "false_alarms": "{:>12.3f}",
    "crops": "{:>7}",
    "fit_seconds": "{:>11.0f}",
    "fit_cpu_seconds": "{:>15.0f}",
    "score_seconds_per_image": "{:>23.3f}",
    "parameters": "  {}",
}
# The defective images of the figure: so many from either end.
N_SHOWN = 3


def parse_parameters(text):
    """{'scale': 0.5, 'window': 'gaussian'} of "scale=0.5,window=gaussian"."""
    parameters = {}
    for assignment in filter(None, text.split(",")):
        name, value = assignment.split("=")
        try:
            parameters[name] = ast.literal_eval(value)
        except (ValueError, SyntaxError):
            parameters[name] = value
    return parameters


def evaluate(detector, data):
    """Figures of a fitted detector, and the ROC AUC of each defective image."""
    started = time.perf_counter()
    maps = detector.transform(data.test)
    seconds = time.perf_counter() - started
    labels = np.asarray(data.target) == -1
    both = labels.any() and not labels.all()
    largest = np.array([residual.max() for residual in maps])
    marked = largest > detector.threshold_
    figures = {
        "pixel_roc_auc": pixel_roc_auc_score(data.masks, maps),
        "average_precision": pixel_average_precision_score(data.masks, maps),
        "pro_auc": pro_auc_score(data.masks, maps),
        "image_roc_auc": roc_auc_score(labels, largest) if both else np.nan,
        "found": marked[labels].mean(),
        "located": located_score(data.masks, [values > detector.threshold_ for values in maps]),
        "false_alarms": marked[~labels].mean() if both else np.nan,
        "score_seconds_per_image": seconds / len(data.test),
    }
    defective = np.flatnonzero(labels)
    areas = [pixel_roc_auc_score([data.masks[i]], [maps[i]]) for i in defective]
    return figures, dict(zip(defective.tolist(), areas, strict=True))


def draw(detector, data, areas, path):
    """The defective images with the least and the largest area, worst first."""
    ranked = sorted(areas, key=areas.get)
    shown = ranked if len(ranked) <= 2 * N_SHOWN else ranked[:N_SHOWN] + ranked[-N_SHOWN:]
    display = ResidualMapDisplay.from_estimator(
        detector, [data.test[i] for i in shown], [data.masks[i] for i in shown]
    )
    for axes, index in zip(display.axes_, shown, strict=True):
        name = Path(data.test[index])
        axes[0].set_ylabel(f"{name.parent.name}/{name.stem}\nAUC {areas[index]:.3f}")
    display.figure_.savefig(path, dpi=70)
    plt.close(display.figure_)


def print_row(row):
    print("  ".join(form.format(row[name]) for name, form in COLUMNS.items()), flush=True)


def cpu_seconds():
    return resource.getrusage(resource.RUSAGE_SELF).ru_utime


def fit(name, seed, options, data):
    """A detector, and what its fit took."""
    detector = DETECTORS[name](random_state=seed, **options.set)
    if options.minutes:
        n_epochs = epochs_within(60 * options.minutes, detector, data.train)
        # Trained to the end of the learning rate's cycle.
        detector.set_params(max_iter=n_epochs, n_iter_no_change=n_epochs)
    started, cpu_started = time.perf_counter(), cpu_seconds()
    detector.set_params(verbose=1).fit(data.train)
    figures = {
        "detector": name,
        "seed": seed,
        "crops": detector.n_iter_ * detector.n_patches,
        "fit_seconds": time.perf_counter() - started,
        "fit_cpu_seconds": cpu_seconds() - cpu_started,
        "loss": detector.loss_curve_[-1],
        "set": {name: str(value) for name, value in options.set.items()},
    }
    return detector, figures


def run(name, seed, options, data):
    """Rows of one fit: its own, and one for each --also."""
    stem = options.output / f"{data.name}-{name}-{seed}"
    if options.again:
        detector = joblib.load(f"{stem}.joblib").set_params(**options.set)
        fitted = json.loads(Path(f"{stem}.json").read_text())
    else:
        detector, fitted = fit(name, seed, options, data)
        joblib.dump(detector, f"{stem}.joblib")
        Path(f"{stem}.json").write_text(json.dumps(fitted, indent=2) + "\n")
    rows = []
    for parameters in [{}, *options.also]:
        known = parameters.keys() & detector.get_params().keys()
        if known or not parameters:
            scorer = copy.copy(detector).set_params(**{key: parameters[key] for key in known})
            figures, areas = evaluate(scorer, data)
            shown = ",".join(f"{key}={value}" for key, value in parameters.items())
            rows.append({**fitted, **figures, "parameters": shown})
            print_row(rows[-1])
            if not parameters:
                draw(scorer, data, areas, f"{stem}.png")
    return rows


def parse(arguments=None):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("folder", type=Path, help="category in the layout of MVTec AD")
    add("--detectors", nargs="+", choices=DETECTORS, default=list(DETECTORS))
    add("--minutes", type=float, help="time of each fit; default: the default epochs")
    add("--set", type=parse_parameters, default={}, help="parameters of all, NAME=VALUE,...")
    add("--also", type=parse_parameters, action="append", default=[], help="maps to try besides")
    add("--again", action="store_true", help="score what --output holds; no new fit")
    add("--seeds", type=int, nargs="+", default=[0])
    add("--output", type=Path, default=Path("detection"), help="folder of the results")
    options = parser.parse_args(arguments)
    if options.again and options.minutes:
        parser.error("--again fits nothing, so --minutes has no meaning beside it.")
    return options


def main(arguments=None):
    options = parse(arguments)
    folder = options.folder.resolve()
    data = load_mvtec_ad(folder.parent, folder.name)
    data.name = folder.name
    options.output.mkdir(parents=True, exist_ok=True)
    print(data.DESCR, f"torch {torch.__version__}, {torch.get_num_threads()} threads", sep="\n")
    print("  ".join(f"{name:>{len(form.format(0))}}" for name, form in COLUMNS.items()))
    rows = [
        row
        for name in options.detectors
        for seed in options.seeds
        for row in run(name, seed, options, data)
    ]
    settings = {name: str(value) for name, value in vars(options).items() if name != "folder"}
    settings |= {"data": data.name, "threads": torch.get_num_threads()}
    path = options.output / f"{data.name}-{'-'.join(options.detectors)}.json"
    path.write_text(json.dumps({"settings": settings, "rows": rows}, indent=2) + "\n")
    print(f"Results: {path}")


if __name__ == "__main__":
    main()
