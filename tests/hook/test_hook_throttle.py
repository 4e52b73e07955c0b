"""Compute limits as an idea: throttle.c and costs.c on a model card, by discrete events from seeds.

The rules are in tests/hook/ideas/throttle_simulation.c and are checked at every step: hard containers never above their
quota, each its share when all have work, no idle card while a soft one wants it, low behind high, every wait bounded.
"""

import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
IDEAS = ROOT / "tests/hook/ideas"
SOURCES = (IDEAS / "throttle_simulation.c", IDEAS / "throttle_card.c", ROOT / "hook/src/costs.c")
FLAGS = ("-std=gnu11", "-O2", "-g", "-Wall", "-Wextra", "-Werror")
SANITIZERS = ("-fsanitize=address,undefined", "-fno-sanitize-recover=all")
RUN_SECONDS_MAX = 120
SEEDS = 2000
SEEDS_SANITIZED = 100

BROKEN_IDEAS = {
    "hard containers borrow too": (
        "tokens_ns <= 0 && limits->policy == THROTTLE_HARD",
        "tokens_ns < -50000000 && limits->policy == THROTTLE_HARD",
    ),
    "waiting for others is charged": (
        "uint64_t cost_ns = expected(ledger, span);",
        "uint64_t cost_ns = span->elapsed_ns;",
    ),
    "low does not look": (
        "if (patient) return wait_until(THROTTLE_WAIT_PRIORITY",
        "if (0) return wait_until(THROTTLE_WAIT_PRIORITY",
    ),
    "nothing is borrowed": ("&& entitled_peer(limits, ask, peers, count))", ")"),
    "low waits for ever": (
        "bool patient = now_ns < ask->since_ns + THROTTLE_WAIT_NS_MAX;",
        "bool patient = true;",
    ),
}
"""What somebody might write in throttle.c, and the rules have to notice."""


def build(folder: Path, idea: Path, *flags: str) -> Path:
    program = folder / "throttle_simulation"
    command = ["gcc", *FLAGS, *flags, f"-I{ROOT / 'hook/src'}", *map(str, SOURCES), str(idea), "-o", str(program)]
    subprocess.run(command, check=True, timeout=RUN_SECONDS_MAX)
    return program


def check(given: tuple[Path, int], expected: str) -> None:
    program, seeds = given
    result = subprocess.run(
        [program, "1", str(seeds)], capture_output=True, text=True, timeout=RUN_SECONDS_MAX, check=False
    )
    assert result.stdout.splitlines()[-1].endswith(expected), result.stdout[-2000:] + result.stderr[-2000:]


def test_rules_hold_for_every_seed(tmp_path: Path) -> None:
    check((build(tmp_path, ROOT / "hook/src/throttle.c"), SEEDS), "broken 0")


def test_rules_hold_under_sanitizers(tmp_path: Path) -> None:
    check((build(tmp_path, ROOT / "hook/src/throttle.c", *SANITIZERS), SEEDS_SANITIZED), "broken 0")


@pytest.mark.parametrize("name", BROKEN_IDEAS)
def test_rules_notice(tmp_path: Path, name: str) -> None:
    right, wrong = BROKEN_IDEAS[name]
    text = (ROOT / "hook/src/throttle.c").read_text()
    assert text.count(right) == 1
    idea = tmp_path / "throttle.c"
    idea.write_text(text.replace(right, wrong))
    program = build(tmp_path, idea, "-Wno-unused-function")
    result = subprocess.run([program, "1", "200"], capture_output=True, text=True, timeout=RUN_SECONDS_MAX, check=False)
    assert result.returncode == 1, result.stdout
