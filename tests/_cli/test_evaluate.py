"""``ssimae evaluate``."""

import json
import re

import numpy as np
import pytest
from PIL import Image
from shared_cli import files_in
from sklearn.metrics import roc_auc_score

from sklearn_ssimae.datasets import load_mvtec_ad
from sklearn_ssimae.metrics import (
    pixel_average_precision_score,
    pixel_roc_auc_score,
    pro_auc_score,
)


@pytest.fixture
def data_set(photos, tmp_path):
    """Two categories: "grass" with defects, "lawn" without a good image."""
    mask = np.zeros((48, 56), np.uint8)
    mask[10:20, 10:30] = 255
    images = {
        "grass/train/good/0.png": photos / "good/0.png",
        "grass/test/good/0.png": photos / "test/a/0.png",
        "grass/test/good/1.png": photos / "good/1.png",
        "grass/test/stain/0.png": photos / "test/b/0.png",
        "grass/ground_truth/stain/0_mask.png": mask,
        "lawn/train/good/0.png": photos / "good/1.png",
        "lawn/test/stain/0.png": photos / "test/b/0.png",
        "lawn/ground_truth/stain/0_mask.png": mask,
    }
    for name, image in images.items():
        file = tmp_path / "data" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(image, np.ndarray):
            Image.fromarray(image).save(file)
        else:
            file.write_bytes(image.read_bytes())
    return tmp_path / "data"


def test_figures(ssimae, detector, detector_file, data_set, tmp_path):
    file = tmp_path / "figures.json"
    outcome = ssimae("evaluate", detector_file, data_set / "grass", "--json", file)
    assert outcome.status == 0
    assert outcome.errors == ""
    data = load_mvtec_ad(data_set, "grass")
    maps, found = detector.transform(data.test), detector.predict(data.test) == -1
    content = json.loads(file.read_text(encoding="utf-8"))
    assert content["detector"] == str(detector_file)
    (row,) = content["categories"]
    assert row == {
        "category": "grass",
        "pixel_roc_auc": pixel_roc_auc_score(data.masks, maps),
        "average_precision": pixel_average_precision_score(data.masks, maps),
        "pro_auc": pro_auc_score(data.masks, maps),
        "image_roc_auc": roc_auc_score(data.target == -1, -detector.score_samples(data.test)),
        "n_found": found[data.target == -1].sum(),
        "n_located": int((data.masks[-1] & detector.segment([data.test[-1]])[0]).any()),
        "n_defective": 1,
        "n_false_alarms": found[data.target == 1].sum(),
        "n_good": 2,
        "threshold": detector.threshold_,
    }
    head, line = outcome.output.splitlines()
    assert head.split()[0] == "category"
    assert line.split()[:3] == [
        "grass",
        f"{row['pixel_roc_auc']:.4f}",
        f"{row['average_precision']:.4f}",
    ]
    assert row["n_located"] == 1
    assert line.endswith(f"{row['n_found']} of 1       1 of 1{row['n_false_alarms']:>8} of 2")


def test_found_and_not_located(ssimae, detector_file, data_set):
    """A mask far from what is marked: it is said."""
    mask = np.zeros((48, 56), np.uint8)
    mask[-1, -1] = 255
    Image.fromarray(mask).save(data_set / "lawn/ground_truth/stain/0_mask.png")
    outcome = ssimae("evaluate", detector_file, data_set)
    assert outcome.status == 0
    *_, lawn, last = outcome.output.splitlines()
    assert re.search("1 of 1 +0 of 1 +0 of 0$", lawn)
    assert last == "1 image was called defective for something that is not its defect"


def test_all_categories(ssimae, detector_file, data_set, tmp_path):
    """None stands for what a category without good images cannot tell."""
    file = tmp_path / "figures.json"
    outcome = ssimae("evaluate", detector_file, data_set, "--json", file)
    assert outcome.status == 0
    grass, lawn = json.loads(file.read_text(encoding="utf-8"))["categories"]
    assert (grass["category"], lawn["category"]) == ("grass", "lawn")
    assert grass["image_roc_auc"] is not None
    assert lawn["image_roc_auc"] is None
    assert lawn["n_good"] == 0
    line = outcome.output.splitlines()[-1]
    assert line.split()[4] == "-" and line.endswith("0 of 0")


def test_some_categories(ssimae, detector_file, data_set):
    outcome = ssimae("evaluate", detector_file, data_set, "--category", "lawn")
    assert outcome.status == 0
    assert [line.split()[0] for line in outcome.output.splitlines()] == ["category", "lawn"]


@pytest.mark.parametrize(
    ("folder", "more", "message"),
    [
        ("nowhere", [], "There is no folder"),
        (".", ["--category", "sky"], "holds no category 'sky'. Found: grass, lawn."),
        ("grass/train", [], "is laid out neither as a category"),
        ("grass", ["--json", "nowhere/figures.json"], "There is no folder 'nowhere'"),
    ],
)
def test_errors(ssimae, detector_file, data_set, monkeypatch, folder, more, message):
    monkeypatch.chdir(data_set)
    before = files_in(data_set)
    outcome = ssimae("evaluate", detector_file, folder, *more)
    assert outcome.status == 2
    assert message in outcome.error
    assert outcome.output == ""
    assert files_in(data_set) == before


def test_images_of_another_number_of_channels(ssimae, detector_file, data_set):
    Image.new("RGB", (56, 48), "red").save(data_set / "grass/test/good/2.png")
    outcome = ssimae("evaluate", detector_file, data_set / "grass")
    assert outcome.status == 2
    assert "2.png has 3 channels" in outcome.error
