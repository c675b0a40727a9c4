"""Measures and draws the threshold of docs/threshold.md: good and faulty cloth beside it.

python docs/images/threshold.py  # two minutes of one core
"""

from pathlib import Path

import matplotlib.pyplot as plt
import torch

from sklearn_ssimae import SSIMAutoencoderDetector
from sklearn_ssimae.datasets import make_fabric
from sklearn_ssimae.inspection import ThresholdDisplay

PICTURE = Path(__file__).with_suffix(".png")
SETTINGS = {"patch_size": 64, "latent_dim": 16, "max_iter": 20, "random_state": 0, "verbose": 1}


def main():
    torch.set_num_threads(1)
    detector = SSIMAutoencoderDetector(**SETTINGS).fit(make_fabric(40, random_state=0).images)
    good = make_fabric(40, random_state=1).images
    faulty = make_fabric(40, defects=True, random_state=2).images
    further = make_fabric(100, random_state=3).images

    def count(learnt_from):
        found, alarms = ((detector.predict(X) == -1).sum() for X in (faulty, further))
        print(f"threshold {detector.threshold_:.2f} from {learnt_from}: {found} of 40 found")
        print(f"{alarms} of 100 further good ones lie above")

    figure, ax = plt.subplots(figsize=(7, 3.2), layout="constrained")
    ThresholdDisplay.from_estimator(detector, good, faulty, ax=ax)
    figure.savefig(PICTURE, dpi=100)
    count("the images that the fit kept")
    detector.fit_threshold(good)
    count("40 good ones")


if __name__ == "__main__":
    main()
