"""The parser of a command: jsonargparse's types, options from YAML files, errors in one line."""

from __future__ import annotations

import dataclasses
import re
import typing
from argparse import Action, HelpFormatter, _StoreAction
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import yaml
from jsonargparse import ActionYesNo, ArgumentParser

from robustkit import extensions
from robustkit.cli.commands import describe, load_command
from robustkit.cli.help import HelpAll, format_help
from robustkit.errors import ConfigError, did_you_mean
from robustkit.reading import Json, check_yaml, is_printable, parse_real, read_yaml

Config = TypeVar("Config")
# Arguments of `add_argument` for fields of a config, instead of their types.
Forms = Mapping[str, Mapping[str, Any]]
# Options about the launch itself: not settings of the experiment, never saved with it.
HOUSEKEEPING = ("config", "print_config", "out", "resume", "list", "evidence", "scratch")
_FLAG = "--extend"
_EXTEND_HELP = "your own modules, whose attacks, blocks, objectives, maps, … can then be named"
# Messages of jsonargparse and argparse, and what they become; others stay as they are.
_WORDINGS: tuple[tuple[str, str | Callable[[re.Match[str]], str]], ...] = (
    (r'^Parser key "([^"]+)":', lambda match: f"--{match[1].replace('_', '-')}:"),
    (r"^argument (--\S+):", r"\1:"),
    (r"Does not validate .* Subtypes: \[([^]]*)\].* Given value: (.*)", r"expected \1, not '\2'"),
    (r"Expected an? (.*)\. Got value: (.*)", r"expected \1, not '\2'"),
    (r"invalid real(?:_or_none)? value: (.*)", r"expected a number or a fraction, not \1"),
    (
        r"invalid (?:radii|weights) value: (.*)",
        r"expected numbers or fractions between commas, not \1",
    ),
    (r"NoneType", "null"),
    (r"<class '(\w+)'>", r"\1"),
)


def run_command(command: str, arguments: Sequence[str]) -> int:
    """Parse `arguments` as those of `command`, run it, and return its exit code."""
    # Before the command declares what there is to choose from.
    extensions.load(*named_modules(arguments))
    module = load_command(command)
    parser = CommandParser(command)
    module.add_arguments(parser)
    options = parser.parse(arguments)
    if options is None:
        return 0
    code: int = module.run(options)
    return code


@dataclass(frozen=True)
class Options:
    """The options of one run of a command.

    `values` holds every option, defaults filled in; `given` only those that the user gave, by flag
    or by file; `command` is the whole command line, which makes the run again.
    """

    values: Mapping[str, Any]
    given: Mapping[str, Any]
    command: tuple[str, ...]
    parser: CommandParser = dataclasses.field(repr=False, compare=False)

    def checked(self, values: Mapping[str, Any], file: str) -> Json:
        """Return a file's options of this command; raises `ConfigError` for what does not fit."""
        return self.parser.checked(values, file)

    def __getattr__(self, name: str) -> Any:
        try:
            return self.values[name]
        except KeyError:
            raise AttributeError(f"no option '{name}'") from None


class CommandParser(ArgumentParser):
    """The parser of one command, whose errors are `ConfigError`."""

    def __init__(self, command: str) -> None:
        super().__init__(
            prog=f"robustkit {command}",
            description=describe(command),
            allow_abbrev=False,
            print_config=None,
        )
        self.command = command
        # Changes defaults that depend on other options, from all values and those given.
        self.adjust: Callable[[Json, Json], Json] = lambda values, given: values
        self._first: tuple[str, ...] = ()
        self._advanced: tuple[str, ...] = ("extend",)
        self.shows_all = False
        self.add_argument("--help-all", action=HelpAll, help="show the advanced options too")
        self.add_argument("--config", metavar="FILE", help="YAML file of options; flags override")
        self.add_argument(
            "--print_config", action="store_true", help="print the options as YAML and stop"
        )
        self.add_argument("--extend", type=names, default=[], metavar="MODULE,…", help=_EXTEND_HELP)

    def arrange(self, *, first: str, advanced: str) -> None:
        """Name the options, between spaces, that `--help` shows first and those it only lists.

        Names that the command lacks are a `KeyError`.
        """
        known = {action.dest: action for action in self._actions}
        self._first = tuple(known[name].dest for name in first.split())
        self._advanced = ("extend", *(known[name].dest for name in advanced.split()))

    def format_help(self, formatter: HelpFormatter | None = None) -> str:
        """Return what `--help` prints."""
        hidden = () if self.shows_all else self._advanced
        return format_help(self, first=self._first, hidden=hidden)

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Raise `ConfigError` instead of leaving the process with a usage text."""
        raise ConfigError(tidy(message)) from None

    def parse(self, arguments: Sequence[str]) -> Options | None:
        """Return the options of a command line, or None when they were only to be printed."""
        self._refuse_unfit_flags(arguments)
        flags = self.parse_args(list(arguments), defaults=False).as_dict()
        for action in self._actions:  # a positional that was not given leaves that of a file
            if not action.option_strings and flags.get(action.dest) in (None, []):
                flags.pop(action.dest, None)
        given = {**self._file_options(flags.pop("config", None)), **flags}
        printing = given.pop("print_config", False)
        values = self.parse_object(given).as_dict()
        _load_modules(values, given)
        if printing:
            shown = self.adjust(values, given)
            shown = {name: value for name, value in shown.items() if name not in HOUSEKEEPING}
            print(yaml.safe_dump(shown, sort_keys=False), end="")
            return None
        given = {name: values[name] for name in given}
        for name, value in given.items():
            _check_value(f"--{name.replace('_', '-')}", value)
        return Options(values, given, ("robustkit", self.command, *arguments), self)

    def _flags(self) -> list[str]:
        return [flag for action in self._actions for flag in action.option_strings]

    def _refuse_unfit_flags(self, arguments: Sequence[str]) -> None:
        known = {flag: action for action in self._actions for flag in action.option_strings}
        taking: Action | None = None
        for argument in arguments:
            flag, equals, value = argument.partition("=")
            if flag.startswith("--") and flag != "--":
                if flag not in known:
                    raise ConfigError(
                        f"{self.command}: unknown option '{flag}'{_near(flag, self._flags())}"
                    )
                taking = known[flag]
            else:
                equals, value = "=", argument
            if equals and taking is not None:
                _check_loadable(taking, f"--{taking.dest.replace('_', '-')}", value)

    def _file_options(self, file: str | None) -> Json:
        if file is None:
            return {}
        return self.checked(_read_yaml(Path(file), self.command), file)

    def checked(self, given: Mapping[str, Any], file: str) -> Json:
        """Return the options `given` by `file`; raises `ConfigError` for other names and types."""
        options = dict(given)
        known = {action.dest: action for action in self._actions}
        for name in ("help", "help_all", "config", "print_config"):
            del known[name]
        for name, value in options.items():
            if not isinstance(name, str) or name not in known:
                raise ConfigError(f"{file}: unknown key '{name}'{_near(str(name), set(known))}")
            if value is None and not _nullable(known[name]):
                raise ConfigError(f"{file}: {name}: null is no value for it")
            if known[name].nargs in ("+", "*"):
                options[name] = value = _texts(file, name, value)
            elif value is not None and _is_text(known[name]) and not isinstance(value, str):
                raise ConfigError(f"{file}: {name}: expected text, not {value!r}")
            options[name] = value = self._typed(file, name, value)
            _check_value(f"{file}: {name}", value)
        return options

    def _typed(self, file: str, name: str, value: Any) -> Any:
        action = next(each for each in self._actions if each.dest == name)
        _check_loadable(action, f"{file}: {name}", value)
        try:
            return self.parse_object({name: value}, defaults=False).as_dict()[name]
        except ConfigError as error:
            reason = str(error).removeprefix(f"--{name.replace('_', '-')}: ")
            raise ConfigError(f"{file}: {name}: {reason}") from None


def real(value: str | float) -> float:
    """Return a number, or a fraction of two: `0.03` or `8/255`."""
    return parse_real(value)


def real_or_none(value: str | float | None) -> float | None:
    """Return a `real`, or None for null."""
    return None if value is None or value == "null" else real(value)


def several(value: str | list[str]) -> str | list[str]:
    """Check a repeatable text option: one text per flag, a list of them in YAML."""
    texts = value if isinstance(value, list) else [value]
    if not all(isinstance(text, str) for text in texts):
        raise ValueError(f"expected texts, not {value!r}")
    return value


def radii(value: str | float | Sequence[Any]) -> list[float]:
    """Return the numbers of an option: `2/255,4/255`, or a list in YAML."""
    parts = value if isinstance(value, list | tuple) else str(value).split(",")
    return [real(part) for part in parts]


def names(value: str | Sequence[str]) -> list[str]:
    """Return the names of an option: `cat,dog`, or a list in YAML."""
    parts = value if isinstance(value, list | tuple) else str(value).split(",")
    if not all(isinstance(part, str | int) and str(part).strip() for part in parts):
        raise ValueError(f"expected names between commas, not {value!r}")
    return [str(part).strip() for part in parts]


def names_or_none(value: str | Sequence[str]) -> list[str]:
    """Return the names of an option as `names` does; [] for `none` and an empty list in YAML."""
    return [] if value in ("none", []) else names(value)


def weights(value: str | float | Sequence[Any]) -> float | list[float]:
    """Return a number, or those of `1,3,10`, or a list in YAML."""
    numbers = radii(value)
    return numbers[0] if len(numbers) == 1 else numbers


def add_config(
    parser: CommandParser,
    config: type[Any],
    *,
    title: str,
    forms: Forms | None = None,
    leave_out: Collection[str] = (),
) -> None:
    """Add a flag for every field of the frozen dataclass `config`, with its default and help.

    Fields are declared by `robustkit.settings.setting`; one without a help text is a `KeyError`.
    `forms` holds arguments of `add_argument` for a field instead of its type; no flags are added
    for fields to `leave_out`.
    """
    group = parser.add_argument_group(title)
    hints = typing.get_type_hints(config)
    for field in dataclasses.fields(config):
        if field.name in leave_out:
            continue
        default = field.default
        if field.default_factory is not dataclasses.MISSING:
            default = field.default_factory()
        flag, text = f"--{field.name.replace('_', '-')}", field.metadata["help"]
        form = (forms or {}).get(field.name) or _type_arguments(hints[field.name])
        if isinstance(default, tuple) and form.get("nargs") == "+":
            default = list(default)
        group.add_argument(flag, default=default, help=text, **form)


def config_from(config: type[Config], settings: Mapping[str, Any]) -> Config:
    """Return the dataclass `config` with the settings of its fields; raises what its checks raise.

    Lists, which run folders make of tuples, become tuples again.
    """
    names = [field.name for field in dataclasses.fields(config)]  # type: ignore[arg-type]
    values = {name: settings[name] for name in names if name in settings}
    return config(**{n: tuple(v) if isinstance(v, list) else v for n, v in values.items()})


def plain(config: Any) -> Json:
    """Return the fields of a config dataclass as values that YAML and JSON have."""
    return {
        name: list(value) if isinstance(value, tuple) else value
        for name, value in dataclasses.asdict(config).items()
    }


def tidy(message: str) -> str:
    """Return a message of jsonargparse or argparse as a short line that begins with the option."""
    message = " ".join(message.split())
    for pattern, replacement in _WORDINGS:
        message = re.sub(pattern, replacement, message)
    return message


def named_modules(arguments: Sequence[str]) -> list[str]:
    """Return the modules that `--extend` names, before the parser checks the arguments."""
    values = [value for flag, value in pairwise(arguments) if flag == _FLAG and value[:2] != "--"]
    values += [text.partition("=")[2] for text in arguments if text.startswith(f"{_FLAG}=")]
    return [name for value in values for part in value.split(",") if (name := part.strip())]


def _load_modules(values: Json, given: Json) -> None:
    """Import the modules that flags or a file name; without any, drop the setting."""
    if not values["extend"]:
        del values["extend"]
        given.pop("extend", None)
    extensions.load(*values.get("extend", ()))


_NUMBER_TYPES = {float: real, float | None: real_or_none}


def _type_arguments(hint: Any) -> Mapping[str, Any]:
    if hint is bool:
        return {"action": ActionYesNo(yes_prefix="", no_prefix="no-")}
    return {"type": _NUMBER_TYPES.get(hint, hint)}


def _check_value(where: str, value: Any) -> None:
    """Raise `ConfigError` for numbers beyond 64 bits and texts that cannot be printed or saved."""
    if isinstance(value, int) and abs(value) >= 2**63:
        raise ConfigError(f"{where}: a number of {len(str(value))} digits is too large")
    if isinstance(value, str) and not is_printable(value):
        raise ConfigError(
            f"{where}: '{value}' holds control characters, or bytes that are no UTF-8"
        )
    parts: Any = value.items() if isinstance(value, dict) else value
    for part in parts if isinstance(value, dict | list | tuple) else ():
        _check_value(where, part)


def _check_loadable(action: Action, where: str, value: Any) -> None:
    """Raise `ConfigError` for texts that the parser would read as YAML without bounds."""
    if isinstance(value, str) and not _is_text(action):
        check_yaml(value, where, error=ConfigError)
    for part in value if isinstance(value, list) else ():
        _check_loadable(action, where, part)


def _nullable(action: Action) -> bool:
    """Return whether an option may be null; the parser itself takes null for anything."""
    kind = getattr(action, "_typehint", action.type)
    return action.default is None or kind is real_or_none or type(None) in typing.get_args(kind)


def _is_text(action: Action) -> bool:
    """Return whether an option has no type and so is text, which the parser does not check."""
    return action.type is None and action.nargs != 0 and isinstance(action, _StoreAction)


def _texts(file: str, name: str, value: Any) -> list[str]:
    """Return the value of an option that takes one text or several."""
    texts = [value] if isinstance(value, str) else value
    if not (isinstance(texts, list) and all(isinstance(text, str) for text in texts)):
        raise ConfigError(f"{file}: {name}: expected a text or a list of texts, not {value!r}")
    return texts


def _read_yaml(path: Path, command: str) -> Json:
    content = read_yaml(path, error=ConfigError)
    if isinstance(content, dict) and content.keys() >= {"verb", "config"}:
        if content["verb"] != command:  # this is a run folder's config.yaml
            raise ConfigError(f"{path}: holds options of '{content['verb']}', not of '{command}'")
        content = content["config"]
    if not isinstance(content, dict):
        raise ConfigError(f"{path}: expected a mapping of option names to values")
    return content


def _near(name: str, known: Sequence[str] | set[str]) -> str:
    # A command has dozens of options: the nearest one helps, the whole list would bury it.
    return did_you_mean(name, known).partition(" (known:")[0] or "; --help lists them"
