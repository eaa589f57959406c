"""Hand-made networks for small images; importing this package fills the registry `ZOO`."""

from robustkit.models.zoo import cnn, mobilenet, resnet, small, vgg
from robustkit.models.zoo.registry import ZOO, find

__all__ = ["ZOO", "cnn", "find", "mobilenet", "resnet", "small", "vgg"]
