"""The table of driver functions, what is made from it, and the libraries that come out."""

import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import building
import check_headers
import generate
import pytest

ADDED_BY_CUDA_13 = 23
FUNCTIONS = {12080: 611, 13000: 634}
PAGE = building.ROOT / "docs/reference/hook_coverage.md"
ROW = 'SYMBOL(cuThing, cuThing, 2000, 0, 12080, PASS, QUERY, "int *, size_t")'


def exported(library: Path) -> dict[str, int]:
    """Functions a library offers, with their addresses."""
    lines = subprocess.run(["nm", "-D", "--defined-only", library], capture_output=True, text=True, check=True).stdout
    return {
        name: int(address, 16) for address, kind, name in (line.split() for line in lines.splitlines()) if kind in "TW"
    }


@pytest.mark.parametrize("version", FUNCTIONS)
def test_every_function_is_a_row(version: int) -> None:
    names = [row.name for row in generate.symbols() if row.since <= version]
    assert (len(names), len(set(names))) == (FUNCTIONS[version], FUNCTIONS[version])


@pytest.mark.parametrize("cuda", building.CUDA_VERSIONS)
def test_the_simulated_driver_exports_each_at_its_own_address(cuda: str) -> None:
    functions = exported(building.driver(cuda) / "libcuda.so.1")
    driver = {name: address for name, address in functions.items() if name.startswith("cu")}
    since = int(float(cuda) * 1000 // 10 * 10)
    assert driver.keys() == {row.name for row in generate.symbols() if row.since <= since}
    assert len(set(driver.values())) == len(driver)


def test_the_hook_exports_what_it_wraps_and_the_loader_functions() -> None:
    rows = generate.symbols() + generate.nvml_functions()
    missing = set((building.hook().parent / "pending.txt").read_text().split())
    wanted = {row.name for row in rows if row.action in ("WRAP", "RESOLVE", "DENY")} - missing
    assert exported(building.hook()).keys() == wanted | {"dlsym", "dlvsym", "dlmopen"}


def test_every_announced_wrapper_is_written() -> None:
    assert (building.hook().parent / "pending.txt").read_text() == ""


def test_a_form_for_threads_follows_its_plain_form() -> None:
    """Who wraps a function wraps it for per-thread streams as well: a hook that forgot one would be walked around."""
    rows = {row.name: row for row in generate.symbols()}
    apart = [name for name, row in rows.items() if row.flag != "0" and _plain(name, rows).action != row.action]
    assert apart == []


def _plain(name: str, rows: dict[str, generate.Row]) -> generate.Row:
    return rows[re.sub(r"_(ptds|ptsz)$", "", name)]


def test_the_page_is_fresh(tmp_path: Path) -> None:
    generate.main(["coverage", str(tmp_path / "page.md")])
    assert PAGE.read_text() == (tmp_path / "page.md").read_text(), "run: python hook/generate.py coverage " + str(PAGE)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (ROW, None),
        (ROW.replace("PASS", "MAYBE"), "not a row"),
        (ROW.replace("QUERY", "WHATEVER"), "WHATEVER has no meaning"),
        (ROW.replace("SYMBOL", "SYMBOLS"), "not a row"),
    ],
)
def test_rows_are_read_strictly(tmp_path: Path, line: str, expected: str | None) -> None:
    table = tmp_path / "symbols.def"
    table.write_text(f"// A comment.\n\n{line}\n")
    if expected is None:
        (row,) = generate.symbols(table)
        assert (row.name, row.version, row.types) == ("cuThing", 2000, ("int *", "size_t"))
    else:
        with pytest.raises(ValueError, match=expected):
            generate.symbols(table)


def test_a_wrapper_without_a_row_stops_the_build(tmp_path: Path) -> None:
    defined = tmp_path / "defined.txt"
    defined.write_text("cuMemAlloc_v2 cuEventQuery_v9\n")
    with pytest.raises(SystemExit, match="cuEventQuery_v9"):
        generate.main(["hook", str(tmp_path), "--defined", str(defined)])


def check(given: str, expected: tuple[str, ...]) -> None:
    assert check_headers.parameter_types(given) == expected


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("void", ()),
        ("CUdeviceptr_v2 *dptr, size_t bytesize", ("CUdeviceptr *", "size_t")),
        (
            "const void **list, unsigned char uc, unsigned numChannels",
            ("const void **", "unsigned char", "unsigned int"),
        ),
        ("cuuint64_t flags, CUstream *a[], unsigned int", ("uint64_t", "CUstream **", "unsigned int")),
    ],
)
def test_parameters_of_a_header(given: str, expected: tuple[str, ...]) -> None:
    check(given, expected)


@pytest.mark.end_to_end
@pytest.mark.parametrize("release", check_headers.RELEASES, ids=lambda release: str(release.version))
def test_the_tables_are_the_headers(release: check_headers.Release, header_cache: Path) -> None:
    assert check_headers.check(release, header_cache) == []


@pytest.mark.end_to_end
@pytest.mark.parametrize(
    ("file", "right", "wrong", "found"),
    [
        ("driver_structs.h", "srcPitch, srcHeight", "srcHeight, srcPitch", "CUDA_MEMCPY3D srcPitch"),
        ("driver_values.h", "IS_MANAGED = 8", "IS_MANAGED = 9", "IS_MANAGED"),
    ],
)
def test_a_wrong_struct_or_value_is_found(
    file: str, right: str, wrong: str, found: str, wrong_source: Callable[[str, str, str], list[str]]
) -> None:
    assert any(found in line for line in wrong_source(file, right, wrong))


@pytest.fixture
def wrong_source(
    header_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[str, str, str], list[str]]:
    """What the check says of our headers with one text replaced."""

    def checked(file: str, right: str, wrong: str) -> list[str]:
        for source in check_headers.SOURCE.glob("driver*.h"):
            text = source.read_text()
            (tmp_path / source.name).write_text(text.replace(right, wrong) if source.name == file else text)
        monkeypatch.setattr(check_headers, "SOURCE", tmp_path)
        return check_headers.check(check_headers.RELEASES[1], header_cache)

    return checked


@pytest.fixture(scope="session")
def header_cache() -> Path:
    return building.cache()
