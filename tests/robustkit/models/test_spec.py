from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given

from robustkit.errors import ModelError
from robustkit.models import Block, Blueprint, Head
from tests.robustkit.models.blueprints import blueprints


@given(blueprints())
def test_a_blueprint_survives_json(blueprint: Blueprint) -> None:
    assert Blueprint.from_dict(json.loads(json.dumps(blueprint.to_dict()))) == blueprint


@pytest.mark.parametrize(
    ("genes", "message"),
    [
        ({"kind": "convolution"}, "block: unknown kind 'convolution'.*did you mean"),
        ({"norm": "layer"}, "unknown norm 'layer'"),
        ({"activation": "tanh"}, "unknown activation"),
        ({"pool": "min"}, "unknown pool"),
        ({"merge": "mul"}, "unknown merge"),
        ({"channels": 0}, r"channels must be in 1\.\.4096, not 0"),
        ({"channels": 16.0}, "channels must be .* not 16.0"),
        ({"channels": True}, "channels must be .* not True"),
        ({"kernel": 4}, "kernel must be odd"),
        ({"stride": 3}, "stride must be 1 or 2"),
        ({"inputs": ()}, "inputs must be numbers of nodes"),
        ({"inputs": ("0",)}, "inputs must be numbers of nodes"),
        ({"inputs": (1, 0)}, "distinct and ascending"),
        ({"inputs": (0, 0)}, "distinct and ascending"),
    ],
)
def test_a_wrong_gene_is_named(genes: dict[str, Any], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        Block(**genes)


def test_a_wrong_head_is_named() -> None:
    with pytest.raises(ModelError, match="head: unknown pool 'max'"):
        Head(pool="max")
    with pytest.raises(ModelError, match=r"head: hidden must be in 0\.\.8192, not -1"):
        Head(hidden=-1)


@pytest.mark.parametrize("inputs", [(1,), (-1,), (0, 7)])
def test_only_earlier_nodes_feed_a_block(inputs: tuple[int, ...]) -> None:
    with pytest.raises(ModelError, match=r"block 1 may be fed by nodes 0\.\.0"):
        Blueprint(blocks=(Block(inputs=inputs),))


def test_a_blueprint_needs_a_block() -> None:
    with pytest.raises(ModelError, match="at least one block"):
        Blueprint(blocks=())


def _altered(**changes: Any) -> dict[str, Any]:
    return {**Blueprint(blocks=(Block(),)).to_dict(), **changes}


@pytest.mark.parametrize(
    ("plain", "message"),
    [
        ([], "blueprint: must be a JSON object"),
        (_altered(haed={}), "unknown entry 'haed'; did you mean 'head'"),
        ({"blocks": []}, "blueprint: entry 'head' is missing"),
        (_altered(blocks={}), "blocks must be a list"),
        (_altered(blocks=["conv"]), "block: must be a JSON object"),
        (_altered(blocks=[{"kind": "conv"}]), "block: entry 'channels' is missing"),
        (_altered(blocks=[{**_altered()["blocks"][0], "inputs": 0}]), "inputs must be a list"),
        (_altered(blocks=[{**_altered()["blocks"][0], "kind": ["conv"]}]), "unknown kind"),
        (_altered(blocks=[{**_altered()["blocks"][0], "norm": {}}]), "unknown norm"),
        (_altered(head={"pool": "avg", "hidden": "8", "activation": "relu"}), "head: hidden"),
    ],
)
def test_json_that_is_no_blueprint_is_refused(plain: Any, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        Blueprint.from_dict(plain)
