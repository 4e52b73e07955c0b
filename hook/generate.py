"""The table of driver functions (src/symbols.def, src/nvml.def) written out as C and as a page.

    generate.py hook BUILD [--defined FILE]       real.h (typed pointers, prototypes) and, with FILE, routes.c
    generate.py simulated BUILD [--defined FILE]  simulated.h (prototypes) and, with FILE, exports.inc
    generate.py coverage PAGE                     what the hook does about every function, as Markdown

FILE lists the names that the compiled objects define (from nm): a row that says WRAP is routed once its wrapper exists,
so that the tree builds at every commit; `pending` (tests) asks that none is missing in the end.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
SYMBOL = re.compile(r'SYMBOL\((\w+), (\w+), (\d+), (0|PTDS|PTSZ), (\d+), ([A-Z]+), ([\w.]+), "([^"]*)"\)')
NVML = re.compile(r'NVML\((\w+), ([A-Z]+), ([\w.]+), "([^"]*)"\)')
ROUTED = {"WRAP", "RESOLVE"}
ACTIONS = {*ROUTED, "PASS", "DENY", "UNTOUCHED", "CALL"}
# The per-thread forms take NULL as the stream of the thread, also inside these structs.
STREAM_FIELDS = {"CUlaunchConfig *": "hStream", "CUDA_GRAPH_INSTANTIATE_PARAMS *": "hUploadStream"}
MEANINGS = {
    "arrays.c": "charged by their size in bytes; given back when destroyed",
    "callbacks.c": "a thread inside a callback of the application is never made to wait",
    "contexts.c": "what each takes of the card is charged; what dies with one is given back",
    "copies.c": "large ones on one card wait and are measured as launches are; others only yield; small ones pass",
    "graph_memory.c": "what a graph allocates is reserved when it is launched, and charged until it is trimmed",
    "graphs.c": "a graph launch waits once and is measured as one",
    "host_memory.c": "page-locked host memory is counted, and refused above a quota of its own where there is one",
    "launch.c": "waits for quota, priority and the bound of work in flight; measured in batches",
    "life.c": "the real call first, then the region is attached",
    "memory.c": "reserved against the quota before the call, given back after a failure or the free",
    "modules.c": "what code and its variables take of the card is charged, never refused",
    "observe.c": "the moments to settle what was measured; streams that end or capture are left alone",
    "movable_calls.c": "calls that tell apart memory the hook made movable from memory that is not",
    "pools.c": "charged when allocated, given back when the pool lets go of it",
    "route.c": "asks the driver, then replaces addresses the table names",
    "view.c": "answers with the container's quota and use",
    "view_nvml.c": "answers with the container's quota, use and processes",
    "view_utilisation.c": "answers with the card's time that the container and its processes had",
    "waits.c": "time in which a stream waits for something else is not measured as the card's",
    "virtual_memory.c": "physical handles are charged until released and unmapped",
    "ADDRESSES": "reserve or describe addresses, no memory",
    "CHARGED_TO_EXPORTER": "memory of another process, which pays for it",
    "CODE": "functions and modules that are loaded already",
    "CONTEXT": "which context is current and how it is set",
    "DIAGNOSIS": "logs and dumps",
    "GRAPHICS": "resources that a display library owns",
    "GRAPH_BUILDING": "nothing runs and nothing is allocated yet",
    "LEGACY_32_BIT": "forms of CUDA 2 with 32-bit addresses and sizes, which no 64-bit program can use",
    "NODE_AGENT": "moves whole processes off the card: the node agent's right",
    "POOL_SETTING": "pools are charged when they allocate",
    "PRIVATE_TABLES": "the CUDA runtime checks the addresses in these tables: passed bit for bit",
    "QUERY": "asks and changes nothing",
    "STREAM": "makes or orders streams, adds no work",
    "SYNCHRONISATION": "waits or orders, adds no work",
    "TEXTURE_OR_KERNEL_SETTING": "parameters of work that is gated when it starts",
}
WAYS_AROUND = (
    "programs without a dynamic loader, and calls of the kernel's device files without libcuda",
    "a program that walks the tables of libcuda by itself instead of asking `dlsym`",
    "a child whose environment was emptied, unless the preload is named in `/etc/ld.so.preload`",
    "a library that is linked to libcuda and loaded with `RTLD_DEEPBIND`: its calls bind to the driver first (what it"
    " asks `dlsym` or `cuGetProcAddress` for is caught)",
    "a namespace made by `dlmopen` that loads the driver later, by itself; one that brings it along is refused",
)
SHOWN_OF_THE_CARD = (
    "power, temperature, clocks, energy, throughput of PCIe and NVLink: of the board, nobody can divide them",
    "utilisation and sessions of the encoders, decoders and optical flow engines: no work on these is measured",
    "`nvmlDeviceGetFieldValues`: has no field of memory in use, of utilisation or of processes",
    "`cuDeviceGetAttribute`, `cuDeviceGetProperties`: have no size of the memory; a program that counts multiprocessors"
    " to size its grids needs all of them",
)
HEADER = "// Generated by hook/generate.py from symbols.def and nvml.def. Not edited by hand.\n"


@dataclass(frozen=True, slots=True)
class Row:
    """One exported symbol. `since` is 0 for libnvidia-ml, whose functions have no version."""

    name: str
    base: str
    version: int
    flag: str
    since: int
    action: str
    where: str
    types: tuple[str, ...]

    @property
    def nvml(self) -> bool:
        return self.name.startswith("nvml")

    @property
    def result(self) -> str:
        return "nvmlReturn_t" if self.nvml else "CUresult"

    @property
    def table(self) -> str:
        return "real_nvml" if self.nvml else "real"

    @property
    def prototype(self) -> str:
        return ", ".join(self.types) or "void"

    @property
    def parameters(self) -> str:
        return ", ".join(f"{kind} a{i}" for i, kind in enumerate(self.types)) or "void"

    @property
    def arguments(self) -> str:
        return ", ".join(f"a{i}" for i in range(len(self.types)))


def symbols(path: Path = HERE / "src" / "symbols.def") -> list[Row]:
    """Rows of libcuda, in the table's order. Raises ValueError for a line that is neither a row nor a comment."""
    rows = []
    for number, line in _lines(path):
        found = SYMBOL.fullmatch(line)
        if not found or found[6] not in ACTIONS:
            raise ValueError(f"{path.name}:{number}: not a row: {line}")
        name, base, version, flag, since, action, where, types = found.groups()
        if where not in MEANINGS and not where.endswith(".c"):
            raise ValueError(f"{path.name}:{number}: {where} has no meaning in generate.py")
        rows.append(Row(name, base, int(version), flag, int(since), action, where, _types(types)))
    return rows


def nvml_functions(path: Path = HERE / "src" / "nvml.def") -> list[Row]:
    rows = []
    for number, line in _lines(path):
        found = NVML.fullmatch(line)
        if not found or found[2] not in ACTIONS:
            raise ValueError(f"{path.name}:{number}: not a row: {line}")
        name, action, where, types = found.groups()
        rows.append(Row(name, name, 0, "0", 0, action, where, _types(types)))
    return rows


def _lines(path: Path) -> list[tuple[int, str]]:
    lines = enumerate(path.read_text().splitlines(), 1)
    return [(number, line) for number, line in lines if line.strip() and not line.startswith("//")]


def _types(text: str) -> tuple[str, ...]:
    return () if text == "void" else tuple(text.split(", "))


def ordered(rows: list[Row]) -> list[Row]:
    """libcuda first; forms of one base name next to each other, older ones first."""
    return sorted(rows, key=lambda row: (row.nvml, row.base, row.version, row.name))


def real_h(rows: list[Row]) -> str:
    """Typed pointers to the driver's functions, in the order of the routes, and prototypes of what the hook exports."""
    rows = ordered(rows)
    out = [HEADER, '#ifndef EGPU_REAL_H\n#define EGPU_REAL_H\n#include "driver.h"\n#include "driver_nvml.h"\n']
    for table, nvml in (("real", False), ("real_nvml", True)):
        out.append(f"struct {table} {{")
        out += [f"    {row.result} (*{row.name})({row.prototype});" for row in rows if row.nvml == nvml]
        out.append(f"}};\nextern struct {table} {table};")
    out.append("#pragma GCC visibility push(default)")
    exported = {*ROUTED, "DENY"}
    out += [f"{row.result} {row.name}({row.prototype});" for row in rows if row.action in exported]
    out.append("#pragma GCC visibility pop\n#endif\n")
    return "\n".join(out)


def routes_c(rows: list[Row], defined: set[str]) -> str:
    """First-call functions, denials and the routing table."""
    rows = ordered(rows)
    out = [HEADER, '#include "real.h"\n#include "route.h"\n']
    for index, row in enumerate(rows):
        absent = "route_absent_nvml()" if row.nvml else "route_absent()"
        out.append(
            f"static {row.result} first_{row.name}({row.parameters}) {{\n"
            f"    return route_first({index}) ? {row.table}.{row.name}({row.arguments}) : {absent};\n}}"
        )
        if row.action == "DENY":
            denial = f"route_denied() ? CUDA_ERROR_NOT_SUPPORTED : real.{row.name}({row.arguments})"
            out.append(f"{row.result} {row.name}({row.parameters}) {{\n    return {denial};\n}}")
    for table, nvml in (("real", False), ("real_nvml", True)):
        out.append(f"struct {table} {table} = {{")
        out += [f"    .{row.name} = first_{row.name}," for row in rows if row.nvml == nvml]
        out.append("};")
    first_nvml = sum(not row.nvml for row in rows)
    for index, row in enumerate(rows):
        place = f"offsetof(struct {row.table}, {row.name}) / sizeof(void *)"
        out.append(
            f'_Static_assert({place} == {index - row.nvml * first_nvml}, "slots are in the order of the routes");'
        )
    out.append("const struct route routes[] = {")
    out += [f"    {_route(row, defined)}," for row in rows]
    out.append("};\nconst unsigned routes_count = sizeof routes / sizeof routes[0];")
    order = sorted(range(len(rows)), key=lambda index: rows[index].name)
    out.append("const unsigned short routes_by_name[] = {" + ", ".join(map(str, order)) + "};\n")
    return "\n".join(out)


def _route(row: Row, defined: set[str]) -> str:
    wrapped = row.action == "DENY" or (row.action in ROUTED and row.name in defined)
    wrapper = f"(void (*)(void)){row.name}" if wrapped else "0"
    flag = {"0": "ROUTE_PLAIN", "PTDS": "ROUTE_PER_THREAD", "PTSZ": "ROUTE_PER_THREAD"}[row.flag]
    library = "ROUTE_NVML" if row.nvml else "ROUTE_CUDA"
    return (
        f'{{"{row.name}", "{row.base}", (void (**)(void))&{row.table}.{row.name}, (void (*)(void))first_{row.name}, '
        f"{wrapper}, {row.version}, {flag}, {library}}}"
    )


def simulated_h(rows: list[Row]) -> str:
    """Prototypes of the simulated driver's implementations: `sim_` + the exported name."""
    out = [HEADER, '#ifndef EGPU_SIMULATED_H\n#define EGPU_SIMULATED_H\n#include "driver.h"']
    out += [f"CUresult sim_{row.name}({row.prototype});" for row in rows]
    out.append("#endif\n")
    return "\n".join(out)


def exports_inc(rows: list[Row], defined: set[str]) -> str:
    """Every symbol of the simulated libcuda at an address of its own, and the table cuGetProcAddress reads."""
    out = [HEADER]
    for row in sorted(rows, key=lambda row: row.since):
        out += [f"#if SIM_CUDA >= {row.since}", _export(row, defined), "#endif"]
    out.append("static const struct sim_symbol symbols[] = {")
    for row in rows:
        flag = "false" if row.flag == "0" else "true"
        line = f'    {{"{row.name}", "{row.base}", {row.version}, {flag}, (void (*)(void)){row.name}}},'
        out += [line] if row.since == 12080 else [f"#if SIM_CUDA >= {row.since}", line, "#endif"]
    out.append("};\n")
    return "\n".join(out)


def _export(row: Row, defined: set[str]) -> str:
    plain = re.sub(r"_(ptds|ptsz)$", "", row.name)
    target = row.name if f"sim_{row.name}" in defined else plain
    if f"sim_{target}" not in defined and row.action != "RESOLVE":
        unused = "".join(f"    (void)a{i};\n" for i in range(len(row.types)))
        return f'CUresult {row.name}({row.parameters}) {{\n{unused}    return sim_unsupported("{row.name}");\n}}'
    arguments, before, after = [], "", ""
    for i, kind in enumerate(row.types):
        field = STREAM_FIELDS.get(kind.replace("const ", "")) if row.flag == "PTSZ" else None
        if row.flag == "PTSZ" and kind == "CUstream":
            arguments.append(f"per_thread(a{i})")
        elif field:
            arguments.append(f"a{i} == NULL ? NULL : &copy{i}")
            before += f"    {kind.replace('const ', '').removesuffix(' *')} copy{i};\n    if (a{i} != NULL) {{\n"
            before += f"        copy{i} = *a{i};\n        copy{i}.{field} = per_thread(copy{i}.{field});\n    }}\n"
            if not kind.startswith("const "):
                after += f"    if (a{i} != NULL) {{\n        copy{i}.{field} = a{i}->{field};\n"
                after += f"        *a{i} = copy{i};\n    }}\n"
        else:
            arguments.append(f"a{i}")
    call = f"    CUresult result = sim_{target}({', '.join(arguments)});\n{after}    return result;\n"
    return f"CUresult {row.name}({row.parameters}) {{\n{before}{call}}}"


def coverage(rows: list[Row]) -> str:
    """The page: one line a base name, grouped by what is done about it."""
    groups: dict[tuple[str, str], dict[str, list[Row]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        groups[row.action, row.where][row.base].append(row)
    counts: dict[str, int] = defaultdict(int)
    for row in rows:
        counts["libnvidia-ml" if row.nvml else row.action] += 1
    out = ["# What the hook does about every function of the driver", ""]
    out += [
        "Generated by `hook/generate.py coverage` from `hook/src/symbols.def` and `nvml.def`: every function of cuda.h"
    ]
    out += [
        "of CUDA 12.8 and 13.0 (`*`: 13.0 only), and those of libnvidia-ml that the hook rewrites or calls. In brackets"
    ]
    out += ["the forms of a name; `plain` is the name itself.", ""]
    out += ["| action | exported symbols |", "|---|---|"]
    out += [f"| {action} | {count} |" for action, count in sorted(counts.items())]
    for (action, where), bases in sorted(groups.items(), key=lambda item: _order(item[0])):
        meaning = MEANINGS.get(where, "wrapped in this file")
        out += ["", f"## {action}: {where}", "", f"{meaning[0].upper()}{meaning[1:]}.", ""]
        out.append(", ".join(_forms(base, forms) for base, forms in sorted(bases.items())))
    out += ["", "## What stays the whole card's", "", *(f"- {what}" for what in SHOWN_OF_THE_CARD)]
    out += ["", "## What a library in front of a program does not see", "", *(f"- {way}" for way in WAYS_AROUND)]
    return "\n".join(out) + "\n"


def _order(key: tuple[str, str]) -> tuple[int, str]:
    return ["WRAP", "RESOLVE", "UNTOUCHED", "DENY", "PASS", "CALL"].index(key[0]), key[1]


def _forms(base: str, forms: list[Row]) -> str:
    rest = [row.name.removeprefix(base) for row in forms]
    new = "*" if all(row.since == 13000 for row in forms) else ""
    return f"`{base}`{new}" if rest == [""] else f"`{base}`{new} ({' '.join(suffix or 'plain' for suffix in rest)})"


def pending(rows: list[Row], defined: set[str]) -> list[str]:
    """Rows that name a wrapper nobody has written yet."""
    return [row.name for row in rows if row.action in ROUTED and row.name not in defined]


def unannounced(rows: list[Row], defined: set[str]) -> list[str]:
    """Driver names that objects define although the table does not say so."""
    announced = {row.name for row in rows if row.action in ROUTED}
    return sorted(name for name in defined if re.match(r"(cu[A-Z]|nvml)", name) and name not in announced)


def write(path: Path, text: str) -> None:
    """Only when it differs, so that make does not build everything anew."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists() or path.read_text() != text:
        path.write_text(text)


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description="write out the table of driver functions")
    parser.add_argument("what", choices=["hook", "simulated", "coverage"])
    parser.add_argument("target", type=Path)
    parser.add_argument("--defined", type=Path)
    given = parser.parse_args(arguments)
    driver, both = symbols(), symbols() + nvml_functions()
    defined = set(given.defined.read_text().split()) if given.defined else set()
    if given.what == "coverage":
        write(given.target, coverage(both))
    elif given.what == "hook":
        write(given.target / "real.h", real_h(both))
        if given.defined:
            if wrong := unannounced(both, defined):
                raise SystemExit(f"error: no row in symbols.def or nvml.def says WRAP for {', '.join(wrong)}")
            write(given.target / "routes.c", routes_c(both, defined))
            write(given.target / "pending.txt", "".join(f"{name}\n" for name in pending(both, defined)))
    else:
        write(given.target / "simulated.h", simulated_h(driver))
        if given.defined:
            write(given.target / "exports.inc", exports_inc(driver, defined))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
