"""Record one forward pass, made of operations whose backward can be chosen."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves, tree_map_only

from robustkit.errors import ExplainError
from robustkit.explain import rules as known
from robustkit.explain.rules import SECANT, Frozen, Gate, Pass, Relu, Smooth

Call = Callable[..., Any]
_T = Tensor


def channel_axes(
    known: Mapping[int, int],
    func: Call,
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    given: Sequence[Tensor],
    outputs: Sequence[Tensor],
) -> dict[int, int]:
    """Return the axis of the channels of those `outputs` that do not have it at 1, by identity.

    `known` has the same of the tensors `given`. A convolution gives channels at 1.
    """
    axis = next((known[id(each)] for each in given if id(each) in known), 1)
    dims = permutation(func, args, kwargs, given[0].dim())
    if dims is not None and given[0].dim() == 4:
        axis = dims.index(axis)
    elif getattr(func, "__name__", "").startswith("conv"):
        axis = 1
    if axis == 1:
        return {}
    return {id(each): axis for each in outputs if each.dim() == 4}


def row_axis(
    known: Mapping[int, int],
    func: Call,
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    given: Sequence[Tensor],
) -> int | None:
    """Return the axis of the images in what `func` gives, None where it cannot be followed.

    `known` has it of the tensors `given`, where it is not 0. Attention's code puts queries, keys
    and values, or positions, before images, and takes them apart again.
    """
    axis = known.get(id(given[0]), 0)
    dims = permutation(func, args, kwargs, given[0].dim())
    if dims is not None:
        return dims.index(axis)
    if func is F.multi_head_attention_forward:
        return axis if given[0].dim() == 3 and axis == 1 else None
    if not any(id(each) in known for each in given):
        return 0
    if func in (torch.unbind, _T.unbind):
        taken = int(args[1] if len(args) > 1 else kwargs.get("dim", 0)) % given[0].dim()
    elif func is _T.__getitem__ and type(args[1]) is int:
        taken = 0
    else:
        return axis if func in (_T.contiguous, _T.clone, torch.clone) else None
    return None if taken == axis else axis - (taken < axis)


def permutation(
    func: Call, args: tuple[Any, ...], kwargs: Mapping[str, Any], dim: int
) -> list[int] | None:
    """Return the axes of the output in terms of the input's, where a function reorders them."""
    order = list(range(dim))
    if func in (torch.permute, _T.permute):
        given = args[1:] if len(args) > 2 else args[1] if len(args) > 1 else kwargs["dims"]
        return [int(each) % dim for each in given]
    if func in (torch.transpose, _T.transpose, torch.swapaxes, _T.swapaxes):
        a, b = (*args[1:], kwargs.get("dim0"), kwargs.get("dim1"))[:2]
        order[int(a)], order[int(b)] = order[int(b)], order[int(a)]
        return order
    if func in (torch.movedim, _T.movedim) and len(args) == 3:
        moved = torch.empty([1 + each for each in order]).movedim(args[1], args[2])
        return [each - 1 for each in moved.shape]
    return None


def frozen_statistics(
    func: Call, x: Tensor, args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> tuple[Tensor, Tensor]:
    """Return the scale and shift that make the normalisation of these `x` affine."""
    plain = {"eps": 1e-5, **kwargs}
    if func is F.layer_norm:
        shape = args[0] if args else plain["normalized_shape"]
        axes = tuple(range(-len(shape), 0))
        weight, bias, eps = _given(args[1:], plain, ("weight", "bias", "eps"))
        mean, var = x.mean(axes, keepdim=True), x.var(axes, unbiased=False, keepdim=True)
        scale = (var + eps).rsqrt().expand_as(x)
    else:
        if func is F.group_norm:
            groups = args[0] if args else plain["num_groups"]
            weight, bias, eps = _given(args[1:], plain, ("weight", "bias", "eps"))
        else:
            groups = x.shape[1]
            names = ("mean", "var", "weight", "bias", "use_input_stats", "momentum", "eps")
            _, _, weight, bias, _, _, eps = _given(args, plain, names)
        grouped = x.reshape(len(x), groups, -1)
        mean = grouped.mean(2, keepdim=True).expand_as(grouped).reshape(x.shape)
        var = grouped.var(2, unbiased=False, keepdim=True)
        scale = (var + eps).rsqrt().expand_as(grouped).reshape(x.shape)
        spread = (1, -1, *[1] * (x.dim() - 2))
        weight, bias = (None if each is None else each.view(spread) for each in (weight, bias))
    shift = -mean * scale
    if weight is not None:
        scale, shift = scale * weight, shift * weight
    return scale, shift if bias is None else shift + bias


def _given(args: tuple[Any, ...], kwargs: Mapping[str, Any], names: tuple[str, ...]) -> list[Any]:
    found = dict(zip(names, args, strict=False))
    return [found.get(name, kwargs.get(name)) for name in names]


@dataclass(frozen=True, eq=False)
class Step:
    """An operation that the image went through: the module it was in, what went in, what came out.

    `inputs`, `outputs` are identities of tensors; the tensors themselves live in the graph. `gates`
    are those of the inputs through which no contribution goes back.
    """

    module: str
    name: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    gates: tuple[int, ...] = ()


@dataclass(eq=False)
class Record:
    """What was seen: every step, and by module what CAV has no convention for (`unknown`).

    `doubtful` tells of places without a convention (module, operation), which matter where
    contributions go back through them: see `settle`. `gates` are tensors that come of bounded
    functions. `smooth` says whether an operation is not piecewise linear; `given` which module, the
    outermost, gives a tensor; `axis` where the channels of a tensor (N,…) are, for those that have
    them elsewhere than at 1, and `rows` where its images are, if not at 0. `kept` keeps the outputs
    alive, so that their identities stay their own.
    """

    now: Pass = field(default_factory=Pass)
    steps: list[Step] = field(default_factory=list)
    unknown: dict[str, str] = field(default_factory=dict)
    doubtful: dict[int, tuple[str, str]] = field(default_factory=dict)
    gates: set[int] = field(default_factory=set)
    rows: dict[int, int] = field(default_factory=dict)
    smooth: bool = False
    relus: int = 0
    given: dict[int, str] = field(default_factory=dict)
    axis: dict[int, int] = field(default_factory=dict)
    kept: list[Tensor] = field(default_factory=list)

    def settle(self, image: int, logits: int) -> None:
        """Make `unknown` of what is doubtful between the image and the logits, gates left out.

        Both are identities of tensors. Where the way back meets a tensor that no step has made,
        something was not seen, and all that is doubtful counts.
        """
        recorded = {each for step in self.steps for each in step.outputs} | {image}
        alive, places = {logits}, set()
        for place in range(len(self.steps) - 1, -1, -1):
            step = self.steps[place]
            if alive.intersection(step.outputs):
                places.add(place)
                alive.update(each for each in step.inputs if each not in step.gates)
        for place, (module, name) in sorted(self.doubtful.items()):
            if place in places or not alive <= recorded:
                self.unknown.setdefault(module, name)


class Recording(TorchFunctionMode):
    """Turns operations on what depends on the image into ones whose way back can be chosen.

    A tensor depends on the image if it requires a gradient: parameters are detached. Code that
    writes in place is led to write elsewhere, and whoever has the old tensor is given the new one.
    """

    def __init__(self, record: Record, image: Tensor) -> None:
        super().__init__()
        self.record, self.image, self.count = record, image, len(image)
        self.renamed: dict[int, Tensor] = {}
        self.stale: set[int] = set()  # memory that should have been written into
        self.inside: list[str] = [""]
        self.doubt: str | None = None  # about the operation at hand
        self.gates: tuple[int, ...] = ()  # among what it was given

    def __torch_function__(
        self, func: Call, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Carry out and record a function of torch, which calls this instead."""
        args, kwargs = tree_map_only(Tensor, self._current, (args, kwargs or {}))
        given = [each for each in tree_leaves((args, kwargs)) if _depends(each)]
        if not given or not torch.is_grad_enabled():
            if given and getattr(func, "__name__", "").endswith("_"):
                self._refuse(func, "without gradients")
                self._settle(False)
            return func(*args, **kwargs)
        self._check_stale(given)
        self.gates = ()
        result = self._carried_out(func, args, kwargs)
        if result is None:  # it wrote somewhere
            self._refuse(func)
        # What gives back what it was given, as dropout does here, was no operation.
        here = {id(each) for each in given}
        results = [each for each in tree_leaves(result) if _depends(each)]
        outputs = [each for each in results if id(each) not in here]
        if outputs:
            self.record.axis |= channel_axes(self.record.axis, func, args, kwargs, given, outputs)
            if not self._images_apart(func, args, kwargs, given, outputs):
                # Biases are counted image by image, so images must stay apart.
                self._refuse(func, "after which rows are no images")
            self.record.kept += [*given, *outputs]
            if func in known.GATING or self._of_gates(func, given):
                self.record.gates |= {id(each) for each in outputs}
            self._settle(True)
            self.record.steps.append(
                Step(
                    self.inside[-1],
                    getattr(func, "__name__", str(func)),
                    tuple(id(each) for each in given),
                    tuple(id(each) for each in outputs),
                    self.gates,
                )
            )
        self._settle(False)
        # Functions of torch.nn.functional hand their options on by name.
        if func in known.IN_PLACE or kwargs.get("inplace", False):
            self._rename(args[0] if args else kwargs["input"], result)
        return result

    def _images_apart(
        self,
        func: Call,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        given: list[Tensor],
        outputs: list[Tensor],
    ) -> bool:
        """Return whether an axis of every output counts the images; note it, if not the first."""
        axis = row_axis(self.record.rows, func, args, kwargs, given)
        if axis is None or any(
            each.dim() <= axis or each.shape[axis] != self.count for each in outputs
        ):
            return False
        if axis:
            self.record.rows |= {id(each): axis for each in outputs}
        return True

    def _current(self, tensor: Tensor) -> Tensor:
        """Return the tensor with what was written into it; a parameter without its graph."""
        while id(tensor) in self.renamed:
            tensor = self.renamed[id(tensor)]
        # Parameters, and whatever else a model learns, are constants here.
        learnt = tensor.requires_grad and tensor.is_leaf and tensor is not self.image
        return tensor.detach() if learnt else tensor

    def _refuse(self, func: Call, why: str = "") -> None:
        """Note that CAV cannot pass this operation."""
        name = getattr(func, "__name__", str(func)) + (f", {why}," if why else "")
        self.doubt = self.doubt or name

    def _settle(self, seen: bool) -> None:
        """Note in which module the doubt is, and, where its output is `seen`, at which step."""
        if self.doubt is not None and seen:
            self.record.doubtful[self._place()] = (self.inside[-1], self.doubt)
        elif self.doubt is not None:
            self.record.unknown.setdefault(self.inside[-1], self.doubt)
        self.doubt = None

    def _of_gates(self, func: Call, given: list[Tensor]) -> bool:
        """Return whether only gates are moved, shifted or scaled here; then they remain gates."""
        given = given[:1] if func in known.LIKE_ANOTHER else given
        return func in known.KEEPS_GATES and all(id(each) in self.record.gates for each in given)

    def _check_stale(self, given: list[Tensor]) -> None:
        """Raise `ExplainError` for a view of a tensor that was written into: it is out of date."""
        if self.stale and any(each.untyped_storage().data_ptr() in self.stale for each in given):
            raise ExplainError(
                f"'{self.inside[-1] or 'the model'}' writes in place into a view and reads it by "
                "another name, which cannot be traced: write out of place"
            )

    def _rename(self, old: Any, new: Any) -> None:
        if isinstance(old, Tensor) and isinstance(new, Tensor) and old is not new:
            self.record.kept.append(old)
            self.stale.add(old.untyped_storage().data_ptr())
            self.renamed[id(old)] = new

    # ------------------------------------------------------------------ what each kind becomes

    def _carried_out(self, func: Call, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        kwargs = {key: value for key, value in kwargs.items() if key != "inplace"}
        if func in known.RELU or _is_relu(func, args, kwargs):
            self.record.relus += 1
            return Relu.apply(args[0] if args else kwargs["input"], self.record.now)
        if (func in known.SMOOTH or func in known.CLAMP) and _fixed(func, args, kwargs):
            return self._smooth(known.SMOOTH.get(func, torch.clamp), func, args, kwargs)
        if func is F.batch_norm or (func is F.instance_norm and not _own_statistics(args, kwargs)):
            return self._batch_norm(func, args, kwargs)
        if func in known.NORMS:
            return self._frozen(func, args, kwargs)
        func = known.OUT_OF_PLACE.get(func, func)
        if func is F.multi_head_attention_forward and kwargs.get("need_weights") is False:
            return self._attention(args, kwargs), None
        if func is F.scaled_dot_product_attention and all(_depends(each) for each in args[:3]):
            attend = functools.partial(_attended, args[3:], kwargs)
            return self._gate(attend, args[2], args[:2])
        if func in known.SCALING and len(args) == 2 and all(_depends(each) for each in args):
            gate = known.gate_of(func, args, self.record.gates)
            if gate is not None:
                product = functools.partial(_product, func, gate)
                return self._gate(product, args[1 - gate], (args[gate],))
        result = func(*args, **kwargs)
        parts = [*args[1:], *(value for key, value in kwargs.items() if key != "input")]
        if func in known.BIASED and not any(_depends(part) for part in parts):
            bias = args[2] if len(args) > 2 else kwargs.get("bias")
            if bias is not None:
                self._bias(result, bias, channels=-1 if func is F.linear else 1)
        elif not self._has_convention(func, args, kwargs, result):
            self._refuse(func)
        return result

    def _has_convention(
        self, func: Call, args: tuple[Any, ...], kwargs: Mapping[str, Any], result: Any
    ) -> bool:
        """Return whether CAV has a convention for a function; count what it adds as a bias."""
        if func in known.PASSIVE:
            given = tree_leaves((args, kwargs))
            if func in known.JOINING and not all(
                _depends(each) for each in given if isinstance(each, Tensor)
            ):
                # What is learnt and put beside, as a class token is, speaks for itself: a bias.
                empty, options = tree_map_only(Tensor, _without_the_image, (args, kwargs))
                self._constant(result, func(*empty, **options))
            beside = [*args[1:], *(value for key, value in kwargs.items() if key != "input")]
            moving = func is F.grid_sample and any(_depends(each) for each in beside)
            dropping = "dropout" in getattr(func, "__name__", "") and kwargs.get("training")
            if func is F.pad:
                # What the border is filled with speaks for itself: a bias.
                x = args[0] if args else kwargs["input"]
                rest = {key: value for key, value in kwargs.items() if key != "input"}
                self._constant(result, func(torch.zeros_like(x.detach()), *args[1:], **rest))
            return not (moving or dropping)
        depends = [_depends(each) for each in args[:2]]
        if func in known.ADDING or func in known.SUBTRACTING or func in known.REVERSED:
            if len(args) < 2:
                return False
            if not all(depends):
                # What a second operand is multiplied with on the way, be it a constant or not.
                scaled = kwargs.get("alpha", 1) if depends[0] != (func in known.REVERSED) else 1
                constant = scaled * args[depends.index(False)]
                # a - c, and c - a the other way round: rsub(c, a).
                if depends[0] == (func in known.SUBTRACTING) and func not in known.ADDING:
                    constant = -constant
                self._constant(result, constant)
            return True
        if func in known.SCALING:
            return len(args) > 1 and not all(depends)
        if func in known.DIVIDING:
            return len(args) > 1 and depends == [True, False] and not kwargs.get("rounding_mode")
        # What tells sizes and such, and gives no tensor that depends on the image.
        return not any(_depends(each) for each in tree_leaves(result))

    def _smooth(
        self, plain: Call, func: Call, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> Tensor:
        z = args[0] if args else kwargs["input"]
        rest = {key: value for key, value in kwargs.items() if key != "input"}
        plain = known.ONE_SIDED.get(func, plain)
        f = functools.partial(_applied, plain, args[1:], rest)
        self.record.smooth = True
        result: Tensor = Smooth.apply(z, f, known.at_zero(f, z), self._place(), self.record.now)
        return result

    def _gate(self, f: Callable[..., Tensor], signal: Tensor, gates: tuple[Tensor, ...]) -> Tensor:
        self.record.smooth = True  # the derivative goes through the gates, too
        self.gates = tuple(id(each) for each in gates if each is not signal)
        result: Tensor = Gate.apply(f, self.record.now, signal, *gates)
        return result

    def _attention(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Tensor:
        """Return attention with its projections, positions first (L,N,E): affine in its values."""
        query, key, value, *rest = args
        attend = functools.partial(_projected, tuple(rest), kwargs)
        result = self._gate(attend, value, (query, key))
        nothing = torch.zeros_like(value.detach())
        constant = attend(nothing, query.detach(), key.detach())
        self._constant(result, constant, rows=1)
        return result

    def _batch_norm(self, func: Call, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Tensor:
        names = ["input", "running_mean", "running_var", "weight", "bias"]
        names.append("training" if func is F.batch_norm else "use_input_stats")
        of = {**dict(zip((*names, "momentum", "eps"), args, strict=False)), **kwargs}
        result: Tensor = func(*args, **kwargs)
        if of.get("training", False):
            self._refuse(func, "with batch statistics")
            return result
        scale = (of["running_var"] + of.get("eps", 1e-5)).rsqrt()
        if of.get("weight") is not None:
            scale = scale * of["weight"]
        shift = -of["running_mean"] * scale
        if of.get("bias") is not None:
            shift = shift + of["bias"]
        self._bias(result, shift, channels=1)
        return result

    def _frozen(self, func: Call, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        x = args[0] if args else kwargs["input"]
        rest = {key: value for key, value in kwargs.items() if key != "input"}
        f = functools.partial(_applied, func, args[1:], rest)
        scale, shift = frozen_statistics(func, x.detach(), args[1:], rest)
        self.record.smooth = True
        return Frozen.apply(x, f, scale, shift, self._place(), self.record.now)

    def _place(self) -> int:
        return len(self.record.steps)

    def _bias(self, result: Tensor, bias: Tensor, channels: int) -> None:
        """Count Σ bias·g of an operation that adds `bias` (C,) along the axis `channels`."""
        place, now, flat = self._place(), self.record.now, bias.detach()

        def hook(g: Tensor | None) -> None:
            if g is not None and now.rule == SECANT:
                if channels == -1:
                    spread = g.reshape(len(g), -1, g.shape[-1]).sum(dim=1)
                else:
                    spread = g.flatten(2).sum(dim=2) if g.dim() > 2 else g
                now.add(place, spread @ flat.to(g.dtype))

        result.register_hook(hook)  # type: ignore[no-untyped-call]

    def _constant(self, result: Tensor, constant: Any, rows: int = 0) -> None:
        """Count Σ constant·g of an operation that adds `constant`, a number or a tensor.

        `rows` is the axis of the images.
        """
        place, now = self._place(), self.record.now

        def hook(g: Tensor | None) -> None:
            if g is not None and now.rule == SECANT:
                added = (g * constant).movedim(rows, 0)
                now.add(place, added.reshape(len(added), -1).sum(dim=1))

        result.register_hook(hook)  # type: ignore[no-untyped-call]


def _fixed(func: Call, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bool:
    """Return whether an elementwise function is the same everywhere.

    Then it has no tensors but its input, and the slopes of PReLU, with which f(0) is still 0.
    """
    beside = [*args[1:], *(value for key, value in kwargs.items() if key != "input")]
    tensors = [each for each in beside if isinstance(each, Tensor)]
    if known.SMOOTH.get(func) is F.prelu:
        return not any(_depends(each) for each in tensors)
    return not tensors


def _depends(value: Any) -> bool:
    return isinstance(value, Tensor) and value.requires_grad


def _applied(func: Call, args: tuple[Any, ...], kwargs: Mapping[str, Any], z: Tensor) -> Tensor:
    result: Tensor = func(z, *args, **kwargs)
    return result


def _product(func: Call, gate: int, signal: Tensor, by: Tensor) -> Tensor:
    result: Tensor = func(by, signal) if gate == 0 else func(signal, by)
    return result


def _attended(
    args: tuple[Any, ...], kwargs: Mapping[str, Any], value: Tensor, query: Tensor, key: Tensor
) -> Tensor:
    return F.scaled_dot_product_attention(query, key, value, *args, **kwargs)


def _projected(
    args: tuple[Any, ...], kwargs: Mapping[str, Any], value: Tensor, query: Tensor, key: Tensor
) -> Tensor:
    result: Tensor = F.multi_head_attention_forward(query, key, value, *args, **kwargs)[0]
    return result


def _without_the_image(tensor: Tensor) -> Tensor:
    return torch.zeros_like(tensor.detach()) if _depends(tensor) else tensor


def _own_statistics(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bool:
    """Return whether instance norm takes the statistics of its own input."""
    given = args[5] if len(args) > 5 else kwargs.get("use_input_stats", True)
    return bool(given)


def _is_relu(func: Call, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bool:
    """Return whether a call is a clamp at 0 from below alone."""
    if func not in known.CLAMP or "input" in kwargs:
        return False
    low = args[1] if len(args) > 1 else kwargs.get("min")
    high = args[2] if len(args) > 2 else kwargs.get("max")
    return isinstance(low, int | float) and low == 0 and high is None
