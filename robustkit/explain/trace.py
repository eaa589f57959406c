"""One forward pass, kept; every map is read from it."""

from __future__ import annotations

import difflib
import functools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any, Concatenate, ParamSpec, TypeVar

import torch
from torch import Tensor, nn

from robustkit.compute import device_of, exact_products
from robustkit.errors import ExplainError
from robustkit.explain.recording import Record, Recording, Step
from robustkit.explain.rules import GRADIENT, SECANT, Frozen, Gate, Pass, Relu, Smooth
from robustkit.models.state import state_preserved

Target = int | Sequence[int] | Tensor | str


def class_targets(target: Target, logits: Tensor) -> Tensor:
    """Return class indices int64 (N,) of a target; raises `ExplainError` for others."""
    count, classes = logits.shape
    if isinstance(target, str):
        if target != "predicted":
            raise ExplainError(f"target '{target}': a class number, one for each, or 'predicted'")
        return logits.detach().argmax(dim=1)
    given = torch.as_tensor(target)
    if given.is_floating_point() or given.dtype == torch.bool:
        raise ExplainError(f"targets must be class numbers, not {given.dtype}")
    chosen = given.to(logits.device, torch.int64)
    chosen = chosen.expand(count) if chosen.dim() == 0 else chosen
    if chosen.shape != (count,):
        raise ExplainError(f"targets {tuple(chosen.shape)} for {count} images: one for each")
    odd = chosen[(chosen < 0) | (chosen >= classes)]
    if len(odd):
        raise ExplainError(f"target {int(odd[0])} is out of range: there are {classes} classes")
    return chosen


AUTO = "auto"
INPUT = "input"
SHRINKS = 1.6
# Operations with weights: what a stage is made of.
LEARNT = frozenset(
    [
        *("linear", "conv1d", "conv2d", "conv3d", "matmul", "__matmul__", "bmm", "mm"),
        *("conv_transpose1d", "conv_transpose2d", "conv_transpose3d"),
    ]
)


def wanted_modules(net: nn.Module, layers: Sequence[str]) -> list[str]:
    """Return the modules that `layers` name, by name or type, in the model's order.

    Raises `ExplainError` for what is neither, with the closest names.
    """
    names = [name for name, _ in net.named_modules() if name]
    types = {name: type(net.get_submodule(name)).__name__ for name in names}
    chosen: set[str] = set()
    for layer in layers:
        if layer in (AUTO, INPUT):
            continue
        # A classifier's net has names of its own, which is what its maker knows.
        whole = f"net.{layer}"
        found = [name for name in names if name in (layer, whole) or types[name] == layer]
        if not found:
            known = [AUTO, INPUT, *dict.fromkeys(types.values()), *names]
            near = difflib.get_close_matches(layer, known, n=5, cutoff=0.0)
            raise ExplainError(f"no layer '{layer}'; the closest names are {', '.join(near)}")
        chosen |= set(found)
    return [name for name in names if name in chosen]


def cuts(record: Record, image: int) -> list[int]:
    """Return the steps after which all information on the image is in one tensor.

    `image` is the identity of the image's own tensor. A block's output is such a place, the inside
    of a residual branch is not.
    """
    last_use = {image: -1}
    for place, step in enumerate(record.steps):
        for each in step.inputs:
            last_use[each] = place
    found, alive = [], {image}
    for place, step in enumerate(record.steps):
        alive |= set(step.outputs)
        alive = {each for each in alive if last_use.get(each, -1) > place}
        if len(alive) == 1 and set(step.outputs) == alive:
            found.append(place)
    return found


def automatic(record: Record, tensors: Mapping[int, Tensor], image: int) -> dict[str, int]:
    """Return the last cut of every stage: name to identity of the tensor, in the model's order.

    A stage ends where maps shrink by `SHRINKS` or more from one cut to the next, as by a pool or a
    stride; a border that a convolution loses is none. Pooling alone makes no stage: in a net with
    five pooling stages those are the five maps that are pooled. Maps whose channels come last
    are left out. A cut is called by the outermost module that gives it.
    """
    chosen: list[tuple[int, int]] = []  # (place, height) of the last cut of each stage so far
    for place in cuts(record, image):
        output = record.steps[place].outputs[0]
        tensor = tensors[output]
        if tensor.dim() != 4 or min(tensor.shape[2:]) < 2 or record.axis.get(output, 1) != 1:
            continue
        if output in record.rows:
            continue
        height = tensor.shape[2]
        before, above = chosen[-1] if chosen else (-1, math.inf)
        if above / height < SHRINKS:
            chosen.pop()
        elif not any(step.name in LEARNT for step in record.steps[before + 1 : place + 1]):
            continue
        chosen.append((place, height))
    steps = [record.steps[place] for place, _ in chosen]
    return {_called(step, record): step.outputs[0] for step in steps}


def _called(step: Step, record: Record) -> str:
    module = record.given.get(step.outputs[0], step.module)
    alike = [each for each in record.steps if each.module == step.module]
    inner = f"{step.name}_{alike.index(step)}"
    if step.outputs[0] in record.given and module:
        return module
    return f"{module}.{inner}" if module else inner


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
        """Return the slopes of the score at every layer by `rule`, computed once.

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

    def external_functions(self) -> set[str]:
        """Return names of functions in the graph that have a backward of their own, except ours."""
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
    record = Record()
    leaf, logits, captured = _recorded(model, images, wanted_modules(model, layers), record)
    if AUTO in layers:
        tensors = {id(each): each for each in record.kept}
        found = {name: tensors[key] for name, key in automatic(record, tensors, id(leaf)).items()}
        captured = {**found, **{k: v for k, v in captured.items() if k not in found}}
    order = {key: place for place, step in enumerate(record.steps) for key in step.outputs}
    order[id(leaf)] = -1
    live = {INPUT: leaf}
    for name in sorted(captured, key=lambda each: order.get(id(captured[each]), -1)):
        # A module may be called "input", too.
        called = name if name != INPUT else f"{INPUT} (a module)"
        live[called] = _checked(name, captured[name], len(images), record)
    targets = class_targets(target, logits)
    score = logits.gather(1, targets[:, None])[:, 0]
    at_cut = {record.steps[place].outputs[0] for place in cuts(record, id(leaf))}
    at_cut |= {id(leaf), id(logits)}
    traced = Trace(
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
            yield traced
    finally:
        traced.end()


def _recorded(
    model: nn.Module, images: Tensor, names: Sequence[str], record: Record
) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
    """Run the model and fill `record`; return images, logits and the outputs of modules by name.

    All have their graph.
    """
    captured: dict[str, Tensor] = {}
    with state_preserved(model), torch.enable_grad():
        leaf = images.detach().to(device_of(model)).requires_grad_(True)
        recording = Recording(record, leaf)
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
    return leaf, logits, captured


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
        with state_preserved(model), trace(model, images, target, layers) as traced:
            return function(traced, *args, **kwargs)

    return wrapped


@contextmanager
def _versions() -> Iterator[None]:
    """Raise `ExplainError` for autograd's errors about tensors that were written into."""
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
    """Switch a caller's autocast off: maps of rounded values would not add up to the score."""
    return torch.autocast(like.device.type, enabled=False)


@contextmanager
def _watched(
    name: str,
    module: nn.Module,
    recording: Recording,
    wanted: Sequence[str],
    captured: dict[str, Tensor],
) -> Iterator[None]:
    """Note in the recording when `module` runs, and keep its output if it is wanted."""

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


def _checked(name: str, tensor: Tensor, count: int, record: Record) -> Tensor:
    if not tensor.requires_grad:
        raise ExplainError(f"layer '{name}' does not depend on the image")
    if tensor.dim() < 2 or len(tensor) != count or id(tensor) in record.rows:
        raise ExplainError(
            f"layer '{name}' gives {tuple(tensor.shape)}, not one row for each of {count} images"
        )
    if record.axis.get(id(tensor), 1) != 1:
        raise ExplainError(
            f"layer '{name}' has its channels last, (N,H,W,C): maps need (N,C,H,W); name a "
            "layer before or behind it"
        )
    return tensor
