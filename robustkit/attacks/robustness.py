"""White-box robust accuracy: how many images survive an attack on the very model that is judged."""

from __future__ import annotations

import torch
from torch import Tensor

from robustkit import models
from robustkit.attacks.base import Attack, verify
from robustkit.attacks.crafting import BATCH
from robustkit.attacks.predict import predict
from robustkit.compute import torch_generator
from robustkit.data import ImageSet, batches


def survivors(
    model: models.Classifier, images: ImageSet, attack: Attack, *, seed: int = 0
) -> Tensor:
    """Bool (N,): right on the clean image and on everything the attack comes by.

    Only images that the model gets right are attacked, and each only until it falls.
    """
    generator = torch_generator("robust", seed)
    device = next(model.parameters()).device
    standing = predict(model, images.images).argmax(dim=1) == images.labels
    attacked = torch.nonzero(standing).squeeze(1)
    for chosen in batches(len(attacked), BATCH):
        part = attacked[chosen]
        clean, labels = images.floats(part).to(device), images.labels[part].to(device)
        made = attack(model, clean, labels, generator=generator, stop_when_fooled=True)
        verify(made, clean, attack)
        standing[part] = (predict(model, made).argmax(dim=1).to(device) == labels).cpu()
    return standing
