"""How soon DriftMonitor announces changes of made cloth, and how often it does so for nothing.

Images are measured once: good ones, changed ones, defective ones. Streams are drawn from the
measures. Good measures are drawn with a little jitter, the training images' as well, so that
all of a stream are as likely to come in any order.

    python docs/benchmarks/drift.py [--weave plain] [--n-good 200] [--n-long 100]
"""

import argparse
import copy
from dataclasses import replace

import numpy as np
from scipy import ndimage

from sklearn_ssimae import L2AutoencoderDetector
from sklearn_ssimae.datasets import make_fabric
from sklearn_ssimae.inspection import DriftMonitor

N_TRAIN, N_CHANGED, N_STREAMS, LONG = 60, 30, 20, 10_000
STARTS, WITHIN = (1, 500), 50
MARGIN, SIDE = 16, 192
# Of the standard deviation.
JITTER = 0.1
NOISE = 8 / 255


def cropped(images):
    return np.clip(images[:, MARGIN:-MARGIN, MARGIN:-MARGIN], 0, 1).astype(np.float32)


def cloth(n_images, seed, weave, **options):
    size = SIDE + 2 * MARGIN
    return make_fabric(n_images, size=size, weave=weave, random_state=seed, **options).images


def turned(images):
    return np.array([ndimage.rotate(i, 3, reshape=False, order=3, mode="nearest") for i in images])


def changes(weave):
    """Images (n, h, w) by what was changed."""
    images = cloth(N_CHANGED, 2, weave)
    noise = np.random.default_rng(0).normal(0, NOISE, images.shape)
    return {
        "brightness × 1.1": images * 1.1,
        "blur σ 1": ndimage.gaussian_filter(images, (0, 1, 1)),
        "noise of 8 grey levels": images + noise,
        "turn of 3°": turned(images),
        "another cloth": cloth(N_CHANGED, 3, "twill" if weave == "plain" else "plain"),
    }


def measured(monitor, images):
    """The measures (n, k) of images."""
    maps = monitor.detector.transform(images)
    return np.array(
        [
            monitor._measure(image[..., None], None, residual)
            for image, residual in zip(images, maps, strict=True)
        ]
    )


def draw(measures, n_images, random):
    """As if from a smooth distribution: chosen with a little jitter."""
    jitter = random.normal(0, JITTER, (n_images, measures.shape[1])) * measures.std(0)
    return measures[random.integers(len(measures), size=n_images)] + jitter


def new_monitor(detector, good, random):
    """A monitor of a detector whose training images' measures are drawn as well."""
    calibration = detector._calibration
    n_looks = calibration.looks.looks.shape[1]
    looks = draw(good, len(calibration.looks.looks), random)[:, :n_looks]
    largest = np.exp(draw(good, len(calibration.levels.largest), random)[:, -1])
    drawn = copy.copy(detector)
    drawn._calibration = replace(
        calibration,
        looks=replace(calibration.looks, looks=looks),
        levels=replace(calibration.levels, largest=largest),
    )
    return DriftMonitor(drawn)


def announced(monitor, stream):
    """Number of the image at which drift is announced; None for never."""
    for number, measures in enumerate(stream, 1):
        if monitor._take(measures):
            return number
    return None


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--weave", default="plain")
    parser.add_argument("--n-good", type=int, default=200)
    parser.add_argument("--n-long", type=int, default=100)
    options = parser.parse_args()
    random = np.random.default_rng(0)
    detector = L2AutoencoderDetector(
        patch_size=64, latent_dim=32, n_patches=500, max_iter=10, random_state=0
    ).fit(cropped(cloth(N_TRAIN, 0, options.weave)))
    monitor = DriftMonitor(detector)
    good = measured(monitor, cropped(cloth(options.n_good, 1, options.weave)))
    print(
        f"{options.weave}: {N_TRAIN} training images, {options.n_good} further good images",
        flush=True,
    )

    for name, images in changes(options.weave).items():
        changed = measured(monitor, cropped(images))
        for start in STARTS:
            delays, begins = [], []
            for _ in range(N_STREAMS):
                monitor = new_monitor(detector, good, random)
                chosen = changed[random.integers(N_CHANGED, size=4 * WITHIN)]
                stream = np.concatenate([draw(good, start - 1, random), chosen])
                number = announced(monitor, stream)
                delays.append(np.inf if number is None else number - start + 1)
                begins.append(monitor.since_ or np.nan)
            delays = np.array(delays)
            in_time = (delays > 0) & (delays <= WITHIN)
            print(
                f"{name}, from image {start}: {in_time.mean():.0%} within {WITHIN}, median "
                f"{np.median(delays):.0f}, most {delays.max():.0f}; since {np.median(begins):.0f}; "
                f"{monitor.describe()}",
                flush=True,
            )

    defective = measured(monitor, cropped(cloth(40, 4, options.weave, defects=True)))
    for every in (50, 10):
        n_announced = 0
        for _ in range(N_STREAMS):
            stream = draw(good, 1000, random)
            stream[::every] = defective[random.integers(len(defective), size=len(stream[::every]))]
            n_announced += announced(new_monitor(detector, good, random), stream) is not None
        print(f"a defect in 1 of {every}, 1,000 images: {n_announced} of {N_STREAMS} announced")

    numbers = [
        announced(new_monitor(detector, good, random), draw(good, LONG, random))
        for _ in range(options.n_long)
    ]
    n_announced = sum(number is not None for number in numbers)
    print(f"{LONG} good images: {n_announced} of {options.n_long} announced")


if __name__ == "__main__":
    main()
