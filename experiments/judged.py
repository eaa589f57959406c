"""The trained networks that a verb judges: what a person names, each under a short name."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from experiments.nets import resolve_net
from experiments.options import VerbParser
from robustkit.attacks import predict
from robustkit.data import Splits, load, stratified_sample
from robustkit.errors import ConfigError, DataError, ModelError
from robustkit.models import ZOO, Classifier


def add_judged_options(parser: VerbParser) -> None:
    """`--weights`, and which images the nets are judged on."""
    group = parser.add_argument_group("images and nets")
    group.add_argument(
        "--weights",
        nargs="+",
        metavar="FILE",
        default=[],
        help="state dicts for those models that are no model files, in their order; none: its own",
    )
    group.add_argument("--split", default="test", help="test or val")
    group.add_argument(
        "--test-size", type=int | None, metavar="N", help="judge on N images, classes kept even"
    )


def load_judged_images(settings: Any) -> Splits:
    """The data; its `test` is what is judged on, cut to `test_size`, or `val` on request.

    Raises `ConfigError` for another split, and `DataError` as `load` does.
    """
    if settings["split"] not in ("test", "val"):
        raise ConfigError(f"--split must be test or val, not '{settings['split']}'")
    splits = load(settings["data"], root=settings["root"], download=settings["download"])
    if settings["split"] == "val":
        splits = splits.replaced(test=splits.val)
    count = settings["test_size"]
    if count is None or count == len(splits.test):
        return splits
    if count < 1:
        raise DataError(f"--test-size must be at least 1, not {count}")
    chosen = stratified_sample(splits.test.labels, count, settings["seed"])
    return splits.replaced(test=splits.test.subset(chosen))


def name_nets(specs: Sequence[str]) -> dict[str, str]:
    """Specs by the names they go by: "NAME=SPEC" as given, else a file's stem, else the spec.

    Files of one stem are told apart by their folders. Raises `ConfigError` for a name given twice.
    """
    named: dict[str, str] = {}
    for given in specs:
        name, equals, spec = given.partition("=")
        # A file whose name has an "=" is a file.
        explicit = bool(equals) and not Path(given).exists() and not {"/", "?"} & set(name)
        if explicit and not (name and spec):
            raise ConfigError(f"'{given}': expected NAME=MODEL")
        if not explicit:
            spec = given
            is_file = spec.endswith((".safetensors", ".npz"))
            name = Path(spec).stem if is_file else spec
            if name in named and is_file:
                name = str(Path(spec).with_suffix(""))
        if name in named:
            raise ConfigError(f"two models called '{name}': write NAME={spec} to tell them apart")
        named[name] = spec
    return named


def resolve_judged(
    specs: dict[str, str], splits: Splits, weights: Sequence[str], device: torch.device
) -> dict[str, Classifier]:
    """The nets that `specs` name, ready to be judged on `splits`.

    Raises `ModelError` for a net that is untrained, for one trained on other classes, and as
    `resolve` does; `ConfigError` for weights that belong to none.
    """
    files = iter(weights)
    nets = {}
    for name, spec in specs.items():
        given = None if spec.endswith(".safetensors") else next(files, None)
        given = None if given == "none" else given
        untrained = spec.partition("?")[0] in ZOO or spec.startswith("torchvision:")
        if untrained and given is None:
            raise ModelError(f"{spec}: untrained; give a trained model's file, or --weights FILE")
        net = resolve_net(spec, splits, seed=0, weights=given)
        if net.card.classes != splits.train.classes:
            raise ModelError(
                f"{spec}: its classes are {_some(net.card.classes)}, "
                f"those of {splits.name} {_some(splits.train.classes)}"
            )
        nets[name] = net.to(device).eval()
        few = splits.test.images[:8]
        if not bool(torch.isfinite(predict(nets[name], few)).all()):
            raise ModelError(f"{spec}: its logits are not finite; its training diverged")
    if (left := next(files, None)) is not None:
        raise ConfigError(f"--weights {left}: no model left to take them; model files have theirs")
    return nets


def _some(classes: Sequence[str], shown: int = 4) -> str:
    more = f", … ({len(classes)})" if len(classes) > shown else ""
    return ", ".join(classes[:shown]) + more
