"""What the simulated driver answers about memory, it answers behind the hook too, but for the differences listed here.

The clients of test_hook_driver_memory in a container that has both cards, and in one whose memory can be moved.
"""

from pathlib import Path

import building
import pytest
from agent import make_region
from containers import MIB, uuid_of
from test_hook_driver_memory import EXPECTED, run

from egpu_runtime.agent.region import CardLimits

CARD_MIB = 1024
QUOTA_MIB = dict.fromkeys(("managed", "read_mostly", "eviction"), 4096)
"""Managed memory beyond the card; all others have the card's size as their quota."""
CHARGED_WHOLE = {"prefetched out 24": "prefetched out 32", "stays on the host 24": "stays on the host 32"}
"""Managed memory is charged wherever its pages are,"""
CHARGED_WHERE_MADE = {"left on the first 24": "left on the first 34"}
"""and on the card that was current when it was made."""
DEAD_FOR_A_SECOND = {"maker killed 64": "maker killed 88", "released 0": "released 88"}
"""What a killed process held is given back at the next look, a second later at most."""
PLAIN = {
    "managed": {"allocated 24": "allocated 1024", "one is there 624": "one is there 1024"},
    "advice": CHARGED_WHOLE,
    "two_cards": CHARGED_WHERE_MADE,
    "exports": DEAD_FOR_A_SECOND,
    "eviction": {"other killed 876": "other killed 1024"},
}
OVERSUBSCRIBED = {
    # Charged by its bytes, not by the blocks of the card.
    "plain": {
        "one byte 26": "one byte 24",
        "another in the same granule 26": "another in the same granule 24",
        "three MiB 30": "three MiB 27",
        "second left 26": "second left 24",
    },
    "arrays": {"64 cubed 18": "64 cubed 16", "mipmapped 6": "mipmapped 5"},
    # The card does not end at its end.
    "managed": {
        "allocated 24": "allocated 1224",
        "one is there 624": "one is there 1224",
        "full 1024": "full 1224",
        "still full 1024": "still full 2124",
        "no room beside plain 2": "no room beside plain 0",
        "left 924": "left 1124",
    },
    "advice": CHARGED_WHOLE,
    # None of it comes out of the pool, and it may be freed in any order.
    "pools": {
        "not yet free for another stream 1": "not yet free for another stream 0",
        "free in its own stream 1": "free in its own stream 0",
        "reserved 20": "reserved 0",
        "most used 20": "most used 0",
        "kept until then 20": "kept until then 0",
        "kept below the threshold 10": "kept below the threshold 0",
        "two in a granule 2": "two in a granule 0",
        "plain memory in stream order 1": "plain memory in stream order 0",
    },
    "two_cards": {
        **CHARGED_WHERE_MADE,
        "on the second 134": "on the second 124",
        "freed from elsewhere 34": "freed from elsewhere 24",
    },
    "exports": DEAD_FOR_A_SECOND,
    "eviction": {
        "full 1024": "full 1162",
        "back again us 97650": "back again us 0",
        "still full 1024": "still full 1162",
        "other killed 876": "other killed 1752",
    },
}


def check(given: tuple[tuple[str, str], Path, bool], expected: str) -> None:
    (program, case), folder, oversubscription = given
    quota = QUOTA_MIB.get(case, CARD_MIB) * MIB
    cards = [CardLimits(uuid_of(c), memory_quota_bytes=quota, oversubscription=oversubscription) for c in range(2)]
    region = make_region(folder / "region", cards=cards)
    environment = {"EGPU_SIM_CLOCK": "virtual", "LD_PRELOAD": str(building.hook()), "EGPU_REGION": str(region.path)}
    assert run(program, case, state=folder / "state", cuda="13.0", **environment) == expected
    if program == "memory_processes":
        return  # these end by _exit and kill, and nobody comes after them to look
    assert region.usage().slots == []
    assert [card.charged_bytes for card in region.usage().cards] == [0, 0]


def with_differences(case: tuple[str, str], differences: dict[str, dict[str, str]]) -> str:
    lines = EXPECTED[case].lstrip("\n").splitlines(keepends=True)
    other = differences.get(case[1], {})
    assert set(other) <= {line.strip() for line in lines}
    return "".join(f"{other.get(line.strip(), line.strip())}\n" for line in lines)


@pytest.mark.parametrize("case", EXPECTED, ids=" ".join)
def test_with_a_quota(case: tuple[str, str], tmp_path: Path) -> None:
    check((case, tmp_path, False), with_differences(case, PLAIN))


@pytest.mark.parametrize("case", [case for case in EXPECTED if case[1] != "handles"], ids=" ".join)
def test_with_memory_that_can_be_moved(case: tuple[str, str], tmp_path: Path) -> None:
    """But for `handles`: such memory cannot be given to other processes (docs/hook.md)."""
    check((case, tmp_path, True), with_differences(case, OVERSUBSCRIBED))
