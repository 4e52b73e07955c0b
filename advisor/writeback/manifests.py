"""Manifests as text with marks: the one door to the YAML parser.

Only the positions of values are taken from the parser and only their bytes are ever replaced; load and dump would
keep 9 % of real files byte-identical. A node therefore knows where its content starts and ends in the file.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final, Literal

import yaml

from advisor.dialects import Path

LEAF_COUNT_MAX: Final = 200_000
"""Values of one document that are compared; nested aliases can name more than that in a few lines."""

DOCUMENT_CACHE_SIZE: Final = 512
"""Texts whose documents are kept: a tree is read once and then asked about each of its workloads."""

_PROPERTY = re.compile(r"(?:[&!][^\s,\[\]{}]*[ \t]*(?:\r?\n[ \t]*)?)+")
_TABS_BEFORE_COMMENT = re.compile(r"[ \t]*\t[ \t]*(?=#|\r?$)", re.MULTILINE)


class ManifestError(Exception):
    """A text is not the YAML we need; the message says why, in a clause that fits after a file name."""


@dataclass(frozen=True, slots=True, eq=False)
class Node:
    """One node of a document: ``start`` and ``end`` are character positions of its content in the file.

    Anchor and tag stand before ``start``. ``style`` is the quote or block mark of a scalar, empty for a plain one;
    ``column`` counts from 0 and is that of the first key, item or character.
    """

    form: Literal["scalar", "mapping", "sequence"]
    start: int
    end: int
    column: int
    tag: str = ""
    text: str = ""
    style: str = ""
    flow: bool = False
    entries: tuple[tuple["Node", "Node"], ...] = ()
    items: tuple["Node", ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Document:
    """One YAML document: its root, and for each place of a node used more than once all its places."""

    root: Node
    shared: Mapping[Path, tuple[Path, ...]] = field(default_factory=dict)


@lru_cache(maxsize=DOCUMENT_CACHE_SIZE)
def parse(text: str) -> tuple[Document, ...]:
    """All documents of a text that hold something; raises ManifestError with the line for what is no YAML."""
    try:
        roots = _compose(text)
    except yaml.YAMLError:
        # Tabs before a comment are common and harmless, yet the parser refuses them: try once more with blanks.
        blanked = _TABS_BEFORE_COMMENT.sub(lambda match: " " * len(match.group()), text)
        try:
            roots = _compose(blanked)
        except yaml.YAMLError as error:
            mark = getattr(error, "problem_mark", None)
            where = f" at line {mark.line + 1}" if mark else ""
            raise ManifestError(f"not YAML{where}") from error
    return tuple(_Builder(text).document(root) for root in roots)


def _compose(text: str) -> list[yaml.Node]:
    try:
        return list(yaml.compose_all(text, Loader=yaml.SafeLoader))
    except RecursionError as error:
        raise ManifestError("nested too deep") from error


class _Builder:
    """Turns the parser's nodes into ours, each once, and notes every place at which it is used."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._built: dict[int, Node | None] = {}
        self._places: dict[int, list[Path]] = {}

    def document(self, root: yaml.Node) -> Document:
        node = self._build(root, ())
        shared = {place: tuple(places) for places in self._places.values() if len(places) > 1 for place in places}
        return Document(node, shared)

    def _build(self, node: yaml.Node, path: Path) -> Node:
        self._places.setdefault(id(node), []).append(path)
        if id(node) in self._built:
            built = self._built[id(node)]
            if built is None:
                raise ManifestError("an anchor holds itself")
            return built
        self._built[id(node)] = None
        built = self._content(node, path)
        self._built[id(node)] = built
        return built

    def _content(self, node: yaml.Node, path: Path) -> Node:
        start, end = node.start_mark.index, node.end_mark.index
        properties = _PROPERTY.match(self._text, start, end)
        start = properties.end() if properties else start
        column = start - max(self._text.rfind("\n", 0, start), self._text.rfind("\r", 0, start)) - 1
        if isinstance(node, yaml.MappingNode):
            if any(not isinstance(key, yaml.ScalarNode) for key, _ in node.value):
                raise ManifestError(f"not a manifest: line {node.start_mark.line + 1} has a key that is no text")
            entries = tuple(
                (self._build(key, (*path, index, "key")), self._build(value, (*path, str(key.value))))
                for index, (key, value) in enumerate(node.value)
            )
            return Node("mapping", start, end, column, flow=bool(node.flow_style), entries=entries)
        if isinstance(node, yaml.SequenceNode):
            items = tuple(self._build(item, (*path, index)) for index, item in enumerate(node.value))
            return Node("sequence", start, end, column, flow=bool(node.flow_style), items=items)
        style = node.style or "" if isinstance(node, yaml.ScalarNode) else ""
        return Node("scalar", start, end, column, tag=node.tag, text=node.value, style=style)


def child(node: Node | None, key: str | int) -> Node | None:
    """The value under a mapping key or a sequence index, None where there is none."""
    if node is None:
        return None
    if isinstance(key, int):
        return node.items[key] if key < len(node.items) else None
    for name, value in node.entries:
        if name.text == key:
            return value
    return None


def descend(node: Node | None, path: Sequence[str | int]) -> Node | None:
    """The node at a path, None where the way ends before."""
    for key in path:
        node = child(node, key)
    return node


def merged_child(node: Node | None, key: str) -> Node | None:
    """As :func:`child`, also looking into what ``<<`` merges in, where the mapping itself does not say."""
    found = child(node, key)
    merged = child(node, "<<")
    if found is not None or merged is None:
        return found
    for source in merged.items or (merged,):
        found = merged_child(source, key)
        if found is not None:
            return found
    return None


def is_empty(node: Node) -> bool:
    """True for null, an empty text and an empty collection: a place that waits for content."""
    return not node.entries and not node.items and (node.form != "scalar" or node.text in {"", "~", "null"})


def leaves(node: Node) -> Mapping[Path, tuple[str, str]]:
    """Every value of a document as path -> (tag, text), empty collections too; ManifestError when over the limit."""
    found: dict[Path, tuple[str, str]] = {}
    for path, leaf in _walk(node, ()):
        found[path] = (leaf.tag, leaf.text)
        if len(found) > LEAF_COUNT_MAX:
            raise ManifestError(f"more than {LEAF_COUNT_MAX} values")
    return found


def _walk(node: Node, path: Path) -> Iterator[tuple[Path, Node]]:
    if not node.entries and not node.items:
        yield path, node
    for key, value in node.entries:
        yield from _walk(value, (*path, key.text))
    for index, item in enumerate(node.items):
        yield from _walk(item, (*path, index))


def plain_text(node: Node | None) -> str:
    """Text of a scalar, empty for anything else."""
    return node.text if node is not None and node.form == "scalar" else ""


def block_view(text: str, node: Node) -> str:
    """A text of the same length that holds only the content of a literal block scalar, at its own place.

    Parsing it gives the YAML inside the block with positions in the outer file.
    """
    body = text.find("\n", node.start) + 1
    if node.style != "|" or body == 0 or body > node.end:
        raise ManifestError("an inline patch that is not a literal block")
    return re.sub(r"[^\r\n]", " ", text[:body]) + text[body : node.end]
