"""Architectures and values as text, for tips and tables."""

from __future__ import annotations

import re
from pathlib import Path

from evolution import Genotype
from evolution.protocol.result import Measured
from robustkit.models import Block
from robustkit.models.blueprint import Head
from robustkit.models.resolve import is_file
from robustkit.report import format_percent
from robustkit.stats import Rate


def block_name(block: Block) -> str:
    """Return the kind and size of a block: `separable 5×5`."""
    if block.kind == "identity":
        return "identity"
    size = f"{block.kernel}×{block.kernel}"
    if block.kind == "pool":
        return f"{block.pool} pool {size}"
    if block.kind == "inception":
        size = "/".join(str(kernel) for kernel in (1, block.kernel, block.kernel + 2))
    return f"{block.kind} {size}"


def block_size(block: Block) -> str:
    """Return a block's channels and stride, where it has them: `32 channels, stride 2`."""
    channels = f"+{block.channels}" if block.kind == "dense" else str(block.channels)
    parts = [] if block.kind in ("pool", "identity") else [f"{channels} channels"]
    return ", ".join([*parts, *(["stride 2"] if block.stride == 2 else [])])


def block_style(block: Block) -> str:
    """Return a block's normalisation and activation; empty for blocks that have neither."""
    if block.kind in ("pool", "identity"):
        return ""
    norm = "no norm" if block.norm == "none" else f"{block.norm} norm"
    return f"{norm} · {activation(block.activation)}"


def activation(name: str) -> str:
    """Return an activation as its papers write it."""
    return {
        "relu": "ReLU",
        "leaky_relu": "leaky ReLU",
        "elu": "ELU",
        "silu": "SiLU",
        "gelu": "GELU",
    }.get(name, name)


def head_lines(head: Head) -> list[str]:
    """Return the head's steps from the last maps to the logits."""
    hidden = [f"{head.hidden} hidden · {activation(head.activation)}"] if head.hidden else []
    return ["global average" if head.pool == "avg" else "flatten", ", ".join([*hidden, "linear"])]


def architecture_lines(genotype: Genotype) -> list[str]:
    """Return the expressed network, a line per block and one for the head."""
    blueprint = genotype.blueprint()
    lines = []
    for node, block in enumerate(blueprint.blocks, start=1):
        parts = [f"{node}: {block_name(block)}", block_size(block), block_style(block)]
        if block.inputs != (node - 1,):
            fed = ", ".join("the image" if source == 0 else str(source) for source in block.inputs)
            how = f" ({block.merge})" if len(block.inputs) > 1 else ""
            parts.append(f"from {fed}{how}")
        lines.append(" · ".join(part for part in parts if part))
    return [*lines, f"head: {', '.join(head_lines(blueprint.head))}"]


def brief(genotype: Genotype) -> str:
    """Return the kinds of an architecture's blocks in order: `conv, 3 × residual`."""
    kinds: list[tuple[str, int]] = []
    for block in genotype.blueprint().blocks:
        kind = f"{block.pool} pool" if block.kind == "pool" else block.kind
        if kinds and kinds[-1][0] == kind:
            kinds[-1] = (kind, kinds[-1][1] + 1)
        else:
            kinds.append((kind, 1))
    return ", ".join(kind if count == 1 else f"{count} × {kind}" for kind, count in kinds)


def share(value: float | None) -> str:
    """Return a share in [0,1] as plain text: `41.2 %`, a dash for None."""
    return "–" if value is None else f"{100 * value:.1f}\N{NO-BREAK SPACE}%"


def rate_text(rate: Rate) -> str:
    """Return a rate as plain text, with its interval and n."""
    if rate.value is None:
        return "no image to count (n = 0)"
    shown = format_percent(rate, unit="\N{NO-BREAK SPACE}%")
    return f"{shown}, n\N{NO-BREAK SPACE}=\N{NO-BREAK SPACE}{rate.n:,}"


def measures_text(result: Measured) -> str:
    """Return a trial's measures on validation, in two lines."""
    return (
        f"accuracy {share(result.accuracy)}, "
        f"transfer {share(result.transfer)} (n = {result.transfer_n:,})\n"
        f"|cos| {result.cos_abs:.3f}, {result.params:,} parameters, "
        f"{compact(result.macs)} MACs"
    )


def compact(count: float) -> str:
    """Return a large count in a few characters: `1.45 M`."""
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if abs(count) >= size:
            return f"{count / size:.3g} {unit}"
    return f"{count:g}"


def reference_name(spec: str) -> str:
    """Return a reference for a title: files by their names alone."""
    return Path(spec).stem if is_file(spec) else re.sub(r"[^?&=:]*/", "", spec)


def plural(count: int, noun: str) -> str:
    """Return `1 trial` or `2 trials`."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"
