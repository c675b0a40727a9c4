"""Which constants c1, c2 of SSIM detect better: those of Wang et al. or those the paper prints?

Trains one detector with each and scores the test images of both with either map; the map's
constants need no new fit. Prints a table of pixel ROC AUCs::

    python docs/benchmarks/ssim_constants.py DATA/grid --scale 0.5
    python docs/benchmarks/ssim_constants.py DATA/nanotwice --latent-dim 500
"""

import argparse
import json
import time
from pathlib import Path

from sklearn_ssimae import SSIMAutoencoderDetector
from sklearn_ssimae.datasets import load_mvtec_ad

CONSTANTS = {"(0.01², 0.03²)": (0.01**2, 0.03**2), "(0.01, 0.03)": (0.01, 0.03)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="category in the layout of MVTec AD")
    parser.add_argument("--scale", type=float, default=1.0)
    parser.add_argument("--latent-dim", type=int, default=100)
    parser.add_argument("--max-iter", type=int, default=40, help="epochs of 1000 crops")
    parser.add_argument("--precision", default="bfloat16")
    parser.add_argument("--window-sizes", type=int, nargs="+", default=[11, 19])
    args = parser.parse_args()

    data = load_mvtec_ad(args.folder.parent, args.folder.name)
    for trained, (c1, c2) in CONSTANTS.items():
        detector = SSIMAutoencoderDetector(
            c1=c1,
            c2=c2,
            scale=args.scale,
            latent_dim=args.latent_dim,
            max_iter=args.max_iter,
            n_iter_no_change=args.max_iter,
            precision=args.precision,
            threshold=1.0,
            random_state=0,
        )
        started = time.perf_counter()
        detector.fit(data.train)
        seconds = time.perf_counter() - started
        for scored, (map_c1, map_c2) in CONSTANTS.items():
            for window_size in args.window_sizes:
                detector.set_params(c1=map_c1, c2=map_c2, window_size=window_size)
                row = {
                    "data": args.folder.name,
                    "trained": trained,
                    "map": scored,
                    "window_size": window_size,
                    "pixel_roc_auc": round(detector.score(data.test, data.masks), 4),
                    "fit_seconds": round(seconds),
                }
                print(json.dumps(row, ensure_ascii=False), flush=True)


if __name__ == "__main__":
    main()
