"""One forward pass, kept; every map is read from it."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any, Concatenate, ParamSpec, TypeVar

import torch
from torch import Tensor, nn

from robustkit.attacks.purity import pure
from robustkit.compute import device_of, exact_products
from robustkit.errors import ExplainError
from robustkit.explain.layers import AUTO, INPUT, automatic, cuts, wanted_modules
from robustkit.explain.recording import Record, Recording
from robustkit.explain.rules import GRADIENT, SECANT, Frozen, Gate, Pass, Relu, Smooth
from robustkit.explain.targets import Target, class_targets

P = ParamSpec("P")
R = TypeVar("R")


@dataclass(frozen=True, eq=False)
class Backward:
    """What one backward pass found: `slopes` by layer, of the layer's shape, and bias terms.

    `terms` maps a place in the forward pass to Σ bias · slope (N,).
    """

    slopes: Mapping[str, Tensor]
    terms: Mapping[int, Tensor]


@dataclass(eq=False)
class Trace:
    """A forward pass of `images` (N,C,H,W): `logits` (N,K), `targets` int64 (N,), `score` (N,).

    `layers` maps names, from the input on, to activations (N,…), detached. Whatever is computed
    from a trace costs one backward pass for each rule at most; a trace ends with its `with`.
    """

    images: Tensor
    logits: Tensor
    targets: Tensor
    score: Tensor
    layers: Mapping[str, Tensor]
    places: Mapping[str, int]
    cut: frozenset[str]
    record: Record
    _live: dict[str, Tensor] = field(default_factory=dict, repr=False)
    _score: Tensor | None = field(default=None, repr=False)
    _known: dict[tuple[str, bool], Backward] = field(default_factory=dict, repr=False)

    @property
    def modules(self) -> list[str]:
        """The modules that the image went through, as it met them first."""
        return list(dict.fromkeys(step.module for step in self.record.steps))

    def backward(self, rule: str = GRADIENT, *, paper: bool = False) -> Backward:
        """The slopes of the score at every layer by `rule`, once computed and then kept.

        Where every operation is piecewise linear, derivative and secant are one, and one pass
        serves both.
        """
        if rule == GRADIENT and not self.record.smooth:
            rule = SECANT
        key = (rule, paper and self.record.smooth)
        if key not in self._known:
            self._known[key] = self._run(rule, paper)
        return self._known[key]

    def _run(self, rule: str, paper: bool) -> Backward:
        if self._score is None:
            raise ExplainError("the trace has ended: read its maps inside its with block")
        now: Pass = self.record.now
        now.rule, now.paper, now.terms = rule, paper, {}
        with _exactly(self._score), _versions():
            found = torch.autograd.grad(
                self._score.sum(), list(self._live.values()), retain_graph=True, allow_unused=True
            )
        slopes = {
            name: torch.zeros_like(live) if slope is None else slope
            for (name, live), slope in zip(self._live.items(), found, strict=True)
        }
        return Backward(slopes, now.terms)

    def pull(self, layer: str, to: str, slope: Tensor) -> Tensor:
        """Take `slope`, at the output of `layer`, back to the layer `to`, by the secant rule."""
        if self._score is None:
            raise ExplainError("the trace has ended: read its maps inside its with block")
        now = self.record.now
        now.rule, now.paper, now.terms = SECANT, False, {}
        with _exactly(slope), _versions():
            (found,) = torch.autograd.grad(
                self._live[layer], self._live[to], slope, retain_graph=True, allow_unused=True
            )
        return torch.zeros_like(self._live[to]) if found is None else found

    def foreign(self) -> set[str]:
        """Names of functions in the graph that bring a backward of their own and are not ours."""
        if self._score is None:
            return set()
        found: set[str] = set()
        seen: set[Any] = set()
        waiting: list[Any] = [self._score.grad_fn]
        while waiting:
            node = waiting.pop()
            if node is None or node in seen:
                continue
            seen.add(node)
            own = getattr(node, "_forward_cls", None)
            if own is not None and own not in (Relu, Smooth, Frozen, Gate):
                found.add(own.__name__)
            waiting += [each for each, _ in node.next_functions]
        return found

    def end(self) -> None:
        """Let go of the graph."""
        self._live, self._score = {}, None
        self.record.kept.clear()


@contextmanager
def trace(
    model: nn.Module,
    images: Tensor,
    target: Target = "predicted",
    layers: Sequence[str] = (AUTO,),
) -> Iterator[Trace]:
    """Run `model` once on `images` (N,C,H,W), in evaluation mode, and keep what maps need.

    `target` is a class for all images, one for each (N,), or "predicted". `layers` are names of
    modules or of their types, "auto" (the last cut of every stage) and "input", which is
    always there. A module that is called several times gives NAME, NAME#2, …. Functional, reused
    and in-place operations are seen as any other. The model is left as it was.

    Raises `ExplainError` for a layer or target that does not exist, and for batch norm in training
    mode.
    """
    _refuse_training(model)
    if images.dim() != 4 or not images.is_floating_point() or not len(images):
        kind = str(images.dtype).removeprefix("torch.")
        raise ExplainError(
            f"images must be float (N,C,H,W) in [0,1], not {kind} {tuple(images.shape)}"
        )
    names = wanted_modules(model, layers)
    record = Record()
    with pure(model), torch.enable_grad():
        leaf = images.detach().to(device_of(model)).requires_grad_(True)
        recording = Recording(record, leaf)
        captured: dict[str, Tensor] = {}
        with ExitStack() as hooks, _exactly(leaf), exact_products(), recording:
            for name, module in model.named_modules():
                if isinstance(module, torch.jit.ScriptModule):
                    record.unknown.setdefault(name, "what is compiled")
                    continue
                hooks.enter_context(_watched(name, module, recording, names, captured))
            logits = model(leaf)
            if isinstance(logits, Tensor):
                logits = recording._current(logits)
    _check_logits(logits, len(images))
    record.settle(id(leaf), id(logits))
    tensors = {id(each): each for each in record.kept}
    live = {INPUT: leaf}
    if AUTO in layers:
        found = {name: tensors[key] for name, key in automatic(record, tensors, id(leaf)).items()}
        captured = {**found, **{k: v for k, v in captured.items() if k not in found}}
    order = {key: place for place, step in enumerate(record.steps) for key in step.outputs}
    order[id(leaf)] = -1
    for name in sorted(captured, key=lambda each: order.get(id(captured[each]), -1)):
        # A module may be called "input", too.
        called = name if name != INPUT else f"{INPUT} (a module)"
        live[called] = _checked(name, captured[name], len(images))
        if record.axis.get(id(captured[name]), 1) != 1:
            raise ExplainError(
                f"layer '{name}' has its channels last, (N,H,W,C): maps need (N,C,H,W); name a "
                "layer before or behind it"
            )
    targets = class_targets(target, logits)
    score = logits.gather(1, targets[:, None])[:, 0]
    at_cut = {record.steps[place].outputs[0] for place in cuts(record, id(leaf))}
    at_cut |= {id(leaf), id(logits)}
    made = Trace(
        images=images,
        logits=logits.detach(),
        targets=targets,
        score=score.detach(),
        layers={name: each.detach() for name, each in live.items()},
        places={name: order.get(id(each), -1) for name, each in live.items()},
        cut=frozenset(name for name, each in live.items() if id(each) in at_cut),
        record=record,
        _live=live,
        _score=score,
    )
    try:
        with exact_products():  # maps are made of gradients, as long as they last
            yield made
    finally:
        made.end()


def of_model_or_trace(function: Callable[Concatenate[Trace, P], R]) -> Callable[..., R]:
    """Let a function of a trace take a model, images and a target in its place.

    f(model, images, target="predicted", …, layers=("auto",)) makes a trace of its own, in
    evaluation mode, and leaves the model in the mode it was in. Several maps of one trace cost one
    forward pass. Raises `ExplainError` for layers given beside a trace, and as `trace` does.
    """

    @functools.wraps(function)
    def wrapped(*args: Any, **kwargs: Any) -> R:
        if isinstance(args[0] if args else kwargs.get("trace"), Trace):
            if "layers" in kwargs:
                raise ExplainError(
                    f"{function.__name__} of a trace has the trace's layers: name them in "
                    "explain.trace(model, images, target, layers)"
                )
            return function(*args, **kwargs)
        return of_model(*args, **kwargs)

    def of_model(
        model: nn.Module,
        images: Tensor,
        target: Target = "predicted",
        *args: Any,
        layers: Sequence[str] = (AUTO,),
        **kwargs: Any,
    ) -> R:
        if not isinstance(model, nn.Module):
            raise ExplainError(
                f"{function.__name__} takes a trace, or a model (a torch.nn.Module), images and a "
                f"target, not {type(model).__name__}"
            )
        if isinstance(layers, str):
            raise ExplainError(f"layers are several names, such as ['{layers}'], not '{layers}'")
        with pure(model), trace(model, images, target, layers) as traced:
            return function(traced, *args, **kwargs)

    return wrapped


@contextmanager
def _versions() -> Iterator[None]:
    """Say in words what autograd says of tensors that were written into."""
    try:
        yield
    except RuntimeError as error:
        if "modified by an inplace operation" not in str(error):
            raise
        raise ExplainError(
            "the model writes in place into what an activation gave, which cannot be traced: write "
            "out of place"
        ) from None


def _exactly(like: Tensor) -> torch.autocast:
    """Under a caller's autocast maps would be of rounded values and add up to nothing."""
    return torch.autocast(like.device.type, enabled=False)


@contextmanager
def _watched(
    name: str,
    module: nn.Module,
    recording: Recording,
    wanted: Sequence[str],
    captured: dict[str, Tensor],
) -> Iterator[None]:
    """Tell the recording when `module` is at work, and keep what it gives if it is wanted."""

    calls = 0

    def before(_: nn.Module, __: Any) -> None:
        recording.inside.append(name)

    def after(_: nn.Module, __: Any, output: Any) -> None:
        nonlocal calls
        calls += 1
        called = name if calls == 1 else f"{name}#{calls}"
        recording.inside.pop()
        if not isinstance(output, Tensor):
            if name in wanted:
                raise ExplainError(f"layer '{name}' gives no tensor but {type(output).__name__}")
            return
        now = recording._current(output)
        if name:
            recording.record.given[id(now)] = called
        if name in wanted:
            captured[called] = now

    handles = [module.register_forward_pre_hook(before), module.register_forward_hook(after)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _check_logits(logits: object, count: int) -> None:
    if not isinstance(logits, Tensor) or logits.dim() != 2 or len(logits) != count:
        found = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        raise ExplainError(f"the model must give logits (N,K), not {found}")
    if not logits.requires_grad:
        raise ExplainError("the model's logits do not depend on the image by way of gradients")


def _refuse_training(model: nn.Module) -> None:
    for name, module in model.named_modules():
        if not isinstance(module, nn.modules.batchnorm._BatchNorm):
            continue
        if module.training:
            raise ExplainError(
                f"'{name}' is batch norm in training mode, which mixes the images of a batch: "
                "model.eval() first"
            )
        if module.running_mean is None:
            raise ExplainError(
                f"'{name}' is batch norm without running statistics, which mixes the images of a "
                "batch in evaluation mode too: nothing can be said of one of them"
            )


def _checked(name: str, tensor: Tensor, count: int) -> Tensor:
    if not tensor.requires_grad:
        raise ExplainError(f"layer '{name}' does not depend on the image")
    if tensor.dim() < 2 or len(tensor) != count:
        raise ExplainError(
            f"layer '{name}' gives {tuple(tensor.shape)}, not one row for each of {count} images"
        )
    return tensor
