from __future__ import annotations

import pytest
import torch

from robustkit.compute import exact_products


def precisions() -> list[str]:
    kinds = (torch.backends.cudnn.conv, torch.backends.cuda.matmul)  # type: ignore[attr-defined]
    return [kind.fp32_precision for kind in kinds]


def test_products_are_exact_inside_and_as_before_after_it() -> None:
    before = precisions()
    assert "tf32" in before  # or there would be nothing to see to
    with exact_products():
        assert precisions() == ["ieee", "ieee"]
    assert precisions() == before


def test_a_failure_puts_the_precision_back() -> None:
    before = precisions()
    with pytest.raises(ZeroDivisionError), exact_products():
        _ = 1 / 0
    assert precisions() == before
