"""The hook and the simulated driver under the address, undefined-behaviour and thread sanitizers.

The address sanitizer's runtime is preloaded in front of the hook, into clients that know nothing of it; the thread
sanitizer's comes with a client that is linked to it, for it has to see every access of a race.
"""

from __future__ import annotations

import functools
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

import building
import pytest
from agent import Region, make_region
from simulation import Simulation

from egpu_runtime.agent.region import CardLimits

MIB = 1 << 20
UUID = "GPU-45475055-5349-4d00-8000-000000000000"
QUOTA_MIB = 2048
CARD_MIB = 4096
CONTEXT_MIB = 300
FLAGS = ("-lcuda", "-lnvidia-ml", f"-I{building.DRIVER}")
ADDRESS, THREAD = "address,undefined", "thread"
RUNTIMES = {ADDRESS: ("asan", "ubsan"), THREAD: ("tsan",)}
RUN_SECONDS_MAX = 60
OPTIONS = {
    "ASAN_OPTIONS": "detect_leaks=1:halt_on_error=1:detect_stack_use_after_return=1",
    "UBSAN_OPTIONS": "halt_on_error=1:print_stacktrace=1",
    "TSAN_OPTIONS": "halt_on_error=1:second_deadlock_stack=1",
}
QUOTA = (
    "context alloc:1048576 pitch:100:100 managed:1048576 async:4194304 pool:1048576 vmm:4194304 array:64:64"
    " array3d:16:16:16 mipmap:64:64:3 host:65536 free:0 free:1 free:2 free:3 free:4 free:5 free:6 free:7 free:8 free:9"
    " until:67108864 info total halves trim:0 module unload destroy"
)
CLIENTS = {
    "first_calls": "",
    "quota": QUOTA,
    "graph_memory": "make:1:268435456 keep:2:1048576 capture:3:1048576 launch:1 launch:2 launch:3 upload:1 trim",
    "memory_threads": "",
    "thread_churn": "4 10",
    "launcher": "kernel_us=100 until_ms=60",
    "lookup": "self:13000:2 cuMemAlloc cuLaunchKernel cuNever cuGetProcAddress",
    "held_calls": "callback 50000",
    "nvml_words": "alloc:1048576 processes:3:8 details:1 memory:2 rates name:64 self",
}
FORKS = "context alloc:1048576 fork again context alloc:1048576 spin:2"
EXECS = "context alloc:1048576 again context alloc:1048576 spin:2"


@dataclass(frozen=True)
class Run:
    sanitizer: str
    client: str
    words: str
    cuda: str = "13.0"
    clock: str = "virtual"


@pytest.fixture
def region(tmp_path: Path) -> Region:
    limits = CardLimits(UUID, memory_quota_bytes=QUOTA_MIB * MIB, core_quota=0.3, policy="hard", priority=0)
    return make_region(tmp_path / "region", cards=[limits])


@functools.cache
def runtimes(sanitizer: str) -> list[str]:
    """The sanitizer's own libraries, which have to be in front of all others."""
    found = []
    for name in RUNTIMES[sanitizer]:
        command = ["gcc", f"-print-file-name=lib{name}.so"]
        path = Path(subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip())
        if not path.is_absolute():
            pytest.skip(f"this gcc has no lib{name}")
        found.append(str(path.resolve()))
    return found


def environment(sanitizer: str, cuda: str) -> dict[str, str]:
    before = runtimes(sanitizer) if sanitizer == ADDRESS else []
    return {
        **OPTIONS,
        "LD_PRELOAD": ":".join([*before, str(building.sanitized_hook(sanitizer))]),
        "LD_LIBRARY_PATH": str(building.sanitized_driver(sanitizer, cuda)),
    }


def check(given: Run, region: Region) -> str:
    """Runs a client to its end without a report; returns what it printed."""
    more = ("-fsanitize=thread",) if given.sanitizer == THREAD else ()
    client = building.client(given.client, *FLAGS, *more)
    added = environment(given.sanitizer, given.cuda)
    with Simulation(clock=given.clock, cuda=given.cuda, memory_mib=CARD_MIB) as simulation:
        process = simulation.start([client, *given.words.split()], region=region.path, env=added)
        output, errors = process.communicate(timeout=RUN_SECONDS_MAX)
        assert not errors, output + errors
        assert process.returncode == 0, output
    return output


@pytest.mark.parametrize(("cuda", "clock"), [("13.0", "virtual"), ("12.8", "wall")])
@pytest.mark.parametrize("sanitizer", [ADDRESS, THREAD])
@pytest.mark.parametrize("name", CLIENTS)
def test_no_report(name: str, sanitizer: str, cuda: str, clock: str, region: Region) -> None:
    output = check(Run(sanitizer, name, CLIENTS[name], cuda, clock), region)
    assert output
    if (region.path / "usage").exists():  # Not by who only looks functions up.
        assert region.usage().cards[0].charged_bytes == 0


@pytest.mark.parametrize("sanitizer", [ADDRESS, THREAD])
@pytest.mark.parametrize("mode", ["graph", "cooperative", "ex"])
def test_no_report_of_launches(sanitizer: str, mode: str, region: Region) -> None:
    assert '"launches"' in check(Run(sanitizer, "launcher", f"{CLIENTS['launcher']} mode={mode}"), region)


@pytest.mark.parametrize("words", [FORKS, EXECS])
def test_no_report_of_other_processes(words: str, region: Region) -> None:
    assert "spin 0" in check(Run(ADDRESS, "quota", words), region)


@pytest.mark.parametrize("sanitizer", [ADDRESS, THREAD])
def test_no_report_of_moving_memory(sanitizer: str, region: Region) -> None:
    """Three sets of pages that the card does not hold together."""
    region.change(0, memory_quota_bytes=2 * CARD_MIB * MIB, oversubscription=True)
    words = f"mib={3 * CARD_MIB // 2} pieces=4 kernel_us=1000 kernels=20"
    assert '"kernels"' in check(Run(sanitizer, "paged", words), region)


@pytest.mark.parametrize("clock", ["virtual", "wall"])
def test_all_threads_are_served(clock: str, region: Region) -> None:
    """Together they make one context, which is all that the quota has room for."""
    region.change(0, memory_quota_bytes=(CONTEXT_MIB + 64) * MIB)
    for _ in range(3):
        assert check(Run(THREAD, "first_calls", "", clock=clock), region) == "served 8\n"


@pytest.mark.parametrize("sanitizer", [ADDRESS, THREAD])
@pytest.mark.parametrize(("client", "words"), [("attack_evade", "how=contexts until_ms=500"), ("dead_handles", "")])
def test_contexts_take_what_is_theirs_along(client: str, words: str, sanitizer: str, region: Region) -> None:
    """Events and modules are the context's: nothing is left over, and what is asked for later is still told apart."""
    assert check(Run(sanitizer, client, words), region) == ""


@pytest.mark.parametrize("clock", ["virtual", "wall"])
def test_no_race_of_threads_that_wait(clock: str, region: Region) -> None:
    words = "threads=6 kernel_us=200 new=1 until_ms=100"
    assert '"launches"' in check(Run(THREAD, "waiting_threads", words, clock=clock), region)


@pytest.mark.parametrize("clock", ["virtual", "wall"])
def test_no_race_of_contexts_that_end(clock: str, region: Region) -> None:
    assert check(Run(THREAD, "context_churn", "4 6", clock=clock), region) == "rounds 6\n"


def test_an_error_is_noticed(tmp_path: Path) -> None:
    """A race of two threads in a preloaded library, and a write beyond an array: else silence would mean nothing."""
    source = tmp_path / "wrong.c"
    source.write_text(
        "#include <stdlib.h>\nint counted;\n"
        "int cuCtxSynchronize(void) { counted++; return 0; }\n"
        "int cuInit(unsigned flags) { volatile char *p = malloc(4); p[4 + flags] = 1; free((void *)p); return 0; }\n"
    )
    client = tmp_path / "client.c"
    client.write_text(
        "#include <pthread.h>\nint cuInit(unsigned), cuCtxSynchronize(void);\n"
        "static void *run(void *p) { for (int i = 0; i < 1000; i++) cuCtxSynchronize(); return p; }\n"
        "int main(int count, char **words) { (void)words; pthread_t one; if (count > 1) return cuInit(0);\n"
        "pthread_create(&one, 0, run, 0); run(0); pthread_join(one, 0); return 0; }\n"
    )
    for sanitizer, words in ((ADDRESS, ["1"]), (THREAD, [])):
        flags = ["gcc", "-g", "-pthread", "-fPIC", f"-fsanitize={sanitizer}"]
        library, program = tmp_path / "libwrong.so", tmp_path / "program"
        subprocess.run([*flags, "-shared", str(source), "-o", str(library)], check=True)
        linked = flags if sanitizer == THREAD else ["gcc", "-pthread"]
        subprocess.run([*linked, str(client), "-o", str(program), str(library)], check=True)
        preload = ":".join([*(runtimes(sanitizer) if sanitizer == ADDRESS else []), str(library)])
        words_of = {**os.environ, **OPTIONS, "LD_PRELOAD": preload}
        done = subprocess.run([program, *words], env=words_of, capture_output=True, text=True, timeout=RUN_SECONDS_MAX)
        assert done.returncode != 0
        assert "Sanitizer" in done.stderr
