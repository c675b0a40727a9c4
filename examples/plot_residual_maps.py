r"""
From good images to masks, in pictures
======================================

A detector learns what good fabric looks like, in half a minute, and then looks at fabric with
scratches, stains and loose threads. The displays of :mod:`sklearn_ssimae.inspection` show what it
sees: reconstructions, residual maps, masks, and how many defects are found at
the price of how many false alarms.
"""

import matplotlib.pyplot as plt
import numpy as np

from sklearn_ssimae import SSIMAutoencoderDetector
from sklearn_ssimae.datasets import add_synthetic_defects
from sklearn_ssimae.inspection import PixelCurveDisplay, ResidualMapDisplay, ThresholdDisplay

# %%
# Fabric
# ------
# Your own images would be paths of files, ``list_images("photos/good")``. These are made on
# the spot: a plain weave, seen by a noisy camera, no two pieces of it alike.


def make_fabric(n_images: int, random_state: int) -> np.ndarray:
    """Eight-bit images (n_images, 128, 128)."""
    rng = np.random.default_rng(random_state)
    y, x = np.mgrid[:128, :128]
    warp_phase, weft_phase = rng.uniform(0, 2 * np.pi, (2, n_images, 1, 1))
    weave = np.sin(2 * np.pi * x / 9 + warp_phase) * np.sin(2 * np.pi * y / 7 + weft_phase)
    grey = 128 + 60 * weave + rng.normal(0, 6, weave.shape)
    return grey.clip(0, 255).astype(np.uint8)


good = make_fabric(40, random_state=0)

# %%
# Learn from good images
# ----------------------
# A tenth of them is kept from training, and sets the threshold: one that 1 % of good images exceed.

detector = SSIMAutoencoderDetector(
    patch_size=32,
    latent_dim=16,
    stride=8,
    n_patches=700,
    max_iter=10,
    random_state=0,
)
detector.fit(good)

# %%
# Look at others
# --------------
# Every other piece of the fabric that is looked at has defects, -1 among the labels.

images, masks = make_fabric(8, random_state=1), np.zeros((8, 128, 128), dtype=bool)
images[::2], masks[::2] = add_synthetic_defects(
    images[::2], kinds=("scratch", "stain", "thread"), random_state=0
)
print(detector.predict(images))

# %%
# The network has never seen a defect and cannot draw one: the reconstruction is clean fabric.
# Where image and reconstruction differ the residual map is bright, and what lies above the
# threshold is the mask. The map compares windows and is smoothed, so that masks come out
# somewhat wider than the defects.

ResidualMapDisplay.from_estimator(detector, images[:4], masks[:4])
plt.show()

# %%
# The threshold
# -------------
# A dot for each image, at its largest residual: on top good fabric that was not trained on, below
# what was looked at. Good images should lie to the left of the line, and there should be some
# room.

ThresholdDisplay.from_estimator(detector, make_fabric(20, random_state=2), images)
plt.show()

# %%
# All thresholds
# --------------
# The ROC curve counts pixels. The PRO curve counts regions, small ones as much as large ones,
# and is read at low rates of false alarms only.

_, axes = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
for ax, curve in zip(axes, ("roc", "pro"), strict=True):
    PixelCurveDisplay.from_estimator(
        detector, images, masks, curve=curve, name="SSIM", ax=ax, plot_chance_level=True
    )
plt.show()
