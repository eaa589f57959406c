"""A model whose calls of torch's functions are changed while it computes, whoever wrote it.

Modules, functionals and operators all arrive here, so that no layer has to be known by its name:
residual additions are told by the depth of what is added, attention by its softmax.
"""

from __future__ import annotations

import operator
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from robustkit.attacks.ascent import Ascent
from robustkit.attacks.ensemble import Ensemble
from robustkit.errors import AttackError

Kind = Literal["relu", "pool", "join", "layer", "attention", "qkv", "mlp"]
WORDS: Mapping[Kind, str] = {
    "relu": "ReLU",
    "pool": "max pooling",
    "join": "residual connection",
    "layer": "convolution or linear layer",
    "attention": "attention: it is for vision transformers",
    "qkv": "attention: it is for vision transformers",
    "mlp": "token-wise layer: it is for vision transformers",
}

_RELUS = {F.relu, F.relu_, torch.relu, torch.relu_, Tensor.relu, Tensor.relu_}
_POOLS = {F.max_pool2d, torch.max_pool2d}
_ADDS = {torch.add, Tensor.add, Tensor.add_, Tensor.__add__, Tensor.__radd__, Tensor.__iadd__}
_IN_PLACE = {Tensor.add_, Tensor.__iadd__, F.relu_, torch.relu_, Tensor.relu_}
_CATS = {torch.cat, torch.concat, torch.concatenate}
_WEIGHTED = {F.conv2d, torch.conv2d, F.linear}
_SOFTMAXES = {F.softmax, torch.softmax, Tensor.softmax}
_LAYERS = {
    *(F.conv2d, torch.conv2d, F.conv1d, torch.conv1d, F.conv_transpose2d, F.linear),
    *(torch.matmul, Tensor.matmul, Tensor.__matmul__, torch.bmm, Tensor.bmm, operator.matmul),
    *(F.scaled_dot_product_attention, F.multi_head_attention_forward),
}


@dataclass(frozen=True, eq=False)
class Call:
    """A call that a rule may change: the `number`-th of its kind of `total`, counted from 0.

    `inputs` are the tensors it is about: what a ReLU or a pooling is given; of a join what skips
    and what does not; of attention its weights (n,heads,T,T); of "qkv" and "mlp" the tokens; of a
    layer what it gives. `go` returns what would have come out with other `inputs` in their place.
    `images` is how many images the model was given, which come first in `inputs` even where the net
    puts tokens first. A net that runs several times in a pass makes `span` such calls in each run.
    """

    kind: Kind
    number: int
    total: int
    inputs: tuple[Tensor, ...]
    options: Mapping[str, Any]
    go: Callable[..., Tensor]
    images: int
    span: int

    def for_each(self, numbers: Tensor, maps: Tensor) -> Tensor:
        """Return `numbers` (n,…), one row an image, as rows of `maps`, which may be of windows.

        Raises `AttackError` where the first dimension of the maps is not of images.
        """
        windows, rest = divmod(len(maps), self.images)
        if rest:
            raise AttackError(
                f"maps of {tuple(maps.shape)} for {self.images} images: their first dimension must "
                "be of images"
            )
        return numbers.repeat_interleave(windows, dim=0) if windows > 1 else numbers

    @property
    def after(self) -> float:
        """The share of its kind that has come before in the same run of the net, in [0,1)."""
        return self.number % self.span / self.span


Rule = Callable[[Call], Tensor]


class Rewritten(nn.Module):
    """`model` with every call of these `kinds` left to `rule`, for the component `name`.

    With `first` only those of the first kind that there is. How many calls there are is counted on
    one `image` (1,C,H,W), by `source` where the model has been rewritten before. Raises
    `AttackError` where there is no call of the first kind (with `first`: of any), and for a
    scripted net, whose calls cannot be seen.
    """

    def __init__(
        self,
        model: nn.Module,
        kinds: Iterable[Kind],
        rule: Rule,
        name: str,
        image: Tensor,
        *,
        source: nn.Module | None = None,
        first: bool = False,
    ) -> None:
        super().__init__()
        self.model, self.kinds, self.rule, self.name = model, tuple(kinds), rule, name
        self.sequential: frozenset[tuple[Kind, int]] = frozenset()
        self.projections: frozenset[int] = frozenset()
        counted = self._counted(model if source is None else source, image)
        if "qkv" in self.kinds and (apart := counted.projections_apart()):
            self.projections = apart
            counted = self._counted(model if source is None else source, image)
        self.totals: Counter[Kind] = counted.numbers
        self.spans = {kind: period(places) for kind, places in counted.places.items()}
        self.sequential = frozenset(counted.sequential)
        needed = self.kinds if first else self.kinds[:1]
        if not any(self.totals[kind] for kind in needed):
            raise AttackError(f"{self.name}: this net has no {WORDS[self.kinds[0]]}")
        if first:
            self.kinds = tuple(kind for kind in self.kinds if self.totals[kind])[:1]

    def forward(self, images: Tensor) -> Any:
        """Return what the model gives for images (n,C,H,W)."""
        with _Calls(self, images):
            return self.model(images)

    def _counted(self, model: nn.Module, image: Tensor) -> _Calls:
        if any(isinstance(each, torch.jit.ScriptModule) for each in model.modules()):
            raise AttackError(f"{self.name}: a scripted net cannot be looked into")
        image = image.detach().requires_grad_(True)  # joins are told by the graph of gradients
        with torch.enable_grad(), _Calls(self, image, only_count=True) as calls:
            model(image)
        counted: _Calls = calls
        return counted


def period(places: Sequence[int]) -> int:
    """Return the length of the runs that `places` are of; their number where it is one run.

    Runs begin again no deeper than the last one ended, and are alike but for where they begin.

    >>> period([1, 4, 9, 2, 5, 10]), period([1, 3, 5, 7])
    (3, 4)
    """
    count = len(places)
    for span in range(1, count):
        runs = [places[begin : begin + span] for begin in range(0, count, span)]
        again = all(later[0] <= sooner[-1] for sooner, later in pairwise(runs))
        if again and len({tuple(place - run[0] for place in run) for run in runs}) == 1:
            return span
    return count


def rewritten(
    model: nn.Module,
    kinds: Iterable[Kind],
    rule: Rule,
    name: str,
    ascent: Ascent,
    *,
    first: bool = False,
) -> nn.Module:
    """Return the attacked model with its calls left to `rule`; of an ensemble each member so."""
    of, image = ascent.source, ascent.clean[:1]
    if isinstance(model, Ensemble) and isinstance(of, Ensemble):
        members = [
            Rewritten(member, kinds, rule, name, image, source=source, first=first)
            for member, source in zip(model.members, of.members, strict=True)
        ]
        return Ensemble(members, model.fuse)
    return Rewritten(model, kinds, rule, name, image, source=of, first=first)


def changed(maps: Tensor, by: Callable[[Tensor], Tensor]) -> Tensor:
    """Return `maps` as they are, the gradient through them changed by a function."""
    if not maps.requires_grad:
        return maps
    alias = maps.view_as(maps)
    alias.register_hook(by)  # type: ignore[no-untyped-call]
    return alias


class _Calls(TorchFunctionMode):
    """Counts the calls of one forward pass, and hands those of the kinds asked for to the rule.

    Every tensor that depends on the images carries how many layers (`_depth`) and how many calls of
    any kind (`_place`) lie before it, and whether a join has just made it (`_joined`).
    """

    def __init__(self, of: Rewritten, images: Tensor, *, only_count: bool = False) -> None:
        super().__init__()
        self.of, self.only_count = of, only_count
        self.numbers: Counter[Kind] = Counter()
        self.places: dict[Kind, list[int]] = {}
        self.sequential: set[tuple[Kind, int]] = set()
        self.place = 0  # of the present call
        self.linears = 0
        self.given: list[Tensor] = []  # what the linear layers are given, while they are counted
        self.projected: dict[int, tuple[Tensor, Tensor]] = {}
        self.count = len(images)
        _mark(images, 0, 0)

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        depths = [_depth(each) for each in _tensors((args, kwargs))]
        known = [depth for depth in depths if depth is not None]
        if not known:
            return func(*args, **kwargs)
        self.place = max(getattr(each, "_place", 0) for each in _tensors((args, kwargs)))
        place = self.place + 1
        result, joined = self._called(func, args, kwargs)
        for each in _tensors(result):
            _mark(each, max(known) + (func in _LAYERS), place, joined)
        return result

    def _called(self, func: Any, args: Any, kwargs: Any) -> tuple[Any, bool]:
        if func in _WEIGHTED and "layer" in self.of.kinds:
            options = {"channels": -1 if func is F.linear else 1}
            return self._changed("layer", (func(*args, **kwargs),), options, lambda x: x), False
        plain = partial(func, *args, **kwargs)
        if func in _RELUS:
            given = args[0] if args else kwargs["input"]
            flags = {"joined": getattr(given, "_joined", False)}
            if not _in_place(func, args, kwargs):
                return self._changed("relu", (given,), flags, F.relu, plain), False
            changed = self._changed("relu", (given.clone(),), flags, F.relu, plain)
            return _written(given, changed), False
        if func in _POOLS:
            options = _pooling(*args[1:], **kwargs)
            go = lambda x: func(x, *args[1:], **kwargs)  # noqa: E731
            return self._changed("pool", (args[0],), options, go, plain), False
        if func in _ADDS and (sum_of := _joined_parts(args, kwargs)):
            if func not in _IN_PLACE:
                return self._changed("join", sum_of, {}, torch.add, plain), True
            # What is overwritten must not be what gradients pass through.
            apart = tuple(part.clone() if part is args[0] else part for part in sum_of)
            return _written(args[0], self._changed("join", apart, {}, torch.add, plain)), True
        if func in _CATS and (stack := _dense_parts(args, kwargs)):
            dim = kwargs.get("dim", args[1] if len(args) > 1 else 0)
            return self._changed("join", stack, {}, lambda *x: torch.cat(x, dim)), True
        if func is F.linear and self._projects(args[0]):
            return func(self._projected(args[0]), *args[1:], **kwargs), False
        if func is F.linear and (kind_of := _tokens_kind(*args, **kwargs)):
            go = lambda x: func(x, *args[1:], **kwargs)  # noqa: E731
            return self._changed(kind_of, (args[0],), {}, go), False
        if func in _SOFTMAXES and _is_attention(args, kwargs):
            weights = func(*args, **kwargs)
            return self._changed("attention", (weights,), {}, lambda w: w), False
        if func is F.scaled_dot_product_attention and "attention" in self.of.kinds:
            return self._attention(*args, **kwargs), False
        if func is F.multi_head_attention_forward and {"attention", "qkv"} & {*self.of.kinds}:
            return self._multi_head(*args, **kwargs), False
        return func(*args, **kwargs), False

    def _projects(self, tokens: Tensor) -> bool:
        """Return whether this is a linear layer of queries, keys or values on their own."""
        number, self.linears = self.linears, self.linears + 1
        if self.only_count:
            self.given.append(tokens)
        return number in self.of.projections

    def projections_apart(self) -> frozenset[int]:
        """Return which of the linear layers are given tokens that two others are given, too."""
        often = Counter(id(each) for each in self.given if each.dim() >= 3)
        return frozenset(number for number, each in enumerate(self.given) if often[id(each)] >= 3)

    def _projected(self, tokens: Tensor) -> Tensor:
        """Return what the rule makes of tokens before they are projected, once for all layers."""
        if id(tokens) not in self.projected:
            made = self._changed("qkv", (tokens,), {}, lambda x: x)
            self.projected[id(tokens)] = (tokens, made)  # held, so that no other has this id
        return self.projected[id(tokens)][1]

    def _changed(
        self,
        kind: Kind,
        inputs: tuple[Tensor, ...],
        options: Mapping[str, Any],
        go: Callable[..., Tensor],
        plain: Callable[[], Any] | None = None,
    ) -> Any:
        """Return what the rule makes of a call; `plain` is the call itself, for other kinds."""
        number = self.numbers[kind]
        self.numbers[kind] += 1
        if self.only_count:
            self.places.setdefault(kind, []).append(self.place)
            if _sequence_first(inputs[0]):
                self.sequential.add((kind, number))
        if self.only_count or kind not in self.of.kinds:
            return go(*inputs) if plain is None else plain()
        total = max(self.of.totals[kind], number + 1)
        span = self.of.spans.get(kind, total)
        if (kind, number) not in self.of.sequential:
            return self.of.rule(Call(kind, number, total, inputs, options, go, self.count, span))
        turned = tuple(each.transpose(0, 1) for each in inputs)
        call = Call(kind, number, total, turned, options, _turned(go), self.count, span)
        return self.of.rule(call).transpose(0, 1)

    def _attention(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attn_mask: Tensor | None = None,
        dropout_p: float = 0.0,
        is_causal: bool = False,
        scale: float | None = None,
        **_: Any,
    ) -> Tensor:
        """Return what `scaled_dot_product_attention` gives, its weights left to the rule."""
        size = query.shape[-1] ** -0.5 if scale is None else scale
        scores = (query * size) @ key.transpose(-2, -1)
        if is_causal:
            attn_mask = torch.ones_like(scores[0, 0], dtype=torch.bool).tril()
        if attn_mask is not None:
            low = attn_mask.dtype == torch.bool
            scores = scores.masked_fill(~attn_mask, -torch.inf) if low else scores + attn_mask
        weights = self._changed("attention", (scores.softmax(dim=-1),), {}, lambda w: w)
        mixed: Tensor = weights @ value
        return mixed

    def _multi_head(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        embed_dim_to_check: int,
        num_heads: int,
        in_proj_weight: Tensor | None,
        in_proj_bias: Tensor | None,
        *rest: Any,
        out_proj_weight: Tensor | None = None,
        **kwargs: Any,
    ) -> tuple[Tensor, None]:
        """Return what `multi_head_attention_forward` gives for self-attention without masks."""
        bias_k, bias_v, zero, _, out_weight, out_bias = rest[:6]
        if query is not key or key is not value or in_proj_weight is None or zero:
            raise AttackError(f"{self.of.name}: only self-attention of one projection is known")
        masks = (kwargs.get("attn_mask"), kwargs.get("key_padding_mask"), *rest[7:8], *rest[9:10])
        if any(isinstance(each, Tensor) for each in (bias_k, bias_v, *masks)):
            raise AttackError(f"{self.of.name}: attention with masks or biases is not known")
        if kwargs.get("need_weights", True):
            raise AttackError(f"{self.of.name}: attention whose weights are used is not known")
        length, count, width = query.shape
        tokens = query.transpose(0, 1)
        projected = self._changed(
            "qkv", (tokens,), {}, lambda x: F.linear(x, in_proj_weight, in_proj_bias)
        )
        heads = projected.view(count, length, 3, num_heads, width // num_heads)
        q, k, v = heads.permute(2, 0, 3, 1, 4).unbind(0)
        mixed = self._attention(q, k, v).transpose(1, 2).reshape(count, length, width)
        return F.linear(mixed, out_weight, out_bias).transpose(0, 1), None


def _sequence_first(tokens: Tensor) -> bool:
    """Return whether tokens of a single image are (T,1,d) instead of (1,T,d)."""
    return tokens.dim() == 3 and len(tokens) > 1 and tokens.shape[1] == 1


def _turned(go: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Return `go` for tokens whose images come first, of what they come second in."""
    return lambda *inputs: go(*(each.transpose(0, 1) for each in inputs)).transpose(0, 1)


def _in_place(func: Any, args: Any, kwargs: Any) -> bool:
    asked = kwargs.get("inplace", args[1] if func is F.relu and len(args) > 1 else False)
    return func in _IN_PLACE or bool(asked)


def _written(place: Tensor, result: Tensor) -> Tensor:
    """Return `place` with the result in it, as a call in place leaves it."""
    return place if result is place else place.copy_(result)


def _tensors(values: Any) -> Iterator[Tensor]:
    if isinstance(values, Tensor):
        yield values
    elif isinstance(values, tuple | list):
        for each in values:
            yield from _tensors(each)
    elif isinstance(values, dict):
        for each in values.values():
            yield from _tensors(each)


def _depth(tensor: Tensor) -> int | None:
    return getattr(tensor, "_depth", None)


def _mark(tensor: Tensor, depth: int, place: int, joined: bool = False) -> None:
    tensor._depth, tensor._place, tensor._joined = depth, place, joined  # type: ignore[attr-defined]


def _joined_parts(args: Any, kwargs: Any) -> tuple[Tensor, Tensor] | None:
    """Return what skips and what does not of an addition of maps or tokens; None for another."""
    if len(args) != 2 or kwargs.get("alpha", 1) != 1:
        return None
    first, second = args
    if not (isinstance(first, Tensor) and isinstance(second, Tensor)):
        return None
    if first.shape != second.shape or first.dim() < 3:
        return None
    depths = _depth(first), _depth(second)
    if None in depths or depths[0] == depths[1]:
        return None
    return (first, second) if depths[0] < depths[1] else (second, first)  # type: ignore[operator]


def _dense_parts(args: Any, kwargs: Any) -> tuple[Tensor, ...] | None:
    """Return maps that are stacked, if each was made from those before it, as in a DenseNet."""
    parts = args[0] if args else kwargs["tensors"]
    dim = kwargs.get("dim", args[1] if len(args) > 1 else 0)
    if len(parts) < 2 or dim != 1 or any(part.dim() != 4 for part in parts):
        return None
    depths = [_depth(part) for part in parts]
    if None in depths or sorted(set(depths)) != depths:  # type: ignore[type-var]
        return None
    return tuple(parts) if all(_made_of(b, parts[0]) for b in parts[1:]) else None


def _made_of(tensor: Tensor, source: Tensor) -> bool:
    """Return whether `tensor` was computed from `source`, by the graph of its gradient."""
    if source.grad_fn is None or tensor.grad_fn is None:
        return False
    waiting, seen = [tensor.grad_fn], set()
    while waiting:
        node = waiting.pop()
        if node is source.grad_fn:
            return True
        if node is not None and node not in seen:
            seen.add(node)
            waiting += [each for each, _ in node.next_functions if each is not None]
    return False


def _pooling(
    kernel_size: Any = None,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
    **_: Any,
) -> dict[str, Any]:
    return {
        "kernel_size": kernel_size,
        "stride": kernel_size if stride is None else stride,
        "padding": padding,
        "plain": dilation in (1, (1, 1)) and not ceil_mode and not return_indices,
    }


def _tokens_kind(given: Tensor, weight: Tensor, bias: Tensor | None = None) -> Kind | None:
    if given.dim() < 3:
        return None
    grown = weight.shape[0] / weight.shape[1]
    return "qkv" if grown == 3 else "mlp" if grown >= 2 else None


def _is_attention(args: Any, kwargs: Any) -> bool:
    given = args[0] if args else kwargs["input"]
    dim = kwargs.get("dim", args[1] if len(args) > 1 else None)
    return given.dim() == 4 and dim in (-1, 3)
