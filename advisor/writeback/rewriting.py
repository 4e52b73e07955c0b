"""A change of one container as new text of the files that say it: read what stands there, judge, write.

Of the layers that say something about an object (its definition and the patches over it), the outermost that sets a
field has the last word and is the one changed, unless other objects are built from it too.
"""

import posixpath
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from advisor.dialects import Path, WorkloadChange, pod_template_path
from advisor.writeback.editing import Assignment, Site, assign, open_site, string_token
from advisor.writeback.guard import CHANGE_RATIO_MIN, CurrentValues, Verdict, judge, missing_count
from advisor.writeback.manifests import ManifestError, Node, child, descend, merged_child, plain_text
from advisor.writeback.overlay import Tree, add_patch
from advisor.writeback.workloads import KUSTOMIZATION_NAMES, ManifestObject, Manifests, read_manifests
from egpu_runtime.contract.resources import ADVICE_OFF, ANNOTATION_ADVICE, DIALECTS

SECTIONS: Final = ("limits", "requests")


@dataclass(frozen=True, slots=True)
class Rewritten:
    """New texts of the files that change (path -> text); none when the manifest already says it all."""

    files: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Declined:
    """Why a manifest was left as it is."""

    reason: str
    missing: bool = False
    """True when the container itself was not found."""


@dataclass(frozen=True, slots=True)
class _Layer:
    """One definition or patch, opened: ``base`` is the path of the object's own fields in it."""

    site: Site
    node: Node
    form: str
    sole: bool
    template: Path
    container: Path | None


def rewrite(
    manifests: Manifests,
    found: ManifestObject,
    *,
    change: WorkloadChange,
    files: Mapping[str, str],
    change_ratio_min: float = CHANGE_RATIO_MIN,
) -> Rewritten | Declined:
    """Make one change in ``files``, the tree as earlier changes left it."""
    try:
        layers = _layers(manifests, found, change, files)
        current = _current(layers, change)
        verdict = judge(change, current, change_ratio_min=change_ratio_min)
        if verdict.refusal:
            return Declined(verdict.refusal)
        if verdict.already_applied:
            return Rewritten({})
        try:
            written = _written(files, _pending(layers, change, current, verdict))
        except _SharedError:
            if posixpath.basename(found.entry) not in KUSTOMIZATION_NAMES:
                raise
            written = _overlaid(found, layers, change, _Due(current, verdict, files))
            manifests, found = _read_again({**files, **written}, found)
        after = _current(_layers(manifests, found, change, {**files, **written}), change)
    except _ContainerMissingError as error:
        return Declined(str(error), missing=True)
    except ManifestError as error:
        return Declined(str(error))
    if not judge(change, after, change_ratio_min=change_ratio_min).already_applied:
        return Declined("another patch would have the last word")
    return Rewritten(written)


class _SharedError(ManifestError):
    """The value stands in a layer that other objects are built from too."""


class _ContainerMissingError(ManifestError):
    """The object is there, the container is not."""


def _layers(
    manifests: Manifests, found: ManifestObject, change: WorkloadChange, files: Mapping[str, str]
) -> tuple[_Layer, ...]:
    """Layers of one object, outermost first."""
    name = change.workload.container
    sites = [(found.definition, "object"), *((patch.site, patch.form) for patch in found.patches)]
    template = pod_template_path(found.kind)
    definition = descend(open_site(files[found.definition.file], found.definition).root, found.definition.root)
    original = _container(definition, template, name)
    layers = []
    for site, form in sites:
        if form == "opaque":
            raise ManifestError(f"a patch over it cannot be read ({site.file})")
        node = descend(open_site(files[site.file], site).root, site.root)
        if node is None:
            raise ManifestError(f"{site.file} has changed its shape")
        container = original if form == "json" else _container(node, template, name)
        layers.append(_Layer(site, node, form, manifests.uses[site] == 1, template, container))
    if not any(layer.container for layer in layers):
        raise _ContainerMissingError(f"{found.definition.file} has no container {name}")
    return tuple(reversed(layers))


def _container(node: Node | None, template: Path, name: str) -> Path | None:
    for kind in ("containers", "initContainers"):
        path: Path = (*template, "spec", kind)
        listed = descend(node, path)
        for index, item in enumerate(listed.items if listed is not None else ()):
            if plain_text(child(item, "name")) == name:
                return (*path, index)
    return None


def _in_layer(layer: _Layer, path: Path) -> Path | None:
    """Where a field of the object stands in a layer: itself, or below the value of a JSON operation on its way."""
    if layer.form != "json":
        return path
    wanted = [str(key) for key in path]
    for index, operation in reversed(list(enumerate(layer.node.items))):
        pointer = plain_text(child(operation, "path")).lstrip("/").split("/")
        steps = [step.replace("~1", "/").replace("~0", "~") for step in pointer]
        if plain_text(child(operation, "op")) in {"add", "replace"} and wanted[: len(steps)] == steps:
            return (index, "value", *path[len(steps) :])
    return None


def _read(layer: _Layer, path: Path | None) -> str | None:
    """Text of a field in a layer. Merge keys are followed at its last step; higher up they cannot be overridden."""
    place = None if path is None else _in_layer(layer, path)
    if place is None:
        return None
    node: Node | None = layer.node
    for depth, key in enumerate(place):
        direct = child(node, key)
        if direct is None and isinstance(key, str):
            merged = merged_child(node, key)
            if merged is not None and depth < len(place) - 1:
                raise ManifestError(f"{key} is merged in from an anchor")
            direct = merged
        node = direct
        if node is None:
            return None
    return plain_text(node)


def _resource_path(layer: _Layer, section: str, key: str) -> Path | None:
    return None if layer.container is None else (*layer.container, "resources", section, key)


def _holder(layers: tuple[_Layer, ...], section: str, key: str) -> tuple[int, str] | None:
    """Index of the outermost layer that sets a resource, and its text."""
    for index, layer in enumerate(layers):
        text = _read(layer, _resource_path(layer, section, key))
        if text is not None:
            return index, text
    return None


def _current(layers: tuple[_Layer, ...], change: WorkloadChange) -> CurrentValues:
    keys = {item.key for item in change.resources}
    for dialect in DIALECTS.values():
        keys |= {dialect.count, dialect.memory, dialect.memory_percentage, dialect.cores}
    resources = {}
    for key in keys:
        held = [_holder(layers, section, key) for section in SECTIONS]
        resources[key] = tuple(text for _, text in filter(None, held))
    annotations = {
        item.key: text for item in change.annotations if (text := _annotation_text(layers, item.key)) is not None
    }
    return CurrentValues(resources, annotations, opted_out=any(_opt_outs(layers)))


def _opt_outs(layers: tuple[_Layer, ...]) -> Iterator[bool]:
    for layer in layers:
        for root in {layer.template, ()}:
            for part in ("annotations", "labels"):
                text = _read(layer, (*root, "metadata", part, ANNOTATION_ADVICE))
                yield (text or "").lower() == ADVICE_OFF


def _annotation_text(layers: tuple[_Layer, ...], key: str) -> str | None:
    for layer in layers:
        text = _read(layer, (*layer.template, "metadata", "annotations", key))
        if text is not None:
            return text
    return None


def _pending(
    layers: tuple[_Layer, ...], change: WorkloadChange, current: CurrentValues, verdict: Verdict
) -> list[tuple[Site, Assignment]]:
    order = _order(change)
    pending = []
    for key, value in _wanted(change, current, verdict):
        for section in _sections(layers, key):
            layer, path = _writable(layers, section, key, order)
            container = path[: path.index("resources")] if "resources" in path else path[:-1]
            within = (*container, "resources") if "resources" in path else container
            pending.append((layer.site, Assignment(path, str(value), is_string=False, within=within, order=order)))
    pending += [_annotation(layers, annotation.key, annotation.after) for annotation in verdict.annotations]
    return pending


def _order(change: WorkloadChange) -> tuple[str, ...]:
    dialect = change.dialect
    return (dialect.count, dialect.memory, dialect.memory_percentage, dialect.cores, dialect.priority)


def _wanted(change: WorkloadChange, current: CurrentValues, verdict: Verdict) -> list[tuple[str, int]]:
    wanted = [(item.key, item.after) for item in verdict.resources]
    if wanted and missing_count(change, current):
        wanted.insert(0, (change.dialect.count, 1))
    return wanted


def _sections(layers: tuple[_Layer, ...], key: str) -> tuple[str, ...]:
    """Of limits and requests those that hold a resource; limits when none does, as Kubernetes defaults requests."""
    return tuple(section for section in SECTIONS if _holder(layers, section, key) is not None) or SECTIONS[:1]


@dataclass(frozen=True, slots=True)
class _Due:
    """What a manifest says, what of a change is left to do, and the tree it is done in."""

    current: CurrentValues
    verdict: Verdict
    files: Mapping[str, str]


def _overlaid(found: ManifestObject, layers: tuple[_Layer, ...], change: WorkloadChange, due: _Due) -> dict[str, str]:
    """The change as a new patch of the kustomization that the object is deployed from."""
    definition = layers[-1]
    template: dict[str, Tree] = {}
    if due.verdict.annotations:
        annotations = {item.key: string_token(item.after) for item in due.verdict.annotations}
        template["metadata"] = {"annotations": annotations}
    resources: dict[str, dict[str, str]] = {}
    for key, value in _wanted(change, due.current, due.verdict):
        for section in _sections(layers, key):
            resources.setdefault(section, {})[key] = str(value)
    if resources and definition.container is not None:
        listed = str(definition.container[-2])
        template["spec"] = {listed: [{"name": change.workload.container, "resources": resources}]}
    body: Tree = template
    for step in reversed(definition.template):
        body = {str(step): body}
    name = found.names[0]
    head = {"apiVersion": plain_text(child(definition.node, "apiVersion")), "kind": found.kind}
    metadata: Tree = {"name": name, **_mapping(body.get("metadata"))}
    patch: Tree = {**head, "metadata": metadata, **{key: value for key, value in body.items() if key != "metadata"}}
    text = add_patch(due.files[found.entry], target=(found.kind, name), patch=patch)
    return {found.entry: text}


def _read_again(files: Mapping[str, str], found: ManifestObject) -> tuple[Manifests, ManifestObject]:
    """The tree with a patch more, and the same object in it: other patches may still come after the new one."""
    manifests = read_manifests(files)
    for each in manifests.objects:
        if (each.definition, each.entry, each.names) == (found.definition, found.entry, found.names):
            return manifests, each
    raise ManifestError("it is gone with the new patch")


def _mapping(value: object) -> Mapping[str, Tree]:
    return value if isinstance(value, Mapping) else {}


def _writable(layers: tuple[_Layer, ...], section: str, key: str, order: tuple[str, ...]) -> tuple[_Layer, Path]:
    """The layer to write a resource in, and its path there."""
    holder = _holder(layers, section, key)
    if holder is None:
        beside = [found for each in order if (found := _holder(layers, section, each)) is not None]
        holder = min(beside, default=None)
    start = len(layers) - 1 if holder is None else holder[0]
    candidates = layers[start::-1] if holder is not None else layers
    for layer in candidates:
        path = _resource_path(layer, section, key)
        place = None if path is None else _in_layer(layer, path)
        if layer.sole and place is not None:
            return layer, place
    raise _SharedError(f"{layers[start].site.file} also makes other objects, and no patch is this workload's alone")


def _annotation(layers: tuple[_Layer, ...], key: str, value: str) -> tuple[Site, Assignment]:
    path: Path = (*layers[0].template, "metadata", "annotations", key)
    setters = [layer for layer in layers if _read(layer, path) is not None]
    usable = setters or [layer for layer in layers if layer.form != "json"]
    for layer in usable:
        place = _in_layer(layer, path)
        if layer.sole and place is not None:
            within = place[:-1] if setters else (*layer.template, "metadata")
            return layer.site, Assignment(place, value, is_string=True, within=within)
    raise _SharedError(f"{layers[-1].site.file} also makes other objects, and no patch is this workload's alone")


def _written(files: Mapping[str, str], pending: list[tuple[Site, Assignment]]) -> dict[str, str]:
    changed: dict[str, str] = {}
    by_site: dict[Site, list[Assignment]] = {}
    for site, assignment in pending:
        by_site.setdefault(site, []).append(assignment)
    for site, assignments in by_site.items():
        text = changed.get(site.file, files[site.file])
        changed[site.file] = assign(text, site, assignments=assignments)
    return {file: text for file, text in changed.items() if text != files[file]}
