"""What is ascended in intermediate features instead of at the output."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from robustkit.attacks.ascent import Ascent
from robustkit.attacks.components.base import Component, component
from robustkit.attacks.ensemble import Ensemble
from robustkit.attacks.norms import TINY
from robustkit.attacks.predictions import check_logits
from robustkit.attacks.ranges import (
    MOST_GRADIENT_STEPS,
    check_at_least_zero,
    check_count,
    check_share,
)
from robustkit.attacks.rewriting import Call, Rewritten, rewritten
from robustkit.errors import AttackError, did_you_mean
from robustkit.models import Classifier


class _EnoughError(Exception):
    """The features have been computed; nothing behind them is needed."""


def features_of(
    model: nn.Module, layer: nn.Module, images: Tensor, *, whole: bool = False
) -> tuple[Tensor, Tensor | None]:
    """Return what a `layer` of it gives for images (n,C,H,W), and with `whole` the logits (n,K)."""
    kept: list[Tensor] = []

    def keep(_: nn.Module, __: Any, output: Any) -> Tensor:
        if not isinstance(output, Tensor):
            raise AttackError("layer: what it gives is no tensor; name another with layer=NAME")
        kept.append(output)
        if not whole:
            raise _EnoughError
        return output.clone()  # what follows may be written into the very tensor

    if isinstance(layer, torch.jit.ScriptModule):
        raise AttackError("layer: a scripted net cannot be looked into")
    handle = layer.register_forward_hook(keep)
    try:
        logits = model(images)
    except _EnoughError:
        return kept[0], None
    finally:
        handle.remove()
    if not kept:
        raise AttackError("layer: it does not run for these images; name another with layer=NAME")
    check_logits(logits, model)
    return kept[0], logits


def net_of(model: nn.Module) -> nn.Module:
    """Return the net whose modules are named: without what prepares its input."""
    return model.net if isinstance(model, Classifier) else model


def layer_at(model: nn.Module, share: float, image: Tensor) -> str:
    """Return the module whose maps are taken by default: those behind a `share` of the layers.

    Of all modules of the net that run once and give maps or tokens for `image` (1,C,H,W), behind
    the share of convolutions and linear layers give or take a tenth, the outermost; of equals the
    nearest.
    """
    order: list[tuple[str, int]] = []
    modules = {name: module for name, module in net_of(model).named_modules() if name}
    layers, runs = 0, dict.fromkeys(modules, 0)
    handles = []

    def watch(name: str, module: nn.Module) -> None:
        def seen(_: nn.Module, __: Any, output: Any) -> None:
            nonlocal layers
            layers += isinstance(module, nn.Conv2d | nn.Linear)
            runs[name] += 1
            if isinstance(output, Tensor) and output.dim() >= 3:
                order.append((name, layers))

        handles.append(module.register_forward_hook(seen))

    for name, module in modules.items():
        watch(name, module)
    try:
        with torch.no_grad():
            model(image)
    finally:
        for handle in handles:
            handle.remove()
    once = [(name, behind) for name, behind in order if runs[name] == 1]
    if not once or not layers:
        raise AttackError("no layer of this net gives maps: name one with layer=NAME")
    apart = {name: abs(behind / layers - share) for name, behind in once}
    near = [name for name in apart if apart[name] <= 0.1] or [min(apart, key=apart.__getitem__)]
    return min(near, key=lambda name: (name.count("."), apart[name]))


@dataclass(frozen=True, kw_only=True)
class _OfALayer(Component):
    """What a component does with the features of one layer; None: in the middle of the net."""

    elsewhere: ClassVar[bool] = True
    depth: ClassVar[float] = 0.5
    layer: str | None = None

    def chosen(self, ascent: Ascent) -> nn.Module:
        """Return the layer; raises `AttackError` for an ensemble or an unknown name."""
        model = ascent.source
        if isinstance(model, Ensemble):
            raise AttackError(f"{self.name}: an ensemble has no layer in common; attack one net")
        modules = dict(net_of(model).named_modules())
        name = self.layer
        if name is None:
            name = layer_at(model, self.depth, ascent.clean[:1])
        if name not in modules:
            hint = did_you_mean(name, modules)
            raise AttackError(f"{self.name}: the net has no layer '{name}'{hint}")
        found: nn.Module = modules[name]
        return found

    def seen(self, images: Tensor, ascent: Ascent) -> Tensor:
        """Return the layer's features of images, with a graph."""
        assert ascent.layer is not None  # chosen before the first step
        return features_of(ascent.model, ascent.layer, images)[0]

    def slope(self, images: Tensor, labels: Tensor, ascent: Ascent, *, shares: bool) -> Tensor:
        """Return ∂z_y/∂features, of probabilities with `shares` (n,…)."""
        with torch.enable_grad():
            leaf = images.detach().requires_grad_(True)
            assert ascent.layer is not None  # chosen before the first step
            features, logits = features_of(ascent.model, ascent.layer, leaf, whole=True)
            assert logits is not None
            scores = logits.softmax(dim=1) if shares else logits
            own = scores.gather(1, labels[:, None]).sum()
            slope: Tensor = torch.autograd.grad(own, features)[0]
        return slope


def of_unit_length(values: Tensor) -> Tensor:
    """Return every row of values (n,…) divided by its Euclidean length."""
    size: Tensor = values.flatten(1).norm(dim=1).clamp_min(TINY)
    return values / size.view(-1, *[1] * (values.dim() - 1))


def product(first: Tensor, second: Tensor) -> Tensor:
    """Return the inner product of every row, (n,)."""
    sums: Tensor = (first * second).flatten(1).sum(dim=1)
    return sums


@component("fia")
@dataclass(frozen=True, kw_only=True)
class FeatureImportance(_OfALayer):
    """Features that matter, brought down: weights times features of a `layer` are descended.

    Weights are the class's gradients over `samples` copies with a share `dropped` of pixels black.
    """

    paper: ClassVar[str] = "Wang et al. 2021 (arXiv 2107.14185)"
    needs_target: ClassVar[bool | None] = False
    samples: int = 30
    dropped: float = 0.3

    def __post_init__(self) -> None:
        check_count("samples", self.samples)
        check_share("dropped", self.dropped)

    def prepare(self, ascent: Ascent) -> None:
        """Keep the weights of the clean images' features."""
        ascent.layer = self.chosen(ascent)
        total: Tensor | None = None
        for number in range(self.samples):
            luck = ascent.uniform("fia", ascent.clean.shape[1:], number)
            shown = ascent.clean * (luck >= self.dropped)
            slope = self.slope(shown, ascent.labels, ascent, shares=False)
            total = slope if total is None else total + slope
        assert total is not None
        ascent.keep("fia", of_unit_length(total))

    def objective(self, images: Tensor, ascent: Ascent) -> Tensor:
        """Return minus the weighted features, (n,)."""
        weights = ascent.recall("fia")
        assert weights is not None
        return -product(weights, self.seen(images, ascent))


@component("naa")
@dataclass(frozen=True, kw_only=True)
class NeuronAttribution(_OfALayer):
    """Attributions of a `layer`'s neurons, brought down: integrated gradients from a black image.

    Over `samples` places of the way.
    """

    paper: ClassVar[str] = "Zhang et al. 2022 (arXiv 2204.00008)"
    needs_target: ClassVar[bool | None] = False
    samples: int = 30

    def __post_init__(self) -> None:
        check_count("samples", self.samples)

    def prepare(self, ascent: Ascent) -> None:
        """Keep the mean gradients, and the features of black images."""
        ascent.layer = self.chosen(ascent)
        total: Tensor | None = None
        for number in range(1, self.samples + 1):
            shown = ascent.clean * (number / self.samples)
            slope = self.slope(shown, ascent.labels, ascent, shares=True)
            total = slope if total is None else total + slope
        assert total is not None
        ascent.keep("naa", total / self.samples)
        with torch.no_grad():
            ascent.keep("naa black", self.seen(torch.zeros_like(ascent.clean), ascent))

    def objective(self, images: Tensor, ascent: Ascent) -> Tensor:
        """Return minus the sum of attributions, (n,)."""
        weights, black = ascent.recall("naa"), ascent.recall("naa black")
        assert weights is not None
        assert black is not None
        return -product(weights, self.seen(images, ascent) - black)


@component("ila")
@dataclass(frozen=True, kw_only=True)
class IntermediateLevel(_OfALayer):
    """A second attack, from the clean image, that goes on in the direction the first has found.

    That direction is the change of a `layer`'s features; ascended are `extra` further steps, longer
    ones where they are fewer than those of the first attack.
    """

    paper: ClassVar[str] = "ILAP, Huang et al. 2019 (arXiv 1907.10823)"
    extra: int = 10

    def __post_init__(self) -> None:
        check_count("extra", self.extra, MOST_GRADIENT_STEPS)

    @property
    def further(self) -> int:
        """The steps of the second attack."""
        return self.extra

    def prepare(self, ascent: Ascent) -> None:
        """Keep the clean images' features."""
        ascent.layer = self.chosen(ascent)
        with torch.no_grad():
            ascent.keep("ila clean", self.seen(ascent.clean, ascent))

    def turn(self, adversarials: Tensor, ascent: Ascent) -> Tensor:
        """Keep the direction that was found; return the clean images."""
        clean = ascent.recall("ila clean")
        with torch.no_grad():
            found = self.seen(adversarials, ascent)
        assert clean is not None
        ascent.keep("ila", of_unit_length(found - clean))
        ascent.forget_all_but("ila", "ila clean")
        return ascent.originals

    def stride(self, step: Tensor, ascent: Ascent) -> Tensor:
        """Return the step; in the second attack all lead as far as those of the first."""
        return step * max(1.0, ascent.steps / self.extra) if "ila" in ascent.kept else step

    def objective(self, images: Tensor, ascent: Ascent) -> Tensor | None:
        """Return the projection on the direction, (n,); None during the first attack."""
        direction, clean = ascent.recall("ila"), ascent.recall("ila clean")
        if direction is None or clean is None:
            return None
        along = product(direction, self.seen(images, ascent) - clean)
        return -along if ascent.targeted else along


@component("fft")
@dataclass(frozen=True, kw_only=True)
class FeatureFineTuning(_OfALayer):
    """`extra` steps more of a targeted attack, by the features that make the target class.

    Weights are the target's gradients at the adversarial less `balance` times those of the clean
    image's own class; both over `samples` copies with a share `dropped` of pixels black. These
    steps are half as long.
    """

    paper: ClassVar[str] = "Zeng et al. 2024 (arXiv 2401.02727)"
    needs: ClassVar[str] = "a target"
    depth: ClassVar[float] = 0.75
    needs_target: ClassVar[bool | None] = True
    extra: int = 10
    samples: int = 30
    dropped: float = 0.3
    balance: float = 0.2

    def __post_init__(self) -> None:
        check_count("extra", self.extra, MOST_GRADIENT_STEPS)
        check_count("samples", self.samples)
        check_share("dropped", self.dropped)
        check_at_least_zero("balance", self.balance)

    @property
    def further(self) -> int:
        """The steps of the fine-tuning."""
        return self.extra

    def prepare(self, ascent: Ascent) -> None:
        """Choose the layer."""
        ascent.layer = self.chosen(ascent)

    def turn(self, adversarials: Tensor, ascent: Ascent) -> Tensor:
        """Keep the weights; return the adversarials."""
        with torch.no_grad():
            own = ascent.model(ascent.originals).argmax(dim=1)
        towards = self._gathered(adversarials, ascent.targets, ascent, 0)
        away = self._gathered(ascent.originals, own, ascent, self.samples)
        ascent.keep("fft", towards - self.balance * away)
        ascent.forget_all_but("fft")
        return adversarials

    def _gathered(self, images: Tensor, labels: Tensor, ascent: Ascent, first: int) -> Tensor:
        total: Tensor | None = None
        for number in range(first, first + self.samples):
            luck = ascent.uniform("fft", images.shape[1:], number)
            slope = self.slope(images * (luck >= self.dropped), labels, ascent, shares=False)
            total = slope if total is None else total + slope
        assert total is not None
        return of_unit_length(total)

    def objective(self, images: Tensor, ascent: Ascent) -> Tensor | None:
        """Return minus the weighted features, (n,), since a target is descended to."""
        weights = ascent.recall("fft")
        return None if weights is None else -product(weights, self.seen(images, ascent))

    def stride(self, step: Tensor, ascent: Ascent) -> Tensor:
        """Return the step, half as long in the fine-tuning."""
        return step / 2 if "fft" in ascent.kept else step


@component("cfm")
@dataclass(frozen=True, kw_only=True)
class CleanFeatureMixup(Component):
    """Features of other clean images mixed in, where maps are small: competition for the attack.

    With probability `chance` in every layer whose maps have at most a quarter of the image's side,
    each channel by a share of up to `most`.
    """

    paper: ClassVar[str] = "Byun et al. 2023 (arXiv 2305.14846)"
    needs: ClassVar[str] = "other images"
    mixes: ClassVar[bool] = True
    elsewhere: ClassVar[bool] = True
    pool: ClassVar[int] = 16  # other images whose features are kept
    chance: float = 0.1
    most: float = 0.75

    def __post_init__(self) -> None:
        check_share("chance", self.chance)
        check_share("most", self.most)

    def operated(self, model: nn.Module, ascent: Ascent) -> nn.Module:
        """Return the model that mixes; the others' features are kept when it first runs."""
        others = ascent.clean if ascent.others is None else ascent.others
        side = ascent.clean.shape[-1]
        kept: list[Tensor] = []

        def small(maps: Tensor, channels: int) -> bool:
            return maps.dim() != 4 or maps.shape[-2 if channels < 0 else -1] * 4 <= side

        def record(call: Call) -> Tensor:
            (maps,) = call.inputs
            # A copy: what follows may be written into the very tensor.
            known = small(maps, call.options["channels"])
            kept.append(maps.detach().clone() if known else maps.new_zeros(0))
            return maps

        def mix(call: Call) -> Tensor:
            (maps,) = call.inputs
            channels = call.options["channels"]
            if not small(maps, channels):
                return maps
            if len(maps) != call.images:
                raise AttackError("cfm: a net that folds windows into its batch is not known")
            place = call.number + ascent.copy * call.total
            luck = ascent.uniform("cfm", (2 + maps.shape[channels],), place)
            known = kept[call.number]
            other = known[(luck[:, 1] * len(known)).long().clamp(max=len(known) - 1)]
            share = self.most * luck[:, 2:] * (luck[:, :1] < self.chance)
            share = share.view(*share.shape, *[1] * (maps.dim() - 2)).movedim(1, channels)
            return (1 - share) * maps + share * other

        if isinstance(model, Ensemble):
            raise AttackError("cfm: features are of one net, not of an ensemble")
        recorder = Rewritten(ascent.source, ("layer",), record, self.name, others[:1])
        with torch.no_grad():
            recorder(others[: self.pool])
        return rewritten(model, ("layer",), mix, self.name, ascent)
