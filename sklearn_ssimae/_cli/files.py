"""Files of detectors."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

from sklearn.utils.validation import check_is_fitted

import sklearn_ssimae
from sklearn_ssimae._extras import install_hint
from sklearn_ssimae._writing import replacing
from sklearn_ssimae.base import BaseDetector

DETECTORS = {
    "ssim": sklearn_ssimae.SSIMAutoencoderDetector,
    "l2": sklearn_ssimae.L2AutoencoderDetector,
    "vae": sklearn_ssimae.VAEDetector,
    "fmae": sklearn_ssimae.FMAEDetector,
}
# All that a detector's file needs. Trusting whatever is called sklearn_ssimae.* would include
# functions of other packages that our modules import.
_TRUSTED = {f"{cls.__module__}.{cls.__qualname__}" for cls in DETECTORS.values()}


class _ForeignTypesError(ValueError):
    """A file holds types that are not trusted."""


@contextmanager
def saving(path: Path) -> Iterator[Callable[[Any], None]]:
    """A function that stores a detector, once, in the format that the file's ending names."""
    dump = _format(path).dump
    with replacing(path) as temporary:
        yield lambda detector: dump(detector, temporary)


def load_detector(path: Path) -> Any:
    """A fitted detector. Of a skops file nothing is loaded but this package's own."""
    if path.is_dir():
        raise IsADirectoryError(
            f"{str(path)!r} is a folder. The file of a detector is needed here, .skops or .joblib; "
            "it comes before the images."
        )
    if not path.is_file():
        raise FileNotFoundError(f"There is no file {str(path)!r}.")
    format_ = _format(path)
    try:
        detector = format_.load(path) if path.suffix == ".joblib" else _load_skops(format_, path)
    except (PermissionError, _ForeignTypesError):
        raise
    except Exception as error:  # damaged files raise whatever they like
        raise ValueError(
            f"{str(path)!r} is damaged, or no {path.suffix} file of a detector "
            f"({type(error).__name__}: {error})."
        ) from error
    if not isinstance(detector, BaseDetector):
        raise ValueError(f"{str(path)!r} holds no detector, but a {type(detector).__name__}.")
    check_is_fitted(detector)
    return detector


def check_folder(path: Path) -> None:
    """Refuse what is no folder."""
    if path.is_file():
        raise NotADirectoryError(f"{str(path)!r} is a file. A folder is needed here.")
    if not path.is_dir():
        raise FileNotFoundError(f"There is no folder {str(path)!r}.")


def threshold_of(detector: Any) -> str:
    """The threshold that is in force, in a few digits."""
    try:
        return f"{detector.threshold_:.6g}"
    except ValueError:  # it was set when the detector was fitted, and taken back
        return "none"


def _load_skops(skops_io: Any, path: Path) -> Any:
    foreign = sorted(set(skops_io.get_untrusted_types(file=path)) - _TRUSTED)
    if foreign:
        raise _ForeignTypesError(
            f"{str(path)!r} was not loaded: it holds {', '.join(foreign)}, and only this package's "
            "detectors are trusted."
        )
    return skops_io.load(path, trusted=sorted(_TRUSTED))


def _format(path: Path) -> Any:
    """The module that reads and writes files of this ending."""
    if path.suffix == ".joblib":
        warnings.warn(
            f"{path} is a joblib file. Loading one runs whatever code it holds: load only what you "
            "made yourself. A .skops file runs none.",
            stacklevel=2,
        )
        return import_module("joblib")
    if path.suffix != ".skops":
        raise ValueError(f"{str(path)!r} must end in .skops, or in .joblib.")
    try:
        return import_module("skops.io")
    except ImportError as error:
        raise ImportError(
            f"{path} needs skops. {install_hint('skops')} Or name a .joblib file."
        ) from error
