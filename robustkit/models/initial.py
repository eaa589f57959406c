"""How the weights of the laboratory's own networks start."""

from __future__ import annotations

from torch import nn


def initialise(net: nn.Module) -> None:
    """Draw every convolution from N(0, 2 / fan-in) and clear its bias (He et al. 2015).

    Fan-in rather than fan-out, because it is right for depthwise convolutions too, and because
    networks without normalisation keep the size of their activations. Linear layers keep torch's
    start: small logits.
    """
    for module in net.modules():
        # On "meta" there is nothing to draw, and torch's shape-only draws are slow.
        if isinstance(module, nn.Conv2d) and not module.weight.is_meta:
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
