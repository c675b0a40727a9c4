"""``ssimae info``."""

from __future__ import annotations

import warnings
from argparse import Namespace
from datetime import datetime
from typing import Any

import numpy as np
from sklearn.exceptions import InconsistentVersionWarning

from sklearn_ssimae import __version__
from sklearn_ssimae._cli.files import load_detector, threshold_of
from sklearn_ssimae.inspection._limits import lines_of


def run(options: Namespace) -> int:
    """Print what a detector's file holds."""
    with warnings.catch_warnings(record=True) as caught:
        detector = load_detector(options.detector)
    version = __version__
    for warning in caught:
        # The one sign of the version that wrote the file.
        if isinstance(warning.message, InconsistentVersionWarning):
            version = warning.message.original_sklearn_version
        else:
            warnings.warn(warning.message, stacklevel=2)
    stored = datetime.fromtimestamp(options.detector.stat().st_mtime)
    lines = {
        **describe(detector),
        "stored": f"{stored:%Y-%m-%d %H:%M}, by sklearn-ssimae {version} (this is {__version__})",
    }
    for name, value in lines.items():
        print(f"{name + ':':<12} {value}")
    for lesson in detector.lessons_:
        print(f"{'learnt:':<12} {describe_lesson(lesson)}")
    for line in lines_of(options.detector):
        print(f"{'finds:':<12} {line}")
    return 0


def describe(detector: Any) -> dict[str, str]:
    """Lines about a fitted detector."""
    defaults = type(detector)().get_params()
    given = {
        name: value
        for name, value in detector.get_params().items()
        # These have lines of their own: an array would fill the terminal.
        if name not in ("region", "min_area") and repr(value) != repr(defaults[name])
    }
    more = {}
    if detector.region_ is not None:
        more["region"] = describe_region(detector.region_)
    if detector.min_area > 1:
        more["min_area"] = f"{detector.min_area} pixels"
    low, high = detector.data_range_
    shape = detector.image_shape_
    return {
        "detector": type(detector).__name__,
        "set": ", ".join(f"{name}={value!r}" for name, value in given.items()) or "nothing",
        **more,
        "trained on": describe_images(detector.trained_on_),
        "images": "of any size" if shape is None else f"of shape {shape}",
        "channels": str(detector.network_.config["n_channels"]),
        "values": f"{low:g} to {high:g}",
        "material": detector.material_,
        "threshold": threshold_of(detector),
        "rests on": detector.threshold_basis_,
        "p-values": detector.p_values_basis_,
        "epochs": f"{detector.n_iter_} of {detector.n_patches} crops, the last with loss "
        f"{detector.loss_curve_[-1]:.4g}",
    }


def describe_region(region: np.ndarray) -> str:
    """How much of the images counts, in words."""
    height, width = region.shape
    return f"{100 * region.mean():.3g} % of {height} x {width} pixels"


def describe_lesson(lesson: dict[str, Any]) -> str:
    """When, and of how many images."""
    n_images = lesson["n_images"]
    images = "1 further good image" if n_images == 1 else f"{n_images} further good images"
    return (
        f"{lesson['time']}, {images}, {lesson['n_alarms']} of them alarms with "
        f"{lesson['n_regions']} regions; {lesson['n_alike']} alarms are like the others"
    )


def describe_images(trained_on: dict[str, Any]) -> str:
    """What a fit was given, in words."""
    n_images, n_kept = trained_on["n_images"], trained_on["n_kept"]
    height, width, _ = trained_on["first_shape"]
    # Of few images each gives a strip; whole images are never all kept.
    kept = "a strip of each" if n_kept == n_images else str(n_kept)
    size = f"{height} x {width} pixels"
    return f"{n_images} good images, {kept} kept from training; the first has {size}"
