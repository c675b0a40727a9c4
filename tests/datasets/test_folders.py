"""Which images of a folder are listed, and which folders hold good images alone."""

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sklearn_ssimae.datasets import list_images, load_mvtec_ad
from sklearn_ssimae.datasets._folders import check_good_folder, find_images


def put(root, *names):
    for name in names:
        path = Path(root, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (3, 2)).save(path)


def listed(root):
    return [Path(path).relative_to(root).as_posix() for path in list_images(root)]


OF_SYSTEMS = ("@eaDir/0.png/THUMB_M.png", "$RECYCLE.BIN/1.png", "System Volume Information/2.png")


@pytest.mark.parametrize("name", [*OF_SYSTEMS, ".thumbnails/3.png", "deep/.4.png", "._0.png"])
def test_what_is_passed_over_is_counted(tmp_path, name):
    put(tmp_path, "0.png", "deep/1.png", name)
    with pytest.warns(UserWarning, match=r"^1 image was passed over in .*: '") as caught:
        assert listed(tmp_path) == ["0.png", "deep/1.png"]
    assert len(caught) == 1
    place = name if Path(name).name.startswith(".") else name.split("/")[0]
    assert str(caught[0].message).endswith(repr(place.replace("/", os.sep)))


def test_many_are_counted_in_one_line(tmp_path):
    put(tmp_path, "0.png", *OF_SYSTEMS, "@eaDir/1.png/A.jpg", ".a.png", "b/.c/d/e.png")
    assert find_images(tmp_path).passed_over.total() == 6
    with pytest.warns(UserWarning, match=r"^6 images were .*'\$RECYCLE\.BIN', .* and 2 more$"):
        assert listed(tmp_path) == ["0.png"]


def test_no_word_of_folders_without_images(tmp_path):
    put(tmp_path, "0.png")
    for name in (".git", "@eaDir", "lost+found"):
        (tmp_path / name).mkdir()
    assert listed(tmp_path) == ["0.png"]


def test_files_may_have_such_names(tmp_path):
    put(tmp_path, "lost+found.png", "recycler/a.b.png".replace("recycler", "recycled"))
    assert listed(tmp_path) == ["lost+found.png", "recycled/a.b.png"]


def test_a_folder_is_named_as_it_was_given(tmp_path, monkeypatch):
    put(tmp_path, "0.png")
    monkeypatch.chdir(tmp_path)
    assert list_images(".") == ["0.png"]


def test_linked_folders_are_followed_once(tmp_path):
    good, far = tmp_path / "good", tmp_path / "far"
    put(good, "0.png", "z/1.png")
    put(far, "2.png", "deep/3.png")
    (good / "a").symlink_to(good / "z")  # there is z itself
    (good / "b").symlink_to(far)
    (good / "c").symlink_to(far)
    (far / "loop").symlink_to(good)
    (far / "inner").symlink_to(far / "deep")
    (good / "gone").symlink_to(tmp_path / "absent")
    assert listed(good) == ["0.png", "b/2.png", "b/deep/3.png", "z/1.png"]


def test_a_linked_folder_can_be_given(tmp_path):
    put(tmp_path, "far/0.png")
    (tmp_path / "near").symlink_to(tmp_path / "far")
    assert listed(tmp_path / "near") == ["0.png"]


@pytest.mark.parametrize(
    ("names", "meant"),
    [
        (["train/good/0.png", "test/bent/0.png"], "train/good"),
        (["train/good/0.png", "ground_truth/bent/0_mask.png"], "train/good"),
        (["train/0.png", "test/0.png"], "train"),
        (["good/0.png", "bent/0.png"], "good"),
        (["good/0.png", "bent/deep/0.png"], "good"),
        (["grid/train/good/0.png", "grid/test/bent/0.png"], "grid/train/good"),
    ],
)
def test_a_whole_category_is_refused(tmp_path, names, meant):
    put(tmp_path, *names)
    with pytest.raises(
        ValueError, match=r"does not hold good images alone: there is also '"
    ) as one:
        check_good_folder(tmp_path)
    assert str(one.value).endswith(f"probably {str(tmp_path / meant)!r}.")
    assert check_good_folder(tmp_path / meant) is None


@pytest.mark.parametrize(
    "names",
    [
        ["0.png"],
        ["train/good/0.png"],
        ["shift1/0.png", "shift2/0.png"],
        ["test/0.png", "ground_truth/0.png"],
        ["good/0.png", "1.png"],
    ],
)
def test_folders_of_good_images(tmp_path, names):
    put(tmp_path, *names)
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes/read me.txt").write_text("no image")
    assert check_good_folder(tmp_path) is None


def test_odd_masks_are_named_when_they_are_read(tmp_path):
    put(tmp_path, "grid/train/good/0.png", "grid/test/bent/1.png", "grid/test/bent/2.png")
    put(tmp_path, "grid/ground_truth/bent/1_mask.png")
    Image.fromarray(np.full((2, 3), 255, np.uint8)).save(
        tmp_path / "grid/ground_truth/bent/2_mask.png"
    )
    masks = load_mvtec_ad(tmp_path, "grid").masks
    with pytest.warns(UserWarning, match=r"1_mask\.png marks no pixel"):
        assert not masks[0].any()
    with pytest.warns(UserWarning, match=r"2_mask\.png marks 100%"):
        assert masks[1].all()
