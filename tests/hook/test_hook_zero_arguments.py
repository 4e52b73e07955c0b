"""Every function, called with nothing but zeros, and with live handles but no pointers: the driver refuses what it
cannot answer, the hook answers as the driver does, and neither falls over.

It is the cheapest question that reaches each function, and finds a pointer used before it was looked at.
"""

import re
from pathlib import Path

import building
import generate
import pytest
from agent import make_region
from simulation import Simulation

from egpu_runtime.agent.region import CardLimits

UUID = "GPU-45475055-5349-4d00-8000-000000000000"
NOT_SUPPORTED = "801"
HANDLES = {
    "CUcontext",
    "CUstream",
    "CUevent",
    "CUmodule",
    "CUfunction",
    "CUlibrary",
    "CUkernel",
    "CUgraph",
    "CUgraphNode",
    "CUgraphExec",
    "CUarray",
    "CUmipmappedArray",
    "CUdeviceptr",
    "CUmemoryPool",
    "CUuserObject",
    "CUmemGenericAllocationHandle",
}
"""What zero_arguments.c makes one of."""
NOTHING_TO_ANSWER = {
    "cuCtxPopCurrent",
    "cuCtxGetStreamPriorityRange",
    "cuMemGetAddressRange",
    "cuGraphExecUpdate",
    "cuMemcpyDtoH",
    "cuMemcpyAtoH",
    "cuMemcpyDtoHAsync",
    "cuMemcpyAtoHAsync",
    "cuParamSetv",
}
"""May be called without a place for the answer, or with none because the size is 0."""
PROCESS_SECONDS_MAX = 20


def handles(row: generate.Row) -> str:
    """The row as a word of zero_arguments.c: live handles, and zeros for all that is no handle."""
    return f"{row.name}={','.join(kind if kind in HANDLES else '0' for kind in row.types)}"


def ask(cuda: str, library: str, words: list[str], region: Path | None) -> dict[str, str]:
    with Simulation(clock="wall", cuda=cuda) as simulation:
        program = building.client("zero_arguments")
        output = simulation.run(
            [program, library, *words], hook=region is not None, region=region, seconds=PROCESS_SECONDS_MAX
        )
    return dict(line.split(" ", 1) for line in output.splitlines())


def check(given: tuple[str, str, list[str]], expected: dict[str, str], folder: Path) -> None:
    """`expected`: the hook's answers that differ from the driver's on purpose."""
    limits = CardLimits(UUID, memory_quota_bytes=1 << 30, core_quota=0.5, policy="hard", priority=0)
    region = make_region(folder / "region", cards=[limits])
    plain, hooked = ask(*given, None), ask(*given, region.path)
    assert {
        name: (plain[name], hooked[name]) for name in plain if hooked[name] != expected.get(name, plain[name])
    } == {}


def words(cuda: str, given: str) -> dict[str, generate.Row]:
    """The functions a CUDA version has, by their words for zero_arguments.c."""
    rows = [row for row in generate.symbols() if row.since <= int(cuda.replace(".", "0")) * 10]
    return {row.name if given == "zeros" else handles(row): row for row in rows}


@pytest.mark.parametrize("given", ["zeros", "handles"])
@pytest.mark.parametrize("cuda", building.CUDA_VERSIONS)
def test_driver_refuses_what_it_cannot_answer(cuda: str, given: str) -> None:
    rows = words(cuda, given)
    answers = ask(cuda, "libcuda.so.1", list(rows), None)
    assert {name: answer for name, answer in answers.items() if not answer.isdecimal()} == {}
    asks = [row for row in rows.values() if any(re.match(r"(?!const ).*\*$", kind) for kind in row.types)]
    assert [row.name for row in asks if answers[row.name] == "0" and row.base not in NOTHING_TO_ANSWER] == []


@pytest.mark.parametrize("given", ["zeros", "handles"])
@pytest.mark.parametrize("cuda", building.CUDA_VERSIONS)
def test_hook_answers_as_the_driver_does(tmp_path: Path, cuda: str, given: str) -> None:
    rows = {word: row for word, row in words(cuda, given).items() if row.action != "PASS"}
    denied = {row.name: NOT_SUPPORTED for row in rows.values() if row.action == "DENY"}
    check((cuda, "libcuda.so.1", list(rows)), denied, tmp_path)


def test_libnvidia_ml(tmp_path: Path) -> None:
    check(("13.0", "libnvidia-ml.so.1", [row.name for row in generate.nvml_functions()]), {}, tmp_path)
