"""What ten verdicts teach: false alarms of a new, harmless kind before and after `learn_good`.

    python docs/benchmarks/learning.py cloth DATA/paper DATA/grid:scale=0.5 --kinds crease label

Prints a JSON row for each set and kind. The kind is drawn into good images that were not trained
on. Ten that raise an alarm are taught; others, with other draws, tell how many alarms are left.
"""

import argparse
import ast
import json
import time
from copy import deepcopy
from pathlib import Path

import joblib
import numpy as np
import torch
from PIL import Image, ImageDraw
from scipy.ndimage import gaussian_filter
from sklearn.utils import Bunch

from sklearn_ssimae import SSIMAutoencoderDetector
from sklearn_ssimae.datasets import load_mvtec_ad, make_fabric

FIT = dict(max_iter=8, precision="bfloat16", random_state=0)
N_TAUGHT, N_FURTHER = 10, 48


def crease(size: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """Light on one side of a line right across, dark on the other."""
    across = _distance_to_a_line(size, rng) / (0.012 * min(size))
    return 0.25 * across * np.exp(0.5 - across**2 / 2)


def shadow(size: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """One side of a line lies in the shadow."""
    across = _distance_to_a_line(size, rng) / (0.02 * min(size))
    return -0.25 / (1 + np.exp(-across.clip(-50, 50)))


def label(size: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """A white sticker with three printed bars, upright, anywhere; nan outside."""
    height, width = (round(share * min(size)) for share in (0.12, 0.2))
    sticker = np.full((height, width), 0.95)
    for bar in (1, 3, 5):
        sticker[
            bar * height // 7 : (bar + 1) * height // 7, width // 8 : width - bar * width // 8
        ] = 0.1
    layer = np.full(size, np.nan)
    y, x = rng.integers(np.array(size) - sticker.shape)
    layer[y : y + height, x : x + width] = gaussian_filter(sticker, 0.7)
    return layer


def lint(size: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """A light fibre that curls."""
    steps = np.cumsum(rng.normal(0, 0.35, 40)) + rng.uniform(0, 2 * np.pi)
    path = np.cumsum(0.01 * min(size) * np.stack([np.cos(steps), np.sin(steps)]), axis=1).T
    path += rng.uniform(0.2, 0.8, 2) * size[::-1]
    canvas = Image.new("L", size[::-1])
    ImageDraw.Draw(canvas).line([tuple(point) for point in path], fill=255, width=2)
    return 0.4 * gaussian_filter(np.asarray(canvas) / 255, 0.7)


def _distance_to_a_line(size: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    angle = rng.uniform(-0.5, 0.5)
    y, x = np.indices(size)
    through = rng.uniform(0.25, 0.75, 2) * size
    return (x - through[1]) * np.cos(angle) + (y - through[0]) * np.sin(angle)


KINDS = {kind.__name__: kind for kind in (crease, shadow, label, lint)}


def drawn(image: np.ndarray, kind: str, rng: np.random.Generator) -> np.ndarray:
    unit = image / 255
    layer = KINDS[kind](image.shape[:2], rng).reshape(*image.shape[:2], *[1] * (image.ndim - 2))
    altered = np.where(np.isnan(layer), unit, layer if kind == "label" else unit + layer)
    return np.rint(255 * altered.clip(0, 1)).astype(np.uint8)


def load(source: str) -> Bunch:
    """Good images to fit on, to draw into and teach, and to test on; and defective ones."""
    if source == "cloth":
        good = np.rint(255 * make_fabric(112, size=192, random_state=0).images).astype(np.uint8)
        bad = make_fabric(56, size=192, defects=True, random_state=1).images
        bad = np.rint(255 * bad).astype(np.uint8)
        return Bunch(fit=good[:72], teach=good[72:88], test=good[88:], bad=bad)
    data = load_mvtec_ad(Path(source).parent, Path(source).name)
    train, test = (
        [np.asarray(Image.open(path)) for path in paths] for paths in (data.train, data.test)
    )
    is_bad = np.asarray(data.target) == -1
    return Bunch(
        fit=train[:-10],
        teach=train[-10:],
        test=[image for image, bad in zip(test, is_bad, strict=True) if not bad],
        bad=[image for image, bad in zip(test, is_bad, strict=True) if bad],
    )


def measure(name: str, data: Bunch, detector: SSIMAutoencoderDetector, kind: str) -> dict:
    rng = np.random.default_rng(0)
    candidates = [drawn(data.teach[i % len(data.teach)], kind, rng) for i in range(3 * N_TAUGHT)]
    alarms = np.flatnonzero(detector.predict(candidates) == -1)
    row = {"set": name, "kind": kind, "alarms_of_drawn": f"{len(alarms)} of {len(candidates)}"}
    taught = [candidates[index] for index in alarms[:N_TAUGHT]]
    if len(taught) < N_TAUGHT:
        return row
    further = [drawn(data.test[i % len(data.test)], kind, rng) for i in range(N_FURTHER)]
    before = _counts(detector, further, data)
    cpu = time.process_time()
    detector.learn_good(taught)
    cpu = time.process_time() - cpu
    after = _counts(detector, further, data)
    row |= {what: [before[what], after[what]] for what in before}
    gone = 1 - after["alarms"] / max(1, before["alarms"])
    return row | {"gone": round(gone, 3), "cpu_s": round(cpu, 1)}


def _counts(detector: SSIMAutoencoderDetector, further: list, data: Bunch) -> dict:
    alarms, false, found = (
        int((detector.predict(list(images)) == -1).sum())
        for images in (further, data.test, data.bad)
    )
    return {
        "alarms": alarms,
        "other_false": false,
        "found": found,
        "threshold": round(float(detector.threshold_), 3),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("sources", nargs="+", help="cloth, or FOLDER[:NAME=VALUE...]")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=["crease", "label", "shadow"])
    parser.add_argument("--kept", type=Path, help="folder of fitted detectors, used again")
    args = parser.parse_args()
    for source in args.sources:
        place, *settings = source.split(":")
        params = {key: ast.literal_eval(value) for key, value in (s.split("=") for s in settings)}
        name, data = Path(place).name, load(place)
        file = args.kept / f"{name}.joblib" if args.kept else None
        torch.set_num_threads(1)
        if file and file.exists():
            detector = joblib.load(file)
        else:
            detector = SSIMAutoencoderDetector(**FIT, **params).fit(list(data.fit))
            if file:
                joblib.dump(detector, file)
        for kind in args.kinds:
            print(json.dumps(measure(name, data, deepcopy(detector), kind)), flush=True)


if __name__ == "__main__":
    main()
