"""Images read by a thread while the network trains on others."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

from torch import Tensor


class Reading(threading.Thread):
    """Reads images in the background, one after the other, until there are enough.

    Parameters
    ----------
    load : callable
        Index to image. It must draw nothing from a generator that others use.
    indices : sequence of int
        What to read, at most.
    n_bytes : float
        No further image is read once the images take so many bytes.
    """

    def __init__(
        self, load: Callable[[int], Tensor], indices: Sequence[int], n_bytes: float
    ) -> None:
        super().__init__(name="reading images", daemon=True)
        self.indices = indices
        self._load = load
        self._n_bytes = n_bytes
        self._images: list[Tensor] = []
        self._error: BaseException | None = None
        self._is_wanted = True
        self.start()

    def run(self) -> None:
        size = 0
        try:
            for index in self.indices:
                if size >= self._n_bytes or not self._is_wanted:
                    return
                image = self._load(index)
                self._images.append(image)
                size += image.nbytes
        except BaseException as error:  # it is raised where the images are asked for
            self._error = error

    def result(self) -> list[Tensor]:
        """The images of the first indices. Waits for them, and raises what reading raised."""
        self.join()
        if self._error is not None:
            raise self._error
        return self._images

    def stop(self) -> None:
        """Read no more; returns when the image in hand is done."""
        self._is_wanted = False
        self.join()
