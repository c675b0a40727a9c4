"""What X may be, and what is refused: the same for all that takes images."""

import os
import pathlib
import zlib

import numpy as np
import pandas as pd
import pytest
import tifffile
import torch
from numpy.testing import assert_allclose, assert_array_equal
from PIL import Image
from shared import cheap
from skimage import data
from sklearn import config_context

from sklearn_ssimae import L2AutoencoderDetector, ResidualThresholder
from sklearn_ssimae._images.collection import sequence_of_images
from sklearn_ssimae._images.containers import plain
from sklearn_ssimae._images.labels import good_images
from sklearn_ssimae._images.values import resolve_data_range

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

STACK = np.stack([data.grass()[9 * i : 9 * i + 20, :24] for i in range(6)])
DEEP = STACK.astype(np.uint16) * 257
UNIT = STACK / 255
COLOUR = data.astronaut()[100:124, 200:230]


@pytest.fixture(scope="module")
def fitted():
    return {
        name: cheap(smoothing=1.0).fit(X)
        for name, X in {"bytes": STACK, "deep": DEEP, "unit": UNIT, "list": list(STACK)}.items()
    }


@pytest.mark.parametrize("learnt", ["bytes", "deep", "unit", "list"])
def test_a_picture_has_the_same_map_in_every_unit(fitted, learnt):
    maps = [fitted[learnt].transform(X) for X in (STACK, DEEP, UNIT, UNIT.astype(np.float32))]
    for other in maps[1:]:
        assert_allclose(other, maps[0], rtol=1e-3, atol=1e-5)


def test_reconstructions_are_in_the_unit_of_the_input(fitted):
    assert_allclose(
        fitted["bytes"].reconstruct(UNIT), fitted["bytes"].reconstruct(STACK) / 255, atol=1e-5
    )


@pytest.mark.parametrize(
    ("learnt", "X"),
    [("unit", 255 * UNIT), ("unit", STACK.astype(int)), ("bytes", STACK.astype(int) * 257)],
)
def test_a_unit_that_cannot_be_told_is_refused(fitted, learnt, X):
    with pytest.raises(ValueError, match=r"image 0, of .*holds values in \[.*fitted on \["):
        fitted[learnt].predict(X)


def test_types_may_be_mixed():
    assert resolve_data_range(None, sequence_of_images([STACK[0], UNIT[0]])) == (0, 255)
    assert resolve_data_range(None, sequence_of_images([UNIT[0], STACK[0]])) == (0, 1)
    with pytest.raises(ValueError, match=r"image 1 is of uint8.*\[0, 255\].*float64"):
        resolve_data_range(None, sequence_of_images([UNIT[0] * 9, STACK[0]]))


@pytest.mark.parametrize(("bits", "high"), [(8, 255), (10, 1023), (12, 4095), (14, 16383)])
def test_fewer_bits_than_16(bits, high):
    images = sequence_of_images(list((UNIT * high).round().astype(np.uint16)[:2]))
    images.items[0][0, 0] = high
    with pytest.warns(UserWarning, match=rf"data_range=\(0, {high}\)"):
        assert resolve_data_range(None, images) == (0, 65535)
    assert resolve_data_range((0, high), images) == (0, high)


# One image, channels first ------------------------------------------------------------


@pytest.mark.parametrize("learnt", ["bytes", "list"])
def test_one_image_is_refused(fitted, learnt):
    with pytest.raises(ValueError, match=r"X is one image, shape \(20, 24\).*X\[None\]"):
        fitted[learnt].predict(STACK[0])
    assert fitted[learnt].predict(STACK[0][None]).shape == (1,)


def test_one_image_in_place_of_rows_is_named():
    with pytest.warns(UserWarning, match=r"\(64, 90\) and is read as 64 images.*X\[None\]"):
        cheap(smoothing=1.0, max_iter=1).fit(data.grass()[:64, :90])


def test_rows_after_rows(fitted):
    rows = STACK.reshape(6, -1)
    detector = cheap(smoothing=1.0, image_shape=(20, 24)).fit(rows)
    assert_array_equal(detector.transform(rows[:2]).ravel(), detector.transform(STACK[:2]).ravel())


@pytest.mark.parametrize("X", [COLOUR, torch.from_numpy(COLOUR.copy())], ids=["array", "tensor"])
def test_one_colour_image_is_refused(fitted, X):
    for method in (cheap(smoothing=1.0).fit, fitted["bytes"].predict):
        with pytest.raises(ValueError, match=r"one image \(h, w, c\).*X\[None\]"):
            method(X)


@pytest.mark.parametrize("n_channels", [1, 3])
def test_channels_first(n_channels):
    X = np.zeros((2, n_channels, 20, 24), np.float32)
    for given, permuted in [(X, "transpose"), (torch.from_numpy(X), "permute")]:
        with pytest.raises(ValueError, match=rf"X\.{permuted}\(0, 2, 3, 1\)"):
            plain(given)
        with pytest.raises(ValueError, match=rf"image 0 .*image\.{permuted}\(1, 2, 0\)"):
            sequence_of_images(list(given))


@pytest.mark.parametrize("shape", [(9, 1, 24), (9, 3, 24), (3, 20, 24), (2, 20, 3), (2, 1, 3, 3)])
def test_flat_images_are_images(shape):
    assert plain(np.zeros(shape)).shape == shape


def test_tensors(fitted):
    expected = fitted["unit"].transform(UNIT.astype(np.float32))
    tensor = torch.from_numpy(UNIT.astype(np.float32)).requires_grad_()
    assert_array_equal(fitted["unit"].transform(tensor), expected)
    assert_array_equal(fitted["unit"].transform(list(tensor)), list(expected))
    assert np.isfinite(fitted["unit"].transform(tensor.bfloat16())).all()


# Containers ---------------------------------------------------------------------------


class Images(torch.utils.data.Dataset):
    def __init__(self, items):
        self.items = items

    def __len__(self):
        return len(self.items)

    def __getitem__(self, index):
        return self.items[index]


REFUSED = {
    "generator": lambda: (image for image in STACK),
    "iterator": lambda: iter(STACK),
    "loader": lambda: torch.utils.data.DataLoader(Images(list(STACK))),
    "pairs": lambda: Images([(image, 0) for image in STACK]),
    "dict": lambda: {"a": STACK[0]},
    "set": lambda: {"a.png"},
    "bytes": lambda: b"abc",
    "picture": lambda: Image.fromarray(STACK[0]),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_containers(fitted, name):
    for method in (L2AutoencoderDetector().fit, fitted["bytes"].predict, ResidualThresholder().fit):
        with pytest.raises(TypeError, match=r"X is .*(Give|Decode)"):
            method(REFUSED[name]())


@pytest.mark.parametrize("X", [[], (), np.array([]), pd.Series([], dtype=object)])
def test_nothing_is_refused(fitted, X):
    for method in (L2AutoencoderDetector().fit, fitted["bytes"].predict, ResidualThresholder().fit):
        with pytest.raises(ValueError, match=r"X is an empty \w+\. .*no file matched"):
            method(X)


@pytest.mark.parametrize(
    "X",
    [
        [b"a.png"],
        (b"a.png",),
        np.array([b"a.png"]),
        np.array([b"a.png"], dtype=object),
        pd.Series([b"a.png"]),
        pd.DataFrame({"path": [b"a.png"]}),
    ],
)
def test_bytes_are_refused(fitted, X):
    for method in (L2AutoencoderDetector().fit, fitted["bytes"].predict):
        with pytest.raises(TypeError, match=r"X holds bytes objects.*os\.fsdecode.*BytesIO"):
            method(X)


def test_containers_of_paths(fitted, tmp_path):
    paths = [tmp_path / f"{i}.png" for i in range(2)]
    for path, image in zip(paths, STACK, strict=False):
        Image.fromarray(image).save(path)
    names = pd.DataFrame({"path": [str(path) for path in paths]})
    expected = fitted["bytes"].transform(paths)
    for X in (names, names["path"], names.to_numpy(), Images(paths), Images(list(STACK[:2]))):
        assert_array_equal(fitted["bytes"].transform(X), expected)
    with pytest.raises(TypeError, match=r"list\(X\)"):
        fitted["bytes"].transform(tmp_path.glob("*.png"))
    with pytest.raises(ValueError, match=r"2 columns, \['path', 'n'\].*X\[column\]"):
        fitted["bytes"].transform(names.assign(n=1))


@pytest.mark.parametrize("make", [pathlib.Path, str, os.fsencode])
def test_paths_of_masks_are_refused(tmp_path, make):
    y = [make(tmp_path / "a.png"), make(tmp_path / "b.png")]
    with pytest.raises(ValueError, match=r"y\[0\] is a path, .*Give the masks themselves"):
        good_images(y, 2)


# Files and pictures -------------------------------------------------------------------


def test_pictures_are_read_as_files(tmp_path):
    colours = np.array([[10, 20, 30], [200, 0, 0], [0, 90, 0]], np.uint8)
    indices = (STACK[0] % 3).astype(np.uint8)
    palette = Image.fromarray(indices)
    palette.putpalette(colours.tobytes())
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(STACK[0]).save(tmp_path / "turned.png", exif=exif)
    with Image.open(tmp_path / "turned.png") as turned:
        images = sequence_of_images([palette, Image.fromarray(COLOUR).convert("RGBA"), turned])
        assert_array_equal(images[0], colours[indices])
        assert_array_equal(images[1], COLOUR)
        assert_array_equal(images[2][..., 0], np.rot90(STACK[0], -1))


@pytest.mark.parametrize("suffix", ["tif", "gif", "webp"])
def test_several_pages_are_refused(tmp_path, suffix):
    path = tmp_path / f"pages.{suffix}"
    first, *others = (Image.fromarray(image) for image in STACK)
    first.save(path, save_all=True, append_images=others)
    with pytest.raises(OSError, match=r"pages\.\w+ is not .*6 pages.*ImageSequence.*tifffile"):
        _ = sequence_of_images([path])[0]


@pytest.mark.parametrize(
    "pixels",
    [
        COLOUR.astype(np.uint16) * 257,
        UNIT[0],
        UNIT[0].astype(np.float16),
        np.stack([UNIT[0]] * 3, axis=-1).astype(np.float32),
        np.stack([STACK[0]] * 7, axis=-1),
    ],
    ids=["16-bit colour", "float64", "float16", "float colour", "7 channels"],
)
def test_tiff_files_that_pillow_cannot_read(tmp_path, pixels):
    path = tmp_path / "image.tif"
    photometric = "rgb" if pixels.shape[2:] == (3,) else "minisblack"
    tifffile.imwrite(path, pixels, photometric=photometric, planarconfig=1)
    image = sequence_of_images([path])[0]
    assert image.dtype == pixels.dtype
    assert_array_equal(image.squeeze(), pixels)


@pytest.mark.parametrize(("kind", "n_channels"), [(2, 3), (4, 2), (6, 4)])
def test_png_files_of_16_bit_colour_are_refused(tmp_path, kind, n_channels):
    path = tmp_path / "image.png"
    write_16_bit_png(path, bytes(2 * n_channels), kind)
    with pytest.raises(OSError, match=r"image\.png.*16 bits a channel.*TIFF"):
        _ = sequence_of_images([path])[0]


def test_png_files_of_16_bit_grey_are_read(tmp_path):
    path = tmp_path / "image.png"
    write_16_bit_png(path, (40_001).to_bytes(2), kind=0)
    image = sequence_of_images([path])[0]
    assert (image.dtype, image.item()) == (np.uint16, 40_001)


def write_16_bit_png(path, pixel, kind):
    """One pixel, as Pillow cannot write it. The kinds are those of the PNG specification."""

    def chunk(name, content):
        checksum = zlib.crc32(name + content).to_bytes(4)
        return len(content).to_bytes(4) + name + content + checksum

    header = (1).to_bytes(4) * 2 + bytes([16, kind, 0, 0, 0])
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b"\0" + pixel))
        + chunk(b"IEND", b"")
    )


def test_16_bit_colour_that_cannot_be_read_is_refused(tmp_path):
    path = tmp_path / "image.ppm"
    path.write_bytes(b"P6 2 1 65535 " + bytes(12))
    with pytest.raises(OSError, match=r"16 bits a channel.*tifffile"):
        _ = sequence_of_images([path])[0]


# scikit-learn's settings --------------------------------------------------------------


@pytest.mark.parametrize(
    "setting",
    [
        {"array_api_dispatch": True},
        {"enable_metadata_routing": True},
        {"assume_finite": True},
        {"skip_parameter_validation": True},
    ],
    ids=lambda setting: next(iter(setting)),
)
def test_global_settings_change_no_result(fitted, setting):
    with config_context(**setting):
        again = cheap(smoothing=1.0).fit(STACK)
        assert_array_equal(again.transform(STACK), fitted["bytes"].transform(STACK))
        tensor = torch.from_numpy(STACK)
        assert_array_equal(again.score_samples(tensor), again.score_samples(STACK))
        with pytest.raises(ValueError):
            again.predict(np.full((1, 20, 24), np.nan))
