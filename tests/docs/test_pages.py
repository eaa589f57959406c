"""Commands on the pages parse, links lead somewhere, verbs have pages, keys are in summaries."""

from __future__ import annotations

import ast
import json
import re
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from adaptation.adapt import AdaptOptions
from adaptation.detect import DetectOptions
from adaptation.training import DetectionConfig
from evolution.protocol.config import EvolveConfig
from experiments.studies import find
from robustkit.cli.commands import find_commands, load_command
from robustkit.cli.parser import CommandParser, config_from
from robustkit.commands.attack import AttackConfig
from robustkit.commands.explain import ExplainOptions
from robustkit.commands.leaderboard.command import LeaderboardConfig
from robustkit.commands.repair import RepairOptions
from robustkit.commands.transfer import TransferConfig
from robustkit.training import TrainConfig
from tests.docs.reading import (
    PAGES,
    ROOT,
    anchors,
    commands,
    headings,
    inline_commands,
    links,
    name_of,
    nodes,
    summary_keys,
)

PARTS = ["Question", "Command", "Reading the report", "Pitfalls"]
# Settings that check themselves: `--method finetun` parses, and is refused by these.
SETTINGS: dict[str, tuple[type[Any], ...]] = {
    "train": (TrainConfig,),
    "evolve": (EvolveConfig,),
    "attack": (AttackConfig,),
    "transfer": (TransferConfig,),
    "leaderboard": (LeaderboardConfig,),
    "repair": (RepairOptions,),
    "explain": (ExplainOptions,),
    "adapt": (AdaptOptions, DetectionConfig),
    "detect": (DetectOptions,),
}
RESULTS = ROOT / "experiments" / "results"
COMMITTED = {
    "attack": RESULTS / "transfer-cifar10" / "attack",
    "transfer": RESULTS / "transfer-cifar10" / "transfer-mifgsm",
    "evolve": RESULTS / "misalignment-cifar10",
}
# Of these a finished run has none, or they came after the committed runs.
LATER = {
    "evolve": {
        *("trials_on_lower_rungs", "left_out", "warnings", "penalty_gap", "penalty"),
        *(f"comparisons.NET.{name}" for name in ("transfer", "unseen", "accuracy", "verdict")),
        *("qualification", "unseen.NET.mean", "unseen.NET.worst", "nets.NAME.transfer_from"),
        *("further_qualifications", "trials_stopped", "epochs_saved"),
    },
    "attack": {
        *("pixel_space.shape", "pixel_space.geometry", "pixel_space.whose", "pixel_space.models"),
        *("models.NAME.warnings", "models.NAME.notes"),
    },
    "transfer": {
        *("pixel_space", "round"),
        *("nets.NAME.clean", "nets.NAME.published", "nets.NAME.warnings"),
    },
}


@cache
def parser_of(verb: str) -> CommandParser:
    parser = CommandParser(verb)
    load_command(verb).add_arguments(parser)
    return parser


def check_command(arguments: list[str]) -> None:
    """Raise what the command line would, but for files that are not there."""
    verb, *rest = arguments
    assert verb in find_commands(), f"no verb '{verb}'"
    if "--extend" in rest:  # with names that those modules register: test_extending runs these
        return
    if "--config" in rest:
        place = rest.index("--config")
        file = ROOT / rest[place + 1]
        rest[place : place + 2] = ["--config", str(file)] if file.is_file() else []
    options = parser_of(verb).parse(rest)
    if options is None:  # it only printed them
        return
    if verb == "reproduce" and options.name is not None:
        find(options.name)
    for settings in SETTINGS.get(verb, ()):
        config_from(settings, options.values)


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_commands_parse(page: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in commands(page.read_text()):
        if not arguments[0].startswith("-"):
            check_command(arguments)
    capsys.readouterr()


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_commands_in_the_text_have_real_verbs_and_options(page: Path) -> None:
    for verb, *rest in inline_commands(page.read_text()):
        assert verb in find_commands(), f"robustkit {verb}"
        flags = {flag for action in parser_of(verb)._actions for flag in action.option_strings}
        wrong = {word for word in rest if word.startswith("--")} - flags
        assert not wrong, f"robustkit {verb} {' '.join(rest)}"
        if verb == "reproduce" and rest and rest[0].islower() and rest[0][0] != "-":
            find(rest[0])


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_somewhere(page: Path) -> None:
    text = page.read_text()
    dangling = []
    for target in links(text):
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        if not file.exists() or (anchor and anchor not in anchors(file.read_text())):
            dangling.append(target)
    assert not dangling


def test_pages_named_in_sources_exist() -> None:
    listed = subprocess.run(
        ["git", "ls-files", "*.py", "*.md", "*.cfg", "*.toml", "*.html", "Makefile"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if listed.returncode:
        pytest.skip("no checkout")
    named = {
        (file, found)
        for file in listed.stdout.splitlines()
        if (ROOT / file).is_file()
        for found in re.findall(r"\bdocs/[\w/-]+\.(?:md|png)\b", (ROOT / file).read_text())
    }
    assert named, "the README names pages"
    real = {pair for pair in named if not Path(pair[1]).stem.isupper()}  # docs/commands/NAME.md
    assert not {pair for pair in real if not (ROOT / pair[1]).is_file()}


@pytest.mark.parametrize("verb", find_commands())
def test_every_verb_has_a_page_of_four_parts(verb: str) -> None:
    text = (ROOT / "docs" / "commands" / f"{verb}.md").read_text()
    parts = [words for level, words in headings(text) if level == 2]
    assert parts == PARTS
    assert any(each[0] == verb for each in commands(text)), "it shows a command"
    index = (ROOT / "docs" / "README.md").read_text()
    assert f"commands/{verb}.md" in links(index), "the index names it"


@cache
def keys_in_code() -> re.Pattern[str]:
    """What code uses as a key or has as a field: keys of dicts, subscripts, fields, keywords."""
    found = {key for node in nodes() for key in _keys(node)}
    return re.compile("|".join(sorted(found)))


def _keys(node: ast.AST) -> Iterator[str]:
    named: list[ast.expr | None] = []
    if isinstance(node, ast.Dict):
        named = [*node.keys]
    elif isinstance(node, ast.Subscript):
        named = [node.slice]
    elif isinstance(node, ast.Tuple):  # names that a loop turns into keys
        named = [*node.elts]
    elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
        yield node.target.id
    elif isinstance(node, ast.keyword) and node.arg:
        yield node.arg
        if node.arg == "rename" and isinstance(node.value, ast.Dict):  # of a result's field
            named = [*node.value.values]
    for each in named:
        if isinstance(each, ast.Constant) and isinstance(each.value, str):
            yield re.escape(each.value)
        elif isinstance(each, ast.JoinedStr):  # f"robust_{domain}_ap50"
            parts = [str(v.value) if isinstance(v, ast.Constant) else "" for v in each.values]
            if sum(map(len, parts)) > 5:
                yield "".join(re.escape(part) or r"\w+" for part in parts)


def has_path(value: Any, parts: list[str]) -> bool:
    """Whether a summary has a key path, NAME in capitals being any key, `key[]` a list."""
    if not parts:
        return True
    part, rest = parts[0], parts[1:]
    name = part.removesuffix("[]")
    if not isinstance(value, dict):
        return False
    below = list(value.values()) if name.isupper() and name not in value else []
    below += [value[name]] if name in value else []
    if name != part:
        below = [item for each in below if isinstance(each, list) for item in each]
    return any(has_path(each, rest) for each in below)


@pytest.mark.parametrize("verb", find_commands())
def test_summary_keys_are_real(verb: str) -> None:
    keys = list(summary_keys((ROOT / "docs" / "commands" / f"{verb}.md").read_text()))
    own = load_command(verb)
    assert keys or not hasattr(own, "report")
    parts = {part.removesuffix("[]") for key in keys for part in key.split(".")}
    known = keys_in_code()
    assert not {part for part in parts if not part.isupper() and not known.fullmatch(part)}
    if verb in COMMITTED:
        summary = json.loads((COMMITTED[verb] / "summary.json").read_text())
        wrong = {key for key in keys if not has_path(summary, key.split("."))}
        assert wrong == LATER.get(verb, set())
