"""Settings of every process: frozen data, filled from a TOML file, the environment and flags, in that order.

A settings class is a frozen dataclass; under each field stands a docstring with its unit, default and why.
Those docstrings are the help of the flags and the page ``docs/reference/settings.md``.
"""

import ast
import inspect
import re
import textwrap
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, Field, asdict, dataclass, fields
from typing import Any, Final, Literal, TypeVar, get_origin, get_type_hints

import msgspec

LogForm = Literal["plain", "json"]


class SettingsError(Exception):
    """A setting is unknown or has a wrong value; the message names where it came from."""


@dataclass(frozen=True, kw_only=True)
class ProcessSettings:
    """What every process can be told."""

    log_form: LogForm = "plain"
    """Form of a log line on stderr: ``plain`` for people, ``json`` for a log store. Default plain."""


@dataclass(frozen=True, slots=True)
class Setting:
    """One knob: its field, type, default and docstring, and the names it has outside."""

    name: str
    type: Any
    default: Any
    help: str
    environment: str
    flag: str


S = TypeVar("S", bound=ProcessSettings)


def environment_prefix(settings_class: type[ProcessSettings]) -> str:
    """``CollectorSettings`` reads ``EGPU_COLLECTOR_*``."""
    return f"EGPU_{settings_class.__name__.removesuffix('Settings').upper()}_"


def _field_docstrings(settings_class: type) -> Mapping[str, str]:
    """Field name -> the string literal below it, base classes first."""
    found: dict[str, str] = {}
    for owner in reversed(settings_class.__mro__):
        if owner is object or not issubclass(owner, ProcessSettings):
            continue
        body = ast.parse(textwrap.dedent(inspect.getsource(owner))).body[0]
        assert isinstance(body, ast.ClassDef)
        for statement, following in zip(body.body, body.body[1:], strict=False):
            match statement, following:
                case (
                    ast.AnnAssign(target=ast.Name(id=name)),
                    ast.Expr(value=ast.Constant(value=str(text))),
                ):
                    found[name] = " ".join(text.split())
    return found


def describe(settings_class: type[ProcessSettings]) -> Iterator[Setting]:
    """Every knob of a settings class, in the order they are written."""
    docstrings = _field_docstrings(settings_class)
    types = get_type_hints(settings_class)
    for field in fields(settings_class):
        yield Setting(
            name=field.name,
            type=types[field.name],
            default=_default_of(field),
            help=docstrings.get(field.name, ""),
            environment=environment_prefix(settings_class) + field.name.upper(),
            flag="--" + field.name.replace("_", "-"),
        )


def _default_of(field: Field[Any]) -> Any:
    return field.default if field.default_factory is MISSING else field.default_factory()


def _parse_table(name: str, text: str) -> object:
    """A table given by a flag or a variable: written as in the file, ``{name = "value", "a.b" = "c"}``."""
    try:
        return tomllib.loads(f"table = {text}")["table"]
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f'settings: {name} is not a table such as {{ssl = "on"}}: {error}') from error


def load(settings_class: type[S], *, file_text: str, overrides: Mapping[str, object]) -> S:
    """Settings from a TOML text and from values given by environment or flags (field name -> value, None = not given).

    Raises SettingsError with one sentence for an unknown key, a wrong type or a value out of its bounds.
    """
    try:
        given: dict[str, object] = dict(tomllib.loads(file_text))
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f"settings file is not TOML: {error}") from error
    known = {setting.name: setting for setting in describe(settings_class)}
    for name in given:
        if name not in known:
            raise SettingsError(f"settings file: unknown setting {name!r}")
    overridden = {
        name: _parse_table(name, value)
        if isinstance(value, str) and get_origin(known[name].type) in (dict, Mapping)
        else value
        for name, value in overrides.items()
        if value is not None
    }
    _convert(settings_class, given, "settings file")
    return _convert(settings_class, given | overridden, "settings")


def _convert(settings_class: type[S], given: Mapping[str, object], source: str) -> S:
    try:
        return msgspec.convert(given, settings_class, strict=False)
    except msgspec.ValidationError as error:
        raise SettingsError(f"{source}: {error}") from error


_SECRET: Final = re.compile(r"password|secret|jaas|\.pem$|oauthbearer", re.IGNORECASE)
"""Names of Kafka's and librdkafka's properties that hold a secret."""

_HIDDEN: Final = "(hidden)"


def to_toml(settings: ProcessSettings) -> str:
    """The settings in force as a TOML text that :func:`load` reads back; passwords in tables are not shown."""
    lines = []
    for name, value in asdict(settings).items():
        if value is None:  # TOML has no null; a key left out reads as its default
            continue
        lines.append(f"{name} = {_to_toml_value(value)}")
    return "\n".join(lines) + "\n"


def _to_toml_value(value: object) -> str:
    match value:
        case bool():
            return str(value).lower()
        case str():
            return msgspec.json.encode(value).decode()
        case Mapping():
            shown = ((key, _HIDDEN if _SECRET.search(str(key)) else item) for key, item in value.items())
            return f"{{{', '.join(f'{_to_toml_value(key)} = {_to_toml_value(item)}' for key, item in shown)}}}"
        case _:
            return repr(value)
