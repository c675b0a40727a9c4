"""Does a fitted detector bear other light, and images that are turned or larger?

Changes the test images of a data set in the layout of MVTec AD, and counts the good ones that are
called defective, and the defective ones that are located::

    python docs/benchmarks/light.py DATA/grid results/detector.joblib

The detector is one that `detection.py` has left, for instance with ``--set scale=0.5``.
"""

import argparse
from functools import partial
from pathlib import Path

import joblib
import numpy as np
from scipy import ndimage
from skimage.io import imread

from sklearn_ssimae.datasets import load_mvtec_ad

# No image is cut to less.
PATCH = 128


def brighter(image, factor):
    return image * factor


def steeper(image, factor):
    """More contrast, about the mean of the image."""
    return image.mean() + factor * (image - image.mean())


def gamma(image, exponent):
    return 255 * (image / 255) ** exponent


def gradient(image, share):
    """Darker at the left, brighter at the right."""
    ramp = np.linspace(1 - share / 2, 1 + share / 2, image.shape[1])
    return image * ramp[:, None]


def blurred(image, sigma):
    return ndimage.gaussian_filter(image, (sigma, sigma, 0))


def noisy(image, deviation):
    noise = np.random.default_rng(0).normal(scale=deviation, size=image.shape)
    return image + noise


def moved(image, degrees=0.0, zoom=1.0, order=3):
    """Planes (h, w, c) that are turned and made larger about the centre, and cut to what is full.

    The seam of a mirror image would raise alarms of its own. Only what would be smaller than a
    patch is mirrored.
    """
    angle = np.deg2rad(degrees)
    matrix = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]]) / zoom
    shape = np.array(image.shape[:2])
    needed = np.abs(matrix) @ (shape - 1) / (shape - 1)
    size = np.maximum(np.minimum(shape, PATCH), np.floor(shape / max(1, *needed)).astype(int))
    offset = (shape - 1) / 2 - matrix @ ((size - 1) / 2)
    move = partial(
        ndimage.affine_transform,
        matrix=matrix,
        offset=offset,
        output_shape=tuple(size),
        order=order,
        mode="mirror",
    )
    return np.stack([move(plane) for plane in np.moveaxis(image, 2, 0)], axis=2)


LIGHT = {
    "as they are": lambda image: image,
    **{f"brightness x {x}": partial(brighter, factor=x) for x in (0.75, 0.9, 1.1, 1.25)},
    **{f"contrast x {x}": partial(steeper, factor=x) for x in (0.75, 0.9, 1.1, 1.25)},
    **{f"gamma {x}": partial(gamma, exponent=x) for x in (0.8, 1.25)},
    "gradient of 20 %": partial(gradient, share=0.2),
    "blur, sigma 0.7": partial(blurred, sigma=0.7),
    **{f"noise of {x} grey levels": partial(noisy, deviation=x) for x in (4, 8)},
}
POSES = {
    **{f"turned by {x} degrees": {"degrees": x} for x in (1, 3, 5)},
    **{f"zoomed by {x} %": {"zoom": 1 + x / 100} for x in (-3, 3, 10)},
}


def change(image, name):
    """An image of 8 bits (h, w) or (h, w, c) after a change, rounded to 8 bits."""
    planes = np.atleast_3d(image).astype(float)
    planes = moved(planes, **POSES[name]) if name in POSES else LIGHT[name](planes)
    planes = planes.clip(0, 255).round().astype(np.uint8)
    return planes if image.ndim == 3 else planes[..., 0]


def follow(mask, name):
    """Where a mask (h, w) lies after a change."""
    return moved(mask[..., None].astype(float), **POSES.get(name, {}), order=1)[..., 0] > 0.5


def count(detector, images, masks, name):
    """How many images have a marked pixel in their mask, both after a change."""
    if not images:
        return 0
    marked = detector.segment([change(image, name) for image in images])
    return sum(
        bool((found & follow(mask, name)).any()) for found, mask in zip(marked, masks, strict=True)
    )


def some_of(indices, most):
    """At most so many of the indices, in order."""
    return sorted(np.random.default_rng(0).permutation(indices)[:most].tolist())


def rows(detector, data, names=(*LIGHT, *POSES), most=20):
    """After each change: false alarms of good images, and located defects of half the others."""
    labels = np.asarray(data.target)
    good = some_of(np.flatnonzero(labels != -1), most)
    defective = some_of(np.flatnonzero(labels == -1)[::2], most)
    images = {i: imread(data.test[i]) for i in good + defective}
    for name in names:
        false, located = (
            count(detector, [images[i] for i in part], [find(i) for i in part], name)
            for part, find in (
                (good, lambda i: np.ones(images[i].shape[:2], bool)),
                (defective, lambda i: np.asarray(data.masks[i]) > 0),
            )
        )
        yield {
            "change": name,
            "false alarms": f"{false} of {len(good)}",
            "located": f"{located} of {len(defective)}",
        }


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("detector", type=Path)
    arguments = parser.parse_args()
    data = load_mvtec_ad(arguments.data.parent, arguments.data.name)
    for row in rows(joblib.load(arguments.detector), data):
        print("{:<24} {:>12} {:>12}".format(*row.values()), flush=True)


if __name__ == "__main__":
    main()
