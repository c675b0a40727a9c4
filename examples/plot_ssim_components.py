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

from sklearn_ssimae import ssim_components
from sklearn_ssimae.datasets import make_patch_pairs

pairs = make_patch_pairs()
x, y = pairs[:, 0], pairs[:, 1]
squared_difference = (x - y) ** 2
print("squared difference:", np.unique(squared_difference))

# %%
# Each factor reacts to one of them
# ---------------------------------
# The factors are maps of the patches' size. A value of 1 means that the windows around a
# pixel agree. Each row of the table below has one factor that is close to its minimum, 0
# for `l` and `c` and -1 for `s`, while the others stay close to 1.

luminance, contrast, structure = ssim_components(x, y)

names = ["luminance", "contrast", "structure"]
print(f"{'pair differs in':<16}{'l²':>7}{'l':>7}{'c':>7}{'s':>7}")
for row, name in enumerate(names):
    maps = (squared_difference, luminance, contrast, structure)
    print(f"{name:<16}" + "".join(f"{values[row].mean():7.2f}" for values in maps))

# %%
# The constants `c1` and `c2` keep the fractions finite on flat patches. They also decide
# how near to its minimum a factor comes: try ``c1=0.01, c2=0.03``, as the paper prints
# them, in place of the defaults.

columns = [
    ("$x$", x, "gray", (0, 1)),
    ("$y$", y, "gray", (0, 1)),
    (r"$\ell^2$", squared_difference, "cividis", (0, 1)),
    ("luminance $l$", luminance, "cividis", (0, 1)),
    ("contrast $c$", contrast, "cividis", (0, 1)),
    ("structure $s$", structure, "cividis", (-1, 1)),
]
fig, axes = plt.subplots(3, len(columns), figsize=(11, 6.4), layout="constrained")
for column, (title, images, cmap, (low, high)) in enumerate(columns):
    for row, ax in enumerate(axes[:, column]):
        drawn = ax.imshow(images[row], cmap=cmap, vmin=low, vmax=high)
        ax.set(xticks=[], yticks=[])
        if cmap != "gray":
            reacts = title.startswith(names[row])
            weight = "bold" if reacts else "normal"
            ax.set_xlabel(f"{images[row].mean():.2f}", fontsize="large", weight=weight)
    axes[0, column].set_title(title)
    fig.colorbar(drawn, ax=axes[:, column], location="bottom", ticks=[low, high], pad=0.02)
for ax, name in zip(axes[:, 0], names, strict=True):
    ax.set_ylabel(f"differ in\n{name}")
fig.suptitle("The same squared difference, three kinds of change (numbers: mean of the map)")
plt.show()
