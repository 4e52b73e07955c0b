"""Our own jar for Flink: compiled once for each state of its Java sources."""

import hashlib
from pathlib import Path

from installing import HERE, cache_folder, compile_jar, file_lock

JAVA_FOLDER = HERE.parents[1] / "pipeline" / "flink" / "java"
JAR_NAME = "egpu-flink.jar"


def flink_jar(flink: Path, sources: Path = JAVA_FOLDER) -> Path | None:
    """The jar of the Java sources in a folder, compiled if need be; None when there are none.

    flink: the installed Flink, whose jars are the class path. Files that are not Java go into the jar as they are.
    Raises EngineError with javac's first error.
    """
    files = sorted(path for path in sources.rglob("*") if path.is_file())
    java = [path for path in files if path.suffix == ".java"]
    if not java:
        return None
    digest = hashlib.sha256(flink.name.encode())
    for path in files:
        text = path.read_bytes()
        digest.update(f"\0{path.relative_to(sources)}\0{len(text)}\0".encode() + text)
    jar = cache_folder() / "jars" / digest.hexdigest()[:12] / JAR_NAME
    if not jar.exists():
        with file_lock(cache_folder() / "jar.lock"):
            jar.parent.mkdir(parents=True, exist_ok=True)
            resources = [(path, path.relative_to(sources)) for path in files if path not in java]
            compile_jar("flink", java, classpath=f"{flink / 'lib'}/*", target=jar, resources=resources)
    return jar
