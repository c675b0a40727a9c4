"""Dask arrays of images in, lazy dask arrays out. dask is imported when one comes along."""

from __future__ import annotations

import math
import pickle
import uuid
from collections.abc import Callable
from functools import wraps
from typing import Any

import numpy as np
from sklearn.utils.validation import check_is_fitted, validate_data

from sklearn_ssimae._images.collection import resolve_image_shape
from sklearn_ssimae._images.containers import check_not_one_image
from sklearn_ssimae._images.values import output_dtype
from sklearn_ssimae._networks.devices import choose_device, to_channels_last


def lazy_on_dask(method: Callable[..., Any]) -> Callable[..., Any]:
    """Of a detector's method that takes images: a dask array gives a lazy dask array."""

    @wraps(method)
    def wrapper(self: Any, X: Any) -> Any:
        if is_dask_array(X):
            return _map_blocks(self, method.__name__, X)
        return method(self, X)

    return wrapper


def is_dask_array(X: Any) -> bool:
    return type(X).__module__.startswith("dask.array")


def in_memory(maps: Any) -> Any:
    """The maps themselves, or what a dask array of maps holds."""
    return np.asarray(maps) if is_dask_array(maps) else maps


def _map_blocks(detector: Any, method: str, X: Any) -> Any:
    """A method's results on the images of a dask array, block by block."""
    import cloudpickle  # dask needs it too
    from dask.delayed import delayed

    check_is_fitted(detector, "offset_")
    _check_blocks(X)
    tail, dtype = _layout(detector, method, X)
    # One node of the graph, which travels once to each worker that asks for it, and again if
    # the worker that held it is lost. Packed now, since the detector may be fitted anew before
    # the results are computed.
    model = delayed(cloudpickle.dumps(detector), name=f"detector-{uuid.uuid4()}")
    return X.map_blocks(
        _block_function(method, tail, dtype),
        model,
        dtype=dtype,
        meta=np.empty((0,) * (1 + len(tail)), dtype),
        chunks=(X.chunks[0], *((side,) for side in tail)),
        drop_axis=list(range(1 + len(tail), X.ndim)),
        token=f"{type(detector).__name__}-{method}",
    )


def _block_function(
    method: str, tail: tuple[int, ...], dtype: np.dtype
) -> Callable[[np.ndarray, bytes], np.ndarray]:
    # An inner function, since it travels by value. A worker without this package can unpack
    # it, and fails in the one statement that says why; a function of the package, or a
    # detector that is not packed, would stop its communication, and the user would wait for ever.
    def run(images: np.ndarray, model: bytes) -> np.ndarray:
        try:
            detector = pickle.loads(model)
        except ModuleNotFoundError as error:
            raise ModuleNotFoundError(
                f"A dask worker cannot load the detector: {error}. Install sklearn-ssimae, in "
                "the version of the client, on every worker.",
                name=error.name,
            ) from error
        if len(images) == 0:
            return np.empty((0, *tail), dtype)
        from sklearn_ssimae._detectors.dask_arrays import run_block

        return run_block(detector, method, images)

    return run


def run_block(detector: Any, method: str, images: Any) -> np.ndarray:
    """A method's results on the images of one block, on the device that the detector asks for."""
    # It arrives on the CPU, wherever it was fitted.
    to_channels_last(detector.network_.to(choose_device(detector.device)))
    results: np.ndarray = getattr(detector, method)(np.asarray(images))
    return results


def _check_blocks(X: Any) -> None:
    if not 2 <= X.ndim <= 4:
        raise ValueError(
            f"X is a dask array of {X.ndim} dimensions, shape {X.shape}. Give (n, h, w) grey or "
            "(n, h, w, c) colour images, or (n, n_features) flattened rows."
        )
    if any(math.isnan(size) for size in X.shape):
        raise ValueError(
            f"X is a dask array of unknown chunk sizes, shape {X.shape}. Let them be computed "
            "first: X.compute_chunk_sizes()."
        )
    if any(len(chunks) > 1 for chunks in X.chunks[1:]):
        whole = ", ".join(["0: 'auto'", *(f"{axis}: -1" for axis in range(1, X.ndim))])
        raise ValueError(
            f"X is a dask array that is chunked inside the images: its chunks are {X.chunks}. "
            f"A chunk must hold whole images: X = X.rechunk({{{whole}}})."
        )


def _layout(detector: Any, method: str, X: Any) -> tuple[tuple[int, ...], np.dtype]:
    """Shape of the result of one image, and the results' dtype; checks the images' shape."""
    check_not_one_image(
        X,
        learnt_from_rows=detector._input_kind_ == "rows" or detector.image_shape is not None,
        n_channels=detector._n_channels,
    )
    if X.ndim == 2:
        validate_data(detector, X, reset=False, skip_check_array=True)
        shape = detector.image_shape_
        if shape is None:
            shape = resolve_image_shape(detector.image_shape, X.shape[1])
        n_channels, pixels = math.prod(shape[2:]), (math.prod(shape[:2]),)
    else:
        n_channels, pixels = math.prod(X.shape[3:]), X.shape[1:3]
    detector._preparation().check_channels(n_channels, "X")
    maps_dtype = output_dtype(X)
    return {
        "transform": (pixels, maps_dtype),
        "segment": (pixels, np.dtype(bool)),
        "reconstruct": (X.shape[1:], maps_dtype),
        "score_samples": ((), np.dtype(np.float64)),
        "p_values": ((), np.dtype(np.float64)),
    }[method]
