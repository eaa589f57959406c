from __future__ import annotations

import json
from typing import Any

import pytest

from robustkit.errors import ModelError
from robustkit.models import Card

CARD = Card(
    architecture={"family": "zoo", "name": "small", "options": {}},
    classes=("cat", "dog"),
    input_shape=(3, 8, 8),
    mean=(0.1, 1 / 3, 0.3),
    std=(0.25, 0.25, 0.25),
    provenance={"data": "digits", "seed": 3},
    parent="ab" * 32,
)


def test_a_card_survives_json() -> None:
    assert Card.from_json(CARD.to_json()) == CARD


def test_a_card_holds_only_finite_numbers() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        Card(**{**vars(CARD), "provenance": {"loss": float("nan")}}).to_json()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"format": 2}, "format 2 was written by a newer robustkit; .* up to format 1"),
        ({"format": 0}, "format must be 1, not 0"),
        ({"format": "1"}, "format must be a whole number"),
        ({"colour": "red"}, "missing or unknown entries: colour"),
        ({"architecture": {}}, "architecture must name its family"),
        ({"architecture": "small"}, "entry 'architecture' is of the wrong type"),
        ({"classes": ["cat"]}, "two names or more"),
        ({"classes": ["cat", 2]}, "two names or more"),
        ({"input_shape": [3, 8, 9]}, r"input_shape must be \(channels, size, size\)"),
        ({"input_shape": [3, 8]}, "input_shape"),
        ({"input_shape": [3.0, 8, 8]}, "input_shape"),
        ({"mean": [0.1]}, "mean must be 3 finite numbers"),
        ({"std": [1, 1, 0]}, "std must be positive"),
        ({"std": ["1", 1, 1]}, "std must be 3 finite numbers"),
        ({"architecture": {"family": "detector"}, "classes": []}, "one name or more"),
        ({"parent": 5}, "entry 'parent' is of the wrong type"),
    ],
)
def test_a_wrong_entry_is_named(changes: dict[str, Any], said: str) -> None:
    text = json.dumps({**json.loads(CARD.to_json()), **changes})
    with pytest.raises(ModelError, match=said):
        Card.from_json(text)


@pytest.mark.parametrize(("text", "said"), [("{", "not JSON"), ("[]", "not a JSON object")])
def test_other_text_is_refused(text: str, said: str) -> None:
    with pytest.raises(ModelError, match=said):
        Card.from_json(text)


def test_a_missing_entry_is_named() -> None:
    plain = json.loads(CARD.to_json())
    del plain["classes"]
    with pytest.raises(ModelError, match="missing or unknown entries: classes"):
        Card.from_json(json.dumps(plain))
