"""The arrows between the rooms of the package: which folders may import which."""

import ast
import graphlib
from functools import cache
from pathlib import Path

import pytest

import sklearn_ssimae

ROOT = Path(sklearn_ssimae.__file__).parent
MODULES = sorted(path for path in ROOT.rglob("*.py"))
# What a room may import of ours; `_version`, `_extras` and rooms of its own are open to all.
ALLOWED = {
    "_maps": set(),
    "_networks": set(),
    "metrics": set(),
    "_images": {"_maps", "metrics"},
    "datasets": {"_images"},
    "_training": {"_images", "_maps", "_networks"},
    "_deciding": {"_maps", "datasets"},
    "_detectors": {
        *("_deciding", "_images", "_maps", "_networks", "_training"),
        *("datasets", "metrics"),
    },
}


def room_of(path):
    parts = path.relative_to(ROOT).with_suffix("").parts
    return parts[0]


def imported_modules(path):
    """Absolute names of what a file imports, in functions and under TYPE_CHECKING as well."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, path
            yield node.module
            if node.module == "sklearn_ssimae":
                yield from (f"sklearn_ssimae.{name.name}" for name in node.names)


def rooms_imported(path):
    names = [name.split(".") for name in imported_modules(path)]
    return {name[1] for name in names if name[0] == "sklearn_ssimae" and len(name) > 1}


@cache
def arrows():
    found = {}
    for path in MODULES:
        room = room_of(path)
        found.setdefault(room, set()).update(rooms_imported(path) - {room, "_version", "_extras"})
    return found


def test_there_is_a_house():
    assert set(ALLOWED) <= set(arrows())


@pytest.mark.parametrize("room", ALLOWED)
def test_arrows_run_down(room):
    assert arrows()[room] <= ALLOWED[room]


def test_no_circle():
    rooms = {name: {to for to in of if to in arrows()} for name, of in arrows().items()}
    assert len(list(graphlib.TopologicalSorter(rooms).static_order())) >= len(rooms)


def module_of(path):
    return ".".join(["sklearn_ssimae", *path.relative_to(ROOT).with_suffix("").parts])


@pytest.mark.parametrize(
    "room", sorted({path.parent for path in MODULES}), ids=lambda path: path.name
)
def test_no_circle_between_the_files_of_a_room(room):
    """Nor under TYPE_CHECKING, which `imported_modules` sees as well."""
    files = {module_of(path): path for path in room.glob("*.py") if path.name != "__init__.py"}
    arrows = {
        name: set(imported_modules(path)) & set(files) - {name} for name, path in files.items()
    }
    assert len(list(graphlib.TopologicalSorter(arrows).static_order())) == len(files)


@pytest.mark.parametrize("room", ["_maps", "_networks", "_deciding"])
def test_pure_torch(room):
    for path in (ROOT / room).glob("*.py"):
        names = set(imported_modules(path)) - {"skimage.morphology", "skimage.measure"}
        assert not {name.split(".")[0] for name in names} & {"sklearn", "PIL", "skimage", "joblib"}


def test_every_module_says_what_it_is():
    silent = [path for path in MODULES if not ast.get_docstring(ast.parse(path.read_text("utf-8")))]
    assert silent == []
