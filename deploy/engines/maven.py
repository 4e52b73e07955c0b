"""Maven and the JDK as programs: settings made at run time, jars copied, Java's version checked."""

import os
import re
import shutil
import subprocess
import tempfile
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from versions import EngineError, EngineVersions, Versions

COMMAND_SECONDS = 1800.0
"""A cold cache on a slow line; Maven itself gives a dead server up much sooner."""


def java_program(name: str = "java") -> str:
    """Path of java, javac or jar: of JAVA_HOME, else of PATH. Raises EngineError."""
    home = os.environ.get("JAVA_HOME")
    found = shutil.which(str(Path(home) / "bin" / name)) if home else shutil.which(name)
    if found is None:
        where = f"JAVA_HOME {home}" if home else "PATH"
        raise EngineError("java", f"no {name} in {where}: install a JDK (Debian: openjdk-17-jdk-headless)")
    return found


def check_java(versions: Versions) -> None:
    """Raise EngineError unless the Java that will run the engines has the version they are made for."""
    done = subprocess.run([java_program(), "-version"], capture_output=True, text=True, check=False)
    match = re.search(r'version "(\d+)', done.stderr + done.stdout)
    if done.returncode != 0 or match is None:
        raise EngineError("java", f"{java_program()} -version ended with {done.returncode}")
    if match[1] != versions.java_major:
        raise EngineError(
            "java", f"{java_program()} is version {match[1]}, {versions.java_major} is needed; JAVA_HOME chooses"
        )


_EMPTY_POM = """\
<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion><groupId>effective-gpu</groupId><artifactId>empty</artifactId><version>1</version>
  <packaging>pom</packaging>
</project>
"""
"""What Maven makes of it is Maven's own: the address of central."""


class Maven:
    """Maven with a settings file of ours: one mirror for all, so that dead repositories in poms do not matter."""

    def __init__(self, versions: Versions, settings: Path) -> None:
        self._versions = versions
        self._settings = settings

    def copy_dependencies(self, pom: Path, engine: EngineVersions, target: Path) -> None:
        """Copy the run-time jars of a pom into a folder. Raises EngineError."""
        arguments = [f"-D{name}={version}" for name, version in engine.properties.items()]
        self._dependency_plugin(
            engine.name,
            "copy-dependencies",
            [
                *("-f", str(pom)),
                *arguments,
                "-DincludeScope=runtime",
                f"-DexcludeArtifactIds={','.join(engine.left_out)}",
                f"-DoutputDirectory={target.resolve()}",
            ],
        )

    def copy_artifact(self, engine: str, coordinates: str, target: Path) -> None:
        """Copy one artifact (GROUP:ARTIFACT:VERSION:TYPE:CLASSIFIER) into a folder. Raises EngineError."""
        self._dependency_plugin(engine, "copy", [f"-Dartifact={coordinates}", f"-DoutputDirectory={target.resolve()}"])

    def _dependency_plugin(self, engine: str, goal: str, arguments: list[str]) -> None:
        plugin = "maven-dependency-plugin"
        name = f"org.apache.maven.plugins:{plugin}:{self._versions.plugins[plugin]}:{goal}"
        run_quietly(engine, [*_maven(engine), "-s", str(self._settings), name, *arguments])


@contextmanager
def maven(versions: Versions) -> Iterator[Maven]:
    """Maven ready for use; its settings file, which may hold passwords, lives as long as the block."""
    with tempfile.TemporaryDirectory(prefix="egpu-maven-") as name:
        folder = Path(name)
        settings = folder / "settings.xml"
        help_plugin = f"org.apache.maven.plugins:maven-help-plugin:{versions.plugins['maven-help-plugin']}"
        command = [*_maven("maven"), f"{help_plugin}:effective-settings", "-DshowPasswords=true"]
        run_quietly("maven", [*command, f"-Doutput={settings}"], folder=folder)
        effective_pom = folder / "effective-pom.xml"
        empty_pom = folder / "pom.xml"
        empty_pom.write_text(_EMPTY_POM)
        command = [*_maven("maven"), "-f", str(empty_pom), f"{help_plugin}:effective-pom"]
        run_quietly("maven", [*command, f"-Doutput={effective_pom}"], folder=folder)
        settings.write_text(with_one_mirror(settings.read_text(), effective_pom.read_text()))
        yield Maven(versions, settings)


def with_one_mirror(settings: str, effective_pom: str) -> str:
    """Settings whose first mirror serves every repository: Maven's own mirror of central, else central itself.

    settings and effective_pom are what maven-help-plugin prints. Some poms name repositories that are gone; asking them
    costs minutes of time-outs.
    """
    namespace = "http://maven.apache.org/SETTINGS/1.2.0"
    ElementTree.register_namespace("", namespace)
    root = ElementTree.fromstring(settings)
    mirrors = root.find(f"{{{namespace}}}mirrors")
    if mirrors is None:
        mirrors = ElementTree.SubElement(root, f"{{{namespace}}}mirrors")
    name, url = _mirror_of_central(mirrors, namespace) or ("central", _url_of_central(effective_pom))
    mirror = ElementTree.Element(f"{{{namespace}}}mirror")
    for tag, text in (("mirrorOf", "*"), ("url", url), ("id", name)):
        ElementTree.SubElement(mirror, f"{{{namespace}}}{tag}").text = text
    mirrors.insert(0, mirror)
    return ElementTree.tostring(root, encoding="unicode")


def _mirror_of_central(mirrors: ElementTree.Element, namespace: str) -> tuple[str, str] | None:
    for mirror in mirrors:
        tag = {child.tag.removeprefix(f"{{{namespace}}}"): child.text or "" for child in mirror}
        patterns = tag.get("mirrorOf", "").split(",")
        covers = {"*", "central", "external:*"} & {pattern.strip() for pattern in patterns}
        if covers and "!central" not in patterns and tag.get("blocked") != "true":
            return tag.get("id", "central"), tag["url"]
    return None


def _url_of_central(effective_pom: str) -> str:
    namespace = "{http://maven.apache.org/POM/4.0.0}"
    for repository in ElementTree.fromstring(effective_pom).iter(f"{namespace}repository"):
        url = repository.findtext(f"{namespace}url")
        if repository.findtext(f"{namespace}id") == "central" and url:
            return url
    raise EngineError("maven", "its effective pom names no repository 'central'")


def _maven(engine: str) -> list[str]:
    program = shutil.which("mvn")
    if program is None:
        raise EngineError(engine, "no mvn in PATH: install Maven (Debian: maven)")
    return [program, "-B", "-ntp", "-q"]


def run_quietly(engine: str, command: list[str], *, folder: Path | None = None) -> str:
    """Run a program and return what it wrote. Raises EngineError with the last line that says why it failed."""
    try:
        done = subprocess.run(
            command,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=COMMAND_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise EngineError(engine, f"{Path(command[0]).name} did not run: {error}") from error
    if done.returncode != 0:
        raise EngineError(engine, f"{Path(command[0]).name} ended with {done.returncode}: {_reason(done.stdout)}")
    return done.stdout


def _reason(output: str) -> str:
    """The first line with an error in it, else the last one: Maven repeats its advice after the reason."""
    lines = [re.sub(r"\x1b\[[0-9;]*m", "", line).strip() for line in output.splitlines()]
    lines = [line for line in lines if line]
    errors = [line for line in lines if "error" in line.lower() or "exception" in line.lower()]
    return (errors or lines[-1:] or ["no output"])[0][:400]
