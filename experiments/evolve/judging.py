"""What happens to each test image under one finalist."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save as pack
from torch import Tensor

from experiments.evolve.workspace import SURROGATE, Workspace
from robustkit import attacks, models
from robustkit.compute.tensorfiles import Shapes, check_shapes, read_tensors
from robustkit.errors import RunError
from robustkit.runs import atomic_path

_SHAPES: Shapes = {
    **dict.fromkeys(
        (
            "correct",
            "under_R",
            "under_flipped",
            "under_surrogate",
            "under_own",
            "R_under_own",
        ),
        (torch.bool, ("n",)),
    ),
    "cosine": (torch.float64, ("n",)),
    "norm": (torch.float64, ("n",)),
}


@dataclass(frozen=True, eq=False)
class Verdict:
    """One net on the N test images; every entry (N,), bool but for the last two.

    `correct`: right on the clean image. `under_R`, `under_flipped`, `under_surrogate`,
    `under_own`: right on the adversarial of R, of R's sign-flipped gradient, of the surrogate, of
    itself. `R_under_own`: R is right on the net's own adversarial. `cosine` (float64, NaN where a
    gradient is zero) and `norm` are of the net's input gradient, the cosine against R's.
    """

    correct: Tensor
    under_R: Tensor  # noqa: N815 - R is the reference's name throughout
    under_flipped: Tensor
    under_surrogate: Tensor
    under_own: Tensor
    R_under_own: Tensor
    cosine: Tensor
    norm: Tensor


def judge(name: str, space: Workspace) -> dict[str, Any]:
    """Judge the net `name`, keep its verdict in `evaluation/`; returns its cost and accuracies."""
    net, reference, test = space.net(name), space.net("R"), space.splits.test
    own = space.adversarials(name, "test", flipped=False)

    def right(model: models.Classifier, images: Tensor) -> Tensor:
        return attacks.predict(model, images).argmax(dim=1) == test.labels

    loss = space.config.grad_loss
    gradients = attacks.input_gradients(net, test, loss)
    found = attacks.alignment(gradients, attacks.input_gradients(reference, test, loss))
    verdict = Verdict(
        correct=own.correct,
        under_R=right(net, space.adversarials("R", "test", flipped=False).images),
        under_flipped=right(net, space.adversarials("R", "test", flipped=True).images),
        under_surrogate=right(net, space.adversarials(SURROGATE, "test", flipped=False).images),
        under_own=~own.fooled,
        R_under_own=right(reference, own.images),
        cosine=found.cosine,
        norm=found.norm,
    )
    save_verdict(verdict, verdict_path(space.folder.path, name))
    size = models.cost(net, test.shape)
    return {
        "params": size.params,
        "macs": size.macs,
        "clean_acc": float(verdict.correct.double().mean()),
        "whitebox_acc": float((verdict.correct & verdict.under_own).double().mean()),
    }


def verdict_path(run: Path, name: str) -> Path:
    """Where the verdict on the net `name` is kept."""
    return run / "evaluation" / f"{name}.safetensors"


def save_verdict(verdict: Verdict, path: Path) -> None:
    """Write a verdict, whole or not at all."""
    path.parent.mkdir(exist_ok=True)
    tensors = {name: value.contiguous() for name, value in asdict(verdict).items()}
    with atomic_path(path) as temporary:
        temporary.write_bytes(pack(tensors))


def load_verdict(path: Path, images: int | None = None) -> Verdict:
    """Read a verdict back, on so many test `images` where that is known.

    Raises `RunError`, naming the file, if it is missing, damaged, or of other images.
    """
    tensors, _ = read_tensors(path, error=RunError, hint="; start the run anew")
    cosine = tensors.get("cosine")
    if cosine is not None and cosine.is_floating_point():  # NaN where there is none
        tensors["cosine"] = torch.where(cosine.isnan(), 0.0, cosine)
    known = {} if images is None else {"n": images}
    check_shapes(tensors, _SHAPES, str(path), error=RunError, known=known)
    if cosine is not None:
        tensors["cosine"] = cosine
    return Verdict(**{field.name: tensors[field.name] for field in fields(Verdict)})


def mean_or_none(values: Tensor) -> float | None:
    """The mean of the entries that are numbers; None where there is none."""
    kept = values[~torch.isnan(values)]
    return float(kept.mean()) if len(kept) else None
