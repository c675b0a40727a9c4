r"""
Choosing the window and the threshold by cross-validation
=========================================================

Two questions that every user of a detector has: how large should SSIM's window be, and above
which residual does a defect begin? With masks for a few defective images, scikit-learn's
:class:`~sklearn.model_selection.GridSearchCV` answers both. Detectors learn from the good images
of a fold only: masks with a defect tell them what to leave out.

The window is part of the training, so every candidate is trained. The threshold is not: as a
step of its own behind the detector, in a pipeline with a memory, many thresholds cost hardly
more than two.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from tempfile import TemporaryDirectory

import numpy as np
from sklearn.model_selection import GridSearchCV, StratifiedKFold
from sklearn.pipeline import Pipeline

from sklearn_ssimae import ResidualThresholder, SSIMAutoencoderDetector
from sklearn_ssimae.datasets import make_fabric
from sklearn_ssimae.model_selection import pixel_scorer

# %%
# Pieces of cloth
# ---------------
# Sixteen good pieces, and two with each of eight faults of weaving. All folds hold some of both,
# since an area under a ROC curve needs both.


def pieces_of_cloth() -> tuple[np.ndarray, np.ndarray]:
    """Images (32, 128, 128) and masks of their defects."""
    good = make_fabric(16, size=128, random_state=0)
    faulty = make_fabric(16, size=128, defects=True, random_state=1)
    return (
        np.concatenate([good.images, faulty.images]),
        np.concatenate([good.masks, faulty.masks]),
    )


def make_detector(n_patches: int, max_iter: int) -> SSIMAutoencoderDetector:
    return SSIMAutoencoderDetector(
        patch_size=32,
        latent_dim=50,
        n_patches=n_patches,
        max_iter=max_iter,
        threshold=1.0,  # that of the pipeline's last step counts
        random_state=0,
    )


# %%
# The window
# ----------
# ``pixel_scorer("roc_auc")`` takes masks as y. It depends on no threshold, which makes it the
# measure for everything that comes before one.


def choose_window(
    images: np.ndarray,
    masks: np.ndarray,
    folds: list,
    detector: SSIMAutoencoderDetector,
    windows: Sequence[int],
) -> int:
    search = GridSearchCV(
        detector,
        {"window_size": list(windows)},
        scoring=pixel_scorer("roc_auc"),
        cv=folds,
        refit=False,
    )
    search.fit(images, masks)
    results = search.cv_results_
    print("window   pixel ROC AUC   seconds a fit")
    for row, window in enumerate(windows):
        area, spread = results["mean_test_score"][row], results["std_test_score"][row]
        print(f"{window:6}   {area:.3f} ± {spread:.3f}   {results['mean_fit_time'][row]:13.1f}")
    return search.best_params_["window_size"]


# %%
# The threshold
# -------------
# The measure is now the intersection over union of the masks found with the true ones. Each
# search starts with an empty memory, so that the times can be compared: both train the detector
# once a fold, and once more on all images for the final model. The map says how many times more
# than good cloth shows at a pixel, so thresholds of 1 to 4 are worth a try.


def choose_threshold(
    images: np.ndarray,
    masks: np.ndarray,
    folds: list,
    detector: SSIMAutoencoderDetector,
    thresholds: np.ndarray,
) -> tuple[GridSearchCV, float]:
    """The fitted search, and how many seconds it took."""
    with TemporaryDirectory() as memory:
        search = GridSearchCV(
            Pipeline(
                [("detector", detector), ("thresholder", ResidualThresholder())], memory=memory
            ),
            {"thresholder__threshold": thresholds},
            scoring=pixel_scorer("iou"),
            cv=folds,
        )
        started = time.perf_counter()
        search.fit(images, masks)
        return search, time.perf_counter() - started


def main(
    n_patches: int = 600,
    max_iter: int = 6,
    windows: Sequence[int] = (5, 11, 21),
    n_folds: int = 3,
) -> GridSearchCV:
    images, masks = pieces_of_cloth()
    folds = list(StratifiedKFold(n_folds).split(images, masks.any(axis=(1, 2))))
    detector = make_detector(n_patches, max_iter)
    window = choose_window(images, masks, folds, detector, windows)
    print(f"The best window has {window} pixels.\n")
    detector.set_params(window_size=window)
    for n_thresholds in (2, 10):
        thresholds = np.linspace(1.0, 4.0, n_thresholds)
        search, seconds = choose_threshold(images, masks, folds, detector, thresholds)
        print(f"{n_thresholds:2} thresholds: {seconds:.1f} s")
    print("\nthreshold   intersection over union")
    for threshold, score in zip(thresholds, search.cv_results_["mean_test_score"], strict=True):
        print(f"{threshold:9.2f}   {score:.3f}")
    print(f"The best threshold is {search.best_params_['thresholder__threshold']:.2f}.")
    return search


# %%
# ``search.best_estimator_`` is the pipeline of the best threshold, with a detector that has
# learnt from all good pieces. Its ``transform`` returns masks, its ``predict`` labels.

if __name__ == "__main__":
    main()
