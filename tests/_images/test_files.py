import io
import pathlib
import threading
import warnings

import numpy as np
import pytest
import tifffile
from numpy.testing import assert_allclose, assert_array_equal
from PIL import Image
from skimage import data

from sklearn_ssimae._images import files, values
from sklearn_ssimae._images.collection import sequence_of_images
from sklearn_ssimae._images.values import resolve_data_range, to_tensor

GREY = data.brick()[:24, :30]
COLOUR = data.astronaut()[100:124, 200:230]


def read(path):
    return sequence_of_images([path])[0]


def save(image, path, mode=None, **options):
    picture = Image.fromarray(image)
    (picture.convert(mode) if mode else picture).save(path, **options)
    return path


def test_grey_and_colour_files(tmp_path):
    assert_array_equal(read(save(GREY, tmp_path / "grey.png")), GREY[..., None])
    assert_array_equal(read(save(COLOUR, tmp_path / "colour.png")), COLOUR)
    assert read(save(GREY, tmp_path / "grey.jpg")).shape == (24, 30, 1)
    assert_array_equal(read(save(GREY, tmp_path / "grey.bmp")), GREY[..., None])


@pytest.mark.parametrize("suffix", ["png", "gif", "bmp", "tif"])
def test_palettes_are_resolved(tmp_path, suffix):
    indices = (np.arange(24 * 30).reshape(24, 30) // 30 % 4).astype(np.uint8)
    for colours, n_channels in [
        ([[10, 10, 10], [200, 200, 200], [90, 90, 90], [0, 0, 0]], 1),
        ([[10, 20, 30], [200, 0, 0], [0, 90, 0], [255, 255, 255]], 3),
    ]:
        picture = Image.fromarray(indices)
        picture.putpalette(np.array(colours, np.uint8).tobytes())
        assert picture.mode == "P"
        picture.save(tmp_path / f"palette.{suffix}")
        expected = np.array(colours, np.uint8)[indices][..., :n_channels]
        assert_array_equal(read(tmp_path / f"palette.{suffix}"), expected)


def test_alpha_is_dropped(tmp_path):
    alpha = np.arange(24 * 30).reshape(24, 30, 1).astype(np.uint8)
    path = save(np.concatenate([COLOUR, alpha], axis=2), tmp_path / "rgba.png")
    assert_array_equal(read(path), COLOUR)
    path = save(np.concatenate([GREY[..., None], alpha], axis=2), tmp_path / "la.png")
    assert_array_equal(read(path), GREY[..., None])


def test_cmyk_becomes_colour(tmp_path):
    path = save(COLOUR, tmp_path / "cmyk.tif", mode="CMYK")
    assert_allclose(read(path).astype(int), COLOUR, atol=2)


def test_one_bit_becomes_boolean(tmp_path):
    image = read(save(GREY > 100, tmp_path / "bit.png"))
    assert image.dtype == bool
    assert_array_equal(image[..., 0], GREY > 100)
    assert resolve_data_range(None, sequence_of_images([tmp_path / "bit.png"])) == (0, 1)


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_16_bits_are_kept(tmp_path, suffix):
    deep = GREY.astype(np.uint16) * 257
    path = save(deep, tmp_path / f"deep.{suffix}")
    image = read(path)
    assert image.dtype == np.uint16
    assert_array_equal(image[..., 0], deep)
    assert resolve_data_range(None, sequence_of_images([path])) == (0, 65535)


def test_big_endian_tiff(tmp_path):
    deep = GREY.astype(np.uint16) * 257
    picture = Image.frombytes("I;16B", (30, 24), deep.astype(">u2").tobytes())
    picture.save(tmp_path / "deep.tif")
    images = sequence_of_images([tmp_path / "deep.tif"])
    assert_array_equal(images[0][..., 0], deep)
    tensor = to_tensor(images[0], resolve_data_range(None, images), 1.0)
    assert_allclose(tensor[0], deep / 65535, rtol=1e-6)


def test_float_tiff(tmp_path):
    image = read(save(GREY.astype(np.float32) / 255, tmp_path / "float.tif"))
    assert image.dtype == np.float32
    assert_array_equal(image[..., 0], GREY.astype(np.float32) / 255)


def test_float_tiff_with_nan_is_named(tmp_path):
    pixels = np.full((4, 4), np.nan, np.float32)
    path = save(pixels, tmp_path / "nan.tif")
    with pytest.raises(ValueError, match=r"nan\.tif: .*NaN"):
        read(path)


@pytest.mark.parametrize(
    ("orientation", "upright"),
    [
        (3, lambda image: image[::-1, ::-1]),
        (6, lambda image: np.rot90(image, -1)),
        (8, lambda image: np.rot90(image)),
        (2, lambda image: image[:, ::-1]),
    ],
)
def test_photographs_are_turned_upright(orientation, upright, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = orientation
    plain = read(save(GREY, tmp_path / "plain.jpg"))
    turned = read(save(GREY, tmp_path / "turned.jpg", exif=exif))
    assert_array_equal(turned, upright(plain))


def test_contents_and_not_the_name_tell_the_format(tmp_path):
    path = save(GREY, tmp_path / "grey.jpg")
    expected = read(path)
    assert_array_equal(read(path.rename(tmp_path / "grey.png")), expected)


def test_files_are_opened_when_asked_for(tmp_path, monkeypatch):
    opened = []
    identified = files._identified

    def counting(file, name):
        opened.append(pathlib.Path(name).name)
        return identified(file, name)

    monkeypatch.setattr(files, "_identified", counting)
    images = sequence_of_images([save(GREY, tmp_path / f"{i}.png") for i in range(4)])
    chosen = images.take(np.array([3, 1]))
    assert len(images) == 4 and images.name(2).endswith("2.png")
    assert opened == []
    _ = images[2]
    assert opened == ["2.png"]
    _ = chosen[0]
    assert opened == ["2.png", "3.png"]
    iterator = iter(images)
    next(iterator)
    assert opened == ["2.png", "3.png", "0.png"]


def test_files_are_closed(tmp_path):
    # An open file would be reported as a ResourceWarning, which is an error here.
    path = save(GREY, tmp_path / "grey.png")
    for _ in range(3):
        read(path)
    path.unlink()


# Large files --------------------------------------------------------------------------

LARGE = {
    "grey.png": (GREY, {}),
    "colour.png": (COLOUR, {}),
    "colour.jpg": (COLOUR, {}),
    "grey.bmp": (GREY, {}),
    "raw.tif": (GREY, {}),
    "packed.tif": (GREY, {"compression": "tiff_adobe_deflate"}),
    "lzw.tif": (COLOUR, {"compression": "tiff_lzw"}),
    "one bit.tif": (GREY > 100, {"compression": "group4"}),
}


@pytest.mark.parametrize("name", LARGE)
@pytest.mark.parametrize("limit", [100, 500])  # refused and warned of by Pillow: 720 pixels
def test_files_are_read_whatever_their_size(name, limit, tmp_path, monkeypatch):
    image, options = LARGE[name]
    path = save(image, tmp_path / name, **options)
    expected = read(path)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert_array_equal(read(path), expected)
        assert files.read_size(path) == image.shape[:2]
    assert limit == Image.MAX_IMAGE_PIXELS


def test_pictures_are_read_whatever_their_size(tmp_path, monkeypatch):
    path = save(GREY, tmp_path / "lzw.tif", compression="tiff_lzw")
    with Image.open(path) as picture:
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
        assert_array_equal(sequence_of_images([picture])[0][..., 0], GREY)


def test_other_threads_keep_the_limit_of_pillow(tmp_path, monkeypatch):
    """While large files are read, a stranger's file is refused elsewhere."""
    path = save(GREY, tmp_path / "grey.png")
    content = path.read_bytes()
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    images = sequence_of_images([path])
    reading = threading.Thread(target=lambda: [images[0] for _ in range(50)])
    reading.start()
    n_refused = 0
    while reading.is_alive() or n_refused == 0:
        with pytest.raises(Image.DecompressionBombError):
            Image.open(io.BytesIO(content))
        n_refused += 1
    reading.join()


def test_what_pillow_refuses_itself_is_named(tmp_path, monkeypatch):
    path = save(COLOUR, tmp_path / "large.webp", lossless=True)
    assert_array_equal(read(path), COLOUR)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(OSError, match=r"large\.webp has more pixels than .*PNG or TIFF"):
        read(path)


@pytest.mark.parametrize(
    ("pixels", "options"),
    [
        (GREY, {"compression": "zlib", "predictor": True}),
        (GREY, {"tile": (16, 16)}),
        (GREY.astype(np.uint16) * 257, {"rowsperstrip": 4}),
        (COLOUR, {"photometric": "rgb", "compression": "zlib", "rowsperstrip": 5}),
        (COLOUR.transpose(2, 0, 1), {"photometric": "rgb", "planarconfig": "separate"}),
        (GREY, {"photometric": "miniswhite"}),
    ],
    ids=["predictor", "tiles", "16 bits", "strips", "planes", "white is 0"],
)
def test_large_tiff_files_are_read_as_small_ones(pixels, options, tmp_path, monkeypatch):
    path = tmp_path / "image.tif"
    tifffile.imwrite(path, pixels, **options)
    expected = read(path)
    monkeypatch.setattr(files, "_LARGE", 100)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    image = read(path)
    assert image.dtype == expected.dtype
    assert_array_equal(image, expected)


@pytest.mark.parametrize("image", [GREY[..., None], COLOUR, COLOUR / 255])
@pytest.mark.parametrize("scale", [0.1, 0.37, 0.5, 1.0, 1.5])
def test_bands_change_no_bit(image, scale, monkeypatch):
    data_range = (0, 1) if image.dtype == float else (0, 255)
    whole = to_tensor(image, data_range, scale)
    monkeypatch.setattr(values, "_BAND", 7 * 30 * image.shape[2])
    assert_array_equal(to_tensor(image, data_range, scale), whole)
    expected = ((image - data_range[0]) / data_range[1]).transpose(2, 0, 1).mean()
    assert_allclose(whole.mean(), expected, rtol=0.02)
