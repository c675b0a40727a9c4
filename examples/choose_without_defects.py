r"""
Choosing without one defective image
====================================

How large should SSIM's window be, how narrow the bottleneck, how long the training? A search by
masks needs defective images, and who begins to inspect a material has good ones only.
:func:`~sklearn_ssimae.model_selection.synthetic_defect_scorer` draws defects into good images
that were not trained on, and says how well a detector finds them.

Is that to be trusted? This example makes cloth of two weaves, with the faults of weaving and
their masks, and compares: the score of drawn defects, which sees good cloth alone, with the
average precision by masks of real faults.
"""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
from sklearn.model_selection import GridSearchCV

from sklearn_ssimae import SSIMAutoencoderDetector
from sklearn_ssimae.datasets import make_fabric
from sklearn_ssimae.model_selection import pixel_scorer, synthetic_defect_scorer

# %%
# Two materials
# -------------
# Good cloth to train on; other good cloth to draw defects into; cloth with a fault each: missing
# picks, broken ends, floats, slubs, holes, stains, foreign threads, loose wefts. They are not of
# the kinds that are drawn.

N_TRAIN, N_GOOD, N_FAULTY = 16, 8, 16


def make_cloth(weave: str) -> tuple[np.ndarray, np.ndarray]:
    """Images (40, 192, 192) and masks, in the order above."""
    good = make_fabric(N_TRAIN + N_GOOD, size=192, weave=weave, random_state=0)
    faulty = make_fabric(N_FAULTY, size=192, weave=weave, defects=True, random_state=1)
    images = np.concatenate([good.images, faulty.images])
    return images, np.concatenate([good.masks, faulty.masks])


# %%
# One search, two judges
# ----------------------
# Candidates differ from the first one in one parameter. Both scorers judge the same trained
# networks, on images that were not trained on. That of drawn defects leaves out
# what the masks mark as faulty. With good images alone it is the only one:
# ``GridSearchCV(detector, candidates, scoring=synthetic_defect_scorer()).fit(good_images)``.


def search(
    images: np.ndarray, masks: np.ndarray, n_patches: int, max_iter: int
) -> dict[str, np.ndarray]:
    detector = SSIMAutoencoderDetector(
        scale=0.5, patch_size=32, n_patches=n_patches, max_iter=max_iter, random_state=0
    )
    candidates = [
        {"window_size": [11, 5, 21]},
        {"latent_dim": [4]},
        {"max_iter": [1 + max_iter // 4]},
    ]
    scoring = {"drawn": synthetic_defect_scorer(), "masks": pixel_scorer("average_precision")}
    indices = np.arange(len(images))
    found = GridSearchCV(
        detector,
        candidates,
        scoring=scoring,
        cv=[(indices[:N_TRAIN], indices[N_TRAIN:])],
        refit=False,
    ).fit(images, masks)
    return found.cv_results_


def name_of(candidate: dict[str, int]) -> str:
    (name, value), *_ = candidate.items()
    return f"{name}={value}"


# %%
# Do they agree?
# --------------
# Each dot is a candidate. Where dots rise from left to right, drawn defects tell the better
# candidate from the worse one.


def print_table(weave: str, results: dict[str, np.ndarray]) -> None:
    print(f"{weave:<16}{'drawn defects':>15}{'masks':>9}")
    for row, candidate in enumerate(results["params"]):
        drawn, masks = results["mean_test_drawn"][row], results["mean_test_masks"][row]
        print(f"  {name_of(candidate):<14}{drawn:15.3f}{masks:9.3f}")
    for judge in ("drawn", "masks"):
        best = results["params"][int(results[f"rank_test_{judge}"].argmin())]
        print(f"  best by {judge}: {name_of(best)}")


def draw(all_results: dict[str, dict[str, np.ndarray]]) -> None:
    _, axes = plt.subplots(1, len(all_results), figsize=(10, 4), layout="constrained")
    for ax, (weave, results) in zip(axes, all_results.items(), strict=True):
        drawn, masks = results["mean_test_drawn"], results["mean_test_masks"]
        ax.scatter(drawn, masks, color="#0072b2")
        for place in zip(drawn, masks, results["params"], strict=True):
            ax.annotate(
                name_of(place[2]), place[:2], (0, 6), textcoords="offset points", ha="center"
            )
        ax.margins(0.2)
        ax.set(
            title=f"{weave} weave",
            xlabel="score of drawn defects",
            ylabel="average precision by masks of faults",
        )
    plt.show()


def main(n_patches: int = 600, max_iter: int = 6) -> dict[str, dict[str, np.ndarray]]:
    results = {}
    for weave in ("plain", "twill"):
        results[weave] = search(*make_cloth(weave), n_patches, max_iter)
        print_table(weave, results[weave])
    draw(results)
    return results


# %%
# Drawn defects are a stand-in: they know nothing of what goes wrong with your material. Where a
# few dozen real ones have been found, mark them and search by
# :func:`~sklearn_ssimae.model_selection.pixel_scorer`.

if __name__ == "__main__":
    main()
