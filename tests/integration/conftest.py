"""Fixtures for tests that start servers of their own."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture
def server_dir() -> Iterator[Path]:
    """An empty folder that the account of root's PostgreSQL can pass through; pytest's own are closed to it."""
    folder = Path(tempfile.mkdtemp(prefix="outcrop-"))
    folder.chmod(0o711)
    yield folder
    shutil.rmtree(folder)
