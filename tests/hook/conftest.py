"""Fixtures of the tests about memory."""

from pathlib import Path

import building
import pytest
from containers import Maker


@pytest.fixture(params=building.CUDA_VERSIONS)
def cuda(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def make(tmp_path: Path, cuda: str) -> Maker:
    return Maker(tmp_path, cuda)
