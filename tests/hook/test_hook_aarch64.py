"""The build for aarch64, run by an emulator: a container of one process on the simulated driver.

Several processes do not know each other there: the emulator tells each another moment of its start than the kernel
tells the others, so each takes the others for dead.
"""

import json
import os
import shutil
import subprocess
from pathlib import Path

import building
import pytest
from agent import make_region
from containers import answers, uuid_of
from contention import launcher_program
from simulation import Simulation

from egpu_runtime.agent.region import CardLimits

EMULATOR = "qemu-aarch64"
SYSTEM_ROOT = Path("/usr/aarch64-linux-gnu")
GLIBC = "2.31"
MIB = 1 << 20
QUOTA_MIB = 4000
CONTEXT_MIB = 300
SECONDS_MAX = 60
BUILD_SECONDS_MAX = 900
END_MS = 3000

pytestmark = [
    pytest.mark.end_to_end,
    pytest.mark.skipif(
        shutil.which(EMULATOR) is None or not SYSTEM_ROOT.is_dir(), reason=f"{EMULATOR} or its glibc is not installed"
    ),
]


@pytest.fixture(scope="module")
def compiler() -> str:
    """Zig's, which `make release` installs to build the library itself."""
    environment = {**os.environ, "EGPU_CACHE": str(building.cache())}
    command = ["make", "-s", "-C", str(building.HOOK), "release-aarch64"]
    subprocess.run(command, env=environment, check=True, timeout=BUILD_SECONDS_MAX)
    *_, python = sorted(building.cache().glob("zig-*/bin/python"))
    os.environ.setdefault("ZIG_GLOBAL_CACHE_DIR", str(building.cache() / "zig-objects"))
    return f"{python} -m ziglang cc -target aarch64-linux-gnu.{GLIBC}"


def client(name: str, compiler: str) -> Path:
    driver = building.driver_by(compiler, "aarch64")
    program = driver / name
    includes = [f"-I{building.HOOK / 'src'}", f"-I{building.driver().parent}", f"-I{building.DRIVER}"]
    words = [*compiler.split(), "-std=gnu11", "-O2", "-w", "-pthread", *includes, f"{building.CLIENTS / name}.c"]
    subprocess.run([*words, "-o", program, driver / "libcuda.so.1"], check=True, timeout=BUILD_SECONDS_MAX)
    return program


def run(program: Path, *words: str, environment: dict[str, str]) -> str:
    preload = building.HOOK / "build/aarch64/libegpu.so"
    inside = {"LD_LIBRARY_PATH": str(program.parent), "LD_PRELOAD": str(preload), **environment}
    settings = [word for name, value in inside.items() for word in ("-E", f"{name}={value}")]
    command = [EMULATOR, "-L", str(SYSTEM_ROOT), *settings, str(program), *words]
    process = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS_MAX, check=False)
    assert (process.returncode, process.stderr) == (0, "")
    return process.stdout


def limits(core_quota: float = 1.0) -> CardLimits:
    quota_bytes = QUOTA_MIB * MIB
    return CardLimits(uuid_of(0), memory_quota_bytes=quota_bytes, core_quota=core_quota, policy="hard", priority=0)


@pytest.mark.parametrize("how", ["plt", "dlsym", "proc:13000:0"])
def test_routes(compiler: str, how: str) -> None:
    given = run(client("lookup", compiler), how, "cuInit", environment={"EGPU_REGION": ""})
    assert given == "cuInit libegpu.so\n"


def test_memory_quota(compiler: str, tmp_path: Path) -> None:
    region = make_region(tmp_path / "region", cards=[limits()])
    environment = {"EGPU_REGION": str(region.path), "EGPU_SIM_STATE": str(tmp_path / "card")}
    words = ["context", f"until:{64 * MIB}", "total", "info"]
    given = answers(run(client("quota", compiler), *words, environment=environment))
    assert given == "init 0; context 0; until 57 2; total 0 4000M; info 0 52M 4000M", given
    assert region.usage().cards[0].charged_bytes_max == (CONTEXT_MIB + 57 * 64) * MIB


@pytest.mark.parametrize("quota", [0.1, 0.3, 0.9])
@pytest.mark.parametrize("model", ["fifo", "timeslice"])
def test_compute_quota(compiler: str, model: str, quota: float) -> None:
    """As many launches on the virtual clock as on this machine."""
    words = ["kernel_us=1000", f"until_ms={END_MS}"]
    launches = []
    for emulated in (True, False):
        with Simulation(model=model, clock="virtual") as sim:
            region = make_region(sim.folder / "region", cards=[limits(quota)])
            if emulated:
                environment = {**sim.environment, "EGPU_REGION": str(region.path)}
                output = run(client("launcher", compiler), *words, environment=environment)
            else:
                output = sim.run([launcher_program(), *words], hook=True, region=region.path)
        launches.append(json.loads(output)["launches"])
    assert launches[0] == pytest.approx(launches[1], rel=0.01)
    assert launches[0] == pytest.approx(quota * END_MS, rel=0.05)
