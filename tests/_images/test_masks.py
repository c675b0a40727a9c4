"""What a mask file marks, however it is drawn."""

import numpy as np
import pytest
import tifffile
from numpy.testing import assert_array_equal
from PIL import Image

from sklearn_ssimae._images.masks import read_mask, warn_of_odd_mask

DEFECT = np.zeros((32, 40), dtype=bool)
DEFECT[8:16, 8:24] = True
INDEX = DEFECT.astype(np.uint8)


def palette(*colours, indices=INDEX):
    picture = Image.fromarray(indices)
    picture.putpalette(np.array(colours, np.uint8).tobytes())
    assert picture.mode == "P"
    return picture


def layers(colour, alpha):
    """RGBA of a colour (3,) or (h, w, 3) and an alpha channel."""
    rgb = np.broadcast_to(np.asarray(colour, np.uint8), (*DEFECT.shape, 3))
    return Image.fromarray(np.dstack([rgb, alpha.astype(np.uint8)]))


def transparent_index():
    picture = palette([0, 0, 0], [0, 0, 0])
    picture.info["transparency"] = 0
    return picture


WHITE = np.where(DEFECT, 255, 0)[..., None].repeat(3, axis=2)
DRAWN = {
    "1 bit": Image.fromarray(DEFECT),
    "255": Image.fromarray(INDEX * 255),
    "1 for 255": Image.fromarray(INDEX),
    "16 bits": Image.fromarray(INDEX.astype(np.uint16) * 65535),
    "1 of 16 bits": Image.fromarray(INDEX.astype(np.uint16)),
    "colour": Image.fromarray(WHITE.astype(np.uint8)),
    "dark blue": Image.fromarray((WHITE // 255 * [0, 0, 1]).astype(np.uint8)),
    "palette, red": palette([0, 0, 0], [128, 0, 0]),
    "palette, dark blue": palette([0, 0, 0], [0, 0, 2]),
    "palette, all black": palette([0, 0, 0], [0, 0, 0]),
    "palette, no black": palette([40, 40, 200], [200, 40, 40]),
    "palette, black last": palette([255, 255, 255], [0, 0, 0], indices=1 - INDEX),
    "palette, transparent": transparent_index(),
    "black, in alpha": layers([0, 0, 0], INDEX * 255),
    "white, in alpha": layers([255, 255, 255], INDEX * 255),
    "white and opaque": layers(WHITE, np.full(DEFECT.shape, 255)),
    "white and transparent": layers(WHITE, np.zeros(DEFECT.shape)),
    "white on black, in part opaque": layers(WHITE, np.indices(DEFECT.shape)[0] < 20),
    "grey and alpha": Image.fromarray(np.dstack([0 * INDEX, INDEX * 255])),
}


@pytest.mark.parametrize("name", DRAWN)
def test_png(name, tmp_path):
    path = tmp_path / "mask.png"
    DRAWN[name].save(path)
    mask = read_mask(path)
    assert mask.dtype == bool
    assert_array_equal(mask, DEFECT)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.int32, np.uint8])
@pytest.mark.parametrize("value", [0.5, 1, 100])
def test_tiff(dtype, value, tmp_path):
    marked = dtype(value) or dtype(1)
    tifffile.imwrite(tmp_path / "mask.tif", DEFECT * marked)
    assert_array_equal(read_mask(tmp_path / "mask.tif"), DEFECT)


def test_tiff_of_several_channels(tmp_path):
    channels = np.dstack([INDEX * 0, INDEX * 0, INDEX]).astype(np.uint16)
    tifffile.imwrite(tmp_path / "mask.tif", channels, photometric="rgb")
    assert_array_equal(read_mask(tmp_path / "mask.tif"), DEFECT)


@pytest.mark.parametrize("suffix", ["jpg", "webp"])
@pytest.mark.parametrize("value", [90, 255])
def test_compression_with_loss(suffix, value, tmp_path):
    path = tmp_path / f"mask.{suffix}"
    Image.fromarray(INDEX * np.uint8(value)).save(path, quality=50)
    assert_array_equal(read_mask(path), DEFECT)


@pytest.mark.parametrize("suffix", ["png", "jpg", "tif", "gif"])
def test_black_is_empty(suffix, tmp_path):
    path = tmp_path / f"mask.{suffix}"
    Image.new("L", (40, 32)).save(path)
    assert not read_mask(path).any()


def test_masks_are_turned_upright(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(INDEX).save(tmp_path / "mask.png", exif=exif)
    assert_array_equal(read_mask(tmp_path / "mask.png"), np.rot90(DEFECT, -1))


def test_large_masks(tmp_path, monkeypatch):
    Image.fromarray(INDEX).save(tmp_path / "mask.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    assert_array_equal(read_mask(tmp_path / "mask.png"), DEFECT)


def test_errors_name_the_file_once(tmp_path):
    path = tmp_path / "mask.png"
    path.write_text("no image")
    with pytest.raises(OSError, match=r"mask\.png is not a readable image: cannot identify") as one:
        read_mask(path)
    assert str(one.value).count("mask.png") == 1
    with pytest.raises(FileNotFoundError, match=r"absent\.png is gone"):
        read_mask(tmp_path / "absent.png")
    first, *others = [Image.fromarray(INDEX)] * 3
    first.save(tmp_path / "pages.tif", save_all=True, append_images=others)
    with pytest.raises(OSError, match=r"pages\.tif is not .*3 pages"):
        read_mask(tmp_path / "pages.tif")


def test_odd_masks_are_named():
    with pytest.warns(UserWarning, match=r"^0_mask\.png marks no pixel.*'good'"):
        warn_of_odd_mask(DEFECT & False, "0_mask.png")
    with pytest.warns(UserWarning, match=r"^0_mask\.png marks 90% .*invert"):
        warn_of_odd_mask(~DEFECT, "0_mask.png")
    for usual in (DEFECT, np.pad(np.ones((28, 36), bool), 2), ~np.pad(np.ones((28, 36), bool), 2)):
        warn_of_odd_mask(usual, "0_mask.png")
