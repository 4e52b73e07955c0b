"""Whoever asks for a driver function, and however, gets the hook's; what the driver lacks is never invented."""

import os
import struct
import subprocess
from pathlib import Path

import building
import pytest
from agent import make_region
from simulation import Simulation

from egpu_runtime.agent import region_layout as words
from egpu_runtime.agent.region import CardLimits, place

HOOK, DRIVER = "libegpu.so", "libcuda.so.1"
RUN_SECONDS_MAX = 20
UUID = "GPU-45475055-5349-4d00-8000-000000000000"
# A wrapped form, one that passes, one denied, one that came with 13.0 and a name that was never any.
NAMES = ("cuMemAlloc_v2", "cuCtxGetApiVersion", "cuCheckpointProcessLock", "cuMemPrefetchBatchAsync", "cuNever")


def run(program: Path, *words: str, folder: Path, preload: tuple[Path, ...] = (), log: bool = False) -> str:
    environment = {**os.environ, "LD_LIBRARY_PATH": str(folder), "EGPU_REGION": ""}
    environment["LD_PRELOAD"] = ":".join(map(str, preload))
    environment["EGPU_HOOK_LOG"] = "1" if log else ""
    result = subprocess.run(
        [program, *words], env=environment, capture_output=True, text=True, timeout=RUN_SECONDS_MAX, check=False
    )
    assert result.returncode == 0, f"{words}: {result.returncode} {result.stdout}{result.stderr}"
    return result.stdout + (result.stderr if log else "")


def lookup(how: str, *names: str, cuda: str = "13.0", hooked: bool = True) -> dict[str, str]:
    preload = (building.hook(),) if hooked else ()
    program = building.client("lookup", "-lcuda")
    return dict(
        line.split(" ", 1)
        for line in run(program, how, *names, folder=building.driver(cuda), preload=preload).splitlines()
    )


def check(given: tuple[str, str], expected: tuple[str, ...]) -> None:
    how, cuda = given
    plain = lookup(how, *NAMES, cuda=cuda, hooked=False)
    hooked = lookup(how, *NAMES, cuda=cuda)
    assert tuple(hooked[name] for name in NAMES) == expected
    # The driver alone says what exists.
    assert [name for name, owner in hooked.items() if owner == "-"] == [
        name for name, owner in plain.items() if owner == "-"
    ]


@pytest.mark.parametrize("how", ["dlsym", "deepbind", "default", "next", "space"])
def test_lookups_by_name(how: str) -> None:
    check((how, "12.8"), (HOOK, DRIVER, HOOK, "-", "-"))
    newest = HOOK if "cuMemPrefetchBatchAsync" not in pending() else DRIVER
    check((how, "13.0"), (HOOK, DRIVER, HOOK, newest, "-"))


def pending() -> set[str]:
    """Wrappers announced in symbols.def and not written yet."""
    return set((building.hook().parent / "pending.txt").read_text().split())


def test_linked_programs_get_the_hook() -> None:
    names = ("cuInit", "cuMemAlloc_v2", "cuCtxGetApiVersion")
    assert lookup("plt", *names) == {"cuInit": HOOK, "cuMemAlloc_v2": HOOK, "cuCtxGetApiVersion": DRIVER}


@pytest.mark.parametrize("how", ["proc", "self"])
@pytest.mark.parametrize(
    ("asked", "cuda", "expected"),
    [
        # Version, flags: 12080 or 13000; 0 default, 2 per-thread streams.
        ("12080:0", "12.8", {"cuMemAlloc": HOOK, "cuCtxCreate": HOOK, "cuMemPrefetchBatchAsync": "500 1"}),
        ("12080:0", "13.0", {"cuMemAlloc": HOOK, "cuCtxCreate": HOOK, "cuMemPrefetchBatchAsync": "500 2"}),
        ("13000:2", "13.0", {"cuGetProcAddress": HOOK, "cuGetErrorString": DRIVER, "cuMemAlloc_v2": "500 1"}),
        ("11000:0", "13.0", {"cuMemAllocAsync": "500 2", "cuCheckpointProcessLock": "500 2", "cuNever": "500 1"}),
    ],
)
def test_the_driver_own_lookup(how: str, asked: str, cuda: str, expected: dict[str, str]) -> None:
    assert lookup(f"{how}:{asked}", *expected, cuda=cuda) == expected
    without = lookup(f"{how}:{asked}", *expected, cuda=cuda, hooked=False)
    assert without == {name: DRIVER if owner == HOOK else owner for name, owner in expected.items()}


def test_nvml_by_name() -> None:
    names = ("nvmlDeviceGetMemoryInfo_v2", "nvmlDeviceGetName", "nvmlDeviceGetNever")
    found = lookup("handle:libnvidia-ml.so.1", *names)
    assert found == dict(zip(names, (HOOK, "libnvidia-ml.so.1", "-"), strict=True))


def test_a_second_preloaded_library_finds_the_next_function() -> None:
    second, program = building.client("second_preload", "-shared"), building.client("next_caller")
    preload = (building.hook(), second)
    assert run(program, folder=building.driver(), preload=preload) == "1\n"


def test_names_like_the_driver_pass() -> None:
    other = building.client("other_driver", "-shared")
    words = (f"handle:{other}", "cuTomorrow", "cublasCreate_v2", "cuMemAlloc_v2")
    text = run(
        building.client("lookup", "-lcuda"), *words, folder=building.driver(), preload=(building.hook(),), log=True
    )
    assert [line for line in text.splitlines() if not line.startswith("egpu:")] == [
        f"{name} {other.name}" for name in words[1:]
    ]
    assert "does not know: cuTomorrow" in text
    assert "cublas" not in "".join(line for line in text.splitlines() if line.startswith("egpu:"))


def test_unknown_functions_are_counted_in_the_slot(tmp_path: Path) -> None:
    """A name that no table knows, asked for before cuInit and after it; one of another maker does not count."""
    limits = CardLimits(UUID, memory_quota_bytes=1 << 30, core_quota=1.0, policy="hard", priority=0)
    region = make_region(tmp_path / "region", cards=[limits])
    other = building.client("other_driver", "-shared")
    with Simulation(clock="virtual") as simulation:
        process = simulation.start([building.client("unknown_names"), other], hook=True, region=region.path)
        assert process.stdout is not None
        assert process.stdout.readline() == "asked\n"
        (slot,) = region.usage().slots
        offset, form = place("slot", "unknown_call_count")
        slots = words.LAYOUTS["usage"].fields["slots"]
        data = (region.path / "usage").read_bytes()
        assert struct.unpack_from(form, data, slots.offset + slot.slot * slots.size + offset) == (2,)
        process.kill()


def test_the_private_tables_are_the_driver_own() -> None:
    assert lookup("dlsym", "cuGetExportTable") == {"cuGetExportTable": DRIVER}
    assert lookup("proc:13000:0", "cuGetExportTable") == {"cuGetExportTable": DRIVER}


def test_a_namespace_with_a_second_driver_is_refused() -> None:
    program, folder, hook = building.client("space_of_its_own"), building.driver(), building.hook()
    brings = building.client("needs_driver", "-shared", "-lcuda")
    other = building.client("other_driver", "-shared")
    assert run(program, str(brings), folder=folder) == "loaded\n"
    assert run(program, str(brings), folder=folder, preload=(hook,)) == "refused\n"
    assert run(program, str(other), folder=folder, preload=(hook,)) == "loaded\n"


@pytest.fixture(scope="module")
def old_driver(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a libcuda.so.1 of three functions, whose symbols have versions."""
    folder = tmp_path_factory.mktemp("old")
    flags = ("-shared", "-Wl,-soname,libcuda.so.1", "-Wl,--default-symver")
    building.client("old_driver", *flags).rename(folder / "libcuda.so.1")
    building.client.cache_clear()
    return folder


def test_an_old_driver_lacks_most(old_driver: Path) -> None:
    program, hook = building.client("old_program", "-lcuda"), building.hook()
    assert run(program, folder=old_driver, preload=(hook,)) == "0 801\n"


@pytest.mark.parametrize(("version", "expected"), [(DRIVER, HOOK), ("GLIBC_2.17", "-")])
def test_lookups_by_version(old_driver: Path, version: str, expected: str) -> None:
    program = building.client("versioned_lookup")
    words = (version, "cuMemAlloc_v2", "cuLaunchKernel")
    text = run(program, *words, folder=old_driver, preload=(building.hook(),))
    assert text == f"cuMemAlloc_v2 {expected}\ncuLaunchKernel -\n"


@pytest.fixture(scope="module")
def thunk_driver(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a libcuda.so.1 that gives out functions it does not export."""
    folder = tmp_path_factory.mktemp("thunk")
    building.client("thunk_driver", "-shared", "-Wl,-soname,libcuda.so.1").rename(folder / "libcuda.so.1")
    building.client.cache_clear()
    return folder


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        # By name and version, as far as the table goes; a later form may take other arguments and passes.
        ("proc:12000:0", {"cuMemAlloc": HOOK, "cuCtxGetApiVersion": DRIVER}),
        ("proc:13000:2", {"cuMemAlloc": HOOK, "cuCtxGetApiVersion": DRIVER}),
        ("proc:14000:0", {"cuMemAlloc": DRIVER, "cuCtxGetApiVersion": DRIVER}),
    ],
)
def test_functions_that_are_not_exported(thunk_driver: Path, asked: str, expected: dict[str, str]) -> None:
    program = building.client("lookup", "-lcuda")
    text = run(program, asked, *expected, folder=thunk_driver, preload=(building.hook(),))
    assert dict(line.split(" ", 1) for line in text.splitlines()) == expected


def test_nothing_happens_when_it_is_loaded() -> None:
    """No constructor but the compiler's own, and no thread, file or library for a program without CUDA."""
    dynamic = subprocess.run(["readelf", "-dW", building.hook()], capture_output=True, text=True, check=True).stdout
    sizes = {line.split()[1]: line.split()[2] for line in dynamic.splitlines() if "_ARRAYSZ)" in line}
    assert sizes["(INIT_ARRAYSZ)"] == "8"
    maps = run(Path("/bin/cat"), "/proc/self/maps", folder=building.driver(), preload=(building.hook(),))
    assert "libegpu.so" in maps
    assert "libcuda" not in maps
