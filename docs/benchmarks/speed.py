"""How fast and how large: every figure of docs/speed.md, as Markdown tables and as JSON.

Every comparison runs its cases in turn, several times; ratios are taken turn by turn and the
median is printed, so that whatever else a machine does meets all cases alike. Every table, and
every training, has a process of its own: what ran before leaves the allocator in another state::

    pip install -c constraints.txt -e ".[bench]"
    python docs/benchmarks/speed.py --json speed.json
    python docs/benchmarks/speed.py --only ssim-loss scoring --repeats 9

On a machine that is not quiet, OMP_NUM_THREADS=1 and --clock cpu, which counts the seconds that
a process ran and not those it waited, give steadier figures.
"""

import argparse
import itertools
import json
import platform
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import speed_timing
import torch
from scipy import ndimage
from speed_children import peak_megabytes, run_statement, write_images
from speed_gpu import same_auc, training_on_gpu
from speed_ssim import ssim_loss, ssim_numpy
from speed_timing import Rows, alternate, gflops, matrix_product, ms, own_process, ratio
from speed_training import PATCH, PRECISIONS, plain_network, training
from torch.utils.flop_counter import FlopCounterMode

from sklearn_ssimae import SSIMAutoencoderDetector, ssim_map
from sklearn_ssimae._maps.filters import disk, gaussian_smoothing, grey_opening
from sklearn_ssimae._maps.tiling import BATCH_SIZE, positions
from sklearn_ssimae._networks.devices import forward

STRIDE = 30


# Scoring ------------------------------------------------------------------------------


def fitted_detector(**parameters: Any) -> SSIMAutoencoderDetector:
    """A detector whose network has seen a few crops: its speed is that of a good one."""
    images = np.random.default_rng(0).random((1, 256, 256), dtype=np.float32)
    detector = SSIMAutoencoderDetector(
        n_patches=64, max_iter=1, threshold=1.0, random_state=0, **parameters
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return detector.fit(images)


def count_patches(side: int, stride: int = STRIDE) -> int:
    return len(positions(side, PATCH, stride)) ** 2


def scoring(repeats: int) -> Rows:
    """Scores of 512×512 images: against the machine, the network, a plain loop at stride 30."""
    images = np.random.default_rng(1).random((16, 512, 512), dtype=np.float32)
    patches = torch.rand(BATCH_SIZE, 1, PATCH, PATCH).to(memory_format=torch.channels_last)
    detectors = {precision: fitted_detector(precision=precision) for precision in PRECISIONS}
    plain = plain_network().eval()

    @torch.no_grad()
    def network_alone(precision: str, n_patches: int) -> None:
        for _ in range(-(-n_patches // BATCH_SIZE)):
            forward(detectors[precision].network_, precision, patches)

    runs = list(itertools.product(PRECISIONS, (STRIDE, PATCH // 2), (1, 16)))
    cases: dict[Any, Callable[[], Any]] = {"loop": lambda: loop_over_patches(plain, images[0])}
    for precision, stride, n in runs:
        detector, n_patches = detectors[precision], n * count_patches(512, stride)
        cases[precision] = matrix_product(PRECISIONS[precision])
        cases[precision, stride, n] = lambda d=detector, stride=stride, n=n: d.set_params(
            stride=stride
        ).score_samples(images[:n])
        cases["network", precision, stride, n] = lambda p=precision, k=n_patches: network_alone(
            p, k
        )
    times = alternate(cases, repeats)

    with FlopCounterMode(display=False) as counter, torch.no_grad():
        detectors["float32"].network_(patches)
    operations = counter.get_total_flops() / BATCH_SIZE
    return [
        {
            "precision": precision,
            "stride": stride,
            "images at once": n,
            "ms an image": ms(times[precision, stride, n] / n),
            "matrix GFLOP/s": round(float(np.median(gflops(times[precision])))),
            "share of it": ratio(
                gflops(times[precision, stride, n], n * count_patches(512, stride) * operations),
                gflops(times[precision]),
            ),
            "network's share": ratio(
                times["network", precision, stride, n], times[precision, stride, n]
            ),
            "times the loop": ratio(n * times["loop"], times[precision, stride, n]),
        }
        for precision, stride, n in runs
    ]


@torch.no_grad()
def loop_over_patches(network: torch.nn.Module, image: np.ndarray) -> np.ndarray:
    """Residual map of an image (h, w), patch by patch with scikit-image's SSIM, averaged."""
    from skimage.metrics import structural_similarity

    total, count = np.zeros_like(image), np.zeros_like(image)
    for y in positions(image.shape[0], PATCH, STRIDE):
        for x in positions(image.shape[1], PATCH, STRIDE):
            window = (slice(y, y + PATCH), slice(x, x + PATCH))
            patch = np.ascontiguousarray(image[window])
            drawn = network(torch.from_numpy(patch)[None, None])[0, 0].numpy()
            options = {"win_size": 11, "use_sample_covariance": False, "data_range": 1.0}
            total[window] += 1 - structural_similarity(patch, drawn, full=True, **options)[1]
            count[window] += 1
    return ndimage.grey_opening(total / count, footprint=disk(4))


def filters(repeats: int) -> Rows:
    """Shares of the filters in the time of scoring one image of 1024×1024."""
    detector = fitted_detector()
    image = np.random.default_rng(1).random((1, 1024, 1024), dtype=np.float32)
    residual = detector.transform(image)[0]
    times = alternate(
        {
            "score": lambda: detector.score_samples(image),
            "opening, diameter 4": lambda: grey_opening(torch.from_numpy(residual), 4),
            "smoothing, σ = 8": lambda: gaussian_smoothing(torch.from_numpy(residual), 8.0),
            "SSIM map": lambda: ssim_map(image, image),
        },
        repeats,
    )
    return [
        {
            "part": name,
            "ms": ms(seconds),
            "share of the time": round(float(np.median(seconds / times["score"])), 4),
        }
        for name, seconds in times.items()
    ]


def linear(repeats: int) -> Rows:
    """Time by area, number of images and stride; the cost a patch is the same in all rows."""
    random = np.random.default_rng(1)
    runs = [(side, 1, STRIDE) for side in (256, 512, 1024, 1536)]
    runs += [(256, n_images, STRIDE) for n_images in (4, 16, 64)]
    runs += [(512, 1, stride) for stride in (15, 60)] + [(1024, 1, PATCH // 2)]
    detector = fitted_detector()
    cases: dict[str, Callable[[], Any]] = {}
    for side, n_images, stride in runs:
        images = random.random((n_images, side, side), dtype=np.float32)
        cases[f"{side} {n_images} {stride}"] = lambda images=images, stride=stride: (
            detector.set_params(stride=stride).score_samples(images)
        )
    times = alternate(cases, repeats)
    rows: Rows = []
    for side, n_images, stride in runs:
        seconds = times[f"{side} {n_images} {stride}"]
        law = n_images * (side / 512) ** 2 * (30 / stride) ** 2
        patches = n_images * count_patches(side, stride)
        rows.append(
            {
                "side": side,
                "images": n_images,
                "stride": stride,
                "ms": ms(seconds),
                "patches": patches,
                "ms a patch": round(1000 * float(np.median(seconds)) / patches, 2),
                "time / (area · images · (30/stride)²), 512 = 1": ratio(
                    seconds, law * times["512 1 30"]
                ),
            }
        )
    return rows


# Memory and import --------------------------------------------------------------------


def memory(repeats: int) -> Rows:
    """Peak memory of a process that fits, or scores, PNG files of 512×512."""
    rows: Rows = []
    with tempfile.TemporaryDirectory() as folder:
        for side, n_images in ((512, 400), (2048, 4)):
            write_images(Path(folder), n_images, side)
        base = peak_megabytes("import", folder)
        runs: list[tuple[str, dict[str, int]]] = [
            (task, {"n_images": n_images})
            for task in ("fit", "score")
            for n_images in (10, 100, 400)
        ]
        few = {"n_images": 10, "n_patches": 256}
        runs += [("fit", {"batch_size": size} | few) for size in (8, 32, 128)]
        runs += [("fit", {"patch_size": size} | few) for size in (64, 256)]
        runs += [("score", {"patch_size": size} | few) for size in (64, 256)]
        runs += [("score", {"side": 2048, "n_images": 4})]
        standard = {"side": 512, "n_patches": 1000, "patch_size": 128, "batch_size": 32}
        for task, options in runs:
            case = standard | options
            peak = peak_megabytes(task, folder, **case)
            rows.append({"task": task, **case, "peak MB": peak, "over the import": peak - base})
    return rows


def imports(repeats: int) -> Rows:
    """Seconds of a new process that imports and ends; what torch does not need, beside it."""
    statements = [
        "import torch",
        "import torch, sklearn.base",
        "import sklearn_ssimae",
        "from sklearn_ssimae import ssim_map",
        "from sklearn_ssimae import SSIMAutoencoderDetector",
    ]
    times = alternate({s: lambda s=s: run_statement(s) for s in statements}, repeats)
    torch_alone = times["import torch"]
    return [
        {
            "statement": f"`{statement}`",
            "s": round(float(np.median(seconds)), 2),
            "s beyond torch": round(float(np.median(seconds - torch_alone)), 2),
        }
        for statement, seconds in times.items()
    ]


# --------------------------------------------------------------------------------------

SECTIONS: dict[str, Callable[[int], Rows]] = {
    "ssim-loss": ssim_loss,
    "ssim-map": ssim_numpy,
    "training": training,
    "scoring": scoring,
    "filters": filters,
    "linear": linear,
    "memory": memory,
    "import": imports,
}
ON_GPU: dict[str, Callable[[int], Rows]] = {"gpu-training": training_on_gpu, "gpu-auc": same_auc}
TABLES = SECTIONS | ON_GPU


def as_markdown(rows: Rows) -> str:
    header = list(rows[0])
    lines = [header, ["---"] * len(header), *([str(row[key]) for key in header] for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def machine() -> dict[str, Any]:
    names = [
        line.split(":")[1].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if line.startswith("model name")
    ]
    return {
        "processor": names[0] if names else platform.processor(),
        "cores": len(names),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "capability": torch.backends.cpu.get_cpu_capability(),
    }


def run_section(name: str, repeats: int, clock: str) -> Rows:
    """A table; this process is its own."""
    speed_timing.chosen_clock = clock
    return TABLES[name](repeats)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", choices=TABLES, help="sections to run")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--clock", choices=speed_timing.CLOCKS, default="wall")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--json", type=Path, help="file to store the rows in")
    args = parser.parse_args()
    sections = ON_GPU if args.device == "cuda" else SECTIONS
    results: dict[str, Any] = {"machine": machine() | {"clock": args.clock}}
    print(", ".join(f"{key} {value}" for key, value in results["machine"].items()))
    for name in args.only or sections:
        with own_process() as process:
            rows = process.submit(run_section, name, args.repeats, args.clock).result()
        results[name] = rows
        title = TABLES[name].__doc__.splitlines()[0]
        print(f"\n## {name}: {title}\n\n{as_markdown(rows)}", flush=True)
        if args.json:
            args.json.write_text(json.dumps(results, indent=1, ensure_ascii=False))


if __name__ == "__main__":
    main()
