"""``ssimae detectability``, and what ``ssimae info`` tells of it."""

import json

import pytest
from PIL import Image
from shared_cli import files_in

from sklearn_ssimae._writing import sha256_of
from sklearn_ssimae.inspection import _detectability
from sklearn_ssimae.inspection._drawn import KINDS


@pytest.fixture(autouse=True)
def few(monkeypatch):
    monkeypatch.setattr(_detectability, "_DRAWN", 40)


@pytest.fixture
def own_file(detector_file, tmp_path):
    file = tmp_path / "detector.skops"
    file.write_bytes(detector_file.read_bytes())
    return file


def test_table_json_and_picture(ssimae, photos, own_file, tmp_path):
    """`ssimae info` quotes what lies beside the file, as long as that is the same."""
    good = photos / "test/b"
    outcome = ssimae("detectability", own_file, good, "-o", tmp_path, "--mm-per-pixel", 0.5)
    assert outcome.status == 0
    assert "image 1 of 1" in outcome.errors
    assert files_in(tmp_path) == {"detector.skops", "detectability.json", "detectability.png"}
    content = json.loads((tmp_path / "detectability.json").read_text())
    assert list(content["kinds"]) == list(KINDS)
    assert (content["unit"], content["n_images"], content["complete"]) == ("mm", 1, True)
    row = content["kinds"]["stain"]
    assert row["n_drawn"] == len(row["sizes"]) == len(row["hits"])
    assert row["n_found"] == sum(row["hits"])
    lines = outcome.output.splitlines()
    assert lines[0].startswith("sizes in mm")
    assert lines[1].split()[:4] == ["kind", "a50", "a90", "a90/95"]
    assert "to 4" in lines[1]
    assert [line.split()[0] for line in lines[2:10]] == list(KINDS)
    assert lines[-1] == ("1 of 1 good images are called defective without a drawn defect")
    told = [line for line in ssimae("info", own_file).output.splitlines() if "finds:" in line]
    assert len(told) == 8 and all(line.endswith(" mm") for line in told)
    arguments = ("inspect", own_file, good, "-o", tmp_path / "out", "--report")
    ssimae(*arguments)
    report = (tmp_path / "out/report.html").read_text(encoding="utf-8")
    quoted = report.split("<dt>It finds</dt><dd>")[1].split("</dd>")[0].split("<br>")
    assert [f"finds:       {line.strip()}" for line in quoted] == told
    own_file.write_bytes(own_file.read_bytes() + b" ")
    assert "finds:" not in ssimae("info", own_file).output
    ssimae(*arguments)
    assert "It finds" not in (tmp_path / "out/report.html").read_text(encoding="utf-8")


def test_no_image_was_tried(ssimae, photos, own_file, tmp_path, monkeypatch):
    def interrupted(self, index):
        raise KeyboardInterrupt

    monkeypatch.setattr(_detectability.Trials, "_try_image", interrupted)
    outcome = ssimae("detectability", own_file, photos / "test", "-o", tmp_path / "out")
    assert outcome.status == 130
    assert files_in(tmp_path / "out") == set()


def test_interrupted(ssimae, photos, own_file, tmp_path, monkeypatch):
    try_image = _detectability.Trials._try_image

    def interrupted(self, index):
        if self.n_images == 2:
            raise KeyboardInterrupt
        try_image(self, index)

    monkeypatch.setattr(_detectability.Trials, "_try_image", interrupted)
    outcome = ssimae("detectability", own_file, photos / "test", "-o", tmp_path / "out")
    assert outcome.status == 0
    assert "interrupted: what was measured is kept" in outcome.errors
    content = json.loads((tmp_path / "out/detectability.json").read_text())
    assert (content["n_images"], content["complete"]) == (2, False)


def test_images_that_were_trained_on(ssimae, photos, own_file, tmp_path):
    outcome = ssimae("detectability", own_file, photos / "good", "-o", tmp_path / "out")
    assert outcome.status == 0
    assert "were trained on, so the figures are too good" in outcome.errors


@pytest.mark.parametrize("kinds", [[], {"stain": 3}, {"stain": {"n_drawn": 9, "a50": "3"}}])
def test_info_of_another_make(ssimae, own_file, tmp_path, kinds):
    content = {"sha256": sha256_of(own_file), "unit": "mm", "kinds": kinds}
    (tmp_path / "detectability.json").write_text(json.dumps(content))
    outcome = ssimae("info", own_file)
    assert outcome.status == 0
    assert "finds:" not in outcome.output


def test_flat_material(ssimae, own_file, tmp_path):
    (tmp_path / "flat").mkdir()
    for index in range(2):
        Image.new("L", (56, 48), 120 + index).save(tmp_path / f"flat/{index}.png")
    outcome = ssimae("detectability", own_file, tmp_path / "flat", "-o", tmp_path)
    assert outcome.status == 0
    not_drawn = "not drawn: it cannot be seen in this material"
    kinds = [line.split()[0] for line in outcome.output.splitlines() if not_drawn in line]
    assert "blur" in kinds and "lump" not in kinds
    told = ssimae("info", own_file).output.splitlines()
    assert [line.split()[1] for line in told if not_drawn in line] == [f"{kind}:" for kind in kinds]
