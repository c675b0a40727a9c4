r"""
Rules for the threshold, and the false alarms they lead to
==========================================================

Without any defective image, the threshold must come from the residual maps of good ones.
Four of the rules of :class:`~sklearn_ssimae.ResidualThresholder` count pixels: the largest value
("max"), a quantile, mean plus some standard deviations ("sigma"), and the rule of MVTec AD, the
least threshold that leaves no large region ("area"). This example compares what they lead to,
first with their default settings, then with settings that mark the same share of good pixels.
"""

from __future__ import annotations

from dataclasses import dataclass

import matplotlib.pyplot as plt
import numpy as np
from skimage.measure import label
from sklearn.model_selection import ShuffleSplit

from sklearn_ssimae import ResidualThresholder, SSIMAutoencoderDetector
from sklearn_ssimae.datasets import make_fabric
from sklearn_ssimae.metrics import iou_score

# %%
# Maps to set thresholds on
# -------------------------
# The detector learns 24 good pieces of cloth. Maps of images that a detector was trained on are
# darker than those of others, so thresholds should not come from them: 16 further pieces set
# them. Eight faults of weaving, twice each, are to be found.


@dataclass
class Maps:
    """Residual maps of good pieces, of pieces with defects, and the masks of these."""

    good: np.ndarray
    defective: np.ndarray
    masks: np.ndarray


def make_maps(n_patches: int, max_iter: int) -> Maps:
    detector = SSIMAutoencoderDetector(
        patch_size=32,
        latent_dim=50,
        n_patches=n_patches,
        max_iter=max_iter,
        threshold=1.0,  # not used here
        random_state=0,
    )
    detector.fit(make_fabric(24, size=128, random_state=0).images)
    good = make_fabric(16, size=128, random_state=1).images
    faulty = make_fabric(16, size=128, defects=True, random_state=2)
    return Maps(detector.transform(good), detector.transform(faulty.images), faulty.masks)


# %%
# Rules with the same false-alarm rate
# ------------------------------------
# Every rule ends in one number. If two rules mark the same share of the same pixels, the
# numbers are the same, and so are the masks. Rules differ in how much the number
# depends on the good images that happened to be at hand. "max" has nothing to be set.


def default_rules() -> list[ResidualThresholder]:
    return [ResidualThresholder(strategy=name) for name in ("max", "quantile", "sigma", "area")]


def rules_for_rate(good: np.ndarray, rate: float) -> list[ResidualThresholder]:
    """Rules whose settings mark the share `rate` of the pixels of all good maps."""
    threshold = np.quantile(good, 1 - rate)
    largest_region = max(
        np.bincount(label(piece > threshold).ravel())[1:].max(initial=0) for piece in good
    )
    return [
        ResidualThresholder(strategy="max"),
        ResidualThresholder(strategy="quantile", quantile=1 - rate),
        ResidualThresholder(
            strategy="sigma", n_sigma=float((threshold - good.mean()) / good.std())
        ),
        ResidualThresholder(strategy="area", min_area=int(largest_region) + 1),
    ]


# %%
# What they lead to
# -----------------
# In each of many rounds, a random half of the good pieces sets the threshold. The other half
# shows how many false alarms follow.


def judge(rule: ResidualThresholder, maps: Maps, n_rounds: int) -> dict[str, np.ndarray]:
    """Figures of a rule, one for each round."""
    rows = []
    for fitted_on, held_out in ShuffleSplit(n_rounds, test_size=0.5, random_state=0).split(
        maps.good
    ):
        rule.fit(maps.good[fitted_on])
        alarms = rule.transform(maps.good[held_out])
        found = rule.transform(maps.defective)
        rows.append(
            {
                "threshold": rule.threshold_,
                "false alarms, pixels": alarms.mean(),
                "false alarms, pieces": alarms.any(axis=(1, 2)).mean(),
                "recall of pixels": found[maps.masks].mean(),
                "IoU": iou_score(maps.masks, found),
            }
        )
    return {name: np.array([row[name] for row in rows]) for name in rows[0]}


def print_table(results: dict[str, dict[str, np.ndarray]]) -> None:
    names = list(next(iter(results.values())))
    print(f"{'rule':<10}" + "".join(f"{name:>24}" for name in names))
    for rule, figures in results.items():
        cells = (f"{values.mean():.4f} ± {values.std():.4f}" for values in figures.values())
        print(f"{rule:<10}" + "".join(f"{cell:>24}" for cell in cells))


def draw(results: dict[str, dict[str, np.ndarray]], rate: float) -> None:
    """A dot for each round."""
    _, axes = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
    random = np.random.default_rng(0)
    for ax, name in zip(axes, ("false alarms, pixels", "IoU"), strict=True):
        for place, figures in enumerate(results.values()):
            values = figures[name]
            jitter = random.uniform(-0.15, 0.15, len(values))
            ax.plot(place + jitter, values, ".", color="#0072b2", alpha=0.5, markeredgewidth=0)
            ax.plot([place - 0.3, place + 0.3], [values.mean()] * 2, color="black")
        ax.set(xticks=range(len(results)), xticklabels=list(results), ylim=(0, None))
    axes[0].axhline(rate, color="#d55e00", linestyle="--", label="the rate that was aimed at")
    axes[0].legend()
    axes[0].set(title="Share of unseen good pixels marked")
    axes[1].set(title="Intersection over union on defects")
    plt.show()


def main(
    n_patches: int = 2000, max_iter: int = 10, rate: float = 0.01, n_rounds: int = 50
) -> dict[str, dict[str, np.ndarray]]:
    maps = make_maps(n_patches, max_iter)
    print("Default settings (mean ± standard deviation over the rounds)")
    print_table({rule.strategy: judge(rule, maps, n_rounds) for rule in default_rules()})
    print(f"\nSettings that mark {rate:.1%} of all good pixels; max cannot be set")
    rules = rules_for_rate(maps.good, rate)
    results = {rule.strategy: judge(rule, maps, n_rounds) for rule in rules}
    print_table(results)
    draw(results, rate)
    return results


if __name__ == "__main__":
    main()
