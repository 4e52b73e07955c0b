"""Find a workload in a tree of manifests: plain objects, lists, and what kustomize builds out of bases and patches.

An object is known by its effective name and namespace; it remembers where it is defined and which patches lie over
it, so that a value is changed in the layer that has the last word.
"""

import posixpath
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, Literal

from advisor.contract import WorkloadKey
from advisor.dialects import Path, pod_template_path
from advisor.writeback.editing import Site, open_site
from advisor.writeback.manifests import (
    Document,
    ManifestError,
    Node,
    child,
    descend,
    parse,
    plain_text,
)

KUSTOMIZATION_NAMES: Final = frozenset({"kustomization.yaml", "kustomization.yml", "Kustomization"})

PatchForm = Literal["merge", "json", "opaque"]


@dataclass(frozen=True, slots=True)
class Patch:
    """One patch over an object: a strategic-merge object, a JSON 6902 list, or one that cannot be read."""

    site: Site
    form: PatchForm


@dataclass(frozen=True, slots=True)
class ManifestObject:
    """One object as it reaches the cluster. ``names`` grows with each prefix and suffix; the last one counts.

    ``patches`` are innermost first; ``entry`` is the file or kustomization a deployment starts from.
    """

    kind: str
    names: tuple[str, ...]
    namespace: str
    definition: Site
    entry: str
    patches: tuple[Patch, ...] = ()


@dataclass(frozen=True, slots=True)
class Manifests:
    """All objects of a tree, how many objects use each site, and the files that could not be read (file -> why)."""

    files: Mapping[str, str]
    objects: tuple[ManifestObject, ...]
    uses: Mapping[Site, int]
    unreadable: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class NotFound:
    """Why a workload's manifest was not found."""

    reason: str


def read_manifests(files: Mapping[str, str]) -> Manifests:
    """Index a tree given as path -> text; paths are relative, with slashes."""
    reader = _Reader(files)
    objects = tuple(reader.objects())
    uses = Counter(site for each in objects for site in (each.definition, *(patch.site for patch in each.patches)))
    return Manifests(files, objects, uses, reader.unreadable)


def find(manifests: Manifests, workload: WorkloadKey, *, folder: str) -> ManifestObject | NotFound:
    """The one object that is this workload, among those deployed from inside ``folder`` ("" = everywhere).

    An object without a namespace stands for any, as long as it is the only one; several clusters in one tree are
    told apart by a folder of the cluster's name.
    """
    named = [
        each
        for each in manifests.objects
        if each.kind == workload.kind and each.names[-1] == workload.name and is_inside(each.entry, folder)
    ]
    matches = [each for each in named if each.namespace == workload.namespace]
    matches = matches or [each for each in named if not each.namespace]
    if len(matches) > 1:
        matches = [each for each in matches if workload.cluster in each.entry.split("/")] or matches
    if len(matches) == 1:
        return matches[0]
    if matches:
        places = ", ".join(sorted({each.entry for each in matches}))
        return NotFound(f"{len(matches)} manifests match: {places}")
    return NotFound(_why_not(manifests, workload, [each.namespace for each in named]))


def is_inside(path: str, folder: str) -> bool:
    """True when a file lies in a folder or below it; the empty folder holds everything."""
    return not folder or path == folder or path.startswith(folder.rstrip("/") + "/")


def _why_not(manifests: Manifests, workload: WorkloadKey, namespaces: Sequence[str]) -> str:
    if namespaces:
        return f"{workload.kind} {workload.name} is there in namespace {', '.join(sorted(set(namespaces)))} only"
    for file, reason in manifests.unreadable.items():
        if workload.name in manifests.files[file]:
            return f"{file} names it, but is {reason}"
    templates = [file for file, reason in manifests.unreadable.items() if reason == HELM_REASON]
    hint = f" ({len(templates)} Helm templates were not read, the first is {templates[0]})" if templates else ""
    return f"no manifest defines it{hint}"


HELM_REASON: Final = "a Helm template: change the chart's values instead"


@dataclass
class _Reader:
    """Reads a tree once; what is unreadable is noted, never raised, unless a workload needs it."""

    files: Mapping[str, str]
    unreadable: dict[str, str] = field(default_factory=dict)
    folders: dict[str, Site] = field(default_factory=dict)
    rendered: dict[str, tuple[ManifestObject, ...]] = field(default_factory=dict)
    referenced: set[str] = field(default_factory=set)

    def objects(self) -> Iterator[ManifestObject]:
        """Objects of every kustomization that no other one includes, then those of files that none mentions."""
        for file in sorted(self.files):
            if posixpath.basename(file) in KUSTOMIZATION_NAMES and self.documents(file):
                self.folders[posixpath.dirname(file)] = Site(file, 0)
        for folder in self.folders:
            self.render(folder, ())
        for folder in sorted(self.folders.keys() - self.referenced):
            entry = self.folders[folder].file
            for each in self.rendered[folder]:
                yield replace(each, entry=entry)
        for file in sorted(self.files):
            if file not in self.referenced and posixpath.basename(file) not in KUSTOMIZATION_NAMES:
                yield from self.defined_in(file)

    def documents(self, file: str) -> tuple[Document, ...]:
        text = self.files.get(file, "")
        try:
            return parse(text)
        except ManifestError as error:
            self.unreadable[file] = HELM_REASON if "{{" in text else str(error)
            return ()

    def defined_in(self, file: str) -> Iterator[ManifestObject]:
        """Objects that one file defines, the members of a List too."""
        text = self.files.get(file, "")
        if "kind" not in text or "containers" not in text:
            return
        for index, document in enumerate(self.documents(file)):
            items = child(document.root, "items")
            roots: list[Path] = [()]
            if plain_text(child(document.root, "kind")).endswith("List") and items is not None:
                roots = [("items", number) for number in range(len(items.items))]
            for root in roots:
                node = descend(document.root, root)
                kind, name = plain_text(child(node, "kind")), plain_text(descend(node, ("metadata", "name")))
                if name and descend(node, (*pod_template_path(kind), "spec")) is not None:
                    namespace = plain_text(descend(node, ("metadata", "namespace")))
                    yield ManifestObject(kind, (name,), namespace, Site(file, index, root), entry=file)

    def render(self, folder: str, inside: tuple[str, ...]) -> tuple[ManifestObject, ...]:
        """Objects of one kustomization, patched and renamed; a folder that includes itself is cut there."""
        if folder in inside or folder not in self.folders:
            return ()
        if folder not in self.rendered:
            self.rendered[folder] = self.build(folder, (*inside, folder))
        return self.rendered[folder]

    def build(self, folder: str, inside: tuple[str, ...]) -> tuple[ManifestObject, ...]:
        site = self.folders[folder]
        root = self.documents(site.file)[0].root
        objects: list[ManifestObject] = []
        for key in ("resources", "bases"):
            for entry in _texts(child(root, key)):
                objects += self.resource(posixpath.normpath(posixpath.join(folder, entry)), inside)
        for entry in _texts(child(root, "components")):
            component = posixpath.normpath(posixpath.join(folder, entry))
            self.referenced.add(component)
            objects += self.render(component, inside)
            objects = self.patched(component, objects) if component in self.folders else objects
        objects = self.patched(folder, objects)
        prefix, suffix = plain_text(child(root, "namePrefix")), plain_text(child(root, "nameSuffix"))
        namespace = plain_text(child(root, "namespace"))
        return tuple(
            replace(
                each,
                names=(*each.names, f"{prefix}{each.names[-1]}{suffix}"),
                namespace=namespace or each.namespace,
            )
            for each in objects
        )

    def resource(self, path: str, inside: tuple[str, ...]) -> tuple[ManifestObject, ...]:
        self.referenced.add(path)
        if path in self.files:
            return tuple(self.defined_in(path))
        return self.render("" if path == "." else path, inside)

    def patched(self, folder: str, objects: list[ManifestObject]) -> list[ManifestObject]:
        for patch, target in self.patches(folder):
            node = None if patch.form == "opaque" else self.node(patch.site)
            objects = [
                replace(each, patches=(*each.patches, patch)) if _hits(node, target, each) else each for each in objects
            ]
        return objects

    def node(self, site: Site) -> Node | None:
        return descend(open_site(self.files[site.file], site).root, site.root)

    def patches(self, folder: str) -> Iterator[tuple[Patch, Node | None]]:
        """Patches of one kustomization in the order kustomize applies them, each with its target selector."""
        site = self.folders[folder]
        root = self.documents(site.file)[0].root
        for key in ("patchesStrategicMerge", "patches", "patchesJson6902"):
            entries = child(root, key)
            for index, item in enumerate(entries.items if entries is not None else ()):
                target = child(item, "target")
                own: Path = (key, index)
                named = item if item.form == "scalar" and "\n" not in item.text else child(item, "path")
                if named is not None:
                    path = posixpath.normpath(posixpath.join(folder, named.text))
                    self.referenced.add(path)
                    yield from ((patch, target) for patch in self.patches_in_file(path))
                else:
                    inline = own if item.form == "scalar" else (*own, "patch")
                    yield self.inline_patch(replace(site, inline=inline)), target

    def patches_in_file(self, file: str) -> Iterator[Patch]:
        documents = self.documents(file)
        if not documents:
            yield Patch(Site(file, 0), "opaque")
        for index, document in enumerate(documents):
            yield Patch(Site(file, index), "json" if document.root.form == "sequence" else "merge")

    def inline_patch(self, site: Site) -> Patch:
        try:
            root = open_site(self.files[site.file], site).root
        except (ManifestError, IndexError):
            return Patch(site, "opaque")
        return Patch(site, "json" if root.form == "sequence" else "merge")


def _texts(node: Node | None) -> list[str]:
    return [item.text for item in node.items if item.form == "scalar"] if node is not None else []


def _hits(patch: Node | None, target: Node | None, each: ManifestObject) -> bool:
    """True when a patch applies to an object: by its target's kind and name, else by its own.

    Selectors over labels are not read, so such a patch counts for every object its other fields admit.
    """
    if target is not None:
        kind, name = plain_text(child(target, "kind")), plain_text(child(target, "name"))
        return (not kind or kind == each.kind) and (not name or any(_matches(name, known) for known in each.names))
    if patch is None:
        return True
    kind, name = plain_text(child(patch, "kind")), plain_text(descend(patch, ("metadata", "name")))
    return kind == each.kind and name in each.names


def _matches(pattern: str, name: str) -> bool:
    try:
        return re.fullmatch(pattern, name) is not None
    except re.error:
        return False
