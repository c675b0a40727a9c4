"""Which images to inspect: those that are there, or those that arrive in a folder."""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from sklearn_ssimae.datasets import list_images

POLL_SECONDS = 1.0

State = tuple[int, int]


def find_images(sources: Sequence[Path], output: Path) -> list[str]:
    """Files, and the images of folders, but for those in the output folder; each once."""
    paths: dict[str, str] = {}
    for source in sources:
        if not source.exists():
            raise FileNotFoundError(f"There is no file or folder {str(source)!r}.")
        found = _images_outside(source, output) if source.is_dir() else [str(source)]
        if not found:
            raise ValueError(f"All images of {str(source)!r} lie in the output folder.")
        for path in found:
            paths.setdefault(place_of(path), path)
    return list(paths.values())


def watch(folder: Path, output: Path, handled: Iterable[str]) -> Iterator[list[str]]:
    """Images of a folder, as they arrive or change; those that are handled only if they change.

    A file that is still being written changes from one look to the next, and waits. Paths are
    absolute: they mean the same whichever folder the command is started in the next time.
    """
    done = {place_of(path): _state(path) for path in handled}
    return _watch(Path(os.path.abspath(folder)), output, done)


def _watch(folder: Path, output: Path, done: dict[str, State | None]) -> Iterator[list[str]]:
    earlier: dict[str, State | None] = {}
    is_first = True
    while True:
        paths = _images_there(folder, output, warn=is_first)
        present = {place: _state(path) for place, path in paths.items()}
        ready = [
            place
            for place, state in present.items()
            if state is not None and state == earlier.get(place) and state != done.get(place)
        ]
        if ready:
            yield [paths[place] for place in ready]
        done.update((place, present[place]) for place in ready)
        earlier, is_first = present, False
        time.sleep(POLL_SECONDS)


def place_of(path: str) -> str:
    """Where a file is, by whichever name of its folder it is reached."""
    folder, name = os.path.split(os.path.abspath(path))
    return os.path.join(os.path.realpath(folder), name)


def common_folder(sources: Sequence[Path]) -> Path:
    """The folder relative to which images have names of their own."""
    folders = [source if source.is_dir() else source.parent for source in sources]
    return Path(os.path.commonpath([os.path.abspath(folder) for folder in folders]))


def _images_there(folder: Path, output: Path, *, warn: bool) -> dict[str, str]:
    """Paths of the images of a folder, which may hold none yet, by where they are."""
    with warnings.catch_warnings():
        if not warn:  # what is passed over has been said
            warnings.simplefilter("ignore")
        try:
            return {place_of(path): path for path in _images_outside(folder, output)}
        except ValueError:  # none has arrived
            return {}


def _images_outside(folder: Path, output: Path) -> list[str]:
    """The images of a folder without the masks and maps that are written there."""
    own = os.path.realpath(output)
    return [path for path in list_images(folder) if not Path(place_of(path)).is_relative_to(own)]


def _state(path: str) -> State | None:
    try:
        status = os.stat(path)
    except OSError:  # it has gone again
        return None
    return status.st_size, status.st_mtime_ns
