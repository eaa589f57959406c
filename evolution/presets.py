"""Networks of known families as genotypes: where an evolution may start from.

The zoo's nets are rebuilt from the blocks of a search space, as near as it has them: its pools are
of odd size, and deep stages are shortened to the blocks allowed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial

from evolution.genotype import Genotype
from evolution.space import SearchSpace
from robustkit.models.blueprint import Block, Head

_VGG_DEPTHS = {"vgg3": (1, 1, 1), "vgg5": (1, 2, 2)}


def preset_genotypes(
    space: SearchSpace,
    input_shape: tuple[int, int, int],
    num_classes: int,
    reference: Mapping[str, object],
) -> list[Genotype]:
    """Return distinct genotypes of `space` to start from, the reference's own first.

    `reference` is its architecture as on a card. Of every family (VGG, the zoo's `small`, residual,
    separable, dense, inception) there is the widest within the space's limits, if any is, for
    images (C,H,W) of `input_shape`.
    """
    genotypes: dict[str, Genotype] = {}

    own = genotype_of(reference)
    if own is not None and space.fits(own, input_shape, num_classes):
        genotypes[own.key()] = own
    for make in _families(space):
        for width in reversed(space.channels):
            genotype = _in_space(make(width), space)
            if space.fits(genotype, input_shape, num_classes):
                genotypes.setdefault(genotype.key(), genotype)
                break
    return list(genotypes.values())


def genotype_of(architecture: Mapping[str, object]) -> Genotype | None:
    """Return the genotype of an architecture as on a card, None where there is none near it.

    >>> genotype_of({"family": "zoo", "name": "vgg3", "options": {"width": 16}}).blocks[-2].channels
    64
    >>> genotype_of({"family": "zoo", "name": "resnet18", "options": {}}) is None
    True
    """
    blueprint = architecture.get("blueprint")
    if architecture.get("family") == "blueprint" and isinstance(blueprint, Mapping):
        return Genotype.from_dict(blueprint)
    if architecture.get("family") != "zoo":
        return None
    name, options = architecture.get("name"), architecture.get("options")
    width = options.get("width", 32) if isinstance(options, Mapping) else 32
    if name in _VGG_DEPTHS:
        return _vgg(width, _VGG_DEPTHS[str(name)])
    return _small(width) if name == "small" else None


def _families(space: SearchSpace) -> Iterator[Callable[[int], Genotype]]:
    """Yield makers of a genotype of some width; what a maker makes may lie outside the space."""
    yield lambda width: _vgg(width, (1, 2, 2))
    yield lambda width: _vgg(width, (1, 1, 1))
    yield _small
    for kind in ("residual", "separable", "dense", "inception"):
        if kind in space.kinds:
            yield partial(_staged, kind)


def _in_space(genotype: Genotype, space: SearchSpace) -> Genotype:
    """Return the genotype with the next lower choice of channels in every block."""
    blocks = []
    for block in genotype.blocks:
        lower = [channels for channels in space.channels if channels <= block.channels]
        blocks.append(replace(block, channels=max(lower, default=block.channels)))
    return Genotype(tuple(blocks), genotype.head)


def _chain(blocks: Sequence[Block], head: Head) -> Genotype:
    """Return a genotype of blocks one after the other."""
    linked = (replace(block, inputs=(node,)) for node, block in enumerate(blocks))
    return Genotype(tuple(linked), head)


def _vgg(width: int, depths: Sequence[int]) -> Genotype:
    blocks: list[Block] = []
    for stage, depth in enumerate(depths):
        blocks += [Block(channels=width * 2**stage)] * depth
        blocks.append(Block(kind="pool", kernel=3, stride=2, pool="max"))
    return _chain(blocks, Head(pool="avg"))


def _small(width: int) -> Genotype:
    blocks: list[Block] = []
    for channels in (width, 2 * width, 2 * width):
        blocks.append(Block(channels=channels, norm="none"))
        blocks.append(Block(kind="pool", kernel=3, stride=2, pool="avg"))
    return _chain(blocks, Head(pool="flatten"))


def _staged(kind: str, width: int) -> Genotype:
    """Return a stem and three stages of one kind, each of the later ones at half the side."""
    blocks = [Block(channels=width)]
    for stage, depth in enumerate((1, 2, 2)):
        for position in range(depth):
            stride = 2 if stage and position == 0 else 1
            blocks.append(Block(kind=kind, channels=width * 2**stage, stride=stride))
    return _chain(blocks, Head(pool="avg"))
