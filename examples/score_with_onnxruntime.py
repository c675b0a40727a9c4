r"""
Score images with ONNX Runtime and NumPy alone
==============================================

The computer beside the production line needs no torch, no scikit-learn and not this package:
:func:`~sklearn_ssimae.export.to_onnx` writes a trained detector as one file, from the images to
the residual maps, with the threshold as metadata. This example trains a detector for a minute at
most, writes the file, and scores good and defective images with it::

    python examples/score_with_onnxruntime.py [detector.onnx]
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import onnxruntime

# %%
# Beside the production line
# --------------------------
# All that is needed there: the file, ONNX Runtime and NumPy.


class LineDetector:
    """Masks and labels of images, from a detector's file."""

    def __init__(self, path: str | Path) -> None:
        self.session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        metadata = self.session.get_modelmeta().custom_metadata_map
        # In double precision, so that comparisons are those of the detector.
        self.threshold = np.float64(metadata["threshold"])
        self.image_shape = tuple(json.loads(metadata["image_shape"]))

    def transform(self, images: np.ndarray) -> np.ndarray:
        """Residual maps (n, h, w) of images (n, *image_shape) in the units of the training."""
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
# The left half of a photograph of bricks is good material. Squares of the right half are scored
# as they are, and with defects drawn into them.


def train(n_patches: int, max_iter: int):
    from skimage import data

    from sklearn_ssimae import SSIMAutoencoderDetector
    from sklearn_ssimae.datasets import add_synthetic_defects

    left, right = np.hsplit(data.brick(), 2)
    detector = SSIMAutoencoderDetector(
        patch_size=32,
        stride=8,
        scale=0.5,
        n_patches=n_patches,
        max_iter=max_iter,
        # The photographer stood in the middle: the mirror image shows the right half's slant.
    ).set_params(random_state=0)
    detector.fit([left, left[:, ::-1]])
    good = np.stack(np.vsplit(right, 2))
    defective, _ = add_synthetic_defects(list(good), kinds=("scratch", "stain"), random_state=0)
    return detector, np.concatenate([good, defective])


def main(path: str | Path, n_patches: int = 2000, max_iter: int = 10) -> LineDetector:
    from sklearn_ssimae.export import to_onnx

    detector, images = train(n_patches, max_iter)
    to_onnx(detector, path, image_shape=images.shape[1:])

    line = LineDetector(path)
    maps, expected = line.transform(images), detector.transform(images)
    names = ["good 1", "good 2", "defective 1", "defective 2"]
    print(f"threshold {line.threshold:.3f}, images of {line.image_shape}")
    print("             largest residual   marked pixels   label")
    for name, residual, label in zip(names, maps, line.predict(images), strict=True):
        marked = (residual > line.threshold).mean()
        print(f"{name:<12} {residual.max():16.3f} {marked:14.2%} {label:8d}")
    print(f"Largest difference from the detector's own maps: {abs(maps - expected).max():.1e}")
    return line


if __name__ == "__main__":
    if len(sys.argv) > 1:
        main(sys.argv[1])
    else:
        with TemporaryDirectory() as folder:
            main(Path(folder) / "detector.onnx")
