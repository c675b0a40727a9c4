r"""
What luminance, contrast and structure see
==========================================

SSIM compares two images window by window and multiplies three factors: luminance `l`
compares means, contrast `c` compares variances, structure `s` is the correlation. The
squared difference :math:`\ell^2` knows nothing of a window. Figure 2 of Bergmann et al.,
"Improving Unsupervised Defect Segmentation by Applying Structural Similarity to
Autoencoders" (VISAPP 2019), shows the difference on three pairs of patches. This example
draws it.
"""

# %%
# Three pairs, one squared difference
# -----------------------------------
# At every pixel of every pair the patches differ by 0.5: the squared difference is 0.25
# throughout and tells the pairs not apart. To the eye they have little in common. The first
# two patches differ in mean alone, the next in variance, and the last are each other's
# negative.

import matplotlib.pyplot as plt
import numpy as np

from sklearn_ssimae.datasets import make_patch_pairs
from sklearn_ssimae.inspection import SSIMComponentsDisplay

pairs = make_patch_pairs()
x, y = pairs[:, 0], pairs[:, 1]
squared_difference = (x - y) ** 2
print("squared difference:", np.unique(squared_difference))

# %%
# Each factor reacts to one of them
# ---------------------------------
# The factors are maps of the patches' size. A value of 1 means that the windows around a
# pixel agree. Each row has one factor that is close to its minimum, 0 for `l` and `c` and -1 for
# `s`, while the others stay close to 1. All four maps share one colour scale; its dark end is 1.

display = SSIMComponentsDisplay.from_images(x, y)
maps = {
    "l²": squared_difference,
    "l": display.luminance,
    "c": display.contrast,
    "s": display.structure,
}
names = ["luminance", "contrast", "structure"]
print(f"{'pair differs in':<16}" + "".join(f"{title:>7}" for title in maps))
for row, name in enumerate(names):
    print(f"{name:<16}" + "".join(f"{values[row].mean():7.2f}" for values in maps.values()))
for ax, name in zip(display.axes_[:, 0], names, strict=True):
    ax.set_ylabel(f"differ in\n{name}")
plt.show()

# %%
# The constants `c1` and `c2` keep the fractions finite on flat patches. They also decide
# how near to its minimum a factor comes: ``c1=0.01, c2=0.03``, as the paper prints
# them, in place of the defaults.

SSIMComponentsDisplay.from_images(x, y, c1=0.01, c2=0.03)
plt.show()
