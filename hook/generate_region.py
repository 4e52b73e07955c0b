"""Turns region.def into the C header and the Python layout of the shared files: `generate_region.py [--check]`."""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass, field
from pathlib import Path

HOOK = Path(__file__).resolve().parent
TABLE = HOOK / "region.def"
HEADER = HOOK / "include" / "egpu_region.h"
LAYOUT = HOOK.parent / "egpu_runtime" / "agent" / "region_layout.py"

C_TYPES = {
    "u8": ("char", 1),
    "u32": ("uint32_t", 4),
    "i32": ("int32_t", 4),
    "u64": ("uint64_t", 8),
    "i64": ("int64_t", 8),
}
CODES = {"u8": "B", "u32": "I", "i32": "i", "u64": "Q", "i64": "q"}


class TableError(Exception):
    """The table says something that cannot be laid out."""


@dataclass
class Constant:
    name: str
    value: str
    why: str


@dataclass
class Field:
    type: str
    """u8, u32, i32, u64, i64 or the name of a struct."""
    name: str
    count: int
    """0: not an array."""
    offset: int
    size: int
    """Of one element, in bytes."""
    why: str


@dataclass
class Struct:
    name: str
    size: int
    what: str
    fields: list[Field] = field(default_factory=list)
    alignment: int = 8

    @property
    def end(self) -> int:
        if not self.fields:
            return 0
        last = self.fields[-1]
        return last.offset + last.size * max(last.count, 1)


@dataclass
class Table:
    constants: list[Constant] = field(default_factory=list)
    structs: dict[str, Struct] = field(default_factory=dict)


def read_table(text: str) -> Table:
    """Raises TableError with the line's number."""
    table = Table()
    struct: Struct | None = None
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        words, _, why = line.partition("  ")
        try:
            struct = _take_line(table, struct, words.split(), why.strip())
        except (TableError, ValueError, KeyError) as error:
            raise TableError(f"region.def:{number}: {error}") from error
    for one in table.structs.values():
        if one.end > one.size:
            raise TableError(f"struct {one.name} needs {one.end} bytes and has {one.size}")
    return table


def _take_line(table: Table, struct: Struct | None, words: list[str], why: str) -> Struct | None:
    if words[0] == "constant":
        table.constants.append(Constant(words[1], words[2], why))
        return struct
    if words[0] == "struct" and words[2].isdecimal():
        struct = table.structs[words[1]] = Struct(words[1], int(words[2]), why)
        return struct
    if struct is None:
        raise TableError("a field before the first struct")
    match = re.fullmatch(r"([a-z_]+)(?:\[(\d+)\])?", words[-1])
    if match is None:
        raise TableError(f"not a field: {words}")
    kind = words[-2]
    size, alignment = _extent(table, kind)
    if struct.end % alignment:
        raise TableError(f"{match[1]} would sit at {struct.end}, which is no multiple of {alignment}")
    struct.fields.append(Field(kind, match[1], int(match[2] or 0), struct.end, size, why))
    return struct


def _extent(table: Table, kind: str) -> tuple[int, int]:
    if kind in C_TYPES:
        size = C_TYPES[kind][1]
        return size, size
    struct = table.structs[kind]
    return struct.size, struct.alignment


def header(table: Table) -> str:
    lines = [
        "/* Made by hook/generate_region.py from hook/region.def; do not edit. */",
        "#ifndef EGPU_REGION_H",
        "#define EGPU_REGION_H",
        "#include <stddef.h>",
        "#include <stdint.h>",
        "",
    ]
    for constant in table.constants:
        # Without a suffix a constant compares with signed and unsigned alike.
        suffix = "ull" if constant.value.startswith("0x") and len(constant.value) > 10 else ""
        lines.append(f"#define {constant.name} {constant.value}{suffix} /* {constant.why} */")
    for struct in table.structs.values():
        lines += ["", f"/* {struct.what} */", f"struct {struct.name} {{"]
        for one in struct.fields:
            kind = C_TYPES[one.type][0] if one.type in C_TYPES else f"struct {one.type}"
            array = f"[{one.count}]" if one.count else ""
            lines.append(f"    {kind} {one.name}{array};" + (f" /* {one.why} */" if one.why else ""))
        if struct.end < struct.size:
            lines.append(f"    char rest_[{struct.size - struct.end}];")
        lines.append("};")
        lines.append(f'_Static_assert(sizeof(struct {struct.name}) == {struct.size}, "{struct.name}");')
        lines += [
            f'_Static_assert(offsetof(struct {struct.name}, {one.name}) == {one.offset}, "{struct.name}.{one.name}");'
            for one in struct.fields
        ]
    return "\n".join([*lines, "", "#endif", ""])


def layout(table: Table) -> str:
    lines = [
        '"""Where each word of the shared files is. Made by hook/generate_region.py; do not edit."""',
        "",
        "from typing import Final, NamedTuple",
        "",
        "",
        "class Place(NamedTuple):",
        '    """A field: `type` is B, I, i, Q or q as in struct, or the name of a layout; length 0 is no array."""',
        "",
        "    type: str",
        "    offset: int",
        "    size: int",
        "    length: int",
        "",
        "",
        "class Layout(NamedTuple):",
        '    """A struct: its size in bytes and its fields by name."""',
        "",
        "    size: int",
        "    fields: dict[str, Place]",
        "",
        "",
    ]
    for constant in table.constants:
        value = constant.value.upper().replace("X", "x") if constant.value.startswith("0x") else constant.value
        lines.append(f"{constant.name.removeprefix('EGPU_')}: Final = {value}")
    lines += ["", "LAYOUTS: Final[dict[str, Layout]] = {"]
    for struct in table.structs.values():
        lines += [f'    "{_short(struct.name)}": Layout(', f"        {struct.size},", "        {"]
        for one in struct.fields:
            kind = CODES.get(one.type) or _short(one.type)
            lines.append(f'            "{one.name}": Place("{kind}", {one.offset}, {one.size}, {one.count}),')
        lines += ["        },", "    ),"]
    return "\n".join([*lines, "}", ""])


def _short(name: str) -> str:
    return name.removeprefix("egpu_")


def main(arguments: list[str]) -> int:
    table = read_table(TABLE.read_text())
    stale = []
    for path, text in ((HEADER, header(table)), (LAYOUT, layout(table))):
        if not path.exists() or path.read_text() != text:
            stale.append(path.name)
            if "--check" not in arguments:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text)
    if stale and "--check" in arguments:
        sys.stderr.write(f"older than hook/region.def: {', '.join(stale)}; run hook/generate_region.py\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
