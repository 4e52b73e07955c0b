"""Change one value of a YAML text, or add one key in the text's own style; every other character stays.

A :class:`Site` says where an object stands: file, document, path inside it and, for a patch written inside a
kustomization, the literal block that holds it. Sites hold no positions, so they stay true while the text changes.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from advisor.dialects import Path
from advisor.writeback.manifests import (
    Document,
    ManifestError,
    Node,
    block_view,
    child,
    descend,
    is_empty,
    leaves,
    parse,
)

INDENT_DEFAULT: Final = 2
"""Columns of one level where a document shows none of its own."""

KEY_ORDER: Final = (
    ("apiVersion", "kind", "metadata", "spec"),
    ("name", "namespace", "labels", "annotations"),
    ("name", "image", "imagePullPolicy", "command", "args", "workingDir", "ports", "envFrom", "env", "resources"),
    ("limits", "requests"),
)
"""Orders in which people write sibling keys; a new key goes behind the last of those that come before it."""

_REST_OF_ENTRY = re.compile(r"[ \t]*(?P<comma>,?)[ \t]*(?:#[^\r\n]*)?(?=\r?\n)")
_PLAIN_STRING = re.compile(r"(?!(?:true|false|yes|no|on|off|null|y|n)$)[A-Za-z][A-Za-z0-9._/-]*", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Site:
    """Where an object or a patch stands. ``inline`` is the path of the literal block around it, if there is one."""

    file: str
    document: int
    root: Path = ()
    inline: Path | None = None


@dataclass(frozen=True, slots=True)
class Assignment:
    """One value to set at ``path`` below a site's root.

    ``within`` (also below the root) is what an anchor may be shared in and still be changed: a container's
    resources, say, where limits and requests are often one mapping. ``order`` ranks the new key among its siblings.
    """

    path: Path
    text: str
    is_string: bool
    within: Path
    order: Sequence[str] = ()


def open_site(text: str, site: Site) -> Document:
    """The document in which a site stands, with positions in ``text``."""
    documents = parse(text)
    if site.document >= len(documents):
        raise ManifestError(f"document {site.document + 1} is gone")
    outer = documents[site.document]
    if site.inline is None:
        return outer
    block = descend(outer.root, site.inline)
    if block is None:
        raise ManifestError("the inline patch is gone")
    return parse(block_view(text, block))[0]


def assign(text: str, site: Site, *, assignments: Sequence[Assignment]) -> str:
    """The text with all values set; raises ManifestError rather than change anything else.

    Afterwards the whole text is parsed again and compared value by value with what it was.
    """
    changed = text
    allowed: dict[Path, str | None] = {}
    for assignment in assignments:
        document = open_site(changed, site)
        path = (*site.root, *assignment.path)
        allowed |= dict.fromkeys(_places(document, path, (*site.root, *assignment.within)), assignment.text)
        changed = _put(changed, document, replace(assignment, path=path))
    _verify(text, changed, site, allowed)
    return changed


def _places(document: Document, path: Path, within: Path) -> list[Path]:
    """Every path that names the same value as ``path`` through anchors; refuses anchors shared beyond ``within``."""
    found = [path]
    for depth in range(len(path) + 1):
        for place in document.shared.get(path[:depth], ()):
            if place[: len(within)] != within or depth < len(within):
                line = ".".join(str(part) for part in path[:depth])
                raise ManifestError(f"{line} is an anchor that other places share")
            found.append((*place, *path[depth:]))
    return found


def _verify(before: str, after: str, site: Site, allowed: Mapping[Path, str | None]) -> None:
    old, new = parse(before), parse(after)
    if len(old) != len(new):
        raise ManifestError("the number of documents would change")
    for index, (was, now) in enumerate(zip(old, new, strict=True)):
        here = index == site.document
        if here and site.inline is not None:
            _compare(was, now, {site.inline: None})
        else:
            _compare(was, now, allowed if here else {})
    if site.inline is not None:
        _compare(open_site(before, site), open_site(after, site), allowed)


def _compare(was: Document, now: Document, allowed: Mapping[Path, str | None]) -> None:
    old, new = leaves(was.root), leaves(now.root)
    for path in old.keys() - new.keys():
        if old[path][1] not in {"", "~", "null"} or not any(path == target[: len(path)] for target in allowed):
            raise ManifestError(f"{_dotted(path)} would vanish")
    for path, (tag, value) in new.items():
        if old.get(path) == (tag, value):
            continue
        if path not in allowed or allowed[path] not in {None, value}:
            raise ManifestError(f"{_dotted(path)} would change too")


def _dotted(path: Path) -> str:
    return ".".join(str(part) for part in path)


def _put(text: str, document: Document, assignment: Assignment) -> str:
    parents: list[Node] = [document.root]
    for key in assignment.path:
        below = child(parents[-1], key)
        if below is None:
            break
        parents.append(below)
    depth = len(parents) - 1
    missing = [str(key) for key in assignment.path[depth:]]
    node = parents[-1]
    if not missing:
        return _splice(text, node.start, node.end, _replacement(node, assignment))
    if any(isinstance(key, int) for key in assignment.path[depth:]):
        raise ManifestError(f"{_dotted(assignment.path[: depth + 1])} is not there")
    if node.form == "mapping" and node.entries:
        return _add_beside(text, document, node, _New(missing, assignment, parents))
    if is_empty(node):
        key_node = _key_of(parents[-2], node)
        return _fill_empty(text, document, (key_node, node), _New(missing, assignment, parents))
    raise ManifestError(f"{_dotted(assignment.path[:depth])} is not a mapping")


def _splice(text: str, start: int, end: int, replacement: str) -> str:
    return text[:start] + replacement + text[end:]


def _replacement(node: Node, assignment: Assignment) -> str:
    if node.form != "scalar" or node.style in {"|", ">"}:
        raise ManifestError(f"{_dotted(assignment.path)} is not a simple value")
    if node.start == node.end:
        raise ManifestError(f"{_dotted(assignment.path)} is empty")
    return _token(assignment, node.style)


def _token(assignment: Assignment, style: str) -> str:
    return string_token(assignment.text, style) if assignment.is_string else f"{style}{assignment.text}{style}"


def string_token(text: str, style: str = "") -> str:
    """A text as YAML writes it with these quotes; without any where that is still a text, else with double ones."""
    quote = style or ("" if _PLAIN_STRING.fullmatch(text) else '"')
    return f"{quote}{text}{quote}"


@dataclass(frozen=True, slots=True)
class _New:
    """Keys that are missing below the last of ``parents``."""

    keys: Sequence[str]
    assignment: Assignment
    parents: Sequence[Node]

    def flow(self, quote: str, value: str, colon: str = ": ") -> str:
        """The keys and the value as a flow entry: ``a: {b: 1}``."""
        body = value
        for key in reversed(self.keys[1:]):
            body = f"{{{quote}{key}{quote}{colon}{body}}}"
        return f"{quote}{self.keys[0]}{quote}{colon}{body}"

    def block(self, quote: str, value: str, layout: tuple[str, int, int]) -> str:
        """The keys and the value as block lines; the first line has no indent. Layout: line end, column, step."""
        eol, column, step = layout
        lines = [f"{' ' * step * depth}{quote}{key}{quote}:" for depth, key in enumerate(self.keys)]
        return f"{eol}{' ' * column}".join(lines) + f" {value}"


def _add_beside(text: str, document: Document, mapping: Node, new: _New) -> str:
    key_quote = _common({key.style for key, _ in mapping.entries})
    value = _token(new.assignment, _value_style(mapping, new))
    index = _position(mapping, new)
    if mapping.flow:
        colon = ":" if key_quote and _is_tight(*mapping.entries[0]) else ": "
        return _add_to_flow(text, mapping, index, new.flow(key_quote, value, colon))
    nested_in_flow = len(new.keys) > 1 and _siblings_are_flow(mapping)
    layout = (line_end(text), mapping.column, _step(document.root))
    body = new.flow(key_quote, value) if nested_in_flow else new.block(key_quote, value, layout)
    margin = layout[0] + " " * mapping.column
    if index == 0:
        return _splice(text, mapping.entries[0][0].start, mapping.entries[0][0].start, body + margin)
    at = end_of_line(text, content_end(text, mapping.entries[index - 1]))
    return _splice(text, at, at, margin + body)


def _add_to_flow(text: str, mapping: Node, index: int, body: str) -> str:
    first, first_value = mapping.entries[0]
    comma = "," if _is_tight(first, first_value) else ", "
    if index == 0:
        return _splice(text, first.start, first.start, f"{body}{comma}")
    key, _ = mapping.entries[index - 1]
    at = content_end(text, mapping.entries[index - 1])
    line_start = max(text.rfind("\n", 0, key.start), text.rfind("\r", 0, key.start)) + 1
    margin = line_end(text) + text[line_start : key.start]
    rest = _REST_OF_ENTRY.match(text, at)
    if rest is None or margin.strip() or mapping.start >= line_start:
        return _splice(text, at, at, f"{comma}{body}")
    # An entry on a line of its own, maybe with a comment: the new one gets a line below.
    if rest["comma"]:
        return _splice(text, rest.end(), rest.end(), f"{margin}{body},")
    return _splice(text, at, rest.end(), f",{rest.group()}{margin}{body}")


def _is_tight(key: Node, value: Node) -> bool:
    """True for JSON without blanks, ``"key":1``."""
    return value.start == key.end + 1


def _fill_empty(text: str, document: Document, entry: tuple[Node, Node], new: _New) -> str:
    """Give content to ``key:``, ``key: null`` or ``key: {}``."""
    key, empty = entry
    value = _token(new.assignment, _value_style(empty, new))
    in_flow = any(parent.flow for parent in new.parents[:-1])
    if empty.form == "scalar" and empty.start == empty.end and not in_flow:
        step = _step(document.root)
        layout = (line_end(text), key.column + step, step)
        at = end_of_line(text, key.end)
        return _splice(text, at, at, layout[0] + " " * layout[1] + new.block("", value, layout))
    body = "{" + new.flow(key.style, value) + "}"
    gap = "" if empty.start != empty.end or text[empty.start - 1] == " " else " "
    return _splice(text, empty.start, empty.end, gap + body)


def _key_of(parent: Node, value: Node) -> Node:
    for key, entry in parent.entries:
        if entry is value:
            return key
    raise ManifestError("an empty item of a list")


def _position(mapping: Node, new: _New) -> int:
    """Index at which a new key is written: behind its last known predecessor, else before its first successor."""
    key = new.keys[0]
    names = [name.text for name, _ in mapping.entries]
    for order in (new.assignment.order, *KEY_ORDER):
        if key not in order:
            continue
        rank = list(order).index(key)
        before = [index for index, name in enumerate(names) if name in order[:rank]]
        after = [index for index, name in enumerate(names) if name in order[rank + 1 :]]
        if before:
            return before[-1] + 1
        if after:
            return after[0]
    return len(names)


def _value_style(parent: Node, new: _New) -> str:
    """Quote of the neighbours' values: of the numbers among them for a number, where there are any."""
    if len(new.keys) > 2:
        return ""
    neighbours = _scalars(parent)
    numbers = [leaf for leaf in neighbours if leaf.text.isdigit()]
    chosen = neighbours if new.assignment.is_string or not numbers else numbers
    return _common({leaf.style for leaf in chosen})


def _scalars(node: Node) -> list[Node]:
    children = [value for _, value in node.entries]
    nested = [leaf for value in children if value.form == "mapping" for _, leaf in value.entries]
    return [leaf for leaf in children + nested if leaf.form == "scalar" and leaf.style in {"", "'", '"'}]


def _common(styles: set[str]) -> str:
    return next(iter(styles)) if len(styles) == 1 else ""


def _siblings_are_flow(mapping: Node) -> bool:
    nested = [value.flow for _, value in mapping.entries if value.form == "mapping" and value.entries]
    return bool(nested) and all(nested)


def _step(root: Node) -> int:
    """Columns of one level in this document: the most frequent one between a key and the mapping below it."""
    steps: dict[int, int] = {}
    waiting = [root]
    seen: set[int] = set()
    while waiting:
        node = waiting.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        waiting += [value for _, value in node.entries] + list(node.items)
        for key, value in node.entries:
            step = value.column - key.column
            if value.form == "mapping" and value.entries and not value.flow and step > 0:
                steps[step] = steps.get(step, 0) + 1
    return max(steps, key=lambda step: steps[step]) if steps else INDENT_DEFAULT


def content_end(text: str, entry: tuple[Node, Node]) -> int:
    """Position behind the last character of an entry, its comments not counted."""
    key, value = entry
    if value.start < key.end:
        # An alias: the node stands at its anchor, earlier in the file; the alias itself ends with its line.
        match = re.compile(r"[^#\r\n,}]*").match(text, key.end)
        return match.end() if match else key.end
    if value.flow or (value.form == "scalar" and value.style not in {"|", ">"}):
        return max(value.end, key.end)
    if value.form == "scalar":
        return value.start + len(text[value.start : value.end].rstrip())
    if value.entries:
        return content_end(text, value.entries[-1])
    if value.items and value.items[-1].start < value.start:
        # The last item is an alias: the list ends with its last line that is no comment.
        lines = text[value.start : value.end].splitlines(keepends=True)
        while lines[1:] and (not lines[-1].strip() or lines[-1].lstrip().startswith("#")):
            lines.pop()
        return value.start + len("".join(lines).rstrip())
    if value.items:
        return content_end(text, (key, value.items[-1]))
    return value.end


def end_of_line(text: str, position: int) -> int:
    """Position of the line end that follows, before a carriage return that belongs to it."""
    end = text.find("\n", position)
    end = len(text) if end < 0 else end
    return end - 1 if end > position and text[end - 1] == "\r" else end


def line_end(text: str) -> str:
    """The line end that this text uses."""
    return "\r\n" if "\r\n" in text else "\n"
