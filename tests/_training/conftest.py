import pytest


@pytest.fixture
def path(tmp_path):
    """Where a checkpoint is to be."""
    return tmp_path / "training.checkpoint"
