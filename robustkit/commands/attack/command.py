"""`robustkit attack`: measure robust accuracy of any models, and whether the figure is evidence."""

from __future__ import annotations

from pathlib import Path

from robustkit.attacks import catalogue
from robustkit.cli.context import add_data_options, add_run_options, run_folder, settings
from robustkit.cli.models import add_model_options
from robustkit.cli.output import log, print_table
from robustkit.cli.parser import CommandParser, Forms, Options, add_config, radii
from robustkit.commands.attack import AttackConfig, attack_all, prepare, write_report
from robustkit.errors import ConfigError
from robustkit.report import eps_text, format_estimate
from robustkit.runs import RunFolder


def add_arguments(parser: CommandParser) -> None:
    """Declare models, images, attacks, and where to put the result."""
    parser.add_argument(
        "--list",
        action="store_true",
        help="list the attacks and the components that go behind them, as in mifgsm+di+ti; stop",
    )
    parser.add_argument(
        "--model",
        nargs="+",
        metavar="MODEL",
        default=[],
        help="model files, torchvision:NAME?weights=DEFAULT, timm:NAME?pretrained=true, "
        "robustbench:NAME, package.module:factory, FILE.py:factory; NAME=MODEL gives a name",
    )
    add_data_options(parser)
    add_model_options(parser)
    forms: Forms = {"attack": {"nargs": "+"}, "eps": {"type": radii}}
    add_config(parser, AttackConfig, title="attacks", forms=forms)
    add_run_options(parser, resumable=False)
    parser.arrange(
        first="model data attack eps norm test_size out",
        advanced="weights trust split batch_size restarts bf16 probe",
    )


def run(options: Options) -> int:
    """Attack every net and leave summary and report in a new run folder."""
    if options.list:
        print_table(("name", "parameters", "paper", "needs"), catalogue())
        return 0
    config = settings("attack", options)
    if not config["model"]:
        raise ConfigError("--model: name at least one model to attack")
    prepared = prepare(config)
    for line in prepared.models.lines():
        log(line)
    with run_folder("attack", options, config, keep_failed=False) as folder:
        summary = attack_all(prepared, log)
        folder.write_summary(summary.to_json())
        write_report(folder)
    for name, model in summary.models.items():
        log(
            f"{name}: clean {model.clean_acc:.1%}, robust {format_estimate(model, '.1%')} "
            f"at {summary.norm} "
            f"{eps_text(summary.eps[-1])}, n = {model.n}"
        )
        for finding in model.diagnostics:
            log(f"  ! {finding.name}: {finding.seen}; {finding.means}")
    log(f"report: {folder.file('report.html')}")
    return 0


def report(folder: RunFolder) -> Path:
    """Draw the report of a finished evaluation again."""
    return write_report(folder)
