"""``ssimae export``."""

from __future__ import annotations

from argparse import Namespace

from sklearn_ssimae._cli.files import load_detector
from sklearn_ssimae._writing import replacing
from sklearn_ssimae.export import to_onnx


def run(options: Namespace) -> int:
    """Write the ONNX file."""
    detector = load_detector(options.detector)
    with replacing(options.output) as temporary:
        to_onnx(detector, temporary, tuple(options.image_shape))
    shape = " x ".join(map(str, options.image_shape))
    print(f"{options.output}: images of {shape}, threshold {detector.threshold_:.6g}")
    return 0
