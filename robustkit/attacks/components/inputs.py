"""What the model is shown instead of the image: resized, scaled, mixed, shuffled, on an object.

Every image has its own random numbers, so that what becomes of it does not depend on its batch.
Gradients are taken through the transformation, and averaged over copies.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from robustkit.attacks.ascent import Ascent
from robustkit.attacks.components.base import Component, component
from robustkit.attacks.norms import per_image
from robustkit.attacks.ranges import check_at_least_zero, check_count, check_share
from robustkit.errors import AttackError

DRAWS = 4  # numbers of a resized image: whether, how small, and where (down, across)
LARGEST_KERNEL = 99
MOST_SCALES = 24  # x/2^24 of a float32 image in [0,1] is lost beside any bias
MOST_BLOCKS = 16


def sampled(images: Tensor, rows: Tensor, columns: Tensor, inside: Tensor) -> Tensor:
    """Return images (n,C,H,W) at places (n,h,w) in pixels, bilinearly; 0 where not `inside`."""
    height, width = images.shape[2:]
    # grid_sample's places: -1 and 1 are the outer edges of the first and the last pixel.
    grid = torch.stack([(2 * columns + 1) / width - 1, (2 * rows + 1) / height - 1], dim=3)
    taken = F.grid_sample(images, grid, padding_mode="border", align_corners=False)
    return taken * inside[:, None].to(taken)


def resized_and_padded(images: Tensor, drawn: Tensor, rate: float, probability: float) -> Tensor:
    """Return images (N,C,H,W) shrunk and padded to their old size (Xie et al. 2019, section 3).

    Row i of `drawn` (N,4), uniform in [0,1), is image i's luck: with `probability` it is resized
    bilinearly to a side in [⌊rate·H⌋, H) and put anywhere inside.
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
    inside = row_inside[:, :, None] & column_inside[:, None, :]
    return sampled(images, rows[:, :, None].expand(size), columns[:, None, :].expand(size), inside)


def _sources(length: int, side: Tensor, offset: Tensor) -> tuple[Tensor, Tensor]:
    """Return the place in pixels that each of `length` pixels samples, and whether it is inside.

    `side` and `offset` (N,) are those of the shrunk image; both results are (N, length).
    """
    within = torch.arange(length, device=side.device) - offset[:, None]
    # Pixel centres, as in bilinear resizing: (within + 1/2) of `side` is that of the whole.
    places = (within + 0.5) / side[:, None] * length - 0.5
    return places, (within >= 0) & (within < side[:, None])


@component("di")
@dataclass(frozen=True, kw_only=True)
class DiverseInput(Component):
    """A random resize and pad, drawn for every copy.

    With `diversity` probability an image is shrunk to a side of `resize` to 1 of its own.
    """

    paper: ClassVar[str] = "Xie et al. 2019, section 3 (arXiv 1803.06978)"
    elsewhere: ClassVar[bool] = True
    diversity: float = 0.5
    resize: float = 0.9

    def __post_init__(self) -> None:
        check_share("diversity", self.diversity)
        if not 0 < self.resize <= 1:
            raise AttackError(f"resize must be in (0,1], not {self.resize:g}")

    def view(self, images: Tensor, ascent: Ascent, copy: int) -> Tensor:
        """Return the images resized and padded."""
        if self.diversity == 0:
            return images
        drawn = ascent.uniform("di", (DRAWS,), ascent.copy)
        return resized_and_padded(images, drawn, self.resize, self.diversity)


@component("ti")
@dataclass(frozen=True, kw_only=True)
class TranslationInvariance(Component):
    """Gradients smoothed by a Gaussian kernel, which stands for the mean over shifted images.

    `kernel` is its side in pixels, odd: 15 in the paper, on images of 299; it reaches to three
    standard deviations, as there.
    """

    paper: ClassVar[str] = "Dong et al. 2019, equation 7 (arXiv 1904.02884)"
    kernel: int = 5

    def __post_init__(self) -> None:
        if not 1 <= self.kernel <= LARGEST_KERNEL or self.kernel % 2 == 0:
            raise AttackError(f"kernel must be odd and in [1, {LARGEST_KERNEL}], not {self.kernel}")

    def smooth(self, gradient: Tensor, ascent: Ascent) -> Tensor:
        """Return every channel convolved with the kernel, zeros around it."""
        channels = gradient.shape[1]
        line = gaussian(self.kernel).to(gradient)
        weight = torch.outer(line, line).expand(channels, 1, -1, -1)
        return F.conv2d(gradient, weight, padding="same", groups=channels)


def gaussian(side: int) -> Tensor:
    """Return a Gaussian at `side` points from -3 to 3 deviations, sum one: float64 (side,)."""
    points = torch.linspace(-3.0, 3.0, side, dtype=torch.float64) if side > 1 else torch.zeros(1)
    line = (-points.square() / 2).exp()
    return line / line.sum()


@component("si")
@dataclass(frozen=True, kw_only=True)
class ScaleInvariance(Component):
    """The mean gradient over the copies x/2^i, i < `scales`."""

    paper: ClassVar[str] = "Lin et al. 2020, algorithm 2 (arXiv 1908.06281)"
    scales: int = 5

    def __post_init__(self) -> None:
        check_count("scales", self.scales, MOST_SCALES)

    @property
    def copies(self) -> int:
        """One for each scale."""
        return self.scales

    def view(self, images: Tensor, ascent: Ascent, copy: int) -> Tensor:
        """Return the images divided by 2^copy."""
        return images / 2**copy if copy else images


@component("admix")
@dataclass(frozen=True, kw_only=True)
class Admix(Component):
    """A `portion` of another image added, in each of `mixed` copies.

    The paper's attack is admix+si. The other images are of the set that is attacked: see
    `Attack.__call__`.
    """

    paper: ClassVar[str] = "Wang et al. 2021 (arXiv 2102.00436)"
    needs: ClassVar[str] = "other images"
    mixes: ClassVar[bool] = True
    elsewhere: ClassVar[bool] = True
    mixed: int = 3
    portion: float = 0.2

    def __post_init__(self) -> None:
        check_count("mixed", self.mixed)
        check_at_least_zero("portion", self.portion)

    @property
    def copies(self) -> int:
        """One for each image mixed in."""
        return self.mixed

    def view(self, images: Tensor, ascent: Ascent, copy: int) -> Tensor:
        """Return the images with a portion of others."""
        others = ascent.clean if ascent.others is None else ascent.others
        luck = ascent.uniform("admix", (), copy)
        chosen = (luck * len(others)).long().clamp(max=len(others) - 1)
        itself = (others[chosen] == ascent.originals).flatten(1).all(dim=1)
        chosen = torch.where(itself, (chosen + 1) % len(others), chosen)
        return images + self.portion * others[chosen]


@component("ssm")
@dataclass(frozen=True, kw_only=True)
class SpectrumSimulation(Component):
    """Noise, then every frequency times its own factor in [1-ρ, 1+ρ], in `spectra` copies.

    The noise is Gaussian, its deviation `noise`·ε; frequencies are those of the cosine transform.
    """

    paper: ClassVar[str] = "S²I, Long et al. 2022 (arXiv 2207.05382)"
    elsewhere: ClassVar[bool] = True
    spectra: int = 20
    noise: float = 1.0
    rho: float = 0.5

    def __post_init__(self) -> None:
        check_count("spectra", self.spectra)
        check_at_least_zero("noise", self.noise)
        check_share("rho", self.rho)

    @property
    def copies(self) -> int:
        """One for each spectrum."""
        return self.spectra

    def view(self, images: Tensor, ascent: Ascent, copy: int) -> Tensor:
        """Return the images with another spectrum."""
        shape = images.shape[1:]
        normal = torch.special.ndtri(ascent.uniform("ssm noise", shape, copy).clamp(1e-7, 1 - 1e-7))
        factors = 1 + self.rho * (2 * ascent.uniform("ssm", shape, copy) - 1)
        down, across = (cosines(side).to(images) for side in images.shape[2:])
        deviation = self.noise * ascent.eps * ascent.scale
        spectrum = down @ (images + deviation * normal) @ across.T
        shown: Tensor = down.T @ (spectrum * factors) @ across
        return shown


@lru_cache(8)
def cosines(side: int) -> Tensor:
    """Return the matrix of the orthonormal cosine transform (DCT-II), float64 (side,side)."""
    places = torch.arange(side, dtype=torch.float64)
    matrix = torch.cos(math.pi / side * (places[None] + 0.5) * places[:, None])
    matrix *= math.sqrt(2 / side)
    matrix[0] /= math.sqrt(2)
    return matrix


@component("sia")
@dataclass(frozen=True, kw_only=True)
class StructureInvariance(Component):
    """Every block of a random grid shifted, flipped, turned, scaled or noisy, in `shuffles` copies.

    Seven of the paper's ten changes: resizing, the cosine transform and dropout are left out. The
    grid has `blocks` x `blocks` blocks. Each is one of: rolled down or across, flipped either
    way, turned by half, times a number in [0,1), or with noise in ±`noise` and cut to [0,1].
    """

    paper: ClassVar[str] = "Wang et al. 2023 (arXiv 2309.14700)"
    elsewhere: ClassVar[bool] = True
    shuffles: int = 20
    blocks: int = 3
    noise: float = 16 / 255

    def __post_init__(self) -> None:
        check_count("shuffles", self.shuffles)
        check_count("blocks", self.blocks, MOST_BLOCKS)
        check_at_least_zero("noise", self.noise)

    @property
    def copies(self) -> int:
        """One for each grid."""
        return self.shuffles

    def view(self, images: Tensor, ascent: Ascent, copy: int) -> Tensor:
        """Return the images with every block changed."""
        count, _, height, width = images.shape
        blocks = self.blocks
        if min(height, width) < blocks:
            raise AttackError(f"sia: {blocks} blocks need images of as many pixels")
        down = cuts(ascent.uniform("sia down", (height - 1,), copy), blocks)
        across = cuts(ascent.uniform("sia across", (width - 1,), copy), blocks)
        chosen = (ascent.uniform("sia choice", (blocks, blocks), copy) * len(KINDS)).long()
        moved = ascent.uniform("sia shift", (blocks, blocks), copy)
        factor = ascent.uniform("sia factor", (blocks, blocks), copy)
        # Of every pixel: its block, and where that begins and ends.
        rows, columns = (torch.arange(side, device=images.device) for side in (height, width))
        row_block = torch.searchsorted(down[:, 1:].contiguous(), rows.repeat(count, 1), right=True)
        column_block = torch.searchsorted(
            across[:, 1:].contiguous(), columns.repeat(count, 1), right=True
        )
        block = row_block[:, :, None] * blocks + column_block[:, None, :]
        kind, shift, scale = (
            each.flatten(1).gather(1, block.flatten(1)).view(count, height, width)
            for each in (chosen, moved, factor)
        )
        row = _within(rows, down, row_block)[:, :, :, None].expand(-1, -1, -1, width)
        column = _within(columns, across, column_block)[:, :, None, :].expand(-1, -1, height, -1)
        source_row = _source(kind, shift, row, rolled=0, flipped=(2, 4))
        source_column = _source(kind, shift, column, rolled=1, flipped=(3, 4))
        places = (source_row * width + source_column).flatten(1)[:, None]
        taken = images.flatten(2).gather(2, places.expand(-1, images.shape[1], -1))
        taken = taken.view_as(images)
        taken = torch.where((kind == 5)[:, None], taken * scale[:, None], taken)
        luck = 2 * ascent.uniform("sia noise", images.shape[1:], copy) - 1
        noisy = (taken + self.noise * luck).clamp(0, 1)
        return torch.where((kind == 6)[:, None], noisy, taken)


KINDS = ("down", "across", "upside down", "mirrored", "turned", "scaled", "noisy")


def cuts(luck: Tensor, blocks: int) -> Tensor:
    """Return where `blocks` intervals begin, and the end, int64 (n,blocks+1): all cuts as likely.

    `luck` (n,length-1) are numbers of the places where one can be cut.
    """
    length = luck.shape[1] + 1
    places = luck.argsort(dim=1)[:, : blocks - 1].sort(dim=1).values + 1
    ends = places.new_zeros(len(luck), 1), places.new_full((len(luck), 1), length)
    return torch.cat([ends[0], places, ends[1]], dim=1)


def _within(places: Tensor, edges: Tensor, block: Tensor) -> Tensor:
    """Return place in its block, the block's length and its beginning, (n,3,length)."""
    begin, end = edges.gather(1, block), edges.gather(1, block + 1)
    return torch.stack([places - begin, end - begin, begin], dim=1)


def _source(
    kind: Tensor, shift: Tensor, along: Tensor, *, rolled: int, flipped: tuple[int, int]
) -> Tensor:
    """Return from which row or column every pixel (n,H,W) is taken."""
    within, length, begin = along.unbind(dim=1)
    back = (within - (shift * length).long()) % length
    taken = torch.where(kind == rolled, back, within)
    turned = (kind == flipped[0]) | (kind == flipped[1])
    return begin + torch.where(turned, length - 1 - within, taken)


@component("bsr")
@dataclass(frozen=True, kw_only=True)
class BlockShuffleAndRotation(Component):
    """Blocks of a random grid shuffled, each turned by up to `angle` degrees, in `shuffles` copies.

    First strips along one axis change places, then pieces of each along the other; what a turned
    block leaves empty is black. The grid has `blocks` x `blocks` blocks.
    """

    paper: ClassVar[str] = "Wang et al. 2024 (arXiv 2308.10299)"
    elsewhere: ClassVar[bool] = True
    shuffles: int = 20
    blocks: int = 2
    angle: float = 24.0

    def __post_init__(self) -> None:
        check_count("shuffles", self.shuffles)
        check_count("blocks", self.blocks, MOST_BLOCKS)
        check_at_least_zero("angle", self.angle)

    @property
    def copies(self) -> int:
        """One for each grid."""
        return self.shuffles

    def view(self, images: Tensor, ascent: Ascent, copy: int) -> Tensor:
        """Return the images with their blocks shuffled and turned."""
        height, width = images.shape[2:]
        tall = ascent.uniform("bsr axis", (), copy) < 0.5
        strips = ascent.uniform("bsr strips", (2, self.blocks), copy)
        pieces = ascent.uniform("bsr pieces", (2, self.blocks, self.blocks), copy)
        turns = 2 * ascent.uniform("bsr angle", (self.blocks, self.blocks), copy) - 1
        turns = turns * math.radians(self.angle)
        # As if the strips lay along rows; of the others rows and columns change names.
        places = []
        for first, second in ((height, width), (width, height)):
            places.append(_shuffled(first, second, strips, pieces, turns))
        upright, across = places
        rows = torch.where(per_image(tall)[:, 0], upright[0], across[1].transpose(1, 2))
        columns = torch.where(per_image(tall)[:, 0], upright[1], across[0].transpose(1, 2))
        inside = torch.where(per_image(tall)[:, 0], upright[2], across[2].transpose(1, 2))
        return sampled(images, rows, columns, inside)


def lengths(luck: Tensor, length: int) -> Tensor:
    """Return whole lengths (…,blocks) in the proportions of `luck` that add up to `length`.

    What rounding leaves goes to the longest.
    """
    shares = luck.clamp_min(1e-6)
    whole = (shares / shares.sum(dim=-1, keepdim=True) * length).round()
    rest = length - whole.sum(dim=-1, keepdim=True)
    longest = F.one_hot(whole.argmax(dim=-1), whole.shape[-1])
    return (whole + rest * longest).long()


def _shuffled(
    first: int, second: int, strips: Tensor, pieces: Tensor, turns: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the places along both axes that every pixel samples, and whether they are inside.

    Strips lie along the first axis, of `first` pixels; the results are (n,first,second).
    """
    long, order = lengths(strips[:, 0], first), strips[:, 1].argsort(dim=1)
    begin, source = _moved(long, order)
    along = torch.arange(first, device=strips.device).repeat(len(strips), 1)
    slot = torch.searchsorted((begin + long.gather(1, order)).contiguous(), along, right=True)
    strip = order.gather(1, slot)
    # Pieces of each strip along the second axis.
    wide, turn = lengths(pieces[:, 0], second), pieces[:, 1].argsort(dim=2)
    piece_begin, piece_source = _moved(wide.flatten(0, 1), turn.flatten(0, 1))
    ends = piece_begin + wide.flatten(0, 1).gather(1, turn.flatten(0, 1))
    across = torch.arange(second, device=strips.device).repeat(len(ends), 1)
    places = torch.searchsorted(ends.contiguous(), across, right=True)
    shape = (*strips.shape[::2], second)
    piece = turn.flatten(0, 1).gather(1, places)
    of_strip = {
        "begin": piece_begin.gather(1, places).view(shape),
        "source": piece_source.gather(1, places).view(shape),
        "length": wide.flatten(0, 1).gather(1, piece).view(shape),
        "angle": turns.flatten(0, 1).gather(1, piece).view(shape),
    }
    index = strip[:, :, None].expand(-1, -1, second)
    own = {name: values.gather(1, index) for name, values in of_strip.items()}
    height = long.gather(1, strip)[:, :, None]
    # Offsets from the block's middle, turned back.
    down = along[:, :, None] - begin.gather(1, slot)[:, :, None] - (height - 1) / 2
    right = across[0] - own["begin"] - (own["length"] - 1) / 2
    sine, cosine = own["angle"].sin(), own["angle"].cos()
    row = cosine * down - sine * right + (height - 1) / 2
    column = sine * down + cosine * right + (own["length"] - 1) / 2
    slack = 0.5
    inside = (row > -slack) & (row < height - slack) & (column > -slack)
    inside &= column < own["length"] - slack
    # Samples stay within the block: bilinear weights must not reach into the neighbour.
    row = torch.minimum(row.clamp_min(0), (height - 1).to(row))
    column = torch.minimum(column.clamp_min(0), (own["length"] - 1).to(column))
    return row + source.gather(1, slot)[:, :, None], column + own["source"], inside


def _moved(long: Tensor, order: Tensor) -> tuple[Tensor, Tensor]:
    """Return where each slot begins, and where what it holds began, (n,blocks).

    Slot k holds interval `order[k]` of lengths `long` (n,blocks).
    """
    held = long.gather(1, order)
    before = long.cumsum(dim=1) - long
    return held.cumsum(dim=1) - held, before.gather(1, order)


@component("odi")
@dataclass(frozen=True, kw_only=True)
class ObjectDiverseInput(Component):
    """The image printed on a sheet or a cushion, seen from a random side in random light.

    With probability `diversity`. The paper renders meshes of a parcel, a cushion and a book; here
    the surface is given by a formula, flat or bulging by up to `bulge` of its side. Elevation,
    azimuth and tilt are within `angle` degrees, the background is noise.
    """

    paper: ClassVar[str] = "Byun et al. 2022 (arXiv 2203.09123), surfaces of our own"
    elsewhere: ClassVar[bool] = True
    diversity: float = 0.7
    angle: float = 35.0
    bulge: float = 0.25

    def __post_init__(self) -> None:
        check_share("diversity", self.diversity)
        check_share("bulge", self.bulge)
        if not 0 <= self.angle <= 60:
            raise AttackError(f"angle must be in [0,60], not {self.angle:g}")

    def view(self, images: Tensor, ascent: Ascent, copy: int) -> Tensor:
        """Return the images on their objects."""
        luck = ascent.uniform("odi", (10,), ascent.copy)
        shown = luck[:, 0] < self.diversity
        rows, columns, inside, light = self._cast(luck, images.shape[2], images.shape[3])
        printed = sampled(images, rows, columns, inside) * light[:, None]
        background = ascent.uniform("odi background", images.shape[1:], ascent.copy)
        rendered = torch.where(inside[:, None], printed.clamp(0, 1), background)
        return torch.where(per_image(shown), rendered, images)

    def _cast(self, luck: Tensor, height: int, width: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return where the ray of every pixel meets the sheet, whether it does, and the light."""
        turn = _rotation((2 * luck[:, 1:4] - 1) * math.radians(self.angle))
        distance = 2.4 * (0.8 + 0.4 * luck[:, 4])
        swell = torch.where(luck[:, 5] < 0.5, 2 * luck[:, 5] * self.bulge, 0.0)[:, None, None]
        lamp = torch.stack([4 * luck[:, 6] - 2, 4 * luck[:, 7] - 2, 2 + 4 * luck[:, 8]], dim=1)
        ambient, diffuse = 0.6 + 0.3 * luck[:, 9], 0.5 * luck[:, 8]
        # The eye looks along -z at a sheet of [-1,1]², which fills the view at a distance of 2.4.
        down, across = (
            (torch.arange(side, device=luck.device) + 0.5) / side * 2 - 1
            for side in (height, width)
        )
        grid = torch.stack(torch.meshgrid(across, down, indexing="ij"), dim=-1).transpose(0, 1)
        rays = torch.cat([grid / 2.0, -torch.ones_like(grid[..., :1])], dim=-1).to(luck)
        eye = torch.zeros_like(turn[:, 0])
        eye[:, 2] = distance
        # In the sheet's own axes.
        eye = (turn.transpose(1, 2) @ eye[:, :, None])[:, None, None, :, 0]
        rays = (turn.transpose(1, 2)[:, None, None] @ rays[..., None])[..., 0]
        lamp = (turn.transpose(1, 2) @ lamp[:, :, None])[:, None, None, :, 0]
        level = torch.zeros_like(rays[..., 0])
        for _ in range(4 if self.bulge else 1):  # a fixed point: the height where the ray arrives
            reach = (level - eye[..., 2]) / rays[..., 2].clamp(max=-1e-3)
            met = eye + reach[..., None] * rays
            x, y = met[..., 0], met[..., 1]
            level = swell * (1 - x.square()).clamp_min(0) * (1 - y.square()).clamp_min(0)
        inside = (x.abs() <= 1) & (y.abs() <= 1) & (rays[..., 2] < -1e-3)
        slope_x = -2 * x * swell * (1 - y.square()).clamp_min(0)
        slope_y = -2 * y * swell * (1 - x.square()).clamp_min(0)
        normal = F.normalize(torch.stack([-slope_x, -slope_y, torch.ones_like(x)], dim=-1), dim=-1)
        towards = F.normalize(lamp - torch.stack([x, y, level], dim=-1), dim=-1)
        lit = (normal * towards).sum(dim=-1).clamp_min(0)
        light = ambient[:, None, None] + diffuse[:, None, None] * lit
        rows, columns = (y + 1) / 2 * height - 0.5, (x + 1) / 2 * width - 0.5
        return rows, columns, inside, light


def _rotation(angles: Tensor) -> Tensor:
    """Return rotations (n,3,3) by angles (n,3) about x, y and z, in that order."""
    sine, cosine = angles.sin(), angles.cos()
    zero, one = torch.zeros_like(sine[:, 0]), torch.ones_like(sine[:, 0])
    (sx, sy, sz), (cx, cy, cz) = sine.unbind(dim=1), cosine.unbind(dim=1)
    about_x = torch.stack([one, zero, zero, zero, cx, -sx, zero, sx, cx], dim=1)
    about_y = torch.stack([cy, zero, sy, zero, one, zero, -sy, zero, cy], dim=1)
    about_z = torch.stack([cz, -sz, zero, sz, cz, zero, zero, zero, one], dim=1)
    x, y, z = (each.view(-1, 3, 3) for each in (about_x, about_y, about_z))
    return z @ y @ x
