import pathlib
import re

import numpy as np
import pandas as pd
import pytest
import torch
from numpy.testing import assert_array_equal
from PIL import Image
from skimage import data

from sklearn_ssimae._images import files
from sklearn_ssimae._images.collection import (
    ImageCollection,
    images_of_rows,
    is_image_stack,
    is_rows,
    resolve_image_shape,
    sequence_of_images,
    stack_of_images,
)

GREY = data.brick()[:24, :30]
COLOUR = data.astronaut()[100:124, 200:230]


def kind_of(X):
    kinds = {"rows": is_rows(X), "stack": is_image_stack(X)}
    assert sum(kinds.values()) <= 1
    return next((kind for kind, is_it in kinds.items() if is_it), "sequence")


def read(path):
    return sequence_of_images([path])[0]


def save(image, path, mode=None, **options):
    picture = Image.fromarray(image)
    (picture.convert(mode) if mode else picture).save(path, **options)
    return path


def objects(*items):
    array = np.empty(len(items), dtype=object)
    array[:] = items
    return array


# Which X is which ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("X", "kind"),
    [
        (np.zeros((3, 16)), "rows"),
        (np.zeros(16), "rows"),
        (np.zeros((0, 16)), "rows"),
        ([[0, 1], [2, 3]], "rows"),
        ([np.zeros(4), np.ones(4)], "rows"),
        ([], "rows"),
        (pd.DataFrame({"a": [0.0], "b": [1.0]}), "rows"),
        (None, "rows"),
        (3.5, "rows"),
        ([[1, 2], [3]], "rows"),
        (np.zeros((3, 4, 5)), "stack"),
        (np.zeros((3, 4, 5, 3)), "stack"),
        (np.zeros((1, 2, 3, 4, 5)), "stack"),
        (torch.zeros(3, 4, 5), "stack"),
        ([[[0, 1], [2, 3]]], "stack"),
        ([np.zeros((4, 5))], "sequence"),
        ((np.zeros((4, 5)), np.zeros((3, 3, 3))), "sequence"),
        ([torch.zeros(4, 5)], "sequence"),
        (["a.png", "b.png"], "sequence"),
        (("a.png",), "sequence"),
        ([pathlib.Path("a.png"), "b.png"], "sequence"),
        ([np.zeros((4, 5)), "b.png"], "sequence"),
        (np.array(["a.png", "b.png"]), "sequence"),
        (np.array(["a.png"], dtype=object), "sequence"),
        (np.array(["a.png"], dtype=np.dtypes.StringDType()), "sequence"),
        (objects(np.zeros((4, 5)), np.zeros((6, 7))), "sequence"),
        (objects(pathlib.Path("a.png")), "sequence"),
        (pd.Series(["a.png", "b.png"]), "sequence"),
        ("a.png", "sequence"),
        (pathlib.Path("a.png"), "sequence"),
    ],
)
def test_kind_of_input(X, kind):
    assert kind_of(X) == kind


@pytest.mark.parametrize("shape", [(2, 4, 5), (2, 4, 5, 1), (2, 4, 5, 3)])
def test_stack(shape):
    X = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    images, rows = stack_of_images(X)
    assert len(images) == 2 and images.kind == "array"
    assert_array_equal(rows, X.reshape(2, -1))
    assert_array_equal(images[1], X[1].reshape(4, 5, -1))
    assert images.has_channel_axis == (len(shape) == 4)
    assert images[0].dtype == np.float32


@pytest.mark.parametrize("image_shape", [(4, 5), (4, 5, 1), (2, 5, 2), (1, 20)])
def test_rows(image_shape):
    rows = np.arange(60.0).reshape(3, 20)
    images = images_of_rows(rows, image_shape)
    assert len(images) == 3 and images.kind == "rows"
    assert_array_equal(images[2], rows[2].reshape(*image_shape[:2], -1))
    packed = images.pack_images(iter(images))
    assert_array_equal(packed, rows)


@pytest.mark.parametrize(
    "X",
    [
        [GREY, COLOUR],
        (GREY, COLOUR),
        objects(GREY, COLOUR),
        [GREY, COLOUR.tolist()],
        [torch.from_numpy(GREY.copy()), torch.from_numpy(COLOUR.copy())],
    ],
    ids=["list", "tuple", "object array", "nested lists", "tensors"],
)
def test_sequence_of_arrays(X):
    images = sequence_of_images(X)
    assert images.kind == "sequence" and len(images) == 2
    assert_array_equal(images[0], GREY[..., None])
    assert_array_equal(images[1], COLOUR)
    assert images.name(1) == "image 1"


@pytest.mark.parametrize(
    "container",
    [
        list,
        tuple,
        lambda paths: [str(path) for path in paths],
        lambda paths: np.array([str(path) for path in paths]),
        lambda paths: np.array([str(path) for path in paths], dtype=np.dtypes.StringDType()),
        lambda paths: objects(*paths),
        lambda paths: pd.Series([str(path) for path in paths]),
        lambda paths: [GREY, *paths][1:],
    ],
)
def test_sequence_of_paths(container, tmp_path):
    paths = [save(GREY, tmp_path / "a.png"), save(COLOUR, tmp_path / "b.png")]
    X = container(paths)
    assert kind_of(X) == "sequence"
    images = sequence_of_images(X)
    assert_array_equal(images[0], GREY[..., None])
    assert_array_equal(images[1], COLOUR)
    assert images.name(1) == str(paths[1])


def test_iteration_and_choice():
    images = sequence_of_images([GREY, COLOUR, GREY[::-1]])
    assert [image.shape for image in images] == [(24, 30, 1), (24, 30, 3), (24, 30, 1)]
    chosen = images.take(np.array([2, 0]))
    assert isinstance(chosen, ImageCollection) and len(chosen) == 2
    assert_array_equal(chosen[0][..., 0], GREY[::-1])

    stack, _ = stack_of_images(np.stack([GREY, GREY[::-1]]))
    chosen = stack.take(np.array([1]))
    assert_array_equal(chosen[0][..., 0], GREY[::-1])
    assert chosen.kind == "array" and not chosen.has_channel_axis


# Results go back into the container of X ----------------------------------------------


def test_maps_come_back_in_the_container():
    maps = [np.full((4, 5), float(i)) for i in range(3)]
    stack, rows = stack_of_images(np.zeros((3, 4, 5)))
    assert_array_equal(stack.pack(iter(maps)), np.stack(maps))
    packed = images_of_rows(rows, (4, 5)).pack(maps)
    assert_array_equal(packed, np.stack(maps).reshape(3, 20))
    for container in (list, tuple):
        packed = sequence_of_images(container(np.zeros((3, 4, 5)))).pack(maps)
        assert isinstance(packed, list)
        assert all(one is other for one, other in zip(packed, maps, strict=True))


@pytest.mark.parametrize("shape", [(2, 4, 5), (2, 4, 5, 1), (2, 4, 5, 3)])
def test_images_come_back_with_the_axes_of_x(shape):
    X = np.random.default_rng(0).random(shape)
    stack, _ = stack_of_images(X)
    assert_array_equal(stack.pack_images(iter(stack)), X)
    sequence = sequence_of_images(list(X))
    for one, other in zip(sequence.pack_images(iter(sequence)), X, strict=True):
        assert_array_equal(one, other)


def test_images_of_files_come_back_as_pillow_reads_them(tmp_path):
    paths = [save(GREY, tmp_path / "a.png"), save(COLOUR, tmp_path / "b.png")]
    images = sequence_of_images(paths)
    grey, colour = images.pack_images(iter(images))
    assert_array_equal(grey, GREY)
    assert_array_equal(colour, COLOUR)


# Shapes -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "n_features", "expected"),
    [
        (None, 16, (4, 4)),
        (None, 1, (1, 1)),
        (None, 15, (1, 15)),
        (None, 10**6, (1000, 1000)),
        ((4, 5), 20, (4, 5)),
        ([4, 5], 20, (4, 5)),
        (np.array([4, 5]), 20, (4, 5)),
        ((2, 3, 3), 18, (2, 3, 3)),
        ((16, 1), 16, (16, 1)),
    ],
)
def test_image_shape(given, n_features, expected):
    assert resolve_image_shape(given, n_features) == expected


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ((4, 4), "X has 20 features, but image_shape=.4, 4. takes 16"),
        ((20,), "image_shape must be .h, w. or .h, w, c., got .20,."),
        ((1, 2, 2, 5), "image_shape must be"),
        ((0, 20), "image_shape must be"),
        ((-4, -5), "image_shape must be"),
        ((4.0, 5.0), "image_shape must be"),
        ("ab", "image_shape must be"),
    ],
)
def test_bad_image_shape(given, message):
    with pytest.raises(ValueError, match=message):
        resolve_image_shape(given, 20)


# Bad input ----------------------------------------------------------------------------


def truncated(path):
    save(COLOUR, path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def not_an_image(path):
    path.write_text("no image")


def empty(path):
    path.touch()


@pytest.mark.parametrize("suffix", ["png", "jpg", "bmp", "gif"])
@pytest.mark.parametrize("spoil", [truncated, not_an_image, empty])
def test_unreadable_files_are_named(spoil, suffix, tmp_path):
    good, bad = save(GREY, tmp_path / "good.png"), tmp_path / f"bad.{suffix}"
    spoil(bad)
    images = sequence_of_images([good, str(bad)])
    assert images[0].shape == (24, 30, 1)
    with pytest.raises(OSError) as caught:
        _ = images[1]
    text = str(caught.value)
    assert text.startswith(f"{bad} is not a readable image: ")
    assert text.count(bad.name) == 1 and not text.endswith(": ")


def test_missing_files_are_named_at_once(tmp_path):
    good = save(GREY, tmp_path / "good.png")
    missing = tmp_path / "missing.png"
    with pytest.raises(FileNotFoundError, match=f"^There is no file {re.escape(str(missing))}\\.$"):
        sequence_of_images([good, missing])
    with pytest.raises(FileNotFoundError, match=f"{tmp_path.name} is a folder.*list_images"):
        sequence_of_images([good, tmp_path])


def test_files_that_vanish_are_named(tmp_path):
    path = save(GREY, tmp_path / "grey.png")
    images = sequence_of_images([path])
    path.unlink()
    with pytest.raises(FileNotFoundError, match=f"^{re.escape(str(path))} is gone\\.$"):
        _ = images[0]


@pytest.mark.parametrize("path", ["a.png", pathlib.Path("a.png")])
def test_one_path_is_no_sequence(path):
    with pytest.raises(ValueError, match=r"X is one path, 'a\.png'\. Give a list of paths"):
        sequence_of_images(path)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite(value):
    bad = np.zeros((4, 5))
    bad[1, 2] = value
    with pytest.raises(ValueError, match=r"image 1: .*(NaN|infinity)"):
        _ = sequence_of_images([np.zeros((4, 5)), bad])[1]
    with pytest.raises(ValueError, match=r"X contains (NaN|infinity)"):
        stack_of_images(np.stack([np.zeros((4, 5)), bad]))


@pytest.mark.parametrize("item", [np.zeros(5), np.zeros((1, 2, 3, 4)), 3.5, None])
def test_items_that_are_no_images(item):
    with pytest.raises(ValueError, match=r"image 1 has the shape .*h, w, c.*path"):
        sequence_of_images([GREY, item])


@pytest.mark.parametrize("shape", [(0, 5), (5, 0), (5, 5, 0)])
def test_images_without_pixels(shape):
    with pytest.raises(ValueError, match="image 1 has no pixels, shape"):
        _ = sequence_of_images([GREY, np.zeros(shape)])[1]


@pytest.mark.parametrize("shape", [(0, 4, 5), (3, 0, 5), (3, 4, 0), (3, 4, 5, 0)])
def test_empty_stacks(shape):
    with pytest.raises(ValueError, match=r"Found array with 0 (sample|feature)\(s\)"):
        stack_of_images(np.zeros(shape))


@pytest.mark.parametrize("shape", [(1, 2, 3, 4, 5), (2, 2, 2, 2, 2, 2)])
def test_too_many_dimensions(shape):
    with pytest.raises(ValueError, match=f"X has {len(shape)} dimensions.*flattened rows"):
        stack_of_images(np.zeros(shape))


@pytest.mark.parametrize("X", [np.full((2, 4, 5), "a"), np.zeros((2, 4, 5), complex)])
def test_pixels_that_are_no_numbers(X):
    with pytest.raises(ValueError, match=r"numeric|[Cc]omplex|convert"):
        stack_of_images(X)
    with pytest.raises(ValueError, match="image 0: "):
        _ = sequence_of_images(list(X))[0]


def test_any_failure_of_the_decoder_names_the_file(tmp_path, monkeypatch):
    path = tmp_path / "large.png"
    Image.fromarray(np.zeros((40, 40), np.uint8)).save(path)
    images = sequence_of_images([path])

    def no_memory(picture):
        raise MemoryError

    monkeypatch.setattr(files, "_decode", no_memory)
    with pytest.raises(OSError, match=r"large\.png is not a readable image: MemoryError$"):
        _ = images[0]


@pytest.mark.parametrize("shape", [(90, 120), (100, 100), (256, 256)])
@pytest.mark.parametrize("dtype", [np.uint8, np.float64])
def test_one_image_in_place_of_rows(shape, dtype):
    rows = np.zeros(shape, dtype)
    with pytest.warns(UserWarning, match=rf"{shape[0]} images .*one image, give X\[None\]"):
        resolve_image_shape(None, *rows.shape[::-1])
    assert resolve_image_shape((1, shape[1]), *rows.shape[::-1]) == (1, shape[1])


@pytest.mark.parametrize("shape", [(500, 256), (64, 4096), (63, 200), (200, 10), (1, 5000)])
def test_rows_that_are_no_image(shape):
    side = round(shape[1] ** 0.5)
    expected = (side, side) if side * side == shape[1] else (1, shape[1])
    assert resolve_image_shape(None, *shape[::-1]) == expected
