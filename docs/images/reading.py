"""Draws the pictures of docs/reading.md: fits that went well and wrong, two minutes of one core.

python docs/images/reading.py
"""

import warnings
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
from skimage import data
from skimage.draw import disk
from skimage.transform import rescale
from sklearn.exceptions import ConvergenceWarning

from sklearn_ssimae import SSIMAutoencoderDetector
from sklearn_ssimae.datasets import add_synthetic_defects, make_fabric
from sklearn_ssimae.inspection import ResidualMapDisplay

HERE = Path(__file__).parent
SIDE = 192


def fit(good, **changed):
    """A detector that has seen 15,000 crops, unless something is changed."""
    parameters = {"patch_size": 64, "n_patches": 1000, "max_iter": 15, "random_state": 0}
    detector = SSIMAutoencoderDetector(**parameters | changed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # one fit is to fail
        return detector.fit(good)


def good_cloth(side=SIDE):
    return make_fabric(16, size=side, random_state=0).images


def faulty_cloth(kind, side=SIDE):
    """An image with a fault of this kind, and its mask."""
    faulty = make_fabric(8, size=side, defects=True, random_state=1)
    index = faulty.kinds.index(kind)
    return faulty.images[index], faulty.masks[index]


def with_spot(images, *centre):
    """Dirt on the lens: a dark disk at the same place of all images (n, h, w)."""
    dirty = images.copy()
    rows, columns = disk(centre, 9)
    dirty[:, rows, columns] *= 0.3
    return dirty


def enlarged(images, factor):
    return np.stack([rescale(image, factor, order=1) for image in images])


def draw(name, detector, image, mask):
    display = ResidualMapDisplay.from_estimator(detector, image[None], mask[None])
    display.figure_.savefig(HERE / f"reading_{name}.png", dpi=75, bbox_inches="tight")
    plt.close(display.figure_)
    residual = detector.transform(image[None])[0]
    print(
        f"{name}: loss {detector.loss_curve_[-1]:.2f}, threshold {detector.threshold_:.1f}, "
        f"map {np.median(residual):.1f} in the median, {residual.max():.1f} at most, "
        f"{residual[mask].max(initial=0):.1f} on the defect",
        flush=True,
    )


def draw_well_and_mean():
    well = fit(good_cloth())
    draw("good", well, *faulty_cloth("hole"))
    image, mask = faulty_cloth("hole")
    image[:, -12:] = 0.1  # the table beside the cloth
    draw("border", well, image, mask)
    draw("mean", fit(good_cloth(), n_patches=64, max_iter=2), *faulty_cloth("hole"))


def draw_leak():
    detector = fit(with_spot(good_cloth(), 60, 60))
    image, _ = faulty_cloth("hole")
    spotted = with_spot(image[None], 120, 50)[0]
    draw("leak", detector, spotted, spotted != image)


def draw_scales():
    large = enlarged(good_cloth(64), 8)
    image, mask = faulty_cloth("hole", 64)
    mask = enlarged(mask[None].astype(float), 8)[0] > 0.5
    draw("too_large", fit(large, patch_size=32), enlarged(image[None], 8)[0], mask)
    coarse = fit(good_cloth(), patch_size=32, scale=0.25)
    draw("too_small", coarse, *faulty_cloth("foreign_thread"))


def draw_gravel():
    gravel = data.gravel()
    image, mask = add_synthetic_defects(gravel[None, 256:, 256:], kinds=("thread",), random_state=0)
    draw("random", fit(gravel[None, :256]), image[0], mask[0])


def main():
    torch.set_num_threads(1)
    draw_well_and_mean()
    draw_leak()
    draw_scales()
    draw_gravel()


if __name__ == "__main__":
    main()
