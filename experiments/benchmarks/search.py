"""A search beside DEAP's own loop over a DataLoader, and what it costs beside its trainings."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from evolution.genotype import Genotype
from experiments.benchmarks.deaploop import Replay
from experiments.benchmarks.figure import Figure
from experiments.benchmarks.peers import Agreement, Peer, versus
from experiments.benchmarks.record import Record, cost
from experiments.evolve.agenda import Agenda
from experiments.evolve.arm import SearchArm
from experiments.evolve.arms import search_settings
from experiments.evolve.config import EvolveConfig
from experiments.evolve.trying import Search
from experiments.evolve.workspace import Workspace
from experiments.options import plain
from robustkit import models
from robustkit.compute.executors import open_executor
from robustkit.runs import Ledger, RunFolder, Trial

OPTIONS = {"data": "digits", "root": None, "download": False, "device": "cpu"}
CONFIG = EvolveConfig(population=6, generations=2, eps=0.15, epochs=2)
ROUNDS = 3
PEER = "DEAP and DataLoader, R's gradients"
APART = 0.05  # mean accuracies of all nets this near are those of the same trainings
MACS = 3_000_000


def records() -> Iterator[Record]:
    """Inline searches of 2 generations of 6 on the embedded digits, ledger and all.

    DEAP's loop tries the very nets that ours has bred, in the same generations and for the same
    epochs; what both need beforehand (R, its adversarials) is made beforehand for both.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = RunFolder.create(
            Path(name) / "run", verb="evolve", config=OPTIONS | plain(CONFIG), command=[]
        )
        space = _prepared(folder)
        searching = _Searching(space, Path(name))
        shown = f"{CONFIG.population * CONFIG.generations} nets, {CONFIG.epochs} epochs each"
        yield from versus(
            f"a search of {shown}",
            searching.run,
            [
                Peer(
                    "DEAP and DataLoader, R's gradients live",
                    "deap",
                    lambda: searching.replay().live,
                ),
                Peer(
                    "DEAP and DataLoader, R's gradients kept",
                    "deap",
                    lambda: searching.replay().kept,
                ),
            ],
            _agree,
            rounds=ROUNDS,
            note="ours also has a ledger, cosines and checks for divergence",
        )
        yield cost(
            f"a search of {shown}: wall time outside training and scoring",
            Figure("outside", "s", tuple(searching.outside)),
            Figure("in all", "s", tuple(searching.walls)),
            at_most=0.10,
        )


@dataclass
class _Searching:
    """Our search, run as often as it is called; it notes its trials and its times."""

    space: Workspace
    place: Path
    trials: list[Trial] = field(default_factory=list)
    walls: list[float] = field(default_factory=list)
    outside: list[float] = field(default_factory=list)

    def run(self) -> list[float]:
        """The accuracy of every net that was tried."""
        start = time.perf_counter()
        with (
            Ledger.create(self.place / f"ledger-{len(self.walls)}.sqlite") as ledger,
            open_executor("inline") as executor,
        ):
            agenda = Agenda(executor, ledger, lambda trial: None)
            SearchArm(
                Search(arm="evolve", run_path=str(self.space.folder.path), seed=CONFIG.seed),
                CONFIG.strategy,
                search_settings(CONFIG, self.space.splits, baseline=0.9, macs=MACS),
                agenda,
                priority=0,
                done=lambda found: None,
            ).advance()
            agenda.work()
            self.trials = ledger.trials()
        self.walls.append(time.perf_counter() - start)
        self.outside.append(self.walls[-1] - sum(trial.seconds for trial in self.trials))
        return [trial.result["accuracy"] for trial in self.trials if trial.result is not None]

    def replay(self) -> Replay:
        """DEAP's loop over the nets that were tried."""
        tried = [trial for trial in self.trials if trial.outcome == "Ok"]
        return Replay(
            self.space, [Genotype.from_dict(trial.payload["genotype"]) for trial in tried]
        )


def _agree(ours: list[float], theirs: list[float]) -> Agreement:
    """As many nets, and on the mean as accurate: batches are drawn in another order."""
    means = [sum(each) / len(each) for each in (ours, theirs)]
    same = len(ours) == len(theirs) and abs(means[0] - means[1]) <= APART
    said = f"{len(ours)} and {len(theirs)} nets of mean accuracy {means[0]:.3f} and {means[1]:.3f}"
    return Agreement(same, said)


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
