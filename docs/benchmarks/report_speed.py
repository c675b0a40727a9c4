"""How soon a report opens in a browser, and how many frames a second its slider draws.

Writes a report of photographs with drawn defects, and opens it in a headless Chromium that is
large enough to show about 50 of them. Needs ``pip install "sklearn-ssimae[browser]"`` and a
Chromium::

    python docs/benchmarks/report_speed.py
    python docs/benchmarks/report_speed.py --images 400 --chromium /opt/chrome/chrome

Headless, the processor draws what a graphics card would: a desk is faster.
"""

import argparse
import tempfile
import time
import warnings
from pathlib import Path

import numpy as np
import torch
from playwright.sync_api import Page, sync_playwright
from skimage import data
from sklearn.exceptions import ConvergenceWarning

from sklearn_ssimae import SSIMAutoencoderDetector
from sklearn_ssimae.inspection import write_report

# Every card on the screen has its outline. Milliseconds since the file was asked for.
OPENED = """() => {
    const isSeen = (card) => card.getBoundingClientRect().top < innerHeight;
    const cards = [...document.querySelectorAll(".card")].filter(isSeen);
    const isDrawn = (card) => card.querySelector("canvas").width > 0
        && card.querySelector(".photo").complete;
    return cards.every(isDrawn) && [performance.now(), cards.length];
}"""
# The slider goes to and fro for some seconds, a step a frame.
SLIDE = """(seconds) => new Promise((resolve) => {
    const slider = document.getElementById("slider");
    const low = Number(slider.min), high = Number(slider.max);
    const started = performance.now();
    let frames = 0;
    const step = () => {
        const elapsed = (performance.now() - started) / 1000;
        if (elapsed > seconds) return resolve(frames / elapsed);
        slider.value = low + (high - low) * Math.abs(Math.sin(2 * elapsed));
        slider.dispatchEvent(new Event("input"));
        frames += 1;
        requestAnimationFrame(step);
    };
    requestAnimationFrame(step);
})"""


def make_images(n: int, size: int) -> np.ndarray:
    """Crops of three photographs, half of them with a bright or dark spot."""
    rng = np.random.default_rng(0)
    photographs = (data.brick(), data.grass(), data.gravel())
    images = np.empty((n, size, size), dtype=np.uint8)
    for index in range(n):
        photograph = photographs[index % 3]
        y, x = rng.integers(photograph.shape[0] - size + 1, size=2)
        images[index] = photograph[y : y + size, x : x + size]
        if index % 2:
            y, x = rng.integers(size - 40, size=2)
            images[index, y : y + 30, x : x + 40] = rng.integers(256)
    return images


def write(path: Path, images: np.ndarray) -> None:
    detector = SSIMAutoencoderDetector(
        patch_size=32, latent_dim=32, n_patches=200, max_iter=10, stride=32, random_state=0
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        detector.fit(images[::2])
    masks = np.arange(len(images)) % 2 * -1
    write_report(path, detector, images, masks=masks, good=images[::20], max_images=len(images))


def measure(page: Page, path: Path, seconds: float) -> tuple[float, int, float]:
    page.goto(path.as_uri(), wait_until="commit")
    milliseconds, n_seen = page.wait_for_function(OPENED).json_value()
    return milliseconds / 1000, n_seen, page.evaluate(SLIDE, seconds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--size", type=int, default=320, help="side of the square images")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=3.0, help="that the slider moves")
    parser.add_argument("--chromium", default="/usr/bin/chromium")
    args = parser.parse_args()
    torch.set_num_threads(1)

    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        path = Path(folder) / "report.html"
        started = time.perf_counter()
        write(path, make_images(args.images, args.size))
        print(f"fitted and written in {time.perf_counter() - started:.0f} s")
        print(f"{path.stat().st_size / args.images / 1000:.1f} kB an image")
        browser = playwright.chromium.launch(executable_path=args.chromium, args=["--no-sandbox"])
        print("seconds to open  images seen  frames a second")
        for _ in range(args.repeats):
            page = browser.new_page(viewport={"width": 2560, "height": 2800})
            opening, n_seen, frames = measure(page, path, args.seconds)
            print(f"{opening:15.2f}  {n_seen:11d}  {frames:15.1f}", flush=True)
            page.close()
        browser.close()


if __name__ == "__main__":
    main()
