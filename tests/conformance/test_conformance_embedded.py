"""The embedded profile against itself: the same samples on two ways give the same rows."""

from pathlib import Path

import pytest
from conformance_input import Way, phases, scrapes
from conformance_rows import check_equal, read_rows
from conformance_send import send
from stages import Chain


def _rolled_up(folder: Path, bodies: tuple[tuple[bytes, ...], ...]) -> Chain:
    """Send phase by phase, with a run of the pipeline after each, so that the second phase comes late for certain."""
    folder.mkdir()
    chain = Chain(folder)
    with chain.collector() as url:
        for phase in bodies:
            send(lambda: url, phase)
            chain.roll_up()
    return chain


@pytest.mark.end_to_end
def test_another_way_gives_the_same_rows(tmp_path: Path) -> None:
    given = scrapes(7, hours=2)
    one = _rolled_up(tmp_path / "one", phases(given, Way(seed=1)))
    other = _rolled_up(
        tmp_path / "other", phases(given, Way(seed=2, late_share=0.2, behind_ms={"south": 7_200_000, "west": 300_000}))
    )
    check_equal(read_rows(one.warehouse), read_rows(other.warehouse))
