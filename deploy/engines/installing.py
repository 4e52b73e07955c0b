"""Puts the engines into the cache, once: download, check every hash, then one rename."""

import fcntl
import hashlib
import os
import shutil
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from maven import Maven, java_program, maven, run_quietly
from versions import (
    ENGINES,
    EngineError,
    Versions,
    first_difference,
    format_lock,
    install_hash,
    parse_lock,
    parse_versions,
)

HERE = Path(__file__).resolve().parent
LOCK_FILE = HERE / "jars.lock"
FLINK_FOLDERS = ("lib", "opt", "bin", "plugins")
"""What of the wheel a cluster needs; bin holds only the jar that divides the memory."""

Contents = dict[str, str]
"""Path inside an install -> SHA-256 of the file."""


def read_versions() -> Versions:
    """versions.toml beside this file."""
    return parse_versions((HERE / "versions.toml").read_text())


def cache_folder() -> Path:
    """Where downloads and installs of this project live: EGPU_CACHE, else ~/.cache/effective-gpu."""
    return Path(os.environ.get("EGPU_CACHE") or Path.home() / ".cache" / "effective-gpu") / "engines"


def install_folder(versions: Versions, engine: str) -> Path:
    """Where an engine is or will be."""
    texts = [(HERE / "poms" / f"{engine}.xml").read_text(), *(java.read_text() for java in _java_sources(engine))]
    if LOCK_FILE.exists():
        locked = parse_lock(LOCK_FILE.read_text())[engine]
        texts += [f"{digest} {path}" for path, digest in sorted(locked.items())]
    return cache_folder() / f"{engine}-{install_hash(versions, engine, tuple(texts))}"


def install(versions: Versions, engines: tuple[str, ...]) -> dict[str, Path]:
    """Install what is not there yet; returns engine -> folder. Raises EngineError; safe to run twice at once."""
    folders = {engine: install_folder(versions, engine) for engine in engines}
    if all(folder.exists() for folder in folders.values()):
        return folders
    locked = parse_lock(LOCK_FILE.read_text()) if LOCK_FILE.exists() else None
    with file_lock(cache_folder() / "install.lock"):
        for engine, folder in folders.items():
            if folder.exists():
                continue
            with _new_folder(folder) as made:
                _say(f"{engine}: installing (once)")
                contents = _download(versions, engine, made)
                difference = first_difference(contents, locked[engine]) if locked is not None else None
                if difference:
                    raise EngineError(engine, difference)
                _compile(engine, made)
    return folders


def write_lock(versions: Versions) -> int:
    """Download every engine into a folder that is thrown away and write jars.lock anew; returns how many files."""
    locked: dict[str, Contents] = {}
    with tempfile.TemporaryDirectory(prefix="egpu-lock-") as name:
        for engine in ENGINES:
            made = Path(name) / engine
            made.mkdir()
            locked[engine] = _download(versions, engine, made)
    LOCK_FILE.write_text(format_lock(locked))
    return sum(len(contents) for contents in locked.values())


@contextmanager
def file_lock(path: Path) -> Iterator[None]:
    """Hold a lock file; a second process waits until the first is done."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@contextmanager
def _new_folder(target: Path) -> Iterator[Path]:
    """A folder that becomes ``target`` by one rename when the block succeeds, and vanishes when it fails."""
    made = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    try:
        yield made
        made.chmod(0o755)
        made.rename(target)
    finally:
        shutil.rmtree(made, ignore_errors=True)


def _download(versions: Versions, engine: str, made: Path) -> Contents:
    """Fill an engine's folder with what came from outside and return the hashes."""
    with maven(versions) as tool:
        if engine == "flink":
            _flink_distribution(versions, made)
        tool.copy_dependencies(HERE / "poms" / f"{engine}.xml", versions.engines[engine], made / "lib")
        if engine == "hive":
            _metastore_scripts(versions, tool, made)
    files = sorted(path for path in made.rglob("*") if path.is_file() and path.suffix in {".jar", ".gz"})
    contents = {str(path.relative_to(made)): _hash(path) for path in files}
    (made / "schema.tar.gz").unlink(missing_ok=True)
    return contents


def _hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _flink_distribution(versions: Versions, made: Path) -> None:
    """PyPI's wheel is the only form of the distribution on a package index; only its jars are taken."""
    version = versions.engines["flink"].properties["flink.version"]
    with tempfile.TemporaryDirectory(prefix="egpu-flink-", dir=made.parent) as name:
        environment = Path(name) / "venv"
        run_quietly("flink", [sys.executable, "-m", "venv", str(environment)])
        python = str(environment / "bin" / "python")
        pip = [python, "-m", "pip", "install", "-q", "--disable-pip-version-check", "--no-deps"]
        run_quietly("flink", [*pip, f"apache-flink-libraries=={version}"])
        wheel = next(environment.glob("lib/python*/site-packages/pyflink"), None)
        if wheel is None:
            raise EngineError("flink", f"apache-flink-libraries {version} holds no folder pyflink")
        for folder in FLINK_FOLDERS:
            shutil.move(wheel / folder, made / folder)


def _metastore_scripts(versions: Versions, tool: Maven, made: Path) -> None:
    """The schema scripts are in no jar, only in the metastore's own archive."""
    name = "hive-standalone-metastore-server"
    version = versions.engines["hive"].properties["hive.version"]
    tool.copy_artifact("hive", f"org.apache.hive:{name}:{version}:tar.gz:bin", made)
    archive = (made / f"{name}-{version}-bin.tar.gz").rename(made / "schema.tar.gz")
    (made / "schema").mkdir()
    inside = f"apache-hive-metastore-{version}-bin/scripts"
    run_quietly("hive", ["tar", "xzf", str(archive), "--strip-components=1", "-C", str(made / "schema"), inside])


def _java_sources(engine: str) -> list[Path]:
    return sorted((HERE / "java" / engine).glob("*.java"))


def _compile(engine: str, made: Path) -> None:
    """Our own classes of an engine, if it has any, into its lib."""
    sources = _java_sources(engine)
    if sources:
        compile_jar(engine, sources, classpath=f"{made / 'lib'}/*", target=made / "lib" / f"egpu-{engine}.jar")


def compile_jar(
    part: str, sources: list[Path], *, classpath: str, target: Path, resources: Iterable[tuple[Path, Path]] = ()
) -> None:
    """Compile Java 11 sources into a jar. ``resources``: file, path in the jar. Raises EngineError with the reason."""
    with tempfile.TemporaryDirectory(prefix="egpu-javac-", dir=target.parent) as name:
        classes, made = Path(name) / "classes", Path(name) / "made.jar"
        classes.mkdir()
        javac = [java_program("javac"), "--release", "11", "-nowarn", "-proc:none", "-encoding", "UTF-8"]
        run_quietly(part, [*javac, "-cp", classpath, "-d", str(classes), *map(str, sources)])
        for file, inside in resources:
            (classes / inside).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(file, classes / inside)
        run_quietly(part, [java_program("jar"), "cf", str(made), "-C", str(classes), "."])
        made.rename(target)


def _say(line: str) -> None:
    sys.stderr.write(line + "\n")
