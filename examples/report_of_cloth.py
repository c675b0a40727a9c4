"""
A report of cloth, in which the threshold can be moved and the images judged
============================================================================

A detector learns good cloth for some seconds and looks for the faults of weaving in other pieces.
:func:`~sklearn_ssimae.inspection.write_report` writes what it finds into one HTML file, which is
shown on the page on :ref:`the report <report-of-cloth>`::

    python examples/report_of_cloth.py cloth.html

Move the slider down, and the faults that were missed are found, until good cloth is called
defective too. Click an image to see it at full size; say what it is by the buttons below it or by
the keys G, D and S; save the verdicts as a table.
"""

from __future__ import annotations

import sys
from contextlib import chdir
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from PIL import Image

from sklearn_ssimae import SSIMAutoencoderDetector
from sklearn_ssimae.datasets import make_fabric
from sklearn_ssimae.inspection import write_report

# Enough for a look; the default fit learns for minutes and finds more.
SHORT = {"scale": 0.5, "patch_size": 32, "n_patches": 1000, "max_iter": 4, "random_state": 0}


def cloth(n_samples: int, random_state: int, *, defects: bool = False) -> Any:
    """Cloth as a camera gives it, in 8 bits."""
    made = make_fabric(n_samples, defects=defects, random_state=random_state)
    made.images = np.round(255 * made.images).astype(np.uint8)
    return made


def main(path: Path, **parameters: Any) -> None:
    learnt, kept = cloth(24, 0), cloth(20, 1)
    faulty, sound = cloth(16, 2, defects=True), cloth(8, 3)
    detector = SSIMAutoencoderDetector(**{**SHORT, **parameters}).fit(learnt.images)
    path = path.resolve()
    # The report names its folder and files as they are given.
    with TemporaryDirectory() as folder, chdir(folder):
        Path("cloth").mkdir()
        files = []
        for made in (faulty, sound):
            for index, (image, kind) in enumerate(zip(made.images, made.kinds, strict=True)):
                files.append(Path("cloth") / f"{kind}-{index}.png")
                Image.fromarray(image).save(files[-1])
        masks = np.concatenate([faulty.masks, sound.masks])
        write_report(path, detector, files, masks=masks, good=kept.images)


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "cloth.html"))
