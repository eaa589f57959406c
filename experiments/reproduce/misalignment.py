"""Evolving architectures whose gradients are misaligned with a reference's.

The publication gives neither the algorithm's settings nor the search space, eps or lambda that we
could take over; the settings below are this house's own, and the claim compared is the gap.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from experiments.reproduce.registry import Row, Summary, experiment

NOTHING = "not measured: no image is classified correctly by every net"


@experiment(
    name="misalignment",
    title="Low adversarial transferability by evolving architectures with misaligned gradients",
    source="after IEEE Access, 2021, pp. 164379-164393, doi:10.1109/ACCESS.2021.3134840",
    verb="evolve",
    settings="--data cifar10 --reference vgg5?width=24 --surrogate small "
    "--population 8 --generations 5 --objectives accuracy:max,transfer:min "
    "--train-size 5000 --epochs 3 --final-epochs 6 "
    "--promote 2 --lam 1.0 --eps 8/255 --augment flip --views 2 --test-size 2000 --min-blocks 3 "
    "--max-macs 5500000 --max-params 300000 --channels [16,24,32,48,64,96,128] --kernels [3,5] "
    "--timeout 3600",
    quick="--data digits --reference small --population 4 --generations 2 --lam 1.0 --eps 0.15",
)
def compare(summary: Summary) -> tuple[Row, ...]:
    """The gap between the transfer to R' and to E, and what E's clean accuracy paid for it."""
    nets = summary["nets"]
    accuracy = {name: nets[name]["clean_acc"] for name in ("R", "E")}
    return (
        Row(
            "T(R->R') - T(R->E), points",
            "more than 10 (project report 20K23341); held for four references (abstract)",
            _gap(summary["gap"]),
        ),
        Row("T(R->R')", "not given", _rate(nets["Rp"])),
        Row("T(R->E)", "not given", _rate(nets["E"])),
        Row(
            "clean accuracy of R, of E",
            "kept (abstract)",
            f"{accuracy['R']:.1%}, {accuracy['E']:.1%} "
            f"({100 * (accuracy['E'] - accuracy['R']):+.1f} points)",
        ),
    )


def _gap(gap: Mapping[str, Any]) -> str:
    if gap["points"] is None:
        return NOTHING
    return f"{gap['points']:.1f} [{gap['low']:.1f}, {gap['high']:.1f}], p = {gap['p_value']:.2g}"


def _rate(net: Mapping[str, Any]) -> str:
    rate = net["transfer_from_R"]["headline"]
    if rate["rate"] is None:
        return NOTHING
    return f"{rate['rate']:.1%} [{rate['low']:.1%}, {rate['high']:.1%}], n = {rate['n']}"
