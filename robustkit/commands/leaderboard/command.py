"""`robustkit leaderboard`: rank transfer attacks on your models and pictures, with confidence."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from robustkit.cli.context import (
    add_data_options,
    add_executor_options,
    add_run_options,
    run_folder,
    settings,
)
from robustkit.cli.models import add_model_options
from robustkit.cli.output import log
from robustkit.cli.parser import CommandParser, Options, add_config, config_from
from robustkit.commands.leaderboard.pipeline import leaderboard, prepared_board, with_attack
from robustkit.commands.leaderboard.report import latex, ranks_of, table_rows, write_report
from robustkit.commands.leaderboard.result import Summary, in_order
from robustkit.commands.leaderboard.suite import attacks_of
from robustkit.commands.transfer.command import add_set_options
from robustkit.commands.transfer.preparation import TransferConfig
from robustkit.errors import ConfigError
from robustkit.jobs import executor_of
from robustkit.report import format_estimate
from robustkit.runs import RunFolder, write_text
from robustkit.settings import setting


@dataclass(frozen=True, kw_only=True)
class LeaderboardConfig:
    """Which attacks are compared, in which ball."""

    suite: str = setting("standard", "standard, quick, ensembles, or a YAML file with a list")
    attacks: tuple[str, ...] = setting((), "further attacks, such as mifgsm+di+vmi?samples=5")
    eps: float = setting(8 / 255, "radius, in units of images in [0,1], such as 8/255")
    norm: str = setting("linf", "of the ball: linf, l2, l1 or l0")
    ensembles: tuple[str, ...] = setting(
        (), "attack all sources as one instead of each: logits (mean logits), loss (mean loss)"
    )
    bf16: bool = setting(False, "gradients of our own attacks in bfloat16; scores stay in float32")
    seed: int = setting(0, "of random numbers and the choice of images")

    def __post_init__(self) -> None:
        made: dict[str, Mapping[str, Any]] = {}
        for attack in self.all_attacks():
            what = self.of(attack).make_attack().to_dict()
            same = next((name for name, other in made.items() if other == what), None)
            if same is not None:
                raise ConfigError(f"--suite: '{attack}' is the same attack as '{same}'")
            made[attack] = what

    def all_attacks(self) -> tuple[str, ...]:
        """Return the attacks of the suite and the further ones."""
        return attacks_of(self.suite, self.attacks)

    def of(self, attack: str) -> TransferConfig:
        """Return the settings of one attack; raises `RobustkitError` as these do."""
        return TransferConfig(
            attack=attack,
            eps=self.eps,
            norm=self.norm,
            ensembles=tuple(self.ensembles),
            bf16=self.bf16,
            seed=self.seed,
            control=False,
            gradients=0,
        )


def add_arguments(parser: CommandParser) -> None:
    """Declare models, images, attacks, and where to put the result."""
    for flag, what in (
        ("--sources", "adversarials are made on"),
        ("--targets", "are scored; none: the sources, each by the others"),
    ):
        parser.add_argument(
            flag,
            nargs="+",
            metavar="MODEL",
            default=[],
            help=f"models that {what}: files, torchvision:NAME?weights=DEFAULT, "
            "timm:NAME?pretrained=true, …; NAME=MODEL gives a name, |jpeg puts a defence in front",
        )
    add_data_options(parser)
    add_model_options(parser)
    forms: Any = {"attacks": {"nargs": "+"}, "ensembles": {"nargs": "+"}}
    add_config(parser, LeaderboardConfig, title="attacks", forms=forms)
    add_set_options(parser, kept="sets, predictions and what they took", exchanged=False)
    add_run_options(parser, resumable=False)
    add_executor_options(parser, "sets of adversarials", default="inline")
    parser.arrange(
        first="sources targets data suite attacks eps test_size out",
        advanced="weights trust split batch_size bf16 cache round ray_address cpus_per_trial "
        "gpus_per_trial",
    )


def run(options: Options) -> int:
    """Craft, score, rank, and leave summary, tables and report in a new run folder."""
    config = settings("leaderboard", options)
    if not config["sources"]:
        raise ConfigError("--sources: name at least one model to attack")
    of_board = config_from(LeaderboardConfig, config)
    attacks = of_board.all_attacks()
    plain = {
        **config,
        "targets": config["targets"] or config["sources"],
        "attack": attacks[0],
        "targeted": False,
        "control": False,
        "gradients": 0,
        "import": [],
        "export": "none",
    }
    with executor_of(config):  # one that cannot be had is found out before there is a folder
        prepared = prepared_board(plain)
    for attack in attacks:
        with_attack(prepared, attack).attack()
    for line in prepared.loaded.lines():
        log(line)
    with run_folder("leaderboard", options, config, keep_failed=False) as folder:
        summary = leaderboard(prepared, attacks, plain, log)
        folder.write_summary(summary.to_json())
        _write_tables(summary, folder)
        write_report(folder)
    for note in prepared.store.notes:
        log(f"cache: {note}")
    for line in _lines(summary):
        log(line)
    log(f"report: {folder.file('report.html')}")
    return 0


def report(folder: RunFolder) -> Path:
    """Draw the report of a finished leaderboard again."""
    return write_report(folder)


def _write_tables(summary: Summary, folder: RunFolder) -> None:
    """Write `leaderboard.csv` and `leaderboard.tex`."""
    head, rows = table_rows(summary)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerows([head, *rows])
    write_text(folder.file("leaderboard.csv"), text.getvalue())
    write_text(folder.file("leaderboard.tex"), latex(summary))


def _lines(summary: Summary) -> list[str]:
    """Return the ranks as lines of text."""
    lines = [f"success on others' nets, over the {summary.n_common:,} images all nets get right:"]
    for name in in_order(summary):
        entry = summary.attacks[name]
        if entry.score is None or entry.score.value is None:
            why: Mapping[str, str] = entry.refused
            told = next(iter(why.values()), f"{summary.n_common} images that all nets get right")
            lines.append(f"  –  {name}: {told}")
        else:
            lines.append(f"  {ranks_of(entry)}  {name}: {format_estimate(entry.score, '.1%')}")
    return lines
