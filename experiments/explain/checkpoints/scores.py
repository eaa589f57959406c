"""What a checkpoint's job found of how good its maps are, as the summary tells it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from experiments.explain.scores import CONTROLS

BRIEF = ("mean", "low", "high", "n")


def in_order(result: Mapping[str, Any], methods: Sequence[str]) -> dict[str, Any]:
    """The scores of a job's result, as `score_maps` gives them for one model.

    The ledger sorted methods and layers by name; here they are as asked for, and as the image
    meets them from the last one back.
    """
    scores: dict[str, Any] = {name: result["scores"][name] for name in (*methods, *CONTROLS)}
    for name in methods:
        sanity = dict(scores[name]["sanity"])
        for kind in ("cascading", "independent"):
            sanity[kind] = {layer: sanity[kind][layer] for layer in result["layers"]}
        scores[name] = {**scores[name], "sanity": sanity}
    return scores


def brief(result: Mapping[str, Any], methods: Sequence[str]) -> dict[str, Any] | None:
    """The same without curves and single layers; None where the maps were not checked."""
    if "scores" not in result:
        return None
    told: dict[str, Any] = {}
    for name, each in in_order(result, methods).items():
        told[name] = {kind: _of(each[kind], BRIEF) for kind in ("deletion", "insertion")}
        if name in methods:
            told[name]["sanity"] = _of(each["sanity"], ("signed", "absolute", "ssim"))
            told[name] |= {kind: each[kind] for kind in ("stability", "completeness")}
    return told


def _of(found: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
    return {name: found[name] for name in names}
