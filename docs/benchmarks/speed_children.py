"""What speed.py measures in processes of their own: peak memory and imports."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
from PIL import Image

_CHILD = """
import json, sys, warnings
from sklearn_ssimae import SSIMAutoencoderDetector
task, paths, options = json.loads(sys.argv[1])
warnings.simplefilter("ignore")
if task != "import":
    detector = SSIMAutoencoderDetector(max_iter=1, threshold=1.0, stride=128, **options)
    detector.fit(paths if task == "fit" else paths[:1])
    if task == "score":
        detector.score_samples(paths)
# Linux; not ru_maxrss, which a process inherits from the one that starts it.
peak = next(line for line in open("/proc/self/status") if line.startswith("VmHWM"))
print(int(peak.split()[1]) * 1024)
"""


def write_images(folder: Path, n_images: int, side: int) -> None:
    """Grey noise, `side-index.png`."""
    random = np.random.default_rng(0)
    for index in range(n_images):
        pixels = random.integers(256, size=(side, side), dtype=np.uint8)
        Image.fromarray(pixels).save(Path(folder) / f"{side}-{index}.png", compress_level=0)


def peak_megabytes(
    task: str, folder: str, n_images: int = 1, side: int = 512, **options: int
) -> int:
    """Peak of the resident memory of a process that imports, or also fits, or also scores.

    What scores is fitted on crops that take less memory than scoring.
    """
    paths = [str(Path(folder) / f"{side}-{index}.png") for index in range(n_images)]
    if task == "score":
        options |= {"n_patches": 8, "batch_size": 1}
    case = json.dumps([task, paths, options])
    output = subprocess.run(
        [sys.executable, "-c", _CHILD, case], check=True, capture_output=True, text=True
    ).stdout
    return round(int(output) / 1e6)


def run_statement(statement: str) -> None:
    """Run a statement in a new process."""
    subprocess.run([sys.executable, "-c", statement], check=True)
