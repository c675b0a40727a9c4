"""Whether the bound a90/95 that `detectability` states holds as often as it should.

Detectors of known curves are simulated, and it is counted how often the bound holds; a table, a
row for each steepness. It takes some minutes. `real_defects.py` compares with real defects.
"""

from __future__ import annotations

from argparse import ArgumentParser

import numpy as np
from scipy.special import expit, logit

from sklearn_ssimae.inspection._pod import fit_curve

# Half of what the simulated detectors find, in pixels; sizes and number of the defects.
A50, SIZES, N_DEFECTS = 12.0, (3.0, 110.0), 120


def simulate(n_seeds: int) -> None:
    """Print how often a90/95 is at least the size that is truly found in 90 % of cases."""
    print("slope   true a90   bound holds   no bound   bound / true a90 (median)")
    for slope in (1.5, 3, 6, 15):
        truth = A50 * np.exp(logit(0.9) / slope)
        random = np.random.default_rng(int(10 * slope))
        bounds = np.array([_bound(random, slope) for _ in range(n_seeds)])
        has_none = np.isnan(bounds)
        holds = (has_none | (bounds >= truth)).mean()
        print(
            f"{slope:5}   {truth:8.1f}   {holds:11.1%}   {has_none.mean():8.1%}   "
            f"{np.nanmedian(bounds) / truth:.2f}",
            flush=True,
        )


def _bound(random: np.random.Generator, slope: float) -> float:
    sizes = np.exp(random.uniform(*np.log(SIZES), N_DEFECTS))
    hits = random.uniform(size=N_DEFECTS) < expit(slope * np.log(sizes / A50))
    return fit_curve(sizes, hits).a90_95


def main() -> None:
    parser = ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seeds", type=int, default=1000, help="simulated detectors a row")
    simulate(parser.parse_args().seeds)


if __name__ == "__main__":
    main()
