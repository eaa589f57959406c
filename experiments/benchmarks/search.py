"""How much of a search's wall time is neither training nor scoring."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from experiments.benchmarks.timing import Claim
from experiments.evolve.agenda import Agenda
from experiments.evolve.arm import SearchArm
from experiments.evolve.arms import search_settings
from experiments.evolve.config import EvolveConfig
from experiments.evolve.trying import Search
from experiments.evolve.workspace import Workspace
from experiments.options import plain
from robustkit import models
from robustkit.compute.executors import open_executor
from robustkit.runs import Ledger, RunFolder

OPTIONS = {"data": "digits", "root": None, "download": False, "device": "cpu"}


def claims() -> Iterator[Claim]:
    """An inline search of 3 generations of 6 on the embedded digits, ledger and all."""
    config = EvolveConfig(population=6, generations=3, eps=0.15, epochs=4)
    with tempfile.TemporaryDirectory() as name:
        folder = RunFolder.create(
            Path(name) / "run", verb="evolve", config=OPTIONS | plain(config), command=[]
        )
        space = _prepared(folder)
        with (
            Ledger.create(folder.file("ledger.sqlite")) as ledger,
            open_executor("inline") as executor,
        ):
            agenda = Agenda(executor, ledger, lambda trial: None)
            start = time.perf_counter()
            SearchArm(
                Search(arm="evolve", run_path=str(folder.path), seed=config.seed),
                config.strategy,
                search_settings(config, space.splits, baseline=0.9, macs=3_000_000),
                agenda,
                priority=0,
                done=lambda found: None,
            ).advance()
            agenda.work()
            wall = time.perf_counter() - start
            inside = sum(trial.seconds for trial in ledger.trials())
            count = len(ledger.trials())
    yield Claim(
        "search wall time outside training and scoring",
        1 - inside / wall,
        0.10,
        at_most=True,
        unit="%",
        detail=f"{count} trials in {wall:.0f} s",
    )


def _prepared(folder: RunFolder) -> Workspace:
    """A workspace with a reference and everything trials need, so that only the search is timed."""
    space = Workspace(folder)
    space.scratch.mkdir()
    space.net_path("R").parent.mkdir()
    channels, size, _ = space.splits.train.shape
    net = models.build("small", num_classes=10, in_channels=channels, image_size=size, seed=0)
    models.save(net, space.net_path("R"))
    _ = space.views, space.reference_gradients, space.adversarials("R", "val", flipped=False)
    return space
