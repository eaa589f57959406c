"""The baselines: gradient descent on the same failures, of the last layer or the whole net."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from robustkit.attacks import predict, predicted_classes
from robustkit.compute import derive_seed, device_of, isolated_rng, torch_generator
from robustkit.compute.seeds import check_seed
from robustkit.data import ImageSet
from robustkit.errors import ConfigError, did_you_mean
from robustkit.models import Classifier
from robustkit.repair.fitness import allowed
from robustkit.repair.patch import Patch, difference
from robustkit.repair.repair import Repair, evaluate_patches
from robustkit.repair.sets import RepairSets, repair_sets
from robustkit.repair.weights import repairable

SCOPES = ("last", "all")


@dataclass(frozen=True, kw_only=True)
class TuneConfig:
    """Adam on batches of which half are failures, half images that are right.

    `scope` last changes the last fully connected layer, all every parameter; batch norm keeps its
    statistics. `anchor` weighs the divergence KL(before ‖ after) on the images that are right,
    beside the cross-entropy (a distillation as in positive-congruent training, Yan et al. 2021).
    Ends after `steps` or, if `seconds` is given, after that wall time, whichever is first; only
    without `seconds` is the result the same every time. Of `checks` states on the way, that of
    highest accuracy on the images repaired on is kept or, by `budget`, that with most failures
    repaired of those that break at most that share of what was right; with `halvings`, states
    that went 1/2, 1/4, … 2^-halvings of the way are candidates, too (weights between two models
    keep much of both: Wortsman et al. 2022).
    """

    scope: str = "last"
    steps: int = 2000
    seconds: float | None = None
    lr: float = 1e-3
    batch_size: int = 128
    checks: int = 20
    anchor: float = 0.0
    budget: float | None = None
    halvings: int = 0
    runs: int = 1
    labels: tuple[str, ...] = ()
    pairs: tuple[str, ...] = ()
    seed: int = 0

    def __post_init__(self) -> None:
        check_seed(self.seed)
        if self.scope not in SCOPES:
            raise ConfigError(f"unknown scope '{self.scope}'{did_you_mean(self.scope, SCOPES)}")
        for name in ("steps", "batch_size", "checks", "runs"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be at least 1, not {getattr(self, name)}")
        if not 0 < self.lr < math.inf:
            raise ConfigError(f"lr must be positive, not {self.lr:g}")
        if not 0 <= self.anchor < math.inf:
            raise ConfigError(f"anchor must not be negative, not {self.anchor:g}")
        if self.budget is not None and not 0 <= self.budget <= 1:
            raise ConfigError(f"budget must be in [0,1], a share of successes, not {self.budget:g}")
        if not 0 <= self.halvings <= 20:
            raise ConfigError(f"halvings must be from 0 to 20, not {self.halvings}")
        if self.seconds is not None and not 0 < self.seconds < math.inf:
            raise ConfigError(f"seconds must be positive, not {self.seconds:g}")


def tune(
    model: Classifier,
    config: TuneConfig,
    images: ImageSet,
    held_out: ImageSet | None = None,
) -> Repair:
    """Return a repair by gradient descent on `images`; the given model is never changed.

    Raises the errors of `repair`.
    """
    began = time.perf_counter()
    sets = repair_sets(model, images, labels=config.labels, pairs=config.pairs)
    tuned = [tune_run(model, config, images, sets, run) for run in range(config.runs)]
    seconds = time.perf_counter() - began
    return conclude_tuning(model, config, images, held_out, sets, tuned, seconds)


@dataclass(frozen=True, eq=False)
class Tuned:
    """One run's patch to its best state, its number of steps, and the score of that state."""

    patch: Patch
    steps: int
    score: float


def conclude_tuning(
    model: Classifier,
    config: TuneConfig,
    images: ImageSet,
    held_out: ImageSet | None,
    sets: RepairSets,
    tuned: Sequence[Tuned],
    seconds: float,
) -> Repair:
    """Evaluate the patches of all runs and choose that of best score, after so many `seconds`."""
    patches = [result.patch for result in tuned]
    evaluated = evaluate_patches(
        model, patches, images, held_out, sets, config.labels, config.pairs
    )
    runs = tuple(
        replace(run, iterations=result.steps) for run, result in zip(evaluated, tuned, strict=True)
    )
    best = max(range(len(runs)), key=lambda run: tuned[run].score)
    return Repair(sets, None, runs, best, "gradients", seconds)


def tune_run(
    model: Classifier, config: TuneConfig, images: ImageSet, sets: RepairSets, run: int
) -> Tuned:
    """Return the result of one run of `tune`, which depends on its own number alone."""
    seed = derive_seed("tune", config.seed, run)
    net = copy.deepcopy(model)
    view = _TrainedView(net, images, config.scope)
    parameters = view.parameters
    optimizer = torch.optim.Adam(parameters, lr=config.lr)
    generator = torch_generator("batches", seed)
    best = _score(sets.predicted, images, sets, config)
    kept = [each.detach().clone() for each in parameters]
    before = predict(model, images.images).softmax(dim=1) if config.anchor else None
    every = max(config.steps // config.checks, 1)
    began = time.perf_counter()
    seconds = math.inf if config.seconds is None else config.seconds
    checked = step = 0
    with isolated_rng(seed):
        while step < config.steps and time.perf_counter() - began < seconds:
            loss = _batch_loss(view, config, sets, before, generator)
            optimizer.zero_grad(set_to_none=True)
            torch.autograd.backward(loss, inputs=parameters)
            optimizer.step()
            step += 1
            spent = (time.perf_counter() - began) / seconds
            last = step == config.steps or spent >= 1
            if step % every == 0 or last or spent * config.checks >= checked + 1:
                checked += 1
                for state in view.on_the_way(config.halvings):
                    score = _score(view.predicted(), images, sets, config)
                    if score > best:
                        best, kept = score, state
    with torch.no_grad():
        for parameter, value in zip(parameters, kept, strict=True):
            parameter.copy_(value)
    return Tuned(difference(model, net), step, best)


def _batch_loss(
    view: _TrainedView,
    config: TuneConfig,
    sets: RepairSets,
    before: Tensor | None,
    generator: torch.Generator,
) -> Tensor:
    """Return the loss of a batch; `before` (N,K) are probabilities that successes are to keep."""
    half = max(config.batch_size // 2, 1)
    indices = (torch.nonzero(mask).squeeze(1) for mask in (sets.neg, sets.pos))
    parts = [
        group[torch.randint(len(group), (half,), generator=generator)]
        for group in indices
        if len(group)
    ]
    chosen = torch.cat(parts)
    logits = view.logits(chosen)
    loss = F.cross_entropy(logits, view.labels[chosen.to(view.labels.device)])
    if before is None or len(parts) < 2:
        return loss
    divergence = F.kl_div(
        logits[half:].log_softmax(dim=1), before[chosen[half:]].to(logits), reduction="batchmean"
    )
    return loss + config.anchor * divergence


def _score(predicted: Tensor, images: ImageSet, sets: RepairSets, config: TuneConfig) -> float:
    """Return the score of a state during training: larger is better, -inf beyond the budget."""
    right = predicted == images.labels
    if config.budget is None:
        return float(right.double().mean())
    broken = int((sets.pos & ~right).sum())
    if broken > allowed(config.budget, int(sets.pos.sum())):
        return -math.inf
    return float((sets.neg & right).sum()) - broken / len(images)


class _TrainedView:
    """The net in training, on images or, where its last layer alone is trained, on features."""

    def __init__(self, net: Classifier, images: ImageSet, scope: str) -> None:
        self.net, self.images = net, images
        self.device = device_of(net)
        self.labels = images.labels.to(self.device)
        if scope == "all":
            net.train()
            for module in net.modules():
                if isinstance(module, nn.modules.batchnorm._BatchNorm):
                    module.eval()
            self.features: Tensor | None = None
            self.train_only(net)
            return
        net.eval()
        (self.name,) = repairable(net, ("last",))
        layer = net.net.get_submodule(self.name)
        self.features = _features(net, layer, images)
        self.layer = layer
        self.train_only(layer)

    def train_only(self, module: nn.Module) -> None:
        """Train the parameters of `module`, be they frozen in the model given."""
        self.parameters = list(module.requires_grad_(True).parameters())
        self.first = [each.detach().clone() for each in self.parameters]

    @torch.no_grad()
    def on_the_way(self, halvings: int) -> Iterator[list[Tensor]]:
        """Yield the states on the way back to the net's first, halving by halving, set in place."""
        trained = [each.detach().clone() for each in self.parameters]
        for halving in range(halvings + 1):
            for parameter, first, last in zip(self.parameters, self.first, trained, strict=True):
                parameter.copy_(first.lerp(last, 0.5**halving) if halving else last)
            yield [each.detach().clone() for each in self.parameters]
        for parameter, last in zip(self.parameters, trained, strict=True):
            parameter.copy_(last)

    def logits(self, chosen: Tensor) -> Tensor:
        """Return logits of the images `chosen`, int64 (n,), differentiable."""
        if self.features is not None:
            logits: Tensor = self.layer(self.features[chosen])
            return logits
        whole: Tensor = self.net(self.images.floats(chosen).to(self.device))
        return whole

    def predicted(self) -> Tensor:
        """Return predictions int64 (N,) on all images, in evaluation mode."""
        if self.features is None:
            return predicted_classes(self.net, self.images.images)
        with torch.no_grad():
            predictions: Tensor = self.layer(self.features).argmax(dim=1)
        return predictions.cpu()


def _features(net: Classifier, layer: nn.Module, images: ImageSet) -> Tensor:
    """Return the inputs (N,d) of `layer`; raise `ConfigError` unless its outputs are the logits."""
    inputs: list[Tensor] = []
    outputs: list[Tensor] = []

    def hook(_: nn.Module, arguments: tuple[Tensor, ...], output: Tensor) -> None:
        inputs.append(arguments[0].detach())
        outputs.append(output.detach().float().cpu())

    predict(net, images.images[:1])  # measures the net, which the hook need not see
    handle = layer.register_forward_hook(hook)
    try:
        logits = predict(net, images.images)
    finally:
        handle.remove()
    given = torch.cat(outputs) if outputs else torch.empty(0)
    if len(given) != len(logits) or not torch.equal(given, logits):
        raise ConfigError(
            "the last fully connected layer does not give the logits: tune all (retrain)"
        )
    return torch.cat(inputs)
