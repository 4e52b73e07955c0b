"""A new patch in a kustomization, for a value that only a shared base could say otherwise.

The patch is written inline at the end of ``patches`` with an explicit target, so it touches one object, needs no file
of its own, and has the last word among the overlay's patches.
"""

from collections.abc import Mapping, Sequence

from advisor.writeback.editing import content_end, end_of_line, line_end
from advisor.writeback.manifests import ManifestError, Node, leaves, parse

PATCHES = "patches"
_INDENT = "  "

Tree = Mapping[str, "Tree | Sequence[Tree] | str"]
"""Nested keys with texts as they stand in YAML; a list holds mappings."""


def add_patch(text: str, *, target: tuple[str, str], patch: Tree) -> str:
    """The kustomization with one more patch for the object ``target`` = (kind, name).

    Raises ManifestError where ``patches`` is not a block list, or when anything else would change.
    """
    root = parse(text)[0].root
    entry = next((entry for entry in root.entries if entry[0].text == PATCHES), None)
    if root.form != "mapping" or root.flow or not root.entries:
        raise ManifestError("the kustomization is not a block mapping")
    kind, name = target
    item = ["- target:", f"    kind: {kind}", f"    name: {name}", "  patch: |-"]
    item += [f"    {line}" for line in _lines(patch)]
    eol = line_end(text)
    if entry is None:
        at = end_of_line(text, content_end(text, root.entries[-1]))
        lines = [f"{PATCHES}:", *(" " * _list_column(root) + line for line in item)]
        number = 0
    elif entry[1].items and not entry[1].flow:
        at = end_of_line(text, content_end(text, entry))
        lines = [" " * entry[1].column + line for line in item]
        number = len(entry[1].items)
    else:
        raise ManifestError("its patches are not a block list")
    changed = text[:at] + "".join(f"{eol}{line}" for line in lines) + text[at:]
    _verify(text, changed, number)
    return changed


def _verify(before: str, after: str, number: int) -> None:
    old, new = leaves(parse(before)[0].root), leaves(parse(after)[0].root)
    if any(new.get(path) != value for path, value in old.items()):
        raise ManifestError("the kustomization would change elsewhere")
    if any(path[:2] != (PATCHES, number) for path in new.keys() - old.keys()):
        raise ManifestError("the kustomization would change elsewhere")


def _list_column(root: Node) -> int:
    """Column at which this file writes the items of its lists."""
    columns = [value.column for _, value in root.entries if value.form == "sequence" and not value.flow]
    return columns[0] if columns else 0


def _lines(tree: Tree) -> list[str]:
    lines: list[str] = []
    for key, value in tree.items():
        if isinstance(value, str):
            lines.append(f"{key}: {value}")
        elif isinstance(value, Mapping):
            lines += [f"{key}:", *(_INDENT + line for line in _lines(value))]
        else:
            lines.append(f"{key}:")
            for item in value:
                first, *rest = _lines(item)
                lines += [f"{_INDENT}- {first}", *(f"{_INDENT}  {line}" for line in rest)]
    return lines
