"""Our tables against NVIDIA's headers, which are fetched when this runs and never kept in the tree.

    check_headers.py [--cache FOLDER]     prints one line a release; exit 1 when anything differs

Held against cuda.h and cudaTypedefs.h of CUDA 12.8 and 13.0: the list of functions, version and per-thread flag of each
form, its parameter types, and against the compiler's own view the sizes and offsets of the structs in
src/driver_structs.h, src/driver_objects.h and src/driver_nvml.h and the values in src/driver_values.h.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import generate

SOURCE = Path(__file__).parent / "src"


@dataclass(frozen=True, slots=True)
class Release:
    """Wheels that carry the headers of one CUDA release."""

    version: int
    runtime: str
    nvml: str


RELEASES = (
    Release(12080, "nvidia-cuda-runtime-cu12==12.8.90", "nvidia-nvml-dev-cu12==12.8.90"),
    Release(13000, "nvidia-cuda-runtime==13.0.96", "nvidia-nvml-dev==13.0.87"),
)
PROTOTYPE = re.compile(r"CUresult +(cu[A-Z]\w*)\s*\(([^;{]*)\);")
TYPEDEF = re.compile(r"\*\s*PFN_(cu\w+?)_v(\d+)(?:_(ptds|ptsz))?\s*\)")
# The same type under the name that the header gives it before its own renaming.
SAME = {"CUdeviceptr_v2": "CUdeviceptr", "cuuint64_t": "uint64_t", "cuuint32_t": "uint32_t"}


def fetch(requirement: str, cache: Path) -> Path:
    """The folder with the wheel's headers; downloaded once."""
    folder = cache / "headers" / requirement.replace("==", "-")
    if not (folder / "ready").exists():
        command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--disable-pip-version-check"]
        subprocess.run([*command, "-d", str(folder), requirement], check=True)
        for wheel in folder.glob("*.whl"):
            with zipfile.ZipFile(wheel) as archive:
                archive.extractall(folder, [name for name in archive.namelist() if name.endswith(".h")])
            wheel.unlink()
        (folder / "ready").touch()
    return next(path.parent for name in ("cuda.h", "nvml.h") for path in folder.rglob(name))


def preprocess(text: str, include: Path) -> str:
    command = ["gcc", "-E", "-P", "-D__CUDA_API_VERSION_INTERNAL", f"-I{include}", "-x", "c", "-"]
    return subprocess.run(command, input=text, check=True, capture_output=True, text=True).stdout


def parameter_types(text: str) -> tuple[str, ...]:
    """`CUdeviceptr_v2 *dptr, size_t bytes` -> ("CUdeviceptr *", "size_t")."""
    types = []
    for parameter in text.split(","):
        words = " ".join(parameter.replace("*", " * ").split())
        array = "[" in words
        words = re.sub(r"\s*\[.*", "", words)
        name = re.fullmatch(r"(.*\S)\s+(?!int$|char$|long$)(\w+)", words)
        kind = (name[1] if name else words) + (" *" if array else "")
        kind = re.sub(r"\* (?=\*)", "*", kind)
        for old, new in SAME.items():
            kind = re.sub(rf"\b{old}\b", new, kind)
        types.append("unsigned int" if kind == "unsigned" else kind)
    return () if types == ["void"] else tuple(types)


def forms(names: set[str], typedefs: str) -> dict[str, tuple[int, str]]:
    """Exported name -> (version, flag): the n-th form of a base name is the one of its n-th version."""
    versions: dict[tuple[str, str], set[int]] = {}
    for base, version, flag in TYPEDEF.findall(typedefs):
        versions.setdefault((base, flag), set()).add(int(version))
    grouped: dict[tuple[str, str], list[tuple[int, str]]] = {}
    for name in names:
        parts = re.fullmatch(r"(\w+?)(?:_v(\d+))?(?:_(ptds|ptsz))?", name)
        assert parts
        grouped.setdefault((parts[1], parts[3] or ""), []).append((int(parts[2] or 1), name))
    found = {}
    for key, members in grouped.items():
        known = sorted(versions.get(key, set()))
        for (_, name), version in zip(sorted(members), known, strict=False):
            found[name] = (version, key[1].upper() or "0")
    return found


def functions(release: Release, include: Path) -> list[str]:
    """What differs between symbols.def and cuda.h."""
    header = preprocess("#include <cuda.h>\n", include).replace("\n", " ")
    declared = dict(PROTOTYPE.findall(header))
    rows = {row.name: row for row in generate.symbols() if row.since <= release.version}
    wrong = [f"{name}: in cuda.h only" for name in declared.keys() - rows.keys()]
    wrong += [f"{name}: in symbols.def only" for name in rows.keys() - declared.keys()]
    known = forms(set(declared), preprocess("#include <cudaTypedefs.h>\n", include))
    for name in sorted(rows.keys() & declared.keys()):
        row, types = rows[name], parameter_types(declared[name])
        if row.types != types:
            wrong.append(f"{name}: takes {types}, the table says {row.types}")
        if known.get(name) != (row.version, row.flag):
            wrong.append(f"{name}: is {known.get(name)}, the table says {(row.version, row.flag)}")
    return wrong


def members(header: str) -> list[tuple[str, str]]:
    """(struct, field) of each field named on the first level or in an unnamed union; field "" is the struct itself."""
    found = []
    for body, name in _structs(re.sub(r"//.*", "", header)):
        found.append((name, ""))
        flat = body
        while inner := re.search(r"(?:struct|union) \{([^{}]*)\}( *\w*)", flat):
            replacement = f"int{inner[2]}" if inner[2].strip() else inner[1]
            flat = flat[: inner.start()] + replacement + flat[inner.end() :]
        for line in flat.split(";"):
            declared = re.fullmatch(r"\s*(?:const )?(?:unsigned |long )*\w+ (.*)", line.strip(), re.S)
            if declared and declared[1]:
                found += [(name, re.sub(r"[*\s]|\[.*\]", "", field)) for field in declared[1].split(",")]
    return found


def _structs(header: str) -> Iterator[tuple[str, str]]:
    """(what is between the braces, name) of every `typedef struct {...} name;`."""
    for start in re.finditer(r"typedef (?:struct|union) \{", header):
        depth, end = 1, start.end()
        while depth:
            depth += {"{": 1, "}": -1}.get(header[end], 0)
            end += 1
        name = re.match(r" (\w+);", header[end:])
        if name:
            yield header[start.end() : end - 1], name[1]


def layout(
    include: Path, first_line: str, structs: list[tuple[str, str]], values: list[str], folder: Path
) -> list[str]:
    """Sizes, offsets and values as the compiler sees them with this header."""
    lines = [first_line, "#include <stddef.h>", "#include <stdio.h>", "int main(void) {"]
    for name, field in structs:
        what = f"offsetof({name}, {field})" if field else f"sizeof({name})"
        lines.append(f'    printf("{name} {field} %zu\\n", (size_t){what});')
    lines += [f'    printf("{name} %ld\\n", (long){name});' for name in values]
    program = folder / "layout"
    command = ["gcc", "-w", f"-I{include}", "-x", "c", "-", "-o", str(program)]
    subprocess.run(command, input="\n".join([*lines, "    return 0;\n}\n"]), check=True, text=True)
    return subprocess.run([program], check=True, capture_output=True, text=True).stdout.splitlines()


def layouts(include: Path, header: str, ours: tuple[str, ...], folder: Path) -> list[str]:
    """What differs between our structs and values and the header's. A value a release does not have yet is left out."""
    own = "\n".join((SOURCE / name).read_text() for name in ours)
    values = sorted(
        set(re.findall(r"\b((?:CU|CUDA|NVML)_[A-Z0-9_a-z]+) = ", own)) | set(re.findall(r"#define (CU_\w+) \(", own))
    )
    theirs = preprocess(f"#include <{header}>\n", include) + (include / header).read_text()
    values = [name for name in values if re.search(rf"\b{name}\b", theirs)]
    structs = members(own)
    expected = layout(include, f"#include <{header}>", structs, values, folder)
    actual = layout(SOURCE, f'#include "{ours[0]}"', structs, values, folder)
    return [f"{mine}, the header says {its}" for mine, its in zip(actual, expected, strict=True) if mine != its]


def check(release: Release, cache: Path) -> list[str]:
    runtime, nvml = fetch(release.runtime, cache), fetch(release.nvml, cache)
    wrong = functions(release, runtime)
    wrong += layouts(runtime, "cuda.h", ("driver.h", "driver_structs.h", "driver_objects.h", "driver_values.h"), cache)
    wrong += layouts(nvml, "nvml.h", ("driver_nvml.h",), cache)
    return wrong


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description="hold the table of driver functions against NVIDIA's headers")
    home = Path(os.environ.get("EGPU_CACHE") or Path.home() / ".cache" / "effective-gpu")
    parser.add_argument("--cache", type=Path, default=home)
    cache = parser.parse_args(arguments).cache
    status = 0
    for release in RELEASES:
        wrong = check(release, cache)
        rows = sum(row.since <= release.version for row in generate.symbols())
        print(f"CUDA {release.version // 1000}.{release.version % 1000 // 10}: {rows} functions, {len(wrong)} differ")
        for line in wrong:
            print(f"  {line}")
        status |= bool(wrong)
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
