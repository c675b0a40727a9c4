import pytest
from killed import IMAGES
from skimage import io


@pytest.fixture
def path(tmp_path):
    """Where a checkpoint is to be."""
    return tmp_path / "training.checkpoint"


@pytest.fixture
def files(tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    paths = [folder / f"{i}.png" for i in range(len(IMAGES))]
    for name, image in zip(paths, IMAGES, strict=True):
        io.imsave(name, image, check_contrast=False)
    return paths
