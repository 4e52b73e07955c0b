"""Kafka, Flink and Hive on this machine: `engines.py up | down | status | wipe | install | jar | lock`.

Everything listens on 127.0.0.1; data, logs and engines.json (what runs where) lie in one folder, the home. Downloads go
once into the cache (EGPU_CACHE). Needs Python 3.11, a JDK 17 and Maven; no Python package.
"""

import argparse
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, get_args

from cluster import Cluster, say, status_lines
from engine_flink import describe_flink, flink_services
from engine_hive import describe_hive, hive_services
from engine_kafka import describe_kafka, kafka_services
from installing import file_lock, install, read_versions, write_lock
from jar import flink_jar
from maven import check_java
from settings_files import write_settings_files
from state import HiveAuthentication, Home, Options, Record, Service, check_options
from versions import ENGINES, EngineError

CHECKOUT = Path(__file__).resolve().parents[2]
SERVICES: Mapping[str, Callable[[Home, Options, Path], tuple[Service, ...]]] = {
    "kafka": kafka_services,
    "flink": flink_services,
    "hive": hive_services,
}
DESCRIBE: tuple[Callable[[Home, Options, Mapping[str, int]], dict[str, Any]], ...] = (
    describe_kafka,
    describe_flink,
    describe_hive,
)


def main(arguments: list[str] | None = None) -> int:
    """Run one verb; returns the exit code: 0 done, 1 something failed (a line on stderr says what), 2 usage."""
    chosen = _parser().parse_args(arguments)
    try:
        return int(chosen.run(chosen))
    except EngineError as error:
        say(f"error: {error}")
    except OSError as error:
        say(f"error: {error}")
    except KeyboardInterrupt:
        say("error: interrupted")
    return 1


def _up(chosen: argparse.Namespace) -> int:
    home = Home(chosen.home)
    given = {option.name: getattr(chosen, option.name) for option in fields(Options)}
    options = replace(home.options(), **{name: value for name, value in given.items() if value is not None})
    check_options(options)
    versions = read_versions()
    check_java(versions)
    with file_lock(home.folder / "lock"):
        home.passwords()  # made before two first starts at once can each make theirs
    services: list[Service] = []
    failed: list[EngineError] = []
    jar: str | None = home.read().get("flink_jar")
    for name in chosen.only:
        try:
            folder = install(versions, (name,))[name]
            services += SERVICES[name](home, options, folder)
            if name == "flink":
                made = flink_jar(folder)
                jar = str(made) if made else None
        except EngineError as failure:
            failed.append(failure)

    def describe(records: Mapping[str, Record]) -> dict[str, Any]:
        return {**_described(home, options, records), "flink_jar": jar}

    failed += Cluster(home).up(tuple(services), options, describe)
    write_settings_files(home.folder, home.read())
    _status(chosen)
    for error in failed:
        say(f"error: {error}")
    return 1 if failed else 0


def _described(home: Home, options: Options, records: Mapping[str, Record]) -> dict[str, Any]:
    """What engines.json says for others to read."""
    pids = {name: record.running.pid for name, record in records.items()}
    described: dict[str, Any] = {"warehouse": str(home.warehouse(options))}
    for describe in DESCRIBE:
        described |= describe(home, options, pids)
    return described


def _down(chosen: argparse.Namespace) -> int:
    _say_stopped(Cluster(Home(chosen.home)).down())
    return 0


def _wipe(chosen: argparse.Namespace) -> int:
    _say_stopped(Cluster(Home(chosen.home)).wipe())
    return 0


def _say_stopped(names: list[str]) -> None:
    sys.stdout.write(f"stopped: {', '.join(names) or 'nothing ran'}\n")


def _status(chosen: argparse.Namespace) -> int:
    lines, well = status_lines(Home(chosen.home))
    sys.stdout.write("\n".join(lines or [f"nothing runs in {chosen.home}"]) + "\n")
    return 0 if well else 1


def _install(chosen: argparse.Namespace) -> int:
    versions = read_versions()
    check_java(versions)
    for name, folder in install(versions, chosen.only).items():
        sys.stdout.write(f"{name:<6} {folder}\n")
    return 0


def _jar(_: argparse.Namespace) -> int:
    jar = flink_jar(install(read_versions(), ("flink",))["flink"])
    if jar is None:
        raise EngineError("flink", "there are no Java sources to make a jar of")
    sys.stdout.write(f"{jar}\n")
    return 0


def _lock(_: argparse.Namespace) -> int:
    versions = read_versions()
    check_java(versions)
    sys.stdout.write(f"jars.lock: {write_lock(versions)} files\n")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="engines.py", description=__doc__.partition("\n")[0] if __doc__ else None)
    verbs = parser.add_subparsers(required=True, metavar="VERB")
    home = Path(os.environ.get("EGPU_ENGINES_HOME") or CHECKOUT / ".engines")
    table: tuple[tuple[str, Callable[[argparse.Namespace], int], str], ...] = (
        ("up", _up, "start what does not run; quick when all does"),
        ("down", _down, "stop all; the data stays"),
        ("status", _status, "what runs where"),
        ("wipe", _wipe, "stop all and remove data and logs"),
        ("install", _install, "download only"),
        ("jar", _jar, "compile our jar for Flink and print its path"),
        ("lock", _lock, "download everything anew and write jars.lock"),
    )
    for name, run, text in table:
        verb = verbs.add_parser(name, help=text, description=text)
        verb.set_defaults(run=run)
        if name not in {"install", "jar", "lock"}:
            verb.add_argument("--home", type=Path, default=home, help="folder of data, logs and engines.json")
        if name in {"up", "install"}:
            verb.add_argument(
                "--only", type=_engine_names, default=ENGINES, metavar="A,B", help=f"of {', '.join(ENGINES)}"
            )
        if name == "up":
            _add_options(verb)
    return parser


def _add_options(verb: argparse.ArgumentParser) -> None:
    """Flags of Options; one that is not given keeps what the home was started with before."""
    plain = Options()
    verb.add_argument("--port-base", type=int, help=f"first of the ports (default {plain.port_base})")
    verb.add_argument("--slots", type=int, help=f"task slots of Flink (default {plain.slots})")
    verb.add_argument("--timezone", help=f"of Hive's JVMs, for tests (default {plain.timezone})")
    verb.add_argument("--warehouse", help="folder of the tables (default HOME/warehouse)")
    verb.add_argument(
        "--kafka-sasl", action=argparse.BooleanOptionalAction, help="a second listener that asks for a user"
    )
    verb.add_argument("--hive-auth", choices=get_args(HiveAuthentication), help=f"default {plain.hive_auth}")


def _engine_names(text: str) -> tuple[str, ...]:
    """The named engines in their order of start."""
    names = {name.strip() for name in text.split(",")}
    unknown = sorted(names - set(ENGINES))
    if unknown:
        raise argparse.ArgumentTypeError(f"{unknown[0]!r} is none of {', '.join(ENGINES)}")
    return tuple(name for name in ENGINES if name in names)


if __name__ == "__main__":
    sys.exit(main())
