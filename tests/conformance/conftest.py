"""What the runs of this folder share: the input, and the rows the embedded profile makes of it."""

from collections.abc import Callable
from pathlib import Path

import pytest
from conformance_input import Way, phases, scrapes
from conformance_profiles import Given, embedded_rows


@pytest.fixture(scope="session")
def given(tmp_path_factory: pytest.TempPathFactory) -> Callable[[int, float], Given]:
    """``given(seed, hours)``: the scrapes and the rows expected of them, made once."""
    made: dict[tuple[int, float], Given] = {}

    def make(seed: int, hours: float) -> Given:
        if (seed, hours) not in made:
            found = scrapes(seed, hours=hours)
            folder: Path = tmp_path_factory.mktemp("embedded") / "one"
            made[seed, hours] = found, embedded_rows(folder, phases(found, Way()))
        return made[seed, hours]

    return make
