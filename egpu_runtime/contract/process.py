"""Manners of every process: settings as flags, one log line form, exit codes, one line for a failure.

Exit codes: 0 done, 1 every failure (usage errors too); other codes only where a command names them.
"""

import functools
import inspect
import json
import logging
import sys
from collections.abc import Callable
from typing import Annotated, Any, Final, NoReturn, Optional, TypeVar

import typer
from typer.exceptions import TyperException
from typer.models import ArgumentInfo

from egpu_runtime.contract.configuration import LogForm, ProcessSettings, SettingsError, describe, load, to_toml

EXIT_FAILURE: Final = 1

_INTERRUPTED: Final = 130
"""What the command line library returns for SIGINT; ours is 1 with a line."""

S = TypeVar("S", bound=ProcessSettings)


class Failure(Exception):  # noqa: N818 - reads as the sentence "raise Failure(why)"
    """Something the caller can act on went wrong: shown as one line on stderr, exit code 1."""


class _JsonLine(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": self.formatTime(record, "%Y-%m-%dT%H:%M:%S%z"),
            "level": record.levelname.lower(),
            "process": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False)


def configure_logging(form: LogForm) -> None:
    """One line an event on stderr: time, level, process, message; or the same as one JSON object."""
    handler = logging.StreamHandler(sys.stderr)
    plain = logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s", "%Y-%m-%dT%H:%M:%S%z")
    handler.setFormatter(_JsonLine() if form == "json" else plain)
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)


def _setting_parameters(settings_class: type[ProcessSettings]) -> list[inspect.Parameter]:
    parameters = []
    for setting in describe(settings_class):
        names = [setting.flag, setting.flag.replace("--", "--no-", 1)] if setting.type is bool else [setting.flag]
        flag_names = ["/".join(names)]
        shown = "off" if setting.default is False else setting.default
        annotation: Any = Annotated[
            Optional[_flag_type(setting.type)],  # noqa: UP045 - a type made at run time
            typer.Option(*flag_names, envvar=setting.environment, help=setting.help, show_default=str(shown)),
        ]
        parameters.append(
            inspect.Parameter(setting.name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)
        )
    return parameters


def _flag_type(annotation: Any) -> Any:
    """The type a flag is parsed as; bounds and choices are checked once, by msgspec, for file and flags alike."""
    return annotation if annotation in (int, float, bool) else str


_CONFIG: Final = inspect.Parameter(
    "config",
    inspect.Parameter.KEYWORD_ONLY,
    default=None,
    annotation=Annotated[typer.FileText | None, typer.Option(help="Settings file, TOML.")],
)
_PRINT_SETTINGS: Final = inspect.Parameter(
    "print_settings",
    inspect.Parameter.KEYWORD_ONLY,
    default=False,
    annotation=Annotated[bool, typer.Option("--print-settings", help="Print the settings in force and exit.")],
)


def _text_of(config: typer.FileText | None) -> str:
    try:
        return config.read() if config else ""
    except UnicodeDecodeError as error:
        raise SettingsError("settings file is not UTF-8") from error


def _outside_name(parameter: inspect.Parameter) -> str:
    """How a person names a parameter: ``option --log`` or ``argument WORKLOAD``."""
    for note in getattr(parameter.annotation, "__metadata__", ()):
        if isinstance(note, ArgumentInfo):
            return f"argument {note.metavar or parameter.name.upper()}"
    return f"option --{parameter.name.replace('_', '-')}"


def with_settings(settings_class: type[S]) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Decorate a command ``def command(*, settings: S, ...)``: every setting becomes a flag and a variable.

    Adds ``--config FILE`` (TOML) and ``--print-settings``. A wrong setting ends the process with one line, code 1.
    """

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        signature = inspect.signature(command, eval_str=True)
        own = [parameter for name, parameter in signature.parameters.items() if name != "settings"]
        required = [parameter for parameter in own if parameter.default is inspect.Parameter.empty]
        # Not required of the parser: --print-settings must answer without them.
        own = [parameter.replace(default=None) if parameter in required else parameter for parameter in own]
        knobs = _setting_parameters(settings_class)

        @functools.wraps(command)
        def run_command(*, config: typer.FileText | None = None, print_settings: bool = False, **given: Any) -> Any:
            overrides = {knob.name: given.pop(knob.name, None) for knob in knobs}
            settings = load(settings_class, file_text=_text_of(config), overrides=overrides)
            if print_settings:
                typer.echo(to_toml(settings), nl=False)
                return None
            for parameter in required:
                if given[parameter.name] is None:
                    raise Failure(f"missing {_outside_name(parameter)}")
            configure_logging(settings.log_form)
            return command(settings=settings, **given)

        shown = [*own, _CONFIG, _PRINT_SETTINGS, *knobs]
        run_command.__signature__ = inspect.Signature(shown)  # type: ignore[attr-defined]
        run_command.__annotations__ = {parameter.name: parameter.annotation for parameter in shown}
        return run_command

    return decorate


def command_line(help_text: str) -> typer.Typer:
    """An empty command line with sub-commands, as every process has one."""
    app = typer.Typer(help=help_text, add_completion=False, no_args_is_help=False, pretty_exceptions_enable=False)
    app.callback()(lambda: None)
    return app


def run(app: typer.Typer, arguments: list[str] | None = None) -> NoReturn:
    """Run a command line to its exit: failures are one line ``error: ...`` on stderr and code 1, never a traceback."""
    try:
        code = app(args=arguments, standalone_mode=False)
    except (Failure, SettingsError, ImportError) as error:
        code = _refused(str(error))
    except TyperException as error:
        code = _refused(error.format_message())
    except OSError as error:
        # A file or address that nobody nearer to it could say a better sentence about.
        code = _refused(f"{error.filename}: {error.strerror}" if error.filename else str(error))
    except (typer.Abort, KeyboardInterrupt):
        code = _INTERRUPTED
    if code == _INTERRUPTED:
        code = _refused("interrupted")
    sys.exit(code if isinstance(code, int) else 0)


def _refused(message: str) -> int:
    if message:
        sys.stderr.write(f"error: {message}\n")
    return EXIT_FAILURE
