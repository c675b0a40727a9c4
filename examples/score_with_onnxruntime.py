r"""
Score images with ONNX Runtime and NumPy alone
==============================================

The computer beside the production line needs no torch, no scikit-learn and not this package:
:func:`~sklearn_ssimae.export.to_onnx` writes a trained detector as one file, from the images to
the residual maps, with the threshold as metadata. This example trains a detector on woven
cloth, which takes half a minute, writes the file, and scores good and faulty cloth with it::

    python examples/score_with_onnxruntime.py [detector.onnx]
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import onnxruntime

SIZE = (96, 112)  # of the images, in pixels

# %%
# Beside the production line
# --------------------------
# This class is all that is needed there, besides the file, ONNX Runtime and NumPy.


class LineDetector:
    """Maps, masks and labels of images, from a detector's file."""

    def __init__(self, path: str | Path) -> None:
        self.session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        metadata = self.session.get_modelmeta().custom_metadata_map
        # A double, as in the detector: beside a Python float NumPy would compare in float32.
        self.threshold = np.float64(metadata["threshold"])
        self.image_shape = tuple(json.loads(metadata["image_shape"]))

    def transform(self, images: np.ndarray) -> np.ndarray:
        """Residual maps (n, h, w) of images (n, *image_shape), in the units of the training."""
        # One at a time: the memory needed is that of one image, whatever their number.
        inputs = (image[None].astype(np.float32) for image in images)
        return np.concatenate([self.session.run(["maps"], {"images": x})[0] for x in inputs])

    def segment(self, images: np.ndarray) -> np.ndarray:
        """Masks (n, h, w), True on defects."""
        return self.transform(images) > self.threshold

    def predict(self, images: np.ndarray) -> np.ndarray:
        """-1 for images with a defect, +1 for the others."""
        return np.where(self.segment(images).any(axis=(1, 2)), -1, 1)


# %%
# Where the detector is trained
# -----------------------------
# Only here are this package and its requirements imported.


def train_and_export(path: str | Path, n_good: int, n_patches: int, max_iter: int):
    from sklearn_ssimae import SSIMAutoencoderDetector
    from sklearn_ssimae.datasets import make_fabric
    from sklearn_ssimae.export import to_onnx

    good = make_fabric(n_good, size=SIZE, random_state=0).images
    detector = SSIMAutoencoderDetector(
        patch_size=32,
        latent_dim=50,
        n_patches=n_patches,
        max_iter=max_iter,
        random_state=0,
    ).fit(good)
    to_onnx(detector, path, image_shape=good.shape[1:])
    return detector


# %%
# The same maps, the same labels
# ------------------------------
# Three good pieces, and one with each of eight faults of weaving. What remains between the maps
# of the file and those of the detector is rounding.


def main(path: str | Path, n_good: int = 40, n_patches: int = 1000, max_iter: int = 10) -> float:
    from sklearn_ssimae.datasets import make_fabric

    detector = train_and_export(path, n_good, n_patches, max_iter)
    good = make_fabric(3, size=SIZE, random_state=1)
    faulty = make_fabric(8, size=SIZE, defects=True, random_state=2)
    images = np.concatenate([good.images, faulty.images])

    line = LineDetector(path)
    maps, labels = line.transform(images), line.predict(images)
    marked = line.segment(images).mean(axis=(1, 2))
    print(f"images of {line.image_shape}, threshold {line.threshold:.3f}")
    print(f"{'cloth':<16}{'largest residual':>18}{'marked pixels':>16}{'label':>8}")
    for index, kind in enumerate(good.kinds + faulty.kinds):
        print(f"{kind:<16}{maps[index].max():18.3f}{marked[index]:16.2%}{labels[index]:8d}")
    difference = float(abs(maps - detector.transform(images)).max())
    print(f"Largest difference from the detector's own maps: {difference:.1e}")
    return difference


if __name__ == "__main__":
    if len(sys.argv) > 1:
        main(sys.argv[1])
    else:
        with TemporaryDirectory() as folder:
            main(Path(folder) / "detector.onnx")
