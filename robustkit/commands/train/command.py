"""`robustkit train`: train a classifier: plain, adversarially, or away from another's gradients."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

from robustkit.cli.context import add_data_options, add_run_options, run_folder, settings
from robustkit.cli.models import add_trust_option
from robustkit.cli.output import log
from robustkit.cli.parser import CommandParser, Options, add_config, several
from robustkit.commands.train import prepare, rates, train, write_report
from robustkit.commands.train.pipeline import Watcher, check_tensorboard, tensorboard
from robustkit.runs import RunFolder
from robustkit.training import EpochRecord, TrainConfig


def add_arguments(parser: CommandParser) -> None:
    """Declare data, model, the training configuration, and where to put the result."""
    add_data_options(parser)
    parser.add_argument(
        "--train-size", type=int | None, metavar="N", help="train on N images, classes kept even"
    )
    group = parser.add_argument_group("model")
    group.add_argument(
        "--model",
        default="small",
        help="name in the zoo, torchvision:NAME?weights=DEFAULT, timm:NAME?pretrained=true, "
        "package.module:factory, FILE.py:factory, or a .safetensors file",
    )
    group.add_argument("--weights", metavar="FILE", help="state dict to start from")
    add_trust_option(group)
    group.add_argument(
        "--penalty-against",
        metavar="MODEL",
        action="append",
        type=several,
        default=[],
        help="model to be misaligned with; may be repeated",
    )
    add_config(parser, TrainConfig, title="training")
    add_run_options(parser, resumable=False)
    parser.add_argument(
        "--tensorboard", action="store_true", help="write event files for TensorBoard, too"
    )
    parser.arrange(
        first="data model epochs adversarial eps penalty_against lam out",
        advanced="weights trust train_size tensorboard momentum nesterov schedule warmup views "
        "penalty_views lam_ramp penalty_every phi grad_loss penalty_stats bf16 channels_last",
    )


def run(options: Options) -> int:
    """Train and leave model, history, summary and report in a new run folder."""
    config = settings("train", options)
    if config["tensorboard"]:
        check_tensorboard()
    prepared = prepare(config)
    for note in prepared.model.notes:
        log(f"model: {note}")
    with run_folder("train", options, config) as folder, ExitStack() as stack:
        watchers: list[Watcher] = [_show]
        if config["tensorboard"]:
            watchers.append(stack.enter_context(tensorboard(folder.file("tensorboard"))))
        summary = train(prepared, folder, watchers)
        folder.write_summary(summary.to_json())
        write_report(folder)
    for name, rate in rates(summary):
        log(f"{name}: {rate.striptags()}")
    for finding in summary.robust.diagnostics if summary.robust else []:
        log(f"  ! {finding.name}: {finding.seen}; {finding.means}")
    log(f"model: {folder.file('model.safetensors')}")
    log(f"report: {folder.file('report.html')}")
    return 0


def report(folder: RunFolder) -> Path:
    """Draw the report of a finished training again."""
    return write_report(folder)


def _show(epoch: EpochRecord) -> None:
    penalty = "" if epoch.penalty is None else f"  penalty {epoch.penalty:.4f}"
    log(
        f"epoch {epoch.epoch}  train loss {epoch.train_loss:.4f}  "
        f"val accuracy {epoch.val_acc:.4f}{penalty}  {epoch.seconds:.1f} s",
    )
