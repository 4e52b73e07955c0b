"""What is installed: versions.toml and the hashes of jars.lock, read once, as frozen data. No files: texts come in."""

import hashlib
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass

ENGINES = ("kafka", "flink", "hive")
"""The engines in the order in which they are installed, started and shown."""

INSTALL_FORM = "1"
"""Part of every install's hash: raise it when installing.py lays the files out in another way."""


class EngineError(Exception):
    """One part failed in a way its user can act on: shown as ``error: PART: SENTENCE``, exit code 1."""

    def __init__(self, part: str, sentence: str) -> None:
        super().__init__(f"{part}: {sentence}")
        self.part = part


@dataclass(frozen=True, kw_only=True)
class EngineVersions:
    """One engine's versions."""

    name: str
    properties: Mapping[str, str]
    """Maven property -> version, as the engine's pom reads them."""
    left_out: tuple[str, ...]
    """Artifact ids that Maven resolves and we do not install."""


@dataclass(frozen=True, kw_only=True)
class Versions:
    """The whole of versions.toml."""

    java_major: str
    plugins: Mapping[str, str]
    """Artifact id of a Maven plugin -> version."""
    engines: Mapping[str, EngineVersions]


def parse_versions(text: str) -> Versions:
    """Read versions.toml; every value is a string. Raises EngineError when a part is missing or of another type."""
    try:
        read = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise EngineError("versions.toml", f"not TOML: {error}") from error
    engines = {}
    for name in ENGINES:
        left_out = read.get("left_out", {}).get(name)
        if not isinstance(left_out, list):
            raise EngineError("versions.toml", f"left_out.{name} is not a list")
        engines[name] = EngineVersions(name=name, properties=_table(read, name), left_out=tuple(left_out))
    if not isinstance(read.get("java"), str):
        raise EngineError("versions.toml", "java is not a string")
    return Versions(java_major=read["java"], plugins=_table(read, "plugins"), engines=engines)


def _table(read: Mapping[str, object], name: str) -> Mapping[str, str]:
    table = read.get(name)
    if not isinstance(table, dict) or not table or not all(isinstance(value, str) for value in table.values()):
        raise EngineError("versions.toml", f"[{name}] is not a table of version strings")
    return table


def parse_lock(text: str) -> dict[str, dict[str, str]]:
    """jars.lock (lines ``SHA-256  ENGINE/PATH``, # comments) as engine -> path -> hash. Raises EngineError."""
    locked: dict[str, dict[str, str]] = {name: {} for name in ENGINES}
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip() or line.startswith("#"):
            continue
        digest, _, path = line.partition("  ")
        engine, _, inside = path.partition("/")
        if len(digest) != 64 or engine not in locked or not inside:
            raise EngineError("jars.lock", f"line {number} is not 'SHA-256  ENGINE/PATH'")
        locked[engine][inside] = digest
    return locked


def format_lock(locked: Mapping[str, Mapping[str, str]]) -> str:
    """The text of jars.lock, sorted by engine and path."""
    lines = ["# SHA-256 of every file that is installed; written by `engines.py lock`, checked after every download."]
    for engine in ENGINES:
        lines += [f"{digest}  {engine}/{path}" for path, digest in sorted(locked[engine].items())]
    return "\n".join(lines) + "\n"


def install_hash(versions: Versions, engine: str, texts: tuple[str, ...]) -> str:
    """Name of an install, 12 hex digits: the same exactly when versions, pom, hashes and Java sources are."""
    digest = hashlib.sha256(INSTALL_FORM.encode())
    chosen = versions.engines[engine]
    parts = [versions.java_major, repr(sorted(chosen.properties.items())), repr(chosen.left_out), *texts]
    for part in parts:
        digest.update(len(part).to_bytes(8, "little") + part.encode())
    return digest.hexdigest()[:12]


def first_difference(installed: Mapping[str, str], locked: Mapping[str, str]) -> str | None:
    """One sentence on the first file that is missing, unknown or of another hash; None when all are equal."""
    for path in sorted(installed.keys() | locked.keys()):
        if path not in locked:
            return f"{path} came along and jars.lock does not know it"
        if path not in installed:
            return f"{path} of jars.lock did not come"
        if installed[path] != locked[path]:
            return f"{path} is not the file of jars.lock: SHA-256 {installed[path]}, not {locked[path]}"
    return None
