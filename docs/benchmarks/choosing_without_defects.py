"""Do defects drawn into good images choose what the masks of real ones choose?

Trains short candidates on two thirds of the good images of a data set in the layout of MVTec AD,
draws defects into the other third, and prints their score beside the areas by the
masks of the test images::

    python docs/benchmarks/choosing_without_defects.py DATA/grid --set scale=0.5
    python docs/benchmarks/choosing_without_defects.py DATA/paper
"""

import argparse
import warnings
from pathlib import Path

import numpy as np
import torch
from detection import cpu_seconds, parse_parameters
from scipy.stats import spearmanr
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import roc_auc_score

from sklearn_ssimae import SSIMAutoencoderDetector
from sklearn_ssimae.datasets import load_mvtec_ad
from sklearn_ssimae.metrics import pixel_average_precision_score, pixel_roc_auc_score
from sklearn_ssimae.model_selection import synthetic_defect_scorer

SHORT = {"n_patches": 1000, "max_iter": 8, "n_iter_no_change": 10**6}
CANDIDATES = [{}, {"max_iter": 2}, {"latent_dim": 10}, {"window_size": 5}, {"window_size": 21}]


def judge(detector, kept, data):
    """The score of drawn defects, and three areas by masks."""
    maps = detector.transform(data.test)
    is_defective = [np.any(mask) for mask in data.masks]
    return [
        synthetic_defect_scorer()(detector, kept),
        pixel_average_precision_score(data.masks, maps),
        pixel_roc_auc_score(data.masks, maps),
        roc_auc_score(is_defective, [residual.max() for residual in maps]),
    ]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--set", type=parse_parameters, default={})
    options = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore", ConvergenceWarning)
    data = load_mvtec_ad(options.folder.parent, options.folder.name)
    order = np.random.RandomState(0).permutation(len(data.train))
    kept, trained = ([data.train[i] for i in part] for part in np.split(order, [len(order) // 3]))
    print(f"{'':<24}  drawn     AP  pixel AUC  image AUC  CPU s")
    rows = []
    for candidate in CANDIDATES:
        parameters = SHORT | options.set | candidate
        started = cpu_seconds()
        detector = SSIMAutoencoderDetector(random_state=0, **parameters).fit(trained)
        seconds = cpu_seconds() - started
        rows.append(judge(detector, kept, data))
        drawn, precision, pixels, images = rows[-1]
        print(
            f"{candidate or '8 epochs, default'!s:<24}  {drawn:.3f}  {precision:.3f}  {pixels:9.3f}"
            f"  {images:9.3f}  {seconds:5.0f}",
            flush=True,
        )
    drawn, precision, *_ = np.transpose(rows)
    print(f"rank correlation of the first two: {spearmanr(drawn, precision).statistic:.2f}")


if __name__ == "__main__":
    main()
