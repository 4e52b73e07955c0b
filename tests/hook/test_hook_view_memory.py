"""Whichever library and function a program asks for its memory, the answers are of one card."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import building
import pytest
from agent import Region, make_region
from children import Child
from containers import MIB, go_on, uuid_of

from egpu_runtime.agent.region import CardLimits

CARD_MIB, CONTEXT_MIB = 4096, 300
SECONDS_MAX = 30
ASK = "memory:2 info uuid"


def answer(total: int, free: int, used: int, *, on_card: int | None = None) -> str:
    """What NVML says; what the driver says, and the window of BAR 1; whether both name the card alike."""
    window, in_window = min(CARD_MIB, total), used if on_card is None else on_card
    told = f"memory 0 {total} {used} {free}; info {free} {total} {total} {window} {in_window} {window - in_window}"
    return f"{told}; uuid 1"


def region_of(folder: Path, *quotas_mib: int, oversubscription: bool = False) -> Region:
    rows = [
        CardLimits(uuid_of(card), memory_quota_bytes=quota * MIB, oversubscription=oversubscription)
        for card, quota in enumerate(quotas_mib)
    ]
    return make_region(folder / "region", cards=rows)


def start(folder: Path, region: Region | None, script: str) -> Child:
    program = building.client("nvml_words", "-lcuda", "-lnvidia-ml")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("EGPU_")}
    environment |= {"LD_LIBRARY_PATH": str(building.driver()), "EGPU_SIM_STATE": str(folder / "cards")}
    environment |= {"EGPU_SIM_CARDS": "2", "EGPU_SIM_MEMORY_MIB": str(CARD_MIB)}
    if region is not None:
        environment |= {"LD_PRELOAD": str(building.hook()), "EGPU_REGION": str(region.path)}
    words = [f"alloc:{int(word[6:]) * MIB}" if word.startswith("alloc:") else word for word in script.split()]
    pipe = subprocess.PIPE
    return Child([program, *words], env=environment, stdin=pipe, stdout=pipe, text=True)


def until_it_waits(process: Child) -> str:
    """The last answers before."""
    assert process.stdout is not None
    lines: list[str] = []
    while (line := process.stdout.readline()) != ".\n":
        assert line, lines
        lines.append(line.strip())
    return "; ".join(line for line in lines if line not in ("", "wait"))


def check(folder: Path, region: Region, script: str, expected: str) -> None:
    with start(folder, region, f"{script} {ASK}") as process:
        output, _ = process.communicate(timeout=SECONDS_MAX)
    assert "; ".join(line.strip() for line in output.splitlines()[-3:]) == expected


@pytest.mark.parametrize(
    ("quota_mib", "oversubscription", "script", "expected"),
    [
        (1024, False, "", answer(1024, 724, 300)),
        (1024, False, "alloc:100", answer(1024, 624, 400)),
        (1024, False, "alloc:1000", answer(1024, 724, 300)),
        (10 * CARD_MIB, False, "alloc:100", answer(CARD_MIB, CARD_MIB - 400, 400)),
        (1024, True, "alloc:100", answer(1024, 624, 400, on_card=CONTEXT_MIB)),
        (
            2 * CARD_MIB,
            True,
            f"alloc:{CARD_MIB}",
            answer(2 * CARD_MIB, CARD_MIB - 300, CARD_MIB + 300, on_card=CONTEXT_MIB),
        ),
    ],
)
def test_of_a_quota(tmp_path: Path, quota_mib: int, oversubscription: bool, script: str, expected: str) -> None:
    check(tmp_path, region_of(tmp_path, quota_mib, quota_mib, oversubscription=oversubscription), script, expected)


@pytest.mark.parametrize(("card", "quota_mib"), [(0, 1024), (1, 2048)])
def test_of_two_cards_with_quotas_of_their_own(tmp_path: Path, card: int, quota_mib: int) -> None:
    """The first one has a context, whatever is used later."""
    more = 100 if card == 1 else 0
    script = "alloc:50" + (f" card:1 alloc:{more}" if card == 1 else "")
    used = CONTEXT_MIB + (more or 50)
    check(tmp_path, region_of(tmp_path, 1024, 2048), script, answer(quota_mib, quota_mib - used, used))


@pytest.mark.parametrize("oversubscription", [False, True])
def test_of_a_quota_that_sinks_below_what_is_in_use_and_rises(tmp_path: Path, oversubscription: bool) -> None:
    region = region_of(tmp_path, 1024, 1024, oversubscription=oversubscription)
    with start(tmp_path, region, f"alloc:400 wait {ASK} wait {ASK} wait") as process:
        until_it_waits(process)
        on_card = CONTEXT_MIB if oversubscription else None
        after = {500: answer(500, 0, 500, on_card=on_card), 2048: answer(2048, 1348, 700, on_card=on_card)}
        for quota_mib, expected in after.items():
            region.change(0, memory_quota_bytes=quota_mib * MIB)
            go_on(process)
            assert until_it_waits(process) == expected
        process.communicate("\n", timeout=SECONDS_MAX)


def test_of_a_card_that_is_fuller_than_the_quota_allows_for(tmp_path: Path) -> None:
    """Somebody has no hook: what is free is what the driver still has, and what is used stays the container's own."""
    with start(tmp_path, None, f"alloc:{CARD_MIB - 900} wait") as stranger:
        until_it_waits(stranger)
        check(tmp_path, region_of(tmp_path, 1024, 1024), "alloc:100", answer(1024, 200, 400))
        stranger.communicate("\n", timeout=SECONDS_MAX)
