"""What the tests of the commands share."""

import shutil
from dataclasses import dataclass
from pathlib import Path

import skops.io

CHEAPEST = dict(patch_size=32, latent_dim=8, n_patches=64, max_iter=2, stride=16, random_state=0)


@dataclass
class Outcome:
    """What a command left behind in a terminal."""

    status: int
    output: str
    errors: str

    @property
    def error(self):
        """The last line of standard error, which must be the only one that is an error."""
        *rest, last = self.errors.splitlines()
        assert last.startswith("ssimae: error: ")
        assert all(line.startswith("ssimae: warning: ") for line in rest)
        assert "Traceback" not in self.errors
        return last.removeprefix("ssimae: error: ")


def load(path):
    """A detector's file, read without the command line."""
    return skops.io.load(path, trusted=skops.io.get_untrusted_types(file=path))


def whole_category(photos, folder):
    """A category in which some images are defective: not one to learn from."""
    for image, place in {"good/0.png": "train/good", "test/b/0.png": "test/bent"}.items():
        (folder / "grid" / place).mkdir(parents=True)
        shutil.copy(photos / image, folder / "grid" / place)
    return folder / "grid"


def files_in(folder):
    return {
        path.relative_to(folder).as_posix() for path in Path(folder).rglob("*") if path.is_file()
    }
