"""`robustkit adapt`: train detectors for a domain without labels, recipe by recipe."""

from __future__ import annotations

from pathlib import Path

from adaptation.adapt import (
    SET_BY_RECIPES,
    AdaptOptions,
    cautions,
    check_named,
    check_recipes,
    load_domains,
    make_detector,
    run_adapt,
    summary_of,
    write_report,
)
from adaptation.recipes import recipe
from adaptation.training import DetectionConfig, batch_norms
from robustkit.cli.context import add_executor_options, add_run_options, run_folder, settings
from robustkit.cli.output import log
from robustkit.cli.parser import (
    CommandParser,
    Forms,
    Options,
    add_config,
    config_from,
    names,
    names_or_none,
)
from robustkit.compute import resolve_device
from robustkit.runs import RunFolder


def add_arguments(parser: CommandParser) -> None:
    """Declare the two domains, the detector, the recipes and their training."""
    forms: Forms = {
        **{name: {"type": names} for name in ("recipe", "taps", "trust")},
        "choose": {"nargs": "+", "metavar": "NAME=VALUE,VALUE"},
    }
    add_config(parser, AdaptOptions, title="adaptation", forms=forms)
    add_config(
        parser,
        DetectionConfig,
        title="training",
        leave_out=SET_BY_RECIPES,
        forms={"augment": {"type": names_or_none}},
    )
    add_executor_options(parser, "trainings")
    add_run_options(parser, resumable=True)
    parser.arrange(
        first="source target detector backbone recipe steps eps seeds out",
        advanced="taps trust choose choose_tolerance val_share judge_eps judge_steps judge_images "
        "threshold momentum weight_decay warmup clip layer_decay augment loader_workers bf16 "
        "shards adv_loss alpha adv_steps replays eps_warmup local_weight global_weight reversal "
        "ema sure burn_in pseudo ray_address cpus_per_trial gpus_per_trial",
    )


def run(options: Options) -> int:
    """Train and evaluate every recipe; leave detectors, summary and report in the run folder."""
    config = settings("adapt", options)
    chosen, base = config_from(AdaptOptions, config), config_from(DetectionConfig, config)
    check_recipes(chosen, base)
    resolve_device(config["device"])
    if options.resume is None:
        # Mistakes in what is named show before there is a folder.
        source, _ = load_domains(chosen)
        detector = make_detector(chosen, source.train.classes, 0)
        if any(recipe(name).adabn for name in chosen.recipes):
            batch_norms(detector)
        for note in detector.notes:
            log(note)
    else:
        check_named(chosen, options.given, options.resume)
    kept = options.resume is not None
    with run_folder("adapt", options, config, keep_failed=kept) as folder:
        if folder.summary() is None:
            folder.write_summary(run_adapt(folder, log).to_json())
        path = write_report(folder, trust=chosen.trusted)
    summary = summary_of(folder)
    for name, result in summary.recipes.items():
        precisions = {"source": result.source.ap50_area, "target": result.target.ap50_area}
        text = ", ".join(
            f"{domain} –" if ap is None else f"{domain} {100 * ap:.1f} %"
            for domain, ap in precisions.items()
        )
        log(f"{name}: AP50 {text} ({result.seeds} trainings)")
    for line in cautions(summary):
        log(line)
    measured = summary.measured
    ratio = "" if measured is None else f" (ratio {measured.ratio:.1f})"
    log(summary.advice + ratio)
    log(f"report: {path}")
    return 0


def report(folder: RunFolder) -> Path:
    """Draw the report of a finished adaptation anew."""
    return write_report(folder)
