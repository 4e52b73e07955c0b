"""What is installed: versions.toml, jars.lock, and Maven's settings."""

from pathlib import Path

import installing
import pytest
from maven import with_one_mirror
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

TEXT = installing.HERE.joinpath("versions.toml").read_text()
A, B = "a" * 64, "b" * 64


def test_the_versions_are_those_of_the_poms() -> None:
    """Every property that a pom reads has a version, and none stands in the file for nothing."""
    versions = parse_versions(TEXT)
    for engine in ENGINES:
        pom = (installing.HERE / "poms" / f"{engine}.xml").read_text()
        unused = {name for name in versions.engines[engine].properties if f"${{{name}}}" not in pom}
        assert pom.count("${") == sum(pom.count(f"${{{name}}}") for name in versions.engines[engine].properties)
        assert unused <= {"flink.version"}  # the distribution's, which is no Maven artifact


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("java = ", "versions.toml: not TOML"),
        (TEXT.replace("[kafka]", "[kafkb]"), "versions.toml: [kafka] is not a table"),
        (TEXT.replace('"hive.version" = "4.0.1"', '"hive.version" = 4.0'), "versions.toml: [hive] is not a table"),
        (TEXT.replace('java = "17"', "java = 17"), "versions.toml: java is not a string"),
        (TEXT.replace("kafka = []", ""), "versions.toml: left_out.kafka"),
    ],
)
def test_a_broken_versions_file_is_one_sentence(text: str, expected: str) -> None:
    with pytest.raises(EngineError) as caught:
        parse_versions(text)
    assert str(caught.value).startswith(expected)


def test_the_lock_is_read_as_it_is_written() -> None:
    locked = {"kafka": {"lib/a.jar": A}, "flink": {}, "hive": {"lib/b.jar": B, "lib/a.jar": A}}
    assert parse_lock(format_lock(locked)) == locked
    assert parse_lock(installing.LOCK_FILE.read_text()).keys() == set(ENGINES)


@pytest.mark.parametrize("line", ["abc  kafka/lib/a.jar", f"{A} kafka/a.jar", f"{A}  spark/a.jar", f"{A}  kafka"])
def test_a_broken_lock_names_its_line(line: str) -> None:
    with pytest.raises(EngineError, match=r"jars\.lock: line 2"):
        parse_lock(f"# comment\n{line}\n")


@pytest.mark.parametrize(
    ("installed", "expected"),
    [
        ({"lib/a.jar": A}, None),
        ({}, "lib/a.jar of jars.lock did not come"),
        ({"lib/a.jar": B}, f"lib/a.jar is not the file of jars.lock: SHA-256 {B}, not {A}"),
        ({"lib/a.jar": A, "lib/b.jar": B}, "lib/b.jar came along and jars.lock does not know it"),
    ],
)
def test_the_first_difference_is_named(installed: dict[str, str], expected: str | None) -> None:
    assert first_difference(installed, {"lib/a.jar": A}) == expected


def test_an_install_has_a_new_name_when_anything_in_it_changes() -> None:
    def name(text: str, *texts: str) -> str:
        return install_hash(parse_versions(text), "kafka", texts)

    same = name(TEXT, "pom", "lock")
    assert same == name(TEXT.replace("4.0.1", "4.0.2"), "pom", "lock")  # Hive's version is not Kafka's
    changed = {
        name(TEXT.replace("4.4.0", "4.4.1"), "pom", "lock"),
        name(TEXT.replace("kafka = []", 'kafka = ["x"]'), "pom", "lock"),
        name(TEXT, "pom", "lock2"),
        name(TEXT, "poml", "ock"),
        same,
    }
    assert len(changed) == 5


def test_a_file_with_another_hash_is_not_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def download(_: Versions, engine: str, made: Path) -> dict[str, str]:
        (made / "lib").mkdir()
        (made / "lib" / "evil.jar").touch()
        return {**parse_lock(installing.LOCK_FILE.read_text())[engine], "lib/evil.jar": A}

    monkeypatch.setenv("EGPU_CACHE", str(tmp_path))
    monkeypatch.setattr(installing, "_download", download)
    with pytest.raises(EngineError, match=r"kafka: lib/evil\.jar came along"):
        installing.install(parse_versions(TEXT), ("kafka",))
    assert [path.name for path in (tmp_path / "engines").iterdir()] == ["install.lock"]


SETTINGS = '<settings xmlns="http://maven.apache.org/SETTINGS/1.2.0"><proxies/>{}</settings>'
POM = """\
<projects><project xmlns="http://maven.apache.org/POM/4.0.0"><repositories>
<repository><id>central</id><url>https://central.example/maven2</url></repository>
</repositories></project></projects>"""


def _mirror(of: str, *more: str) -> str:
    return f"<mirror><mirrorOf>{of}</mirrorOf><url>https://mirror.example</url><id>ours</id>{''.join(more)}</mirror>"


@pytest.mark.parametrize(
    ("mirrors", "expected"),
    [
        ("", "https://central.example/maven2"),
        (_mirror("*"), "https://mirror.example"),
        (_mirror("external:*"), "https://mirror.example"),
        (_mirror("snapshots, central"), "https://mirror.example"),
        (_mirror("snapshots"), "https://central.example/maven2"),
        (_mirror("*,!central"), "https://central.example/maven2"),
        (_mirror("external:http:*", "<blocked>true</blocked>"), "https://central.example/maven2"),
    ],
)
def test_the_first_mirror_serves_everything(mirrors: str, expected: str) -> None:
    """Maven takes the first mirror that matches; proxies and passwords of the user's settings stay."""
    made = with_one_mirror(SETTINGS.format(f"<mirrors>{mirrors}</mirrors>" if mirrors else ""), POM)
    first = made.split("<mirror>")[1]
    assert "<mirrorOf>*</mirrorOf>" in first
    assert f"<url>{expected}</url>" in first
    assert "<proxies" in made
    assert not mirrors or made.count("<mirror>") == 2
