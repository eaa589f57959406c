"""What a component of an iterative attack is, and how several become one."""

from __future__ import annotations

import types
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from itertools import product
from typing import Any, ClassVar

from torch import Tensor, nn

from robustkit.attacks.ascent import Ascent, Gradient
from robustkit.attacks.parameters import check_parameters, split_spec
from robustkit.errors import AttackError, did_you_mean
from robustkit.reading import Json
from robustkit.registry import Registry


@dataclass(frozen=True, kw_only=True)
class Component:
    """One change of the iterative loop; its fields are its parameters, its methods the hooks.

    A hook that a component does not replace leaves things as they are. `paper` names its source,
    `needs` what it cannot do without, in words. `elsewhere` says whether the first gradient of a
    step is not one of the loss at the images themselves, `momentum` whether there has to be any,
    `mixes` that other images are mixed in, `shown_first` that its view is of the images themselves,
    `needs_target` that it is for targeted attacks alone, or for untargeted ones, `excludes` with
    which others it does not go together.
    """

    name: ClassVar[str] = ""
    paper: ClassVar[str] = ""
    needs: ClassVar[str] = ""
    elsewhere: ClassVar[bool] = False
    momentum: ClassVar[bool] = False
    mixes: ClassVar[bool] = False
    shown_first: ClassVar[bool] = False
    needs_target: ClassVar[bool | None] = None
    excludes: ClassVar[tuple[str, ...]] = ()

    @property
    def further(self) -> int:
        """How many steps follow those of the attack, from where `turn` says."""
        return 0

    @property
    def copies(self) -> int:
        """Over how many copies of an image the gradient is averaged."""
        return 1

    def operated(self, model: nn.Module, ascent: Ascent) -> nn.Module:
        """Return the model that is attacked: with changed gradients, or computing otherwise."""
        return model

    def prepare(self, ascent: Ascent) -> None:
        """Keep what is known before the first step."""

    def view(self, images: Tensor, ascent: Ascent, copy: int) -> Tensor:
        """Return what the model sees of images (n,C,H,W), differentiably; `copy` < `copies`."""
        return images

    def ahead(self, images: Tensor, ascent: Ascent) -> Tensor:
        """Return where the gradient is taken, (n,C,H,W)."""
        return images

    def gradient(self, of: Gradient, images: Tensor, ascent: Ascent) -> Tensor:
        """Return the gradient (n,C,H,W) of this step at `images`, made of those that `of` gives."""
        return of(images)

    def objective(self, images: Tensor, ascent: Ascent) -> Tensor | None:
        """Return what is ascended instead of the loss, (n,), with a graph; None for the loss.

        Of `images` (n,C,H,W) as the model sees them.
        """
        return None

    def turn(self, adversarials: Tensor, ascent: Ascent) -> Tensor:
        """Return where the `further` steps begin, (n,C,H,W)."""
        return adversarials

    def smooth(self, gradient: Tensor, ascent: Ascent) -> Tensor:
        """Return the gradient (n,C,H,W) as it is to be accumulated."""
        return gradient

    def stride(self, step: Tensor, ascent: Ascent) -> Tensor:
        """Return the step (n,C,H,W) as it is to be taken."""
        return step

    def to_dict(self) -> Json:
        """Return name and parameters as plain values."""
        return {"name": self.name, **{each.name: getattr(self, each.name) for each in fields(self)}}


COMPONENTS: Registry[type[Component]] = Registry("attack component", AttackError)


def component(name: str) -> Callable[[type[Component]], type[Component]]:
    """Return a decorator that enters a class in `COMPONENTS` under `name`."""

    def entering(kind: type[Component]) -> type[Component]:
        kind.name = name
        COMPONENTS.enter(name, kind)
        return kind

    return entering


@dataclass(frozen=True)
class Combination:
    """Components as one: hooks follow each other in their order, copies multiply.

    Of gradients the first component's is the outermost.
    """

    components: tuple[Component, ...] = ()

    @property
    def elsewhere(self) -> bool:
        """Whether the first gradient of a step is not one of the loss at the images themselves."""
        return any(each.elsewhere for each in self.components)

    @property
    def copies(self) -> list[tuple[int, ...]]:
        """Every copy by its number within each component."""
        return list(product(*(range(each.copies) for each in self.components)))

    def operated(self, model: nn.Module, ascent: Ascent) -> nn.Module:
        """Return the model that is attacked, changed by all components."""
        for each in self.components:
            model = each.operated(model, ascent)
        return model

    def prepare(self, ascent: Ascent) -> None:
        """Let every component look at the clean images."""
        for each in self.components:
            each.prepare(ascent)

    def view(self, images: Tensor, ascent: Ascent, copy: tuple[int, ...]) -> Tensor:
        """Return what the model is shown in one of `copies`."""
        pairs = list(zip(self.components, copy, strict=True))
        for each, number in sorted(pairs, key=lambda pair: not pair[0].shown_first):
            images = each.view(images, ascent, number)
        return images

    def ahead(self, images: Tensor, ascent: Ascent) -> Tensor:
        """Return where the gradient is taken, (n,C,H,W)."""
        for each in self.components:
            images = each.ahead(images, ascent)
        return images

    def gradient(self, of: Gradient, images: Tensor, ascent: Ascent) -> Tensor:
        """Return the gradient (n,C,H,W) of this step."""
        for each in reversed(self.components):
            of = _wrapped(each, of, ascent)
        return of(images)

    @property
    def further(self) -> int:
        """How many steps follow those of the attack."""
        return sum(each.further for each in self.components)

    def turn(self, adversarials: Tensor, ascent: Ascent) -> Tensor:
        """Return where the further steps begin, (n,C,H,W)."""
        for each in self.components:
            adversarials = each.turn(adversarials, ascent)
        return adversarials

    @property
    def has_objective(self) -> bool:
        """Whether something else than the loss may be ascended."""
        return any(map(_has_objective, self.components))

    def objective(self, images: Tensor, ascent: Ascent) -> Tensor | None:
        """Return what is ascended instead of the loss, (n,), or None for the loss."""
        for each in self.components:
            if (value := each.objective(images, ascent)) is not None:
                return value
        return None

    def smooth(self, gradient: Tensor, ascent: Ascent) -> Tensor:
        """Return the gradient (n,C,H,W) as it is to be accumulated."""
        for each in self.components:
            gradient = each.smooth(gradient, ascent)
        return gradient

    def stride(self, step: Tensor, ascent: Ascent) -> Tensor:
        """Return the step (n,C,H,W) as it is to be taken."""
        for each in self.components:
            step = each.stride(step, ascent)
        return step


def _wrapped(each: Component, of: Gradient, ascent: Ascent) -> Gradient:
    if type(each).gradient is Component.gradient:
        return of
    return lambda images: each.gradient(of, images, ascent)


def combine(components: Iterable[Component | str], attack: str) -> tuple[Component, ...]:
    """Return components given themselves, by name, or as "NAME?PARAMETER=VALUE", for `attack`.

    Raises `AttackError` for an unknown or repeated name, an unknown parameter or one outside its
    range, and for two that do not go together.
    """
    made: list[Component] = []
    for item in components:
        one = item if isinstance(item, Component) else _by_spec(item, attack)
        names = [each.name for each in made]
        if one.name in names:
            raise AttackError(f"{attack}: component '{one.name}' is given twice")
        for other in made:
            both = _has_objective(one) and _has_objective(other)
            if both or other.name in one.excludes or one.name in other.excludes:
                raise AttackError(f"{attack}: '{other.name}' and '{one.name}' do not go together")
        made.append(one)
    return tuple(made)


def _has_objective(each: Component) -> bool:
    return type(each).objective is not Component.objective


def _by_spec(spec: object, attack: str) -> Component:
    if not isinstance(spec, str):
        raise AttackError(f"{attack}: a component is a name or a Component, not {spec!r}")
    name, given = split_spec(spec)
    return make_component(name, given, attack)


def make_component(name: str, given: Mapping[str, Any], attack: str) -> Component:
    """Return the component `name` with the parameters `given`, for `attack`."""
    kind = COMPONENTS.find(name)
    check_parameters(f"{attack}+{name}", given, parameters_of(kind))
    try:
        return kind(**given)
    except AttackError as error:
        raise AttackError(f"{attack}: {error}") from None


def parameters_of(kind: type) -> dict[str, tuple[type, ...]]:
    """Return the types that every parameter of an attack or a component may have.

    Without images to train on, which nobody can write.
    """
    hints = typing.get_type_hints(kind)
    return {each.name: _types(hints[each.name]) for each in fields(kind) if each.name != "examples"}


def _types(hint: Any) -> tuple[type, ...]:
    if isinstance(hint, types.UnionType):
        return tuple(typing.get_origin(item) or item for item in typing.get_args(hint))
    return (typing.get_origin(hint) or hint,)


def with_parameters(
    used: Sequence[Component | str], given: Mapping[str, Any], own: Mapping[str, Any], attack: str
) -> tuple[tuple[Component, ...], dict[str, Any]]:
    """Return the components `used` with their parameters, and what of `given` is the attack's.

    A parameter belongs to the attack if that has it (`own`), else to the component that has one of
    this name; "NAME.PARAMETER" says to which. Raises `AttackError` where several have it, or only
    one that is not used.
    """
    rest: dict[str, Any] = {}
    by_name: dict[str, dict[str, Any]] = {
        name: {} for name in used if isinstance(name, str) and "?" not in name
    }
    for name in by_name:
        COMPONENTS.find(name)
    for parameter, value in given.items():
        owner, dot, short = parameter.partition(".")
        owners = [name for name in by_name if parameter in parameters_of(COMPONENTS[name])]
        known = [name for name, kind in COMPONENTS.items() if parameter in parameters_of(kind)]
        if dot:
            if owner not in by_name:
                raise AttackError(f"{attack}: {parameter}: the component '{owner}' is not used")
            by_name[owner][short] = value
        elif parameter in own:
            rest[parameter] = value
        elif not known:
            of_used = {name for each in by_name for name in parameters_of(COMPONENTS[each])}
            hint = did_you_mean(parameter, own.keys() | of_used)
            raise AttackError(f"attack {attack}: unknown parameter '{parameter}'{hint}")
        elif len(owners) == 1:
            by_name[owners[0]][parameter] = value
        elif owners:
            written = " or ".join(f"{name}.{parameter}" for name in owners)
            raise AttackError(f"{attack}: {parameter} of which component? Write {written}")
        else:
            raise AttackError(
                f"{attack}: {parameter} is a parameter of the component '{known[0]}', which is "
                f"not used: {'+'.join([attack, *by_name, known[0]])}"
            )
    made = [
        make_component(item, by_name[item], attack) if item in by_name else item for item in used
    ]
    return combine(made, attack), rest
