"""A search beside DEAP's own loop over a DataLoader, and what it costs beside its trainings."""

from __future__ import annotations

import random
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
import torch.nn.functional as F
from deap import algorithms, base, tools
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from evolution.genotype import Genotype
from evolution.protocol.config import EvolveConfig
from evolution.protocol.search import CandidateTasks, Search, search_settings
from evolution.protocol.workspace import Workspace
from evolution.runner import Scheduler, generational
from evolution.strategies import open_strategy
from experiments.benchmarks.peers import Agreement, Peer, versus
from experiments.benchmarks.record import Record, Value, cost
from robustkit import models
from robustkit.cli.parser import plain
from robustkit.compute import derive_seed
from robustkit.jobs import open_executor
from robustkit.models.card import Card
from robustkit.runs import Entry, Ledger, RunFolder
from robustkit.training import TrainConfig
from robustkit.training.fit import learning_rate


class _Fitness(base.Fitness):  # type: ignore[misc]
    """Accuracy up, transfer and cost down."""

    weights = (1.0, -1.0, -1.0)


class _Individual(list[Genotype]):
    """A list, as DEAP has it, of one genotype."""

    def __init__(self, genotypes: Sequence[Genotype]) -> None:
        super().__init__(genotypes)
        self.fitness = _Fitness()


@dataclass(frozen=True, eq=False)
class Replay:
    """`eaMuPlusLambda` with selNSGA2 and `map`, its variation handing out `genotypes` in order.

    So it tries the nets that another search has bred. Trainings take the same loss, optimiser,
    batches and epochs as ours. The DataLoader has no workers: for images that are in memory they
    would only cost.
    """

    space: Workspace
    genotypes: Sequence[Genotype]

    def live(self) -> list[float]:
        """Search with R's gradients computed in every step; return the accuracy of every net."""
        return self._search(kept=False)

    def kept(self) -> list[float]:
        """Search with R's gradients computed once, as one more tensor of the set."""
        return self._search(kept=True)

    def _search(self, *, kept: bool) -> list[float]:
        config = self.space.config
        coming = iter(self.genotypes)
        accuracies: list[float] = []

        def evaluate(individual: _Individual) -> tuple[float, float, float]:
            values = _tried(individual[0], self.space, kept=kept)
            accuracies.append(values[0])
            return values

        def vary(individual: _Individual) -> tuple[_Individual]:
            individual[0] = next(coming)
            return (individual,)

        toolbox = base.Toolbox()
        toolbox.register("map", map)
        toolbox.register("evaluate", evaluate)
        toolbox.register("mate", tools.cxOnePoint)
        toolbox.register("mutate", vary)
        toolbox.register("select", tools.selNSGA2)
        random.seed(0)
        first = [_Individual([next(coming)]) for _ in range(config.population)]
        left = len(self.genotypes) - len(first)
        generations, rest = divmod(left, config.population)
        size = config.population
        sizes = {"mu": size, "lambda_": size, "cxpb": 0.0, "mutpb": 1.0, "verbose": False}
        front = tools.ParetoFront()
        population, _ = algorithms.eaMuPlusLambda(
            first, toolbox, ngen=generations, halloffame=front, **sizes
        )
        if rest:  # of a search whose last generation was not a whole one
            sizes["lambda_"] = rest
            algorithms.eaMuPlusLambda(population, toolbox, ngen=1, halloffame=front, **sizes)
        return accuracies


def _tried(genotype: Genotype, space: Workspace, *, kept: bool) -> tuple[float, float, float]:
    """Return accuracy, transfer from R, and multiply-adds of a net after its training."""
    seed = derive_seed(space.config.seed, genotype.key(), 0)
    config = space.config.training(penalised=True, final=False, seed=seed)
    net = _fresh(genotype, space, seed)
    _train(net, space, config, kept=kept)
    val, adversarials = space.splits.val, space.adversarials("R", "val", flipped=False)
    right = _predicted(net, val.floats()) == val.labels
    misled = _predicted(net, adversarials.images) != val.labels
    common = right & adversarials.correct
    transfer = float(misled[common].double().mean()) if bool(common.any()) else 1.0
    return float(right.double().mean()), transfer, models.cost(net, space.splits.train.shape).macs


def _fresh(genotype: Genotype, space: Workspace, seed: int) -> models.Classifier:
    mean, std = space.stats
    card = Card.trained_on(
        architecture={"family": "blueprint", "blueprint": genotype.blueprint().to_dict()},
        classes=space.splits.train.classes,
        input_shape=space.splits.train.shape,
        mean=mean,
        std=std,
    )
    return models.rebuild(card, seed=seed)


def _train(net: nn.Module, space: Workspace, config: TrainConfig, *, kept: bool) -> None:
    train, val = space.splits.train, space.splits.val
    tensors = [train.floats(), train.labels]
    if kept:
        tensors.append(space.reference_gradients[0].directions[0, : len(train)])
    torch.manual_seed(config.seed)
    loader = DataLoader(
        TensorDataset(*tensors), batch_size=config.batch_size, shuffle=True, drop_last=True
    )
    reference = space.net("R").eval().requires_grad_(False)
    optimizer = torch.optim.SGD(
        net.parameters(),
        lr=config.lr,
        momentum=config.momentum,
        nesterov=config.nesterov,
        weight_decay=config.weight_decay,
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: learning_rate(config, step, len(loader)) / config.lr
    )
    for _ in range(config.epochs):
        net.train()
        for images, labels, *directions in loader:
            images.requires_grad_(True)
            other = directions[0].float() if kept else _gradient(reference, images, labels)
            loss = F.cross_entropy(net(images), labels, reduction="sum")
            (own,) = torch.autograd.grad(loss, images, create_graph=True)
            cosine = F.cosine_similarity(own.flatten(1), other.flatten(1))
            optimizer.zero_grad()
            total = loss / len(labels) + config.lam * cosine.square().mean()
            torch.autograd.backward(total)
            optimizer.step()
            schedule.step()
        _predicted(net, val.floats())


def _gradient(net: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    loss = F.cross_entropy(net(images), labels, reduction="sum")
    (gradient,) = torch.autograd.grad(loss, images)
    return gradient


def _predicted(net: nn.Module, images: Tensor) -> Tensor:
    net.eval()
    with torch.no_grad():
        said: Tensor = net(images).argmax(dim=1)
    return said


OPTIONS = {"data": "digits", "root": None, "download": False, "device": "cpu"}
CONFIG = EvolveConfig(population=6, generations=2, eps=0.15, epochs=2, lam=1.0, penalty_every=1)
ROUNDS = 3
APART = 0.05  # mean accuracies of all nets this near are those of the same trainings
MACS = 3_000_000


def records() -> Iterator[Record]:
    """Yield inline searches of 2 generations of 6 on the embedded digits, ledger and all.

    DEAP's loop tries the very nets that ours has bred, in the same generations and for the same
    epochs; what both need beforehand (R, its adversarials) is made beforehand for both.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = RunFolder.create(
            Path(name) / "run", command="evolve", config=OPTIONS | plain(CONFIG), argv=[]
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
            Value("outside", "s", tuple(searching.outside)),
            Value("in all", "s", tuple(searching.walls)),
            at_most=0.10,
        )


@dataclass
class _Searching:
    """Our search, run as often as it is called; it notes its trials and its times."""

    space: Workspace
    place: Path
    trials: list[Entry] = field(default_factory=list)
    walls: list[float] = field(default_factory=list)
    outside: list[float] = field(default_factory=list)

    def run(self) -> list[float]:
        """Return the accuracy of every net that was tried."""
        start = time.perf_counter()
        with (
            Ledger.create(self.place / f"ledger-{len(self.walls)}.sqlite") as ledger,
            open_executor("inline") as executor,
        ):
            settings = search_settings(CONFIG, self.space.splits, baseline=0.9, macs=MACS)
            run_path = str(self.space.folder.path)
            tasks = CandidateTasks(Search(name="evolve", run_path=run_path, seed=CONFIG.seed))
            scheduler = Scheduler(executor, ledger)
            strategy = open_strategy(CONFIG.strategy, settings)
            scheduler.run(generational(strategy, scheduler, tasks.trial))
            self.trials = ledger.trials()
        self.walls.append(time.perf_counter() - start)
        self.outside.append(self.walls[-1] - sum(trial.seconds for trial in self.trials))
        return [trial.result["accuracy"] for trial in self.trials if trial.result is not None]

    def replay(self) -> Replay:
        """Return DEAP's loop over the nets that were tried."""
        tried = [trial for trial in self.trials if trial.outcome == "Ok"]
        return Replay(
            self.space, [Genotype.from_dict(trial.payload["genotype"]) for trial in tried]
        )


def _agree(ours: list[float], theirs: list[float]) -> Agreement:
    """Return whether as many nets were trained to nearly the same mean accuracy."""
    means = [sum(each) / len(each) for each in (ours, theirs)]
    same = len(ours) == len(theirs) and abs(means[0] - means[1]) <= APART
    said = f"{len(ours)} and {len(theirs)} nets of mean accuracy {means[0]:.3f} and {means[1]:.3f}"
    return Agreement(same, said)


def _prepared(folder: RunFolder) -> Workspace:
    """Return a workspace with a reference and all that trials need, so that only search is
    timed.
    """
    space = Workspace(folder)
    space.scratch.mkdir()
    space.net_path("R").parent.mkdir()
    channels, size, _ = space.splits.train.shape
    net = models.build("small", num_classes=10, in_channels=channels, image_size=size, seed=0)
    models.save(net, space.net_path("R"))
    _ = space.views, space.reference_gradients, space.adversarials("R", "val", flipped=False)
    return space
