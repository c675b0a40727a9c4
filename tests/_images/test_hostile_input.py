"""Whatever is handed over: a right answer or one clear error, never anything in between.

SSIMAE_EXAMPLES in the environment sets how many cases each property is tried on.
"""

import io
import os
import warnings
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps
from shared import cheap
from skimage import data
from sklearn.exceptions import ConvergenceWarning

from sklearn_ssimae import SSIMAutoencoderDetector, VAEDetector

N_EXAMPLES = int(os.environ.get("SSIMAE_EXAMPLES", "60"))

pytestmark = pytest.mark.filterwarnings(
    "ignore::sklearn.exceptions.ConvergenceWarning",
    "ignore:.*holds values in:UserWarning",
    "ignore:The images are of 16 bits:UserWarning",
    # scikit-learn's, before it refuses infinite values.
    "ignore:invalid value encountered in reduce:RuntimeWarning",
    "ignore:overflow encountered in (reduce|cast):RuntimeWarning",
)


def hostile(function):
    """A property that is tried on the same cases every time."""
    options = dict(
        deadline=None,
        derandomize="SSIMAE_EXAMPLES" not in os.environ,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    return settings(max_examples=N_EXAMPLES, **options)(function)


TEXTURE = np.stack([data.grass()[9 * i : 9 * i + 20, :24] for i in range(4)])


def fit(detector, X):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return detector.fit(X)


GREY = fit(cheap(SSIMAutoencoderDetector, stride=16), list(TEXTURE / 255))
VARIATIONAL = fit(cheap(VAEDetector, stride=16), list(TEXTURE / 255))
GREY_BYTES = fit(cheap(SSIMAutoencoderDetector, stride=16), list(TEXTURE))
COLOUR_BYTES = fit(cheap(SSIMAutoencoderDetector, stride=16), list(np.stack(3 * [TEXTURE], -1)))

# Arrays ------------------------------------------------------------------------------

SIDES = st.sampled_from([1, 2, 3, 5, 15, 16, 17, 33])
SIZES = st.one_of(
    st.tuples(SIDES, SIDES), st.sampled_from([(600, 3), (3, 600), (1, 600), (600, 1)])
)
INTEGERS = [f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)]
FLOATS = ["float16", "float32", "float64", "longdouble"]
FOREIGN = [">f4", ">f8", ">i2", ">u2", ">i8", "<f2"]
DTYPES = st.sampled_from(["bool", *INTEGERS, *FLOATS, *FOREIGN])
FINITE = ["unit", "bytes", "constant", "denormal", "tiny", "large", "huge", "extremes"]
NOT_FINITE = ["one nan", "all nan", "inf", "-inf", "both infinities"]
VALUES = st.sampled_from([*FINITE, "negative zero", *NOT_FINITE])
LAYOUTS = st.sampled_from(
    ["C", "F", "strided", "reversed", "transposed", "read-only", "unaligned", "object", "lists"]
)
CONTAINERS = st.sampled_from(["stack", "stack with a channel", "list", "tuple", "object array"])


@dataclass
class Case:
    images: list
    X: object
    description: str

    def __repr__(self):
        return self.description

    @property
    def is_finite(self):
        return all(np.isfinite(image).all() for image in self.images)

    @property
    def magnitude(self):
        return max(float(np.abs(image.astype(np.longdouble)).max()) for image in self.images)


def draw_values(rng, kind, shape, dtype):
    dtype = np.dtype(dtype)
    if dtype.kind == "b":
        return rng.random(shape) < 0.5
    unit = rng.random(shape)
    if dtype.kind in "iu":
        limits = np.iinfo(dtype)
        bound = {"unit": 1, "bytes": 255, "large": 30_000}.get(kind, limits.max)
        if kind == "constant":
            return np.full(
                shape, rng.integers(limits.min, limits.max, dtype=dtype.newbyteorder("="))
            )
        if kind == "extremes":
            return np.where(unit < 0.5, limits.min, limits.max).astype(dtype)
        return (unit * min(bound, limits.max)).astype(dtype)
    limits = np.finfo(dtype)
    values = {
        "unit": unit,
        "bytes": 255 * unit,
        "constant": np.full(shape, unit.flat[0]),
        "denormal": unit * limits.smallest_subnormal * 100,
        "tiny": unit * limits.tiny,
        "large": 1e4 * (unit - 0.5),
        "huge": unit * limits.max,
        "extremes": np.where(unit < 0.5, limits.min, limits.max),
        "negative zero": np.full(shape, -0.0),
    }.get(kind, unit)
    values = values.astype(dtype)
    place = tuple(rng.integers(shape))
    if "nan" in kind:
        values[... if kind == "all nan" else place] = np.nan
    elif "inf" in kind:
        values[place] = -np.inf if kind == "-inf" else np.inf
        if kind == "both infinities":
            values[tuple(rng.integers(shape))] = -np.inf
    return values


def lay_out(array, layout):
    """The same values, stored in an unusual way."""
    if layout == "F":
        return np.asfortranarray(array)
    if layout == "strided":
        wide = np.zeros((*array.shape[:-1], 2 * array.shape[-1]), array.dtype)
        wide[..., ::2] = array
        return wide[..., ::2]
    if layout == "reversed":
        return array[..., ::-1].copy()[..., ::-1]
    if layout == "transposed":
        return np.ascontiguousarray(array.swapaxes(-1, -2)).swapaxes(-1, -2)
    if layout == "read-only":
        array = array.copy()
        array.flags.writeable = False
        return array
    if layout == "unaligned":
        raw = np.zeros(array.nbytes + 1, np.uint8)[1:]
        raw = raw.view(array.dtype).reshape(array.shape)
        raw[...] = array
        return raw
    if layout == "object":
        return array.astype(object)
    return array


@st.composite
def cases(draw):
    container, layout = draw(CONTAINERS), draw(LAYOUTS)
    dtype, kind = draw(DTYPES), draw(VALUES)
    n_images = draw(st.integers(1, 3))
    sizes = [draw(SIZES) for _ in range(n_images)]
    seed = draw(st.integers(0, 2**32 - 1))
    rng = np.random.default_rng(seed)
    if "stack" in container:
        sizes = sizes[:1] * n_images
    images = [draw_values(rng, kind, size, dtype) for size in sizes]
    description = f"{container} of {sizes}, {dtype} {kind}, {layout}, seed {seed}"
    if "stack" in container:
        X = lay_out(np.stack(images), layout)
        X = X[..., None] if "channel" in container else X
        X = X.tolist() if layout == "lists" else X
    else:
        X = [lay_out(image, layout) for image in images]
        X = tuple(X) if container == "tuple" else X
        if container == "object array":
            objects = np.empty(n_images, dtype=object)
            objects[:] = [lay_out(image, layout) for image in images]
            X = objects
    return Case(images, X, description)


def outcome(function, *args):
    """The result, or the one error that may be raised."""
    try:
        return function(*args), None
    except (ValueError, OSError) as error:
        assert str(error).strip(), "an error without a message"
        event(f"refused: {str(error)[:40]}")
        return None, error


def check_maps(detector, images, X, maps):
    assert len(maps) == len(images)
    for image, residual in zip(images, maps, strict=True):
        assert residual.shape == image.shape[:2]
        assert residual.dtype in (np.float32, np.float64)
        assert np.isfinite(residual).all()
    scores = detector.score_samples(X)
    assert scores.shape == (len(images),) and np.isfinite(scores).all()
    np.testing.assert_array_equal(scores, [-float(residual.max()) for residual in maps])
    masks = detector.segment(X)
    assert [mask.dtype for mask in masks] == [np.dtype(bool)] * len(images)
    np.testing.assert_array_equal(detector.predict(X) == -1, [mask.any() for mask in masks])


@pytest.mark.slow
@pytest.mark.parametrize("detector", [GREY, VARIATIONAL], ids=lambda d: type(d).__name__)
@hostile
@given(case=cases())
def test_arrays(detector, case):
    maps, error = outcome(detector.transform, case.X)
    if error is None:
        assert case.is_finite
        check_maps(detector, case.images, case.X, maps)
        # The way in which values are stored does not matter.
        plain = [np.ascontiguousarray(i, i.dtype.newbyteorder("=")) for i in case.images]
        expected = detector.transform(plain)
        for residual, same in zip(maps, expected, strict=True):
            np.testing.assert_allclose(residual, same, rtol=1e-6, atol=1e-9)
        for reconstruction, image in zip(detector.reconstruct(case.X), case.images, strict=True):
            assert reconstruction.shape[:2] == image.shape
            assert np.isfinite(reconstruction).all()
    elif case.is_finite:
        # Only what exceeds the arithmetic may be refused, and what may be in another unit.
        assert case.magnitude > 5e5 or "holds values in" in str(error), error


@hostile
@given(case=cases())
def test_fit(case):
    detector = cheap(SSIMAutoencoderDetector, n_patches=8, max_iter=1, stride=16)
    _, error = outcome(detector.fit, case.X)
    if error is not None:
        assert not hasattr(detector, "network_")
        assert not case.is_finite or case.magnitude > 1e29, error
        return
    assert case.is_finite
    assert np.isfinite(detector.threshold_) and np.isfinite(detector.data_range_).all()
    assert np.isfinite(detector.loss_curve_).all()
    check_maps(detector, case.images, case.X, detector.transform(case.X))


@hostile
@given(
    X=st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(max_size=9),
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner),
        max_leaves=12,
    )
)
@pytest.mark.parametrize("method", ["fit", "transform", "predict"])
def test_what_is_no_image(method, X):
    detector = cheap(SSIMAutoencoderDetector, n_patches=8, max_iter=1, stride=16)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            getattr(detector if method == "fit" else GREY, method)(X)
        except (ValueError, OSError, TypeError) as error:
            assert str(error).strip()


# Files -------------------------------------------------------------------------------

MODES = {
    "L": ("PNG", GREY_BYTES),
    "1": ("PNG", GREY_BYTES),
    "LA": ("PNG", GREY_BYTES),
    "I;16": ("PNG", GREY_BYTES),
    "grey palette": ("PNG", GREY_BYTES),
    "L jpeg": ("JPEG", GREY_BYTES),
    "L tiff": ("TIFF", GREY_BYTES),
    "L bmp": ("BMP", GREY_BYTES),
    "F": ("TIFF", GREY_BYTES),
    "I": ("TIFF", GREY_BYTES),
    "RGB": ("PNG", COLOUR_BYTES),
    "RGBA": ("PNG", COLOUR_BYTES),
    "P": ("PNG", COLOUR_BYTES),
    "RGB jpeg": ("JPEG", COLOUR_BYTES),
    "CMYK": ("JPEG", COLOUR_BYTES),
    "YCbCr": ("JPEG", COLOUR_BYTES),
    "RGB webp": ("WEBP", COLOUR_BYTES),
    "RGB gif": ("GIF", COLOUR_BYTES),
    "LAB": ("TIFF", COLOUR_BYTES),  # nothing converts it: refused
}
DAMAGES = ["none", "none", "truncated", "one byte", "text", "empty", "bytes appended"]


def encode(mode, size, orientation, seed):
    """An image file of this mode; what a right reader sees in it."""
    rng = np.random.default_rng(seed)
    texture = rng.integers(0, 256, (*size, 3), dtype=np.uint8)
    colour = Image.fromarray(texture)
    pillow_mode = mode.split()[0]
    if mode == "grey palette":
        image = colour.convert("L").convert("P")
    elif pillow_mode == "I;16":
        image = Image.fromarray(rng.integers(0, 65536, size, dtype=np.uint16))
    elif pillow_mode == "F":
        image = Image.fromarray(255 * rng.random(size, dtype=np.float32))
    elif pillow_mode == "I":
        image = Image.fromarray(rng.integers(0, 255, size, dtype=np.int32))
    elif pillow_mode == "LAB":
        image = Image.frombytes("LAB", size[::-1], texture.tobytes())
    elif pillow_mode == "P":
        image = colour.quantize(8)
    else:
        image = colour.convert(pillow_mode)
    stream = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = orientation
    image.save(stream, MODES[mode][0], exif=exif)
    return stream.getvalue()


def damaged(content, damage, rng):
    if damage == "truncated":
        return content[: rng.integers(len(content))]
    if damage == "one byte":
        changed = bytearray(content)
        changed[rng.integers(len(content))] ^= 1 << rng.integers(8)
        return bytes(changed)
    if damage == "bytes appended":
        return content + bytes(50)
    return {"text": b"this is no image", "empty": b""}.get(damage, content)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("images")


@hostile
@given(
    mode=st.sampled_from(list(MODES)),
    size=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    orientation=st.integers(0, 9),
    damage=st.sampled_from(DAMAGES),
    suffix=st.sampled_from([".png", ".jpg", ".tif", "", ".txt"]),
    seed=st.integers(0, 2**32 - 1),
)
def test_files(folder, mode, size, orientation, damage, suffix, seed):
    path = folder / f"image{suffix}"
    content = encode(mode, size, orientation, seed)
    path.write_bytes(damaged(content, damage, np.random.default_rng(seed)))
    detector = MODES[mode][1]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's, of odd metadata
        maps, error = outcome(detector.transform, [path])
        if error is not None:
            assert path.name in str(error)
            assert damage in ("truncated", "one byte", "text", "empty") or mode == "LAB", error
            return
        with Image.open(path) as file:
            file.load()
            upright = ImageOps.exif_transpose(file)
        check_maps(detector, [np.empty(upright.size[::-1])], [path], maps)
        if damage == "none" and MODES[mode][0] in ("JPEG", "PNG"):
            # Orientations 5 to 8 are turned by a quarter.
            assert upright.size[::-1] == (size[::-1] if 5 <= orientation <= 8 else size)
    event(f"{mode}: read")
