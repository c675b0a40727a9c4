r"""
From good images to masks, in pictures
======================================

A detector learns what good cloth looks like, in half a minute, and then looks at cloth with
faults of weaving. The displays of :mod:`sklearn_ssimae.inspection` show what it
sees: reconstructions, residual maps, masks, and how many defects are found at
the price of how many false alarms.
"""

import matplotlib.pyplot as plt
import numpy as np

from sklearn_ssimae import SSIMAutoencoderDetector
from sklearn_ssimae.datasets import make_fabric
from sklearn_ssimae.inspection import PixelCurveDisplay, ResidualMapDisplay, ThresholdDisplay

# %%
# Cloth
# -----
# Your own images would be paths of files, ``list_images("photos/good")``. These are made on
# the spot: a plain weave, no two pieces of it alike.

good = make_fabric(40, size=128, random_state=0).images

# %%
# Learn from good images
# ----------------------
# A tenth of them is kept from training, and sets the threshold: one that 1 % of good images exceed.

detector = SSIMAutoencoderDetector(
    patch_size=32,
    latent_dim=50,
    n_patches=1000,
    max_iter=10,
    random_state=0,
)
detector.fit(good)

# %%
# Look at others
# --------------
# One piece with each of eight faults, and eight good pieces. Defects have the label -1.

faulty = make_fabric(8, size=128, defects=True, random_state=1)
more = make_fabric(8, size=128, random_state=2)
images = np.concatenate([faulty.images, more.images])
masks = np.concatenate([faulty.masks, more.masks])
for kind, label in zip(faulty.kinds + more.kinds, detector.predict(images), strict=True):
    print(f"{kind:<16}{label:2}")

# %%
# The network has never seen a defect and cannot draw one: the reconstruction is clean cloth.
# Where image and reconstruction differ the residual map is bright, and what lies above the
# threshold is the mask. The map compares windows and is smoothed, so that masks come out
# somewhat wider than the defects.

shown = [faulty.kinds.index(kind) for kind in ("missing_pick", "slub", "hole", "foreign_thread")]
ResidualMapDisplay.from_estimator(detector, images[shown], masks[shown])
plt.show()

# %%
# The threshold
# -------------
# A dot for each image, at its largest residual: on top good fabric that was not trained on, below
# what was looked at. Good images should lie to the left of the line, and there should be some
# room.

ThresholdDisplay.from_estimator(detector, make_fabric(20, size=128, random_state=3).images, images)
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
