"""Measures and draws which drawn defects are found in made cloth, in millimetres::

python docs/images/detectability.py  # about a minute of one core
"""

from pathlib import Path

import matplotlib.pyplot as plt

from sklearn_ssimae import SSIMAutoencoderDetector
from sklearn_ssimae.datasets import make_fabric
from sklearn_ssimae.inspection import DetectabilityDisplay

PICTURE = Path(__file__).with_suffix(".png")
# A camera that sees 51 mm of cloth on 512 pixels.
MM_PER_PIXEL = 0.1


def main():
    good = make_fabric(24, size=512, random_state=0).images
    detector = SSIMAutoencoderDetector(patch_size=32, max_iter=10, random_state=0, verbose=1)
    detector.fit(good[:14])
    figure = plt.figure(figsize=(13, 8), layout="constrained")
    display = DetectabilityDisplay.from_estimator(
        detector, good[14:], mm_per_pixel=MM_PER_PIXEL, random_state=0, figure=figure
    )
    for kind, found in display.found.items():
        sizes = (f"{found[name]:.2f}" for name in ("a50", "a90", "a90_95"))
        print(f"{kind:<10}", *sizes)
    figure.savefig(PICTURE, dpi=100)


if __name__ == "__main__":
    main()
