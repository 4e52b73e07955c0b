"""Sizes a reader can hold: modules of 400 lines, functions of 70. No allow-list; split by noun."""

import ast
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("egpu_runtime", "collector", "pipeline", "advisor", "hook", "docs", "deploy")
MODULE_LINES_MAX = 400
FUNCTION_LINES_MAX = 70


C_FOLDERS = ("hook/src", "collector/contract", "tests/hook")


def c_files() -> list[Path]:
    return sorted(path for folder in C_FOLDERS for path in (ROOT / folder).rglob("*.[ch]") if "build" not in path.parts)


def c_functions(path: Path) -> list[tuple[int, int]]:
    """(first line, number of lines) of each body: its brace ends an unindented line or stands alone on one."""
    functions, start = [], 0
    for number, line in enumerate(path.read_text().splitlines(), 1):
        if line.endswith("{") and not line[:1].isspace() and "=" not in line and (line == "{" or ")" in line):
            start = number
        elif line == "}" and start:
            functions.append((start, number - start + 1))
            start = 0
    return functions


def python_files() -> list[Path]:
    return sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))


def test_modules_are_short() -> None:
    files = [*python_files(), *c_files()]
    lengths = {str(path.relative_to(ROOT)): path.read_text().count("\n") for path in files}
    assert {name: length for name, length in lengths.items() if length > MODULE_LINES_MAX} == {}


def test_functions_fit_on_a_screen() -> None:
    long = []
    for path in python_files():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                lines = (node.end_lineno or node.lineno) - node.lineno + 1
                if lines > FUNCTION_LINES_MAX:
                    long.append(f"{path.relative_to(ROOT)}:{node.lineno} {node.name}: {lines}")
    for path in c_files():
        bodies = c_functions(path)
        long += [f"{path.relative_to(ROOT)}:{at}: {lines}" for at, lines in bodies if lines > FUNCTION_LINES_MAX]
    assert long == []


def test_no_module_is_a_drawer() -> None:
    drawers = {"utils", "helpers", "common", "misc", "base"}
    assert [str(path) for path in python_files() if path.stem in drawers] == []


def test_every_package_folder_has_an_init_and_tests_have_none() -> None:
    scripts = {ROOT / folder for folder in ("hook", "docs", "deploy")}
    folders = {path.parent for path in python_files() if not scripts & set(path.parents)}
    assert [str(folder) for folder in folders if not (folder / "__init__.py").is_file()] == []
    assert list((ROOT / "tests").rglob("__init__.py")) == []
