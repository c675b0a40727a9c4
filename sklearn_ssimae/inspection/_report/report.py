"""From images to the report: scores first, then the cards of the most anomalous."""

from __future__ import annotations

import heapq
import math
import os
import warnings
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from importlib.resources import files
from numbers import Integral
from os import PathLike
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from sklearn_ssimae._images.collection import ImageCollection
from sklearn_ssimae._images.labels import good_images, is_masks
from sklearn_ssimae._version import __version__
from sklearn_ssimae.inspection._plotting import visible
from sklearn_ssimae.inspection._report.images import encode_bytes, encode_picture, pool
from sklearn_ssimae.inspection._report.scale import Scale, make_scale
from sklearn_ssimae.metrics import Images, as_mask

# Longest side of a map in the file. At it the maps of most images fit into their bytes.
_MAP_SIDE = 320
# Bytes of an image's parts, 60 kB together when they are written as text.
_PHOTO_BYTES, _RECONSTRUCTION_BYTES, _MAP_BYTES = 19_000, 5_000, 19_000
# Images that are reconstructed at once: small ones fill the network's batches together, large
# ones are few.
_BLOCK_PIXELS = 2**20


def write_report(
    path: str | PathLike[str],
    detector: Any,
    images: Any,
    *,
    masks: Any = None,
    good: Any = None,
    max_images: int = 200,
) -> None:
    """Write an HTML file in which the threshold can be moved.

    The file needs no server and no network. It shows the images, the most anomalous first, each
    with its residual map, the outline of what lies above the threshold, its reconstruction and,
    if there is one, its mask. A slider moves the threshold: outlines, labels, counts and the
    marker in the histogram of the scores follow at once. A button copies the line that sets the
    threshold that was found.

    Parameters
    ----------
    path : str or path-like
        File to write, in a folder that exists. A file that is there is replaced.
    detector : detector
        A fitted detector of this package.
    images : array of shape (n, h, w), (n, h, w, c) or (n, n_features), or sequence
        Images to inspect, as for the detector's `transform`: also a sequence of arrays of
        different sizes or of paths of image files. They are taken one at a time.
    masks : bool array of shape (n, h, w), sequence of n arrays (h, w), or labels of shape (n,), \
default=None
        What is true, as for the detector's `score`. True pixels are defects; of labels, -1 is a
        defect and any other value is good. With them the report counts what is found, the
        false alarms, precision and recall.
    good : array or sequence, default=None
        Images that are known to be good and were not trained on, in any form that `images` may
        have. Their scores are drawn in the histogram and counted; they are not shown.
    max_images : int, default=200
        Number of images shown at most, those with the highest scores. The scores of all are in
        the histogram and in the counts.

    Raises
    ------
    TypeError
        When the detector is none of this package.
    ValueError
        When there are no images, for masks that do not belong to them, and for whatever the
        detector refuses.
    OSError
        For a folder that is missing or cannot be written to, and for an image file that is
        missing or unreadable.

    Notes
    -----
    Labels and counts follow from the scores, which the file holds as they are. The slider stops at
    up to 254 thresholds: at round numbers, between neighbouring scores, and at the detector's
    own. At each of them the outlines are those of the detector's `segment` with that threshold.
    Photographs, reconstructions and the colours of the maps are rounded. An image whose longer
    side exceeds 320 pixels is outlined in blocks of pixels: a block is a defect if one of its
    pixels is.

    Nothing is written before the last image was inspected, and the file appears at once.

    Examples
    --------
    >>> import numpy as np
    >>> from pathlib import Path
    >>> from tempfile import TemporaryDirectory
    >>> from sklearn_ssimae import L2AutoencoderDetector
    >>> from sklearn_ssimae.inspection import write_report
    >>> stripes = np.tile(np.sin(np.arange(32)) ** 2, (2, 32, 1))
    >>> detector = L2AutoencoderDetector(
    ...     patch_size=16, latent_dim=4, n_patches=200, max_iter=20, random_state=0
    ... ).fit(stripes)
    >>> with TemporaryDirectory() as folder:
    ...     write_report(Path(folder) / "report.html", detector, stripes)
    ...     print([path.name for path in Path(folder).iterdir()])
    ['report.html']
    """
    target = _check_target(path)
    _check_arguments(detector, images, good, max_images)
    collection = detector._check_fitted_input(images)
    defective = None if masks is None else _defective(masks, len(collection))
    good_scores = np.array([]) if good is None else -np.asarray(detector.score_samples(good))
    scores, shown = _inspect(
        detector, collection, masks if is_masks(masks) else None, int(max_images)
    )
    scale = make_scale(np.concatenate([scores, good_scores]), float(detector.threshold_))
    context = {
        "cards": _cards(detector, collection, shown, scale),
        "data": _data(detector, scale, scores, good_scores, defective),
        "defective": defective,
        "detector": type(detector).__name__,
        "has_masks": masks is not None and is_masks(masks),
        "n_good": len(good_scores),
        "n_images": len(scores),
        "n_shown": len(shown),
        "names": _names(collection),
        "rows": _histograms(scale, scores, good_scores, defective),
        "scale": scale,
        "threshold": float(detector.threshold_),
        "version": __version__,
    }
    _write(target, _render(context))


# Checks -------------------------------------------------------------------------------


def _check_target(path: str | PathLike[str]) -> Path:
    """The path of the report, if a file can be put there: known before an hour is spent."""
    target = Path(path)
    folder = target.parent
    if target.is_dir():
        raise IsADirectoryError(f"{str(target)!r} is a folder. Name a file in it.")
    if not folder.is_dir():
        raise FileNotFoundError(
            f"The report's folder {str(folder)!r} does not exist. Make it first."
        )
    if not os.access(folder, os.W_OK):
        raise PermissionError(f"The report cannot be written into the folder {str(folder)!r}.")
    return target


def _check_arguments(detector: Any, images: Any, good: Any, max_images: int) -> None:
    if not (hasattr(detector, "reconstruct") and hasattr(detector, "_check_fitted_input")):
        raise TypeError(
            "write_report needs a fitted detector of this package, which reconstructs images, "
            f"got {type(detector).__name__}. Of a pipeline give the step that is one."
        )
    for name, value in (("images", images), ("good", good)):
        if hasattr(value, "__len__") and len(value) == 0:
            raise ValueError(f"{name} is empty. Give one image or more.")
    if not isinstance(max_images, Integral) or max_images < 1:
        raise ValueError(f"max_images must be an integer of at least 1, got {max_images!r}.")


def _defective(masks: Any, n_images: int) -> np.ndarray:
    """Whether each image is defective by its mask or label."""
    if not is_masks(masks) and np.ndim(masks) != 1:
        raise ValueError(
            f"masks has the shape {np.shape(masks)}. Give masks (n, h, w), a list of masks (h, w), "
            "or a label for each image."
        )
    if len(masks) != n_images:
        raise ValueError(f"There are {len(masks)} masks for {n_images} images.")
    if is_masks(masks):
        return np.array([as_mask(masks[i], i, "masks").any() for i in range(n_images)])
    return ~good_images(masks, n_images)


# Images -------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Shown:
    """What is kept of an image that will be shown: its map and its mask, pooled by `factor`."""

    index: int
    score: float
    shape: tuple[int, ...]
    factor: int
    residual: np.ndarray
    mask: np.ndarray | None


def _inspect(
    detector: Any, images: ImageCollection, masks: Images | None, max_images: int
) -> tuple[np.ndarray, list[_Shown]]:
    """The scores of all images, and the most anomalous images, in falling order."""
    scores: list[float] = []
    heap: list[tuple[float, int, _Shown]] = []
    for index, residual in enumerate(detector._maps(images)):
        mask = None if masks is None else _mask(masks, index, residual.shape)
        scores.append(float(residual.max()))
        if len(heap) == max_images and scores[-1] <= heap[0][0]:
            continue
        factor = -(-max(residual.shape) // _MAP_SIDE)
        shown = _Shown(
            index,
            scores[-1],
            residual.shape,
            factor,
            pool(residual, factor),
            None if mask is None else pool(mask, factor),
        )
        # Of equal scores the earlier image is kept, and comes first.
        add = heapq.heappush if len(heap) < max_images else heapq.heapreplace
        add(heap, (shown.score, -index, shown))
    return np.array(scores), [shown for *_, shown in sorted(heap, reverse=True)]


def _mask(masks: Images, index: int, shape: tuple[int, ...]) -> np.ndarray:
    mask = as_mask(masks[index], index, "masks")
    if mask.shape != shape:
        raise ValueError(f"masks[{index}] has the shape {mask.shape}, its image {shape}.")
    return mask


def _cards(
    detector: Any, images: ImageCollection, shown: list[_Shown], scale: Scale
) -> Iterator[dict[str, Any]]:
    """What the page needs of each image that is shown."""
    for block in _blocks(shown):
        pictures = [images[item.index] for item in block]
        with warnings.catch_warnings():
            # Of values out of range, say: that was said when the images were inspected.
            warnings.simplefilter("ignore", UserWarning)
            reconstructions = detector.reconstruct(pictures)
        for item, picture, reconstruction in zip(block, pictures, reconstructions, strict=True):
            photo = visible(picture, detector.data_range_)
            redrawn = visible(reconstruction, detector.data_range_)
            yield {
                "index": item.index,
                "score": item.score,
                "shape": item.shape,
                "payload": {
                    "shape": item.shape,
                    "photo": encode_picture(photo, _PHOTO_BYTES),
                    "reconstruction": encode_picture(redrawn, _RECONSTRUCTION_BYTES),
                    **_encode_planes(item, scale),
                },
            }


def _blocks(shown: list[_Shown]) -> Iterator[list[_Shown]]:
    """Consecutive images of about `_BLOCK_PIXELS` together."""
    block: list[_Shown] = []
    n_pixels = 0
    for item in shown:
        block.append(item)
        n_pixels += math.prod(item.shape)
        if n_pixels >= _BLOCK_PIXELS:
            yield block
            block, n_pixels = [], 0
    if block:
        yield block


def _encode_planes(item: _Shown, scale: Scale) -> dict[str, Any]:
    """Map and mask as text, pooled further if the map needs too many bytes."""
    residual, mask, factor = item.residual, item.mask, item.factor
    codes = encode_bytes(scale.codes(residual))
    while len(codes) > _MAP_BYTES * 4 / 3 and residual.size > 1:
        residual, factor = pool(residual, 2), 2 * factor
        mask = None if mask is None else pool(mask, 2)
        codes = encode_bytes(scale.codes(residual))
    return {
        "codes": codes,
        "mask": None if mask is None else encode_bytes(mask),
        "grid": residual.shape,
        "factor": factor,
    }


def _names(images: ImageCollection) -> list[str]:
    """Paths below the folder that all files have in common; numbers of arrays."""
    items = images.items if images.kind == "sequence" else ()
    paths = {i: os.fspath(item) for i, item in enumerate(items) if isinstance(item, str | PathLike)}
    try:
        folder = os.path.commonpath([os.path.dirname(path) for path in paths.values()])
        paths = {i: os.path.relpath(path, folder or os.curdir) for i, path in paths.items()}
    except ValueError:  # no paths at all, or none in common: relative and absolute, two drives
        pass
    return [paths.get(i, f"image {i}") for i in range(len(images))]


# Page ---------------------------------------------------------------------------------


def _data(
    detector: Any,
    scale: Scale,
    scores: np.ndarray,
    good_scores: np.ndarray,
    defective: np.ndarray | None,
) -> dict[str, Any]:
    """What the page computes labels and counts of. JSON keeps every digit of a float."""
    return {
        "threshold": float(detector.threshold_),
        "low": scale.low,
        "high": scale.high,
        "levels": scale.levels.tolist(),
        "scores": scores.tolist(),
        "goodScores": good_scores.tolist(),
        "defective": None if defective is None else defective.tolist(),
    }


def _histograms(
    scale: Scale, scores: np.ndarray, good_scores: np.ndarray, defective: np.ndarray | None
) -> list[dict[str, Any]]:
    """A row for each kind of image, with bars as high as their share of the highest."""
    kinds = {"good": good_scores}
    if defective is None:
        kinds["inspected"] = scores
    else:
        kinds["inspected, truly good"] = scores[~defective]
        kinds["inspected, truly defective"] = scores[defective]
    return [
        {"label": label, "n": len(values), "bars": [count / max(counts) for count in counts]}
        for label, values in kinds.items()
        if len(values) and (counts := scale.histogram(values))
    ]


def _render(context: dict[str, Any]) -> Iterator[str]:
    folder = files(__package__)
    style, script, page = (
        (folder / name).read_text(encoding="utf-8")
        for name in ("report.css", "report.js", "report.html.jinja")
    )
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    template = environment.from_string(page)
    # Only these two are trusted; whatever comes from outside is escaped.
    return template.generate(**context, style=Markup(style), script=Markup(script))


def _write(target: Path, parts: Iterator[str]) -> None:
    """Write a file that is either there as a whole or not at all."""
    temporary = target.with_name(f".{target.name}.{uuid4().hex}.tmp")
    try:
        # File names may hold bytes that are no UTF-8.
        with open(temporary, "w", encoding="utf-8", errors="replace", newline="\n") as file:
            file.writelines(parts)
        os.replace(temporary, target)
    except BaseException:
        with suppress(OSError):
            temporary.unlink()
        raise
