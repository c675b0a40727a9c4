r"""
Grey strokes on checkerboards
=============================

An autoencoder learns checkerboards of all scales and orientations, and then sees boards
with grey strokes and dots on them. It draws clean boards again, with edges that are not
quite where they were. The squared difference is as large along those edges as on the
defects: white against black is 1, grey against either is 0.25. SSIM, which compares windows
instead of pixels, is lowest on the defects. This is Figure 3 of Bergmann et al., "Improving
Unsupervised Defect Segmentation by Applying Structural Similarity to Autoencoders" (VISAPP
2019).
"""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np

from sklearn_ssimae import L2AutoencoderDetector, ssim_components
from sklearn_ssimae.datasets import make_checkerboards
from sklearn_ssimae.inspection import SSIMComponentsDisplay
from sklearn_ssimae.metrics import pixel_roc_auc_score

# %%
# An autoencoder with the squared error as its loss
# -------------------------------------------------
# Only clean boards are learnt from. The detector's patches are crops of the boards.


def fit_on_clean_boards(n_boards: int, n_patches: int, max_iter: int) -> L2AutoencoderDetector:
    boards, _ = make_checkerboards(n_boards, random_state=0)
    detector = L2AutoencoderDetector(
        patch_size=64,
        latent_dim=100,
        n_patches=n_patches,
        max_iter=max_iter,
        tol=0.0,
        stride=16,
        threshold=0.25,  # grey against black or white; not used here
        verbose=1,
        random_state=0,
    )
    return detector.fit(boards)


# %%
# Five maps of the same pair of images
# ------------------------------------
# The maps compare a board with its reconstruction, the same for all of them. Luminance,
# contrast and structure are 1 where two windows agree; their complements are measured, so that
# large is anomalous in every map. The constants are those that the paper prints: with the
# package's defaults, which are a hundred and 33 times smaller, what little noise the
# autoencoder leaves in the middle of large squares, where windows are flat, counts as much as a
# stroke.


def measure(
    images: np.ndarray, reconstructions: np.ndarray, masks: np.ndarray, **constants: float
) -> dict[str, float]:
    """Area under the ROC curve over the pixels of all boards, for each map."""
    luminance, contrast, structure = ssim_components(images, reconstructions, **constants)
    maps = {
        "(x − y)²": (images - reconstructions) ** 2,
        "luminance": 1 - luminance,
        "contrast": 1 - contrast,
        "structure": 1 - structure,
        "SSIM": 1 - luminance * contrast * structure,
    }
    return {title: pixel_roc_auc_score(masks, values) for title, values in maps.items()}


def draw(
    images: np.ndarray, reconstructions: np.ndarray, areas: dict[str, float], **constants: float
) -> None:
    display = SSIMComponentsDisplay.from_images(images[:3], reconstructions[:3], **constants)
    top = display.axes_[0]
    top[0].set_title("board x")
    top[1].set_title("reconstruction y")
    for ax, (title, area) in zip(top[2:], areas.items(), strict=True):
        ax.set_title(f"{title}\nROC AUC {area:.3f}")
    plt.show()


# %%
# The figure, and a number for every map
# --------------------------------------
# The area under the ROC curve over the pixels of all test boards says how well a map tells
# defects from the rest, without any threshold.


def main(
    n_boards: int = 500, n_patches: int = 2000, max_iter: int = 15, n_test: int = 50
) -> dict[str, float]:
    detector = fit_on_clean_boards(n_boards, n_patches, max_iter)
    images, masks = make_checkerboards(n_test, defects=True, random_state=1)
    reconstructions = detector.reconstruct(images)
    of_paper = {"c1": 0.01, "c2": 0.03}
    areas = measure(images, reconstructions, masks, **of_paper)
    print("pixel ROC AUC, constants of the paper")
    for title, area in areas.items():
        print(f"  {title:<20} {area:.3f}")
    by_default = measure(images, reconstructions, masks)["SSIM"]
    print(f"  {'default constants':<20} {by_default:.3f}")
    draw(images, reconstructions, areas, **of_paper)
    return areas


if __name__ == "__main__":
    main()
