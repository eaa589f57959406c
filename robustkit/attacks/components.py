"""What makes iterative attacks transfer better, as components that combine freely in one loop.

A new component is a class below, entered in `COMPONENTS`, and a field of `ComponentSettings` for
each of its parameters.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from itertools import product
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from robustkit.attacks.gradients import View
from robustkit.errors import AttackError
from robustkit.reading import Json
from robustkit.registry import Registry

# Random numbers that one image needs for one view: whether, how small, and where (down, across).
DRAWS = 4


def resized_and_padded(images: Tensor, drawn: Tensor, rate: float, probability: float) -> Tensor:
    """Return images (N,C,H,W) shrunk and padded to their old size (Xie et al. 2019, section 3).

    Row i of `drawn` (N,4), uniform in [0,1), is image i's luck: with `probability` it is resized
    bilinearly to a side in [⌊rate·H⌋, H) and put anywhere inside. Each image has its own, so that
    what becomes of it does not depend on its batch.
    """
    height, width = images.shape[2:]
    # A float64 just below one may become a float32 one.
    chance, small, down, across = drawn.to(images).clamp(max=1 - 1e-7).unbind(dim=1)
    least = torch.tensor([int(rate * height), int(rate * width)], device=images.device)
    whole = torch.tensor([height, width], device=images.device)
    # One draw for both sides keeps the aspect ratio.
    sides = (least + small[:, None] * (whole - least)).floor().clamp(min=1)
    offsets = (torch.stack([down, across], dim=1) * (whole - sides + 1)).floor()
    sides = torch.where((chance < probability)[:, None], sides, whole.to(sides))
    offsets = torch.where((chance < probability)[:, None], offsets, torch.zeros_like(offsets))
    rows, row_inside = _sources(height, sides[:, 0], offsets[:, 0])
    columns, column_inside = _sources(width, sides[:, 1], offsets[:, 1])
    size = (len(images), height, width)
    grid = torch.stack([columns[:, None].expand(size), rows[:, :, None].expand(size)], dim=3)
    images = F.grid_sample(images, grid, padding_mode="border", align_corners=False)
    return images * (row_inside[:, :, None] & column_inside[:, None, :])[:, None]


def _sources(length: int, side: Tensor, offset: Tensor) -> tuple[Tensor, Tensor]:
    """Return the position in [-1,1] that each of `length` pixels samples, and whether it is inside.

    `side` and `offset` (N,) are those of the shrunk image; both results are (N, length).
    """
    within = torch.arange(length, device=side.device) - offset[:, None]
    # Pixel centres, as in bilinear resizing: (within + 1/2) of `side` is that of the whole.
    position = (within + 0.5) / side[:, None]
    return 2 * position - 1, (within >= 0) & (within < side[:, None])


LARGEST_KERNEL = 99
MOST_SCALES = 24  # x/2^24 of a float32 image in [0,1] is lost beside any bias


@dataclass(frozen=True, kw_only=True)
class ComponentSettings:
    """The fields of an attack that name its components and set their parameters.

    None takes a component's own default; a value for a component that is not used is refused.
    """

    components: tuple[str, ...] = ()
    diversity: float | None = None
    resize: float | None = None
    kernel: int | None = None
    scales: int | None = None


@dataclass(frozen=True, kw_only=True)
class Component:
    """One change of the iterative loop; its fields are its parameters, its methods the hooks.

    A hook that a component does not replace leaves things as they are. `elsewhere` says whether
    the gradient is taken away from the images themselves (for `copies`: that of the first copy),
    `needs_momentum` whether there has to be a velocity.
    """

    elsewhere: ClassVar[bool] = False
    needs_momentum: ClassVar[bool] = False

    @property
    def draws(self) -> int:
        """How many random numbers, uniform in [0,1), the view of one image needs."""
        return 0

    @property
    def copies(self) -> int:
        """Over how many copies of an image the gradient is averaged."""
        return 1

    def view(self, images: Tensor, drawn: Tensor, copy: int) -> Tensor:
        """Return what the model sees of images (n,C,H,W), differentiably.

        `drawn` (n,draws) are their random numbers, `copy` is in [0, copies).
        """
        return images

    def ahead(self, images: Tensor, velocity: Tensor, reach: float) -> Tensor:
        """Return where the gradient is taken; `reach` is α·μ, what a step keeps of the velocity."""
        return images

    def smooth(self, gradient: Tensor) -> Tensor:
        """Return the gradient (n,C,H,W) as it is to be accumulated."""
        return gradient


COMPONENTS: Registry[type[Component]] = Registry("attack component", AttackError)


@COMPONENTS.register("di")
@dataclass(frozen=True, kw_only=True)
class DiverseInput(Component):
    """The gradient through a random resize and pad (Xie et al. 2019), drawn for every copy.

    With `diversity` probability an image is shrunk to a side of `resize` to 1 of its own.
    """

    diversity: float = 0.5
    resize: float = 0.9
    elsewhere: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not 0 <= self.diversity <= 1:
            raise AttackError(f"diversity must be in [0,1], not {self.diversity:g}")
        if not 0 < self.resize <= 1:
            raise AttackError(f"resize must be in (0,1], not {self.resize:g}")

    @property
    def draws(self) -> int:
        """Whether, how small, and where."""
        return DRAWS

    def view(self, images: Tensor, drawn: Tensor, copy: int) -> Tensor:
        """Return the images resized and padded."""
        if self.diversity == 0:
            return images
        return resized_and_padded(images, drawn, self.resize, self.diversity)


@COMPONENTS.register("ti")
@dataclass(frozen=True, kw_only=True)
class TranslationInvariance(Component):
    """Gradients smoothed by a Gaussian kernel (Dong et al. 2019, equation 7).

    `kernel` is its side in pixels, odd: 15 in the paper, on images of 299; it reaches to three
    standard deviations, as there.
    """

    kernel: int = 5

    def __post_init__(self) -> None:
        if not 1 <= self.kernel <= LARGEST_KERNEL or self.kernel % 2 == 0:
            raise AttackError(f"kernel must be odd and in [1, {LARGEST_KERNEL}], not {self.kernel}")

    def smooth(self, gradient: Tensor) -> Tensor:
        """Return every channel convolved with the kernel, zeros around it."""
        channels = gradient.shape[1]
        line = gaussian(self.kernel).to(gradient)
        weight = torch.outer(line, line).expand(channels, 1, -1, -1)
        return F.conv2d(gradient, weight, padding="same", groups=channels)


@COMPONENTS.register("si")
@dataclass(frozen=True, kw_only=True)
class ScaleInvariance(Component):
    """The mean gradient over the copies x/2^i, i < `scales` (Lin et al. 2020, algorithm 2)."""

    scales: int = 5

    def __post_init__(self) -> None:
        if not 1 <= self.scales <= MOST_SCALES:
            raise AttackError(f"scales must be in [1, {MOST_SCALES}], not {self.scales:g}")

    @property
    def copies(self) -> int:
        """One for each scale."""
        return self.scales

    def view(self, images: Tensor, drawn: Tensor, copy: int) -> Tensor:
        """Return the images divided by 2^copy."""
        return images / 2**copy if copy else images


@COMPONENTS.register("ni")
@dataclass(frozen=True, kw_only=True)
class Nesterov(Component):
    """The gradient where momentum leads (Lin et al. 2020, equation 6)."""

    elsewhere: ClassVar[bool] = True
    needs_momentum: ClassVar[bool] = True

    def ahead(self, images: Tensor, velocity: Tensor, reach: float) -> Tensor:
        """Return the images moved by what the next step keeps of the velocity."""
        return images + reach * velocity


def gaussian(side: int) -> Tensor:
    """Return a Gaussian at `side` points from -3 to 3 deviations, sum one: float64 (side,)."""
    points = torch.linspace(-3.0, 3.0, side, dtype=torch.float64) if side > 1 else torch.zeros(1)
    line = (-points.square() / 2).exp()
    return line / line.sum()


@dataclass(frozen=True)
class Combination:
    """Components as one: views and smoothings follow each other in their order, copies multiply."""

    components: tuple[tuple[str, Component], ...] = ()

    @property
    def elsewhere(self) -> bool:
        """Whether the first copy's gradient is not taken at the images themselves."""
        return any(component.elsewhere for _, component in self.components)

    @property
    def copies(self) -> list[tuple[int, ...]]:
        """Every copy by its number within each component."""
        return list(product(*(range(component.copies) for _, component in self.components)))

    @property
    def draws(self) -> int:
        """How many random numbers one copy of an image needs in one step."""
        return sum(component.draws for _, component in self.components)

    def draw(self, count: int, steps: int, generator: torch.Generator) -> Tensor | None:
        """Return the random numbers float64 (count,steps,copies,draws), None where views need none.

        An image's numbers follow each other, so that they do not depend on those after it.
        """
        if not self.draws:
            return None
        shape = (count, steps, len(self.copies), self.draws)
        return torch.rand(shape, generator=generator, dtype=torch.float64)

    def view(self, drawn: Tensor | None, index: int) -> View | None:
        """Return what the model is shown of copy `index`, from its rows (n,copies,draws)."""
        if not self.components:
            return None
        copy = self.copies[index]

        def view(images: Tensor) -> Tensor:
            sizes = [component.draws for _, component in self.components]
            numbers = images.new_empty(len(images), 0) if drawn is None else drawn[:, index]
            for (_, component), own, number in zip(
                self.components, torch.split(numbers, sizes, dim=1), copy, strict=True
            ):
                images = component.view(images, own, number)
            return images

        return view

    def ahead(self, images: Tensor, velocity: Tensor | None, reach: float) -> Tensor:
        """Return where the gradient is taken: (n,C,H,W) from the images and their velocity."""
        if velocity is not None:
            for _, component in self.components:
                images = component.ahead(images, velocity, reach)
        return images

    def smooth(self, gradient: Tensor) -> Tensor:
        """Return the gradient (n,C,H,W) as it is to be accumulated."""
        for _, component in self.components:
            gradient = component.smooth(gradient)
        return gradient

    def parameters(self) -> Json:
        """Return every parameter of the components, defaults included."""
        return {
            field.name: getattr(component, field.name)
            for _, component in self.components
            for field in fields(component)
        }


def combine(settings: ComponentSettings, names: Sequence[str], attack: str) -> Combination:
    """Make the components called `names` with their parameters in `settings`, for `attack`.

    Raises `AttackError` for an unknown or repeated name, for a parameter of a component that is
    not among them, and for a parameter outside its range.
    """
    for index, name in enumerate(names):
        COMPONENTS.find(name)
        if name in names[:index]:
            raise AttackError(f"{attack}: component '{name}' is given twice")
    given = {
        field.name: value
        for field in fields(ComponentSettings)
        if field.name != "components" and (value := getattr(settings, field.name)) is not None
    }
    owners = {field.name: name for name, kind in COMPONENTS.items() for field in fields(kind)}
    for parameter in given:
        if owners[parameter] not in names:
            raise AttackError(
                f"{attack}: {parameter} is a parameter of the component '{owners[parameter]}', "
                f"which is not used: components={','.join([*names, owners[parameter]])}"
            )
    components = []
    for name in names:
        kind = COMPONENTS[name]
        parameters = {
            field.name: given[field.name] for field in fields(kind) if field.name in given
        }
        try:
            components.append((name, kind(**parameters)))
        except AttackError as error:
            raise AttackError(f"{attack}: {error}") from None
    return Combination(tuple(components))
