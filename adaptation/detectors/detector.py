"""The one kind of detector that every part of adaptation works on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.ops import FeaturePyramidNetwork

from adaptation.detectors.backbone import Tapped
from adaptation.detectors.norms import FROZEN
from robustkit.data.detection import Truth
from robustkit.errors import ModelError
from robustkit.models.card import Card

# torchvision's names of what a detector's loss is made of.
CLASSIFICATION = frozenset({"classification", "loss_classifier", "loss_objectness"})
LOCALISATION = frozenset({"bbox_regression", "bbox_ctrness", "loss_box_reg", "loss_rpn_box_reg"})
_NORMS = (nn.modules.batchnorm._BatchNorm, nn.modules.instancenorm._InstanceNorm)
_OWN_MODE = (*_NORMS, nn.modules.dropout._DropoutNd)


@dataclass(frozen=True, eq=False)
class Detections:
    """Detections in one image, surest first.

    `boxes` float32 (n,4) x1, y1, x2, y2 in its pixels, `scores` float32 (n,) in [0,1], `labels`
    int64 (n,) indices into the detector's classes.
    """

    boxes: Tensor
    scores: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True, eq=False)
class DetectionLoss:
    """The loss of a batch in two halves: classification and localisation."""

    classification: Tensor
    localisation: Tensor

    @property
    def total(self) -> Tensor:
        """Return the sum, which plain training descends."""
        return self.classification + self.localisation


class Detector(nn.Module):
    """A torchvision detector behind one interface.

    Images are float (3,H,W) in [0,1], any sizes, normalised inside; classes are counted from 0,
    without background; the card holds what is needed to build it again.
    """

    def __init__(self, net: nn.Module, card: Card) -> None:
        super().__init__()
        self.net, self.card = net, card

    @property
    def classes(self) -> tuple[str, ...]:
        """Return the names of the labels, in order."""
        return self.card.classes

    @property
    def notes(self) -> tuple[str, ...]:
        """Return lines for the user on how it was made; its file keeps them."""
        notes = self.card.provenance.get("notes", ())
        return tuple(map(str, notes)) if isinstance(notes, list | tuple) else ()

    def forward(self, images: Sequence[Tensor] | Tensor) -> list[Detections]:
        """Return detections in each image; in evaluation mode only.

        Raises `ModelError` in training mode, and for images of another shape or type.
        """
        if self.training:
            raise ModelError("a detector in training mode gives losses; call eval() first")
        detections = []
        for output in self.net(self._listed(images)):
            # Detectors without a background class keep a place for it all the same.
            foreground = output["labels"] > 0
            labels = output["labels"][foreground] - 1
            detections.append(
                Detections(output["boxes"][foreground], output["scores"][foreground], labels)
            )
        return detections

    def losses(self, images: Sequence[Tensor] | Tensor, truths: Sequence[Truth]) -> DetectionLoss:
        """Return the loss on `images`, with a graph, in either mode.

        Batch norm and dropout keep the mode they are in; everything else computes as in training.
        Regions of many objects are no examples and are left out.
        """
        targets = [_target(truth, images[0].device) for truth in truths]
        with _computing_losses(self.net):
            parts = self.net(self._listed(images), targets)
        unknown = parts.keys() - CLASSIFICATION - LOCALISATION
        if unknown:
            raise ModelError(f"a detector with an unknown loss: {', '.join(sorted(unknown))}")
        zero = torch.zeros((), device=images[0].device)
        return DetectionLoss(
            sum((parts[name] for name in parts if name in CLASSIFICATION), zero),
            sum((parts[name] for name in parts if name in LOCALISATION), zero),
        )

    def losses_and_features(
        self, images: Sequence[Tensor] | Tensor, truths: Sequence[Truth]
    ) -> tuple[DetectionLoss, dict[str, Tensor]]:
        """Return the loss, and the backbone's maps that it was computed from, by level."""
        features: dict[str, Tensor] = {}

        def keep(_: nn.Module, __: object, output: dict[str, Tensor]) -> None:
            features.update(output)

        backbone: nn.Module = self.net.get_submodule("backbone")
        handle = backbone.register_forward_hook(keep)
        try:
            return self.losses(images, truths), features
        finally:
            handle.remove()

    def features(self, images: Sequence[Tensor] | Tensor) -> dict[str, Tensor]:
        """Return the backbone's maps (N,C,h,w) by level, finest first, of images without truths."""
        batch, _ = self.net.get_submodule("transform")(self._listed(images))
        maps = self.net.get_submodule("backbone")(batch.tensors)
        return dict(maps)

    def stages(self) -> list[list[nn.Parameter]]:
        """Return the parameters of the backbone's net by stage, from the image on.

        Of a backbone cut from a classifier up to its first tap, up to the second, …; of others by
        child. A feature pyramid and levels that were added to it are none of the net's.
        """
        backbone: Any = self.net.get_submodule("backbone")
        body = getattr(backbone, "body", backbone)
        if isinstance(body, Tapped):
            return body.stages()
        parts: list[nn.Module] = []
        for child in body.children():
            listed = isinstance(child, nn.ModuleList)
            parts += child.children() if listed else [child]
        stages = [
            list(part.parameters()) for part in parts if not isinstance(part, FeaturePyramidNetwork)
        ]
        return [stage for stage in stages if stage]

    def _listed(self, images: Sequence[Tensor] | Tensor) -> list[Tensor]:
        listed = list(images)
        for image in listed:
            if image.dim() != 3 or image.shape[0] != 3 or not image.is_floating_point():
                kind = str(image.dtype).removeprefix("torch.")
                raise ModelError(
                    f"a detector's images are float (3,H,W) in [0,1], not {kind} "
                    f"{tuple(image.shape)}"
                )
        return listed


@contextmanager
def _computing_losses(net: nn.Module) -> Iterator[None]:
    """Put the net into training mode, so that it computes losses.

    Norms, dropout and backbones with frozen norms keep the mode they are in.
    """
    modes = [(module, module.training) for module in net.modules()]
    kept = {
        id(module)
        for body in net.modules()
        if isinstance(body, Tapped) and body.norm == FROZEN
        for module in body.net.modules()
    }
    try:
        for module, _ in modes:
            if not isinstance(module, _OWN_MODE) and id(module) not in kept:
                module.training = True
        yield
    finally:
        for module, mode in modes:
            module.training = mode


def _target(truth: Truth, device: torch.device) -> dict[str, Tensor]:
    examples = truth.trained_on()
    return {"boxes": examples.boxes.to(device), "labels": examples.labels.to(device) + 1}
