"""True masks in the report of ``ssimae inspect``: from a folder, and from MVTec AD's layout."""

import json
import re
import shutil

import numpy as np
import pytest
from PIL import Image

DATA = re.compile(r'<script type="application/json" id="report">(.*?)</script>')
TEXT = {"encoding": "utf-8"}


def truth_in(out):
    """Which images the report takes for defective, by their names."""
    text = (out / "report.html").read_text(**TEXT)
    defective = json.loads(DATA.search(text).group(1))["defective"]
    names = re.findall(r'data-index="(\d+)".*?<h2 title="([^"]*)">', text, re.S)
    return defective and {name: defective[int(index)] for index, name in names}


def store_mask(path, shape=(48, 56)):
    mask = np.zeros(shape, dtype=np.uint8)
    mask[12:36, 16:40] = 255
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(mask).save(path)


@pytest.fixture
def category(photos, tmp_path):
    """Test images in MVTec AD's layout."""
    folder = tmp_path / "grass"
    for name, source in {
        "train/good/0.png": "good/0.png",
        "test/good/0.png": "test/a/0.png",
        "test/hole/0.png": "test/b/0.png",
        "test/hole/1.bmp": "test/a/0.bmp",
    }.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(photos / source, folder / name)
    for name in ("0_mask.png", "1_mask.png"):
        store_mask(folder / "ground_truth/hole" / name)
    return folder


@pytest.mark.parametrize("given", ["grass", "grass/test"])
def test_mvtec_layout(ssimae, detector_file, category, tmp_path, given):
    """Its test images are inspected, never its masks; the masks are found."""
    out = tmp_path / "out"
    outcome = ssimae("inspect", detector_file, tmp_path / given, "-o", out, "--report")
    assert outcome.errors == ""
    assert outcome.output.splitlines()[-1] == (
        "masks: 2 of 3 images have one; the others count as good"
    )
    assert truth_in(out) == {"good/0.png": False, "hole/0.png": True, "hole/1.bmp": True}
    assert len((out / "results.csv").read_text(**TEXT).splitlines()) == 4


def test_one_type_of_defect(ssimae, detector_file, category, tmp_path):
    ssimae("inspect", detector_file, category / "test/hole", "-o", tmp_path / "out", "--report")
    assert truth_in(tmp_path / "out") == {"0.png": True, "1.bmp": True}


def test_masks_from_a_folder(ssimae, detector_file, photos, tmp_path):
    masks, out = tmp_path / "masks", tmp_path / "out"
    store_mask(masks / "a/0.bmp.png")
    store_mask(masks / "b/0_mask.png")
    store_mask(masks / "1.png", (40, 60))
    arguments = ("inspect", detector_file, photos / "test", "-o", out, "--report")
    outcome = ssimae(*arguments, "--masks-from", masks)
    assert outcome.output.splitlines()[-1].startswith("masks: 3 of 4 images have one")
    assert truth_in(out) == {"1.tif": True, "a/0.bmp": True, "a/0.png": False, "b/0.png": True}


def test_images_beside_their_masks(ssimae, detector_file, category, tmp_path):
    """An image is not its own mask."""
    folder = category / "test/hole"
    store_mask(folder / "0_mask.png")
    arguments = ("inspect", detector_file, folder / "0.png", folder / "1.bmp", "--report")
    ssimae(*arguments, "-o", tmp_path / "out", "--masks-from", folder)
    assert truth_in(tmp_path / "out") == {"0.png": True, "1.bmp": False}


def test_without_masks(ssimae, detector_file, photos, tmp_path):
    outcome = ssimae("inspect", detector_file, photos / "test", "-o", tmp_path, "--report")
    assert "images have one" not in outcome.output
    assert truth_in(tmp_path) is None


def test_a_mask_that_is_missing(ssimae, detector_file, category, tmp_path):
    mask = category / "ground_truth/hole/1_mask.png"
    mask.unlink()
    out = tmp_path / "out"
    outcome = ssimae("inspect", detector_file, category / "test", "-o", out, "--report")
    assert outcome.status == 0
    assert str(mask) in outcome.errors and "does without masks" in outcome.errors
    assert truth_in(out) is None


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--masks-from", "nowhere", "--report"], "There is no folder 'nowhere'"),
        (["--masks-from", "empty", "--report"], "'empty' holds no mask of these images"),
        (["--masks-from", "small", "--report"], "has the size (8, 9) (h, w)"),
        (["--masks-from", "small"], "--masks-from is for the report: give --report too"),
    ],
)
def test_errors_come_before_the_inspection(
    ssimae, detector_file, photos, tmp_path, monkeypatch, arguments, message
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    store_mask(tmp_path / "small/b/0.png", (8, 9))
    outcome = ssimae("inspect", detector_file, photos / "test", "-o", "out", *arguments)
    assert outcome.status == 2
    assert message in outcome.error
    assert not (tmp_path / "out").exists()
