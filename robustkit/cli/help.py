"""`--help` of a command: the options that matter first, the rest by topic, advanced ones apart."""

from __future__ import annotations

import textwrap
from argparse import Action, ArgumentParser, HelpFormatter, Namespace, _HelpAction
from collections.abc import Collection, Iterable, Sequence
from typing import Any

_LONGEST_DEFAULT = 40


class OptionFormatter(HelpFormatter):
    """One option a line: `--eps X`, what it means, and its default where it has one."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=26)

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        lines = textwrap.wrap(text, width - len(indent), break_on_hyphens=False)
        return "\n".join(indent + line for line in lines)

    def _get_help_string(self, action: Action) -> str:
        text = action.help or ""
        shown = _shown(action.default)
        if shown is None or action.nargs == 0 or "default" in text:
            return text
        return f"{text} (default: {shown})".replace("%", "%%")

    def _get_default_metavar_for_optional(self, action: Action) -> str:
        kind = str(getattr(action, "_typehint", None) or getattr(action, "type", None))
        if "int" in kind and "float" not in kind:
            return "N"
        if "radii" in kind:
            return "X,X"
        if "real" in kind or "float" in kind:
            return "X"
        return "A,B" if "tuple" in kind or "names" in kind else "NAME"


class HelpAll(_HelpAction):
    """`--help-all`: `--help` with the advanced options."""

    def __call__(
        self,
        parser: Any,
        namespace: Namespace,
        values: str | Sequence[Any] | None,
        option_string: str | None = None,
    ) -> None:
        """Print all options and leave."""
        parser.shows_all = True
        super().__call__(parser, namespace, values, option_string)


def format_help(parser: ArgumentParser, *, first: Collection[str], hidden: Collection[str]) -> str:
    """Return the help of `parser`: options named in `first`, then its groups, none of `hidden`."""
    formatter = OptionFormatter(parser.prog)
    named = [action for action in parser._actions if not action.option_strings]
    positional = "".join(f" [{action.metavar or action.dest}]" for action in named)
    formatter.add_text(f"usage: {parser.prog}{positional} [options]")
    formatter.add_text((parser.description or "").replace("%", "%%"))
    actions = {action.dest: action for action in parser._actions}
    _add(formatter, "the options that matter first", [actions[name] for name in first])
    for group in parser._action_groups:
        rest = [each for each in group._group_actions if each.dest not in (*first, *hidden)]
        _add(formatter, group.title or "options", rest)
    if hidden:
        flags = [f"--{name.replace('_', '-')}" for name in actions if name in hidden]
        _add_names(formatter, flags)
    return formatter.format_help()


def _add(formatter: HelpFormatter, title: str, actions: Iterable[Action]) -> None:
    formatter.start_section(title)
    formatter.add_arguments(actions)
    formatter.end_section()


def _add_names(formatter: HelpFormatter, flags: Sequence[str]) -> None:
    formatter.start_section("advanced, explained by --help-all")
    formatter.add_text(" ".join(flags))
    formatter.end_section()


def _shown(default: object) -> str | None:
    """Return a default as the user would type it; None where there is nothing to show."""
    if default is None or isinstance(default, bool) or default in ([], (), ""):
        return None
    if isinstance(default, float):
        levels = round(255 * default)
        return f"{levels}/255" if 0 < levels < 255 and default == levels / 255 else f"{default:g}"
    text = ",".join(map(str, default)) if isinstance(default, list | tuple) else str(default)
    return text if len(text) <= _LONGEST_DEFAULT else f"{text[:_LONGEST_DEFAULT]}…"
