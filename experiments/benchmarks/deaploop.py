"""The usual way to write such a search: DEAP's (mu + lambda) loop around torch's DataLoader."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from deap import algorithms, base, tools
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from evolution.genotype import Genotype
from experiments.evolve.workspace import Workspace
from robustkit import models
from robustkit.compute import derive_seed
from robustkit.models.card import Card
from robustkit.training import TrainConfig
from robustkit.training.optimisation import learning_rate


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
        """Search with R's gradients computed in every step; the accuracy of every net."""
        return self._search(kept=False)

    def kept(self) -> list[float]:
        """Search with R's gradients computed once, by us, as one more tensor of the set."""
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
    """Accuracy, transfer from R, and multiply-adds of a net after its training."""
    seed = derive_seed(space.config.seed, genotype.key(), 0)
    config = space.config.training(penalised=True, final=False, seed=seed)
    net = _fresh(genotype, space, seed)
    _train(net, space, config, kept=kept)
    val, made = space.splits.val, space.adversarials("R", "val", flipped=False)
    right = _predicted(net, val.floats()) == val.labels
    misled = _predicted(net, made.images) != val.labels
    common = right & made.correct
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
        tensors.append(space.reference_gradients.directions[0, : len(train)])
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
