"""Images to measure detectors on: a loader for folders, images that are made, drawn defects."""

from sklearn_ssimae.datasets._defects import add_synthetic_defects
from sklearn_ssimae.datasets._fabric import make_fabric
from sklearn_ssimae.datasets._folders import list_images, load_mvtec_ad
from sklearn_ssimae.datasets._made import make_checkerboards, make_patch_pairs

__all__ = [
    "add_synthetic_defects",
    "list_images",
    "load_mvtec_ad",
    "make_checkerboards",
    "make_fabric",
    "make_patch_pairs",
]
