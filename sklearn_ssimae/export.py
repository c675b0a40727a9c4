"""Trained detectors as ONNX files, to score images without this package."""

from __future__ import annotations

import copy
import json
import logging
import os
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.utils.validation import check_is_fitted
from torch import Tensor, nn

from sklearn_ssimae._detectors.base import BaseDetector
from sklearn_ssimae._extras import install_hint
from sklearn_ssimae._maps.counting import blank, nearest_counting
from sklearn_ssimae._maps.filters import resize
from sklearn_ssimae._maps.tiling import GridAxis
from sklearn_ssimae._networks.own_state import own_state
from sklearn_ssimae._version import __version__

# The first operator set that resizes with anti-aliasing.
_OPSET = 18
# Patches of one image that pass the network at once: more take more memory, fewer make a larger
# graph and a longer export.
_MAX_PATCHES = 256


@own_state()
def to_onnx(detector: Any, path: str | os.PathLike[str], image_shape: tuple[int, ...]) -> None:
    """Write a fitted detector's whole way from images to residual maps as an ONNX file.

    The file holds all that `transform` does: the value range, `scale`, padding, patches,
    network, averaging, residual, smoothing, opening and resizing back. A runtime for ONNX is
    all that is needed to score images with it.

    Parameters
    ----------
    detector : detector
        A fitted detector of this package.
    path : str or path-like
        File to write, by habit with the ending ``.onnx``. One that exists is overwritten.
    image_shape : (h, w) or (h, w, c)
        Shape of the images that will be scored, in pixels; (h, w) for grey ones. It is fixed in
        the file, the number of images in a call is not.

    Raises
    ------
    TypeError
        When `detector` is none of the detectors.
    ValueError
        When it is not fitted (NotFittedError), `image_shape` is no shape of an image, or the
        images have another number of channels than the training images, or another size than the
        detector's region. When `min_area` is set, or after `learn_good`: no graph can hold these.
    ImportError
        When the packages that write ONNX files are not installed: onnx and onnxscript, which
        the extra ``onnx`` installs.
    OSError
        When the file cannot be written.

    Notes
    -----
    Input ``images``: float32 of shape ``(n, *image_shape)``, in the units of the training images:
    8-bit images are converted to float32 and not divided by 255. Output ``maps``:
    float32 of shape (n, h, w), equal to what `transform` gives for float32 images but for
    rounding, which depends on the runtime. A detector with ``precision="bfloat16"`` is
    written in float32, and then differs by bfloat16's rounding.

    The file's metadata are strings: ``threshold`` (a pixel is a defect where its map is
    greater), ``detector`` (name of the class), ``sklearn_ssimae_version``, and, as JSON,
    ``data_range`` and ``image_shape``.

    Memory: a few hundred patches of each image pass the network at once, and take about
    ``64 * patch_size**2`` bytes each, 1 MiB for patches of 128×128; for a VAE
    `n_latent_samples` times that. Score large images one at a time.

    Examples
    --------
    >>> from pathlib import Path
    >>> from tempfile import TemporaryDirectory
    >>> import numpy as np
    >>> import onnxruntime
    >>> from skimage import data
    >>> from sklearn_ssimae import L2AutoencoderDetector
    >>> from sklearn_ssimae.export import to_onnx
    >>> brick = data.brick()[None, :64, :64].astype(np.float32)
    >>> detector = L2AutoencoderDetector(
    ...     patch_size=32,
    ...     latent_dim=16,
    ...     n_patches=200,
    ...     max_iter=3,
    ...     random_state=0,
    ... )
    >>> maps = detector.fit(brick).transform(brick)
    >>> with TemporaryDirectory() as folder:
    ...     path = Path(folder) / "brick.onnx"
    ...     to_onnx(detector, path, image_shape=(64, 64))
    ...     session = onnxruntime.InferenceSession(path)
    >>> np.allclose(session.run(["maps"], {"images": brick})[0], maps, atol=1e-4)
    True
    >>> threshold = session.get_modelmeta().custom_metadata_map["threshold"]
    >>> float(threshold) == float(detector.threshold_)
    True
    """
    if not isinstance(detector, BaseDetector):
        raise TypeError(
            "detector must be a detector of this package, such as SSIMAutoencoderDetector, got "
            f"{type(detector).__name__}. Of a pipeline export the detector alone."
        )
    check_is_fitted(detector, "offset_")
    if detector.min_area > 1:
        raise ValueError(
            f"min_area={detector.min_area} cannot be exported: an opening by area is no operation "
            "of ONNX. Set min_area=0, and leave out small regions of the masks yourself."
        )
    if detector.lessons_:
        raise ValueError(
            "A detector that was taught by learn_good cannot be exported: telling regions apart is "
            "no operation of ONNX. Export the detector from before."
        )
    shape = _check_image_shape(image_shape)
    onnx = _import_onnx()
    model = _trace(_ResidualMaps(detector, shape), shape)
    _clear_metadata(model)
    onnx.helper.set_model_props(model, _metadata(detector, shape))
    Path(path).write_bytes(model.SerializeToString())


def _check_image_shape(image_shape: Any) -> tuple[int, ...]:
    shape = tuple(image_shape) if isinstance(image_shape, Iterable) else ()
    whole = all(isinstance(side, (int, np.integer)) and side >= 1 for side in shape)
    if len(shape) not in (2, 3) or not whole:
        raise ValueError(f"image_shape must be (h, w) or (h, w, c), got {image_shape!r}.")
    return tuple(int(side) for side in shape)


def _import_onnx() -> Any:
    try:
        # torch's exporter imports it, and says less about what is missing.
        import_module("onnxscript")
        return import_module("onnx")
    except ImportError as error:
        raise ImportError(
            f"to_onnx needs packages that are not installed ({error}). {install_hint('onnx')}"
        ) from error


def _trace(module: nn.Module, shape: tuple[int, ...]) -> Any:
    """The module as an ONNX model; its input and its output have a first axis of any length."""
    with _quiet_exporter(), torch.no_grad():
        program = torch.onnx.export(
            module,
            (torch.zeros(2, *shape, dtype=torch.float32),),
            input_names=["images"],
            output_names=["maps"],
            dynamic_shapes=({0: "n"},),
            opset_version=_OPSET,
            dynamo=True,
            verbose=False,
        )
    assert program is not None
    return program.model_proto


@contextmanager
def _quiet_exporter() -> Iterator[None]:
    """Hide what torch's exporter says of its own parts, and of packages not needed here."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def _clear_metadata(model: Any) -> None:
    """Remove what torch's exporter notes of the source code: file names of this machine."""
    graph = model.graph
    for part in (graph, *graph.node, *graph.input, *graph.output, *graph.value_info):
        part.ClearField("metadata_props")
    for initializer in graph.initializer:
        initializer.ClearField("metadata_props")


def _metadata(detector: BaseDetector, shape: tuple[int, ...]) -> dict[str, str]:
    return {
        "threshold": repr(float(detector.threshold_)),
        "detector": type(detector).__name__,
        "sklearn_ssimae_version": __version__,
        "data_range": json.dumps(list(detector.data_range_)),
        "image_shape": json.dumps(shape),
    }


class _ResidualMaps(nn.Module):
    """What `transform` does with images of one size, in operations that can be traced.

    Images (n, h, w) or (n, h, w, c) to maps (n, h, w). Comparing and finishing are what scoring
    calls; patches are cut and joined by lists of indices (`GridAxis` says why).
    """

    def __init__(self, detector: BaseDetector, image_shape: tuple[int, ...]) -> None:
        super().__init__()
        # A copy's network is on the CPU.
        detector = copy.copy(detector)
        detector.precision = "float32"
        self.network = detector.network_.requires_grad_(False)
        self.maker = detector._map_maker()
        self.preparation = detector._preparation()
        self.map_size = image_shape[0], image_shape[1]
        blank_image = np.full((*image_shape, 1)[:3], detector.data_range_[0], np.float32)
        name = f"image_shape={image_shape}"
        size = self.preparation(blank_image, name).shape[1:]
        region = self.preparation.region_of(name, self.map_size)
        self.is_inside = None if region is None else torch.from_numpy(region)
        if region is not None:
            counts = self.preparation.inside(region, (size[0], size[1]))
            self.nearest, self.counts = nearest_counting(counts), torch.from_numpy(counts)
        self.rows, self.columns = (
            GridAxis(side, self.maker.patch_size, self.maker.stride) for side in size
        )

    def forward(self, images: Tensor) -> Tensor:
        planes = self._prepare(images)
        values = self._reconstruct(planes)
        counts = None if self.is_inside is None else self.counts
        maps = self.maker.finish(self.maker.compare(planes, values), counts)
        logarithmic = self.maker.comparison.gives_logarithms
        return blank(resize(maps, self.map_size), self.is_inside, logarithmic=logarithmic)

    def _reconstruct(self, planes: Tensor) -> Tensor:
        """Averaged values (n, k, h, w) of planes (n, c, h, w)."""
        return self._join([self._patch_values(strip) for strip in self._cut(planes)])

    def _prepare(self, images: Tensor) -> Tensor:
        """Planes (n, c, h, w) in [0, 1], resized."""
        low, high = self.preparation.data_range
        unit = (images - low) / (high - low)
        planes = unit.movedim(3, 1) if unit.ndim == 4 else unit[:, None]
        size, scale = (self.rows.size, self.columns.size), self.preparation.scale
        resized = resize(planes.flatten(0, 1), size, antialias=scale < 1)
        prepared = resized.unflatten(0, (-1, planes.shape[1]))
        if self.is_inside is None:
            return prepared
        rows, columns = self.nearest
        return prepared[:, :, rows, columns]

    def _cut(self, planes: Tensor) -> tuple[Tensor, ...]:
        """Patches of planes (n, c, h, w), in strips (n, rows, columns, c, p, p)."""
        grid = self.columns.cut(self.rows.cut(planes, 2), 4).permute(0, 2, 4, 1, 3, 5)
        return grid.split(max(1, _MAX_PATCHES // self.columns.n_patches), dim=1)

    def _patch_values(self, strip: Tensor) -> Tensor:
        """The detector's values (n, rows, columns, k, p, p) of patches."""
        values = self.maker.patch_values(strip.flatten(0, 2))
        return values.unflatten(0, (-1, *strip.shape[1:3]))

    def _join(self, strips: list[Tensor]) -> Tensor:
        """Weighted means (n, k, h, w) of the values where patches overlap."""
        log_mean = self.maker.comparison.averages_logarithms
        grid = torch.cat(strips, dim=1).permute(0, 3, 1, 4, 2, 5)
        return self.rows.join(self.columns.join(grid, 4, log_mean), 2, log_mean)
