"""Which images to inspect: those that are there, or those that arrive in a folder."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from sklearn_ssimae.datasets import list_images

POLL_SECONDS = 1.0

State = tuple[int, int]


def find_images(sources: Sequence[Path], output: Path) -> list[str]:
    """Files, and the images of folders, but for those in the output folder; each once."""
    paths: dict[str, None] = {}
    for source in sources:
        if not source.exists():
            raise FileNotFoundError(f"There is no file or folder {str(source)!r}.")
        found = _images_outside(source, output) if source.is_dir() else [str(source)]
        if not found:
            raise ValueError(f"All images of {str(source)!r} lie in the output folder.")
        paths.update(dict.fromkeys(found))
    return list(paths)


def watch(folder: Path, output: Path, handled: Iterable[str]) -> Iterator[list[str]]:
    """Images of a folder, as they arrive or change; those that are handled only if they change.

    A file that is still being written changes from one look to the next, and waits.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"There is no folder {str(folder)!r}.")
    return _watch(folder, output, {path: _state(path) for path in handled})


def _watch(folder: Path, output: Path, done: dict[str, State | None]) -> Iterator[list[str]]:
    earlier: dict[str, State | None] = {}
    while True:
        try:
            present = {path: _state(path) for path in _images_outside(folder, output)}
        except ValueError:  # none has arrived
            present = {}
        ready = [
            path
            for path, state in present.items()
            if state is not None and state == earlier.get(path) and state != done.get(path)
        ]
        if ready:
            yield ready
        done.update((path, present[path]) for path in ready)
        earlier = present
        time.sleep(POLL_SECONDS)


def common_folder(sources: Sequence[Path]) -> Path:
    """The folder relative to which images have names of their own."""
    folders = [source if source.is_dir() else source.parent for source in sources]
    return Path(os.path.commonpath([os.path.abspath(folder) for folder in folders]))


def _images_outside(folder: Path, output: Path) -> list[str]:
    """The images of a folder without the masks and maps that are written there."""
    own = os.path.abspath(output)
    return [
        path for path in list_images(folder) if not Path(os.path.abspath(path)).is_relative_to(own)
    ]


def _state(path: str) -> State | None:
    try:
        status = os.stat(path)
    except OSError:  # it has gone again
        return None
    return status.st_size, status.st_mtime_ns
