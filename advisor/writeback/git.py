"""A plan as commits on a branch of a git checkout, by the git program.

Trees and commits are written straight into the repository with an index of their own, and the branch appears in one
atomic step at the end: the user's working tree, index and current branch are never touched, and a run that is killed
leaves nothing but unreachable objects for git's own clean-up. Bytes are those git stores, so line ends stay as they
are whatever the checkout does with them.
"""

import difflib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from advisor.contract import Plan, WorkloadKey
from advisor.dialects import WorkloadChange, changes_of
from advisor.writeback.evidence import message, subject
from advisor.writeback.guard import CHANGE_RATIO_MIN
from advisor.writeback.rewriting import Declined, rewrite
from advisor.writeback.workloads import KUSTOMIZATION_NAMES, NotFound, find, read_manifests
from egpu_runtime.contract.process import Failure
from egpu_runtime.contract.resources import DialectName

AUTHOR_NAME: Final = "egpu-advisor"
AUTHOR_EMAIL: Final = "egpu-advisor@localhost"
"""Author where git's configuration names none."""

FILE_BYTES_MAX: Final = 2 << 20
"""Larger files are no hand-written manifests and are not read."""

_MANIFEST_ENDINGS: Final = (".yaml", ".yml", ".json")
_ABSENT_REF: Final = "0" * 40
_MISLEADING_VARIABLES: Final = frozenset({"GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_PREFIX"})


@dataclass(frozen=True, slots=True)
class ApplyRequest:
    """What to apply where: ``manifests`` is a folder of a git checkout; no ``branch`` means ``egpu/plan-<id>``."""

    manifests: Path
    branch: str | None
    dialect: DialectName
    dry_run: bool
    change_ratio_min: float = CHANGE_RATIO_MIN


@dataclass(frozen=True, slots=True)
class Commit:
    """One commit made for one workload; in a dry run ``sha`` is empty."""

    sha: str
    subject: str
    workload: WorkloadKey


@dataclass(frozen=True, slots=True)
class Unapplied:
    """A workload whose manifest was left as it is, and why."""

    workload: WorkloadKey
    reason: str


@dataclass(frozen=True, slots=True)
class ApplyResult:
    """What was done: ``text`` for stdout is the unified diff of a dry run, else the branch and one line a commit."""

    text: str
    branch: str
    commits: tuple[Commit, ...]
    not_found: tuple[Unapplied, ...]
    already_applied: tuple[WorkloadKey, ...]
    refused: tuple[Unapplied, ...]

    @property
    def notes(self) -> str:
        """What was not done, one line each with its reason: for stderr."""
        lines = [f"not found: {each.workload}: {each.reason}" for each in self.not_found]
        lines += [f"refused: {each.workload}: {each.reason}" for each in self.refused]
        lines += [f"already applied: {workload}" for workload in self.already_applied]
        return "".join(f"{line}\n" for line in lines)


@dataclass(frozen=True, slots=True)
class _Step:
    """One workload's change as new texts of files."""

    change: WorkloadChange
    files: Mapping[str, str]


def apply_plan(plan: Plan, request: ApplyRequest) -> ApplyResult:
    """Write a plan to a branch, or show it as a diff. Raises Failure with one sentence when the checkout is unfit.

    A branch that exists is taken as what an earlier run left: a plan that stands there already is a no-op, anything
    else is a failure. A dry run asks the same questions and writes nothing.
    """
    repository = _Repository.of(request.manifests)
    branch = request.branch or f"egpu/plan-{plan.plan_id}"
    repository.require_fit(branch)
    tip = repository.resolve(f"refs/heads/{branch}")
    source = tip or repository.resolve("HEAD")
    if not source:
        raise Failure(f"{request.manifests} is in a git repository without a commit")
    files = repository.read_manifests(source)
    changes, unwritable = changes_of(plan, request.dialect)
    outcome = _Outcome([], [], [], [Unapplied(each.workload, each.reason) for each in unwritable])
    after = outcome.work_out(changes, files, folder=repository.folder, change_ratio_min=request.change_ratio_min)
    if tip and outcome.steps:
        raise Failure(f"branch {branch} exists and does not hold this plan: name another one with --branch")
    if request.dry_run or not outcome.steps:
        commits = [Commit("", subject(step.change), step.change.workload) for step in outcome.steps]
        text = "".join(_diff(files, after))
    else:
        commits = repository.commit(branch, source, [(step, message(step.change, plan)) for step in outcome.steps])
        text = "".join([f"branch {branch}\n", *(f"{commit.sha[:10]} {commit.subject}\n" for commit in commits)])
    return ApplyResult(
        text,
        branch,
        tuple(commits),
        tuple(outcome.not_found),
        tuple(outcome.already_applied),
        tuple(outcome.refused),
    )


@dataclass(frozen=True, slots=True)
class _Outcome:
    """What became of each change, in the plan's order."""

    steps: list[_Step]
    not_found: list[Unapplied]
    already_applied: list[WorkloadKey]
    refused: list[Unapplied]

    def work_out(
        self, changes: Sequence[WorkloadChange], files: Mapping[str, str], *, folder: str, change_ratio_min: float
    ) -> Mapping[str, str]:
        """Make every change in memory; returns the tree as the last one leaves it."""
        manifests = read_manifests(files)
        after = dict(files)
        for change in changes:
            found = find(manifests, change.workload, folder=folder)
            if isinstance(found, NotFound):
                self.not_found.append(Unapplied(change.workload, found.reason))
                continue
            result = rewrite(manifests, found, change=change, files=after, change_ratio_min=change_ratio_min)
            if isinstance(result, Declined):
                place = self.not_found if result.missing else self.refused
                place.append(Unapplied(change.workload, result.reason))
            elif not result.files:
                self.already_applied.append(change.workload)
            else:
                self.steps.append(_Step(change, result.files))
                after |= result.files
        return after


def _diff(before: Mapping[str, str], after: Mapping[str, str]) -> Iterator[str]:
    for file in sorted(after):
        if before[file] == after[file]:
            continue
        yield f"diff --git a/{file} b/{file}\n"
        for line in difflib.unified_diff(_lines(before[file]), _lines(after[file]), f"a/{file}", f"b/{file}"):
            yield line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n"


def _lines(text: str) -> list[str]:
    """Lines as git counts them: only a line feed ends one."""
    lines = [f"{line}\n" for line in text.split("\n")]
    last = lines.pop()[:-1]
    return [*lines, last] if last else lines


class _Repository:
    """One git checkout, addressed by its top folder; ``folder`` is where the manifests lie below it."""

    def __init__(self, top: Path, folder: str, manifests: Path) -> None:
        self._top = top
        self._manifests = manifests
        self.folder = folder

    @classmethod
    def of(cls, manifests: Path) -> "_Repository":
        if shutil.which("git") is None:
            raise Failure("git was not found: apply needs the git program")
        if not manifests.is_dir():
            raise Failure(f"{manifests} is not a folder")
        probe = cls(manifests, "", manifests)
        asked = probe._run(["rev-parse", "--show-toplevel", "--show-prefix"], check=False)
        if asked.returncode != 0:
            raise Failure(f"{manifests} is not in a git work tree ({_first_line(asked.stderr)})")
        top, _, prefix = asked.stdout.decode().partition("\n")
        return cls(Path(top), prefix.strip("\n").rstrip("/"), manifests)

    def _run(
        self,
        arguments: Sequence[str],
        *,
        check: bool = True,
        given: bytes = b"",
        environment: Mapping[str, str] | None = None,
    ) -> subprocess.CompletedProcess[bytes]:
        result = subprocess.run(
            ["git", "-C", str(self._top), *arguments],
            input=given,
            capture_output=True,
            check=False,
            env={**_environment(), **(environment or {})},
        )
        if check and result.returncode != 0:
            raise Failure(f"git {arguments[0]} failed: {_first_line(result.stderr)}")
        return result

    def require_fit(self, branch: str) -> None:
        """Raise Failure for a bad branch name or for changes in the manifests that no commit holds."""
        if self._run(["check-ref-format", "--branch", branch], check=False).returncode != 0:
            raise Failure(f"{branch!r} is not a branch name")
        asked = self._run(["status", "--porcelain", "-z", "--no-renames", "-uall", "--", self.folder or "."])
        for entry in filter(None, asked.stdout.decode(errors="replace").split("\0")):
            state, path = entry[:2], entry[3:]
            if state != "??" or _is_manifest(path):
                raise Failure(f"{self._manifests} has changes that are not committed, {path} among them")

    def resolve(self, name: str) -> str:
        """The commit a name stands for, empty when there is none."""
        asked = self._run(["rev-parse", "--verify", "--quiet", f"{name}^{{commit}}"], check=False)
        return asked.stdout.decode().strip()

    def read_manifests(self, commit: str) -> dict[str, str]:
        """Every YAML or JSON file of a commit that is text, path -> text; links and huge files are left out."""
        listed = self._run(["ls-tree", "-r", "-z", "--long", commit]).stdout.decode(errors="surrogateescape")
        wanted = []
        for entry in filter(None, listed.split("\0")):
            head, _, path = entry.partition("\t")
            mode, form, blob, size = head.split()
            if form == "blob" and mode != "120000" and _is_manifest(path) and int(size) <= FILE_BYTES_MAX:
                wanted.append((path, blob))
        batch = self._run(["cat-file", "--batch"], given="".join(f"{blob}\n" for _, blob in wanted).encode()).stdout
        files = {}
        position = 0
        for path, _ in wanted:
            head_end = batch.index(b"\n", position)
            content_end = head_end + 1 + int(batch[position:head_end].split()[2])
            content = batch[head_end + 1 : content_end]
            position = content_end + 1
            text = _decoded(content)
            if text is not None:
                files[path] = text
        return files

    def commit(self, branch: str, source: str, steps: Sequence[tuple[_Step, str]]) -> list[Commit]:
        """One commit a step on top of ``source``; the branch is created last, and only if it still does not exist."""
        commits = []
        with tempfile.TemporaryDirectory(prefix="egpu-apply-") as scratch:
            environment = {**self._author(), "GIT_INDEX_FILE": str(Path(scratch) / "index")}
            self._run(["read-tree", source], environment=environment)
            parent = source
            for step, text in steps:
                for file, content in step.files.items():
                    self._stage(file, content, environment)
                tree = self._run(["write-tree"], environment=environment).stdout.decode().strip()
                made = self._run(["commit-tree", tree, "-p", parent], given=text.encode(), environment=environment)
                parent = made.stdout.decode().strip()
                commits.append(Commit(parent, subject(step.change), step.change.workload))
        self._run(["update-ref", "-m", "egpu-advisor apply", f"refs/heads/{branch}", parent, _ABSENT_REF])
        return commits

    def _stage(self, file: str, content: str, environment: Mapping[str, str]) -> None:
        listed = self._run(["ls-files", "--stage", "-z", "--", f":(top,literal){file}"], environment=environment)
        mode = listed.stdout.split()[0].decode()
        written = self._run(["hash-object", "-w", "--stdin"], given=content.encode("utf-8"), environment=environment)
        blob = written.stdout.decode().strip()
        self._run(["update-index", "--cacheinfo", f"{mode},{blob},{file}"], environment=environment)

    def _author(self) -> dict[str, str]:
        """Author and committer for the environment where neither it nor git's configuration names them."""
        named = {}
        for role in ("AUTHOR", "COMMITTER"):
            for part, stand_in in (("NAME", AUTHOR_NAME), ("EMAIL", AUTHOR_EMAIL)):
                configured = self._run(["config", f"user.{part.lower()}"], check=False).stdout.strip()
                if f"GIT_{role}_{part}" not in os.environ and not configured:
                    named[f"GIT_{role}_{part}"] = stand_in
        return named


def _is_manifest(path: str) -> bool:
    name = path.rsplit("/", 1)[-1]
    return name.endswith(_MANIFEST_ENDINGS) or name in KUSTOMIZATION_NAMES


def _first_line(output: bytes) -> str:
    return " ".join(output.decode(errors="replace").strip().splitlines()[:1])


def _environment() -> dict[str, str]:
    """Ours without what would point git at another repository, in English, and without locks taken just to look."""
    kept = {name: value for name, value in os.environ.items() if name not in _MISLEADING_VARIABLES}
    return {**kept, "LC_ALL": "C", "GIT_OPTIONAL_LOCKS": "0"}


def _decoded(content: bytes) -> str | None:
    """Text of a file, None for what is not UTF-8. The byte-order mark stays in the text."""
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError:
        return None
