"""Which good images a network learns from, and which are kept from it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import numpy as np
from torch import Tensor

from sklearn_ssimae._maps.counting import split_counts

# Up to so many images, a region of each is kept in place of whole images: one or none of them
# would tell little, and take much from the training.
_FEW = 10
# Up to so many, if the regions are no larger a share of them: five whole images or fewer would tell
# less of how images differ than a region of each.
_SOME = 50
# Up to so many images are searched for copies. Among more, enough are kept for a few copies
# of trained ones to alter little.
_MAX_COMPARED = 1000
_EVERYTHING = (slice(None), slice(None))

#: Rows and columns.
_Span = tuple[range, range]


class Part(NamedTuple):
    """An image by its index, or a region of it by its rows and columns at the network's scale."""

    image: int
    box: tuple[slice, slice] = _EVERYTHING

    @property
    def is_region(self) -> bool:
        """Whether it is less than the whole image."""
        return self.box is not _EVERYTHING

    def of(self, planes: Tensor) -> Tensor:
        """What lies in it, of the planes (c, h, w) of the image; of a region, a copy."""
        # The rest of the image need not stay in memory.
        return planes[:, *self.box].clone() if self.is_region else planes


class Division(NamedTuple):
    """What is trained on and what is kept.

    Parameters
    ----------
    trained, kept : list of Part
        None is kept if there is nothing to spare.
    """

    trained: list[Part]
    kept: list[Part]


def keep_nothing(indices: Iterable[int]) -> Division:
    """All images are trained on."""
    return Division([Part(index) for index in indices], [])


def without_copies(n_images: int, digest: Callable[[int], bytes]) -> list[int]:
    """Indices of the images that equal no earlier one, by their digests.

    What is learnt from a kept image would be worth nothing if a copy of it was trained on.
    """
    if n_images > _MAX_COMPARED:
        return list(range(n_images))
    first: dict[bytes, int] = {}
    for index in range(n_images):
        first.setdefault(digest(index), index)
    return list(first.values())


def divide(
    indices: Sequence[int],
    load: Callable[[int], Tensor],
    *,
    fraction: float,
    patch_size: int,
    n_channels: int,
    rng: np.random.Generator,
) -> Division:
    """Keep a share of the images, or of few and large images a strip of each.

    Parameters
    ----------
    indices : sequence of int
        Of the images, no two alike.
    load : callable
        Index to planes (c, h, w) at the network's scale, with a plane more where some of it does
        not count; called for few images only.
    fraction : float
        In (0, 1): the share that is kept; at least one image, or a strip as wide as a patch.
    patch_size, n_channels : int
    rng : numpy Generator
        Chooses the images.

    Raises
    ------
    ValueError
        If nothing would be left to train on.
    """
    n_images = len(indices)
    if n_images <= _SOME:
        least = 2 * patch_size if n_images <= _FEW else patch_size / fraction
        spans = _spans_if_large(indices, load, least, n_channels)
        if spans is not None:
            pairs = [
                _strip(index, span, fraction, patch_size, at_start=bool(place % 2))
                for place, (index, span) in enumerate(zip(indices, spans, strict=True))
            ]
            return Division([trained for trained, _ in pairs], [kept for _, kept in pairs])
        if n_images == 1:
            return keep_nothing(indices)
    n_kept = max(1, round(fraction * n_images))
    if n_kept == n_images:
        raise ValueError(
            f"validation_fraction={fraction} keeps all {n_images} images from training. Lower it."
        )
    order = rng.permutation(n_images)
    kept, trained = np.sort(order[:n_kept]), np.sort(order[n_kept:])
    return Division([Part(indices[i]) for i in trained], [Part(indices[i]) for i in kept])


def _spans_if_large(
    indices: Sequence[int], load: Callable[[int], Tensor], least: float, n_channels: int
) -> list[_Span] | None:
    """Rows and columns of the images that count, None if one has few; none is loaded beyond."""
    spans = []
    for index in indices:
        planes, counts = split_counts(load(index), n_channels)
        rows, columns = (range(side) for side in planes.shape[1:])
        if counts is not None:
            rows, columns = (_span(counts[0].any(dim=axis).numpy()) for axis in (1, 0))
        if max(len(rows), len(columns)) < least:
            return None
        spans.append((rows, columns))
    return spans


def _span(counts: np.ndarray) -> range:
    """From the first to the last of an axis that counts."""
    places = np.flatnonzero(counts)
    return range(int(places[0]), int(places[-1]) + 1) if len(places) else range(0)


def _strip(
    index: int, span: _Span, fraction: float, patch_size: int, *, at_start: bool
) -> tuple[Part, Part]:
    """The rest of an image, and a strip at an end of its longer axis."""
    rows, columns = span
    along = len(columns) >= len(rows)
    axis = columns if along else rows
    length = min(max(patch_size, round(fraction * len(axis))), len(axis) - patch_size)
    if at_start:
        kept, trained = (
            slice(axis.start, axis.start + length),
            slice(axis.start + length, axis.stop),
        )
    else:
        kept, trained = slice(axis.stop - length, axis.stop), slice(axis.start, axis.stop - length)

    def box(part: slice) -> tuple[slice, slice]:
        return (slice(None), part) if along else (part, slice(None))

    return Part(index, box(trained)), Part(index, box(kept))
