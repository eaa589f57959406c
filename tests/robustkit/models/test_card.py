from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from robustkit.errors import ModelError
from robustkit.geometry import Geometry
from robustkit.models import Card, Preprocessing

PLAIN = Card.trained_on(
    architecture={"family": "zoo", "name": "small", "options": {}},
    classes=("cat", "dog"),
    input_shape=(3, 8, 8),
    mean=(0.1, 1 / 3, 0.3),
    std=(0.25, 0.25, 0.25),
)
CARD = replace(PLAIN, provenance={"data": "digits", "seed": 3}, parent="ab" * 32)
PREPROCESSING = json.loads(CARD.to_json())["preprocessing"]
OLD = {
    "architecture": {"family": "zoo", "name": "small", "options": {}},
    "classes": ["cat", "dog"],
    "input_shape": [3, 8, 8],
    "mean": [0.1, 1 / 3, 0.3],
    "std": [0.25, 0.25, 0.25],
    "provenance": {"data": "digits", "seed": 3},
    "parent": "ab" * 32,
    "format": 1,
}


def test_a_card_survives_json() -> None:
    assert Card.from_json(CARD.to_json()) == CARD


def test_a_card_of_format_1_is_read() -> None:
    """Its statistics become the preprocessing; pictures of another size are refused as then."""
    read = Card.from_json(json.dumps(OLD))
    assert read == CARD
    assert read.is_plain
    assert (read.mean, read.std) == ((0.1, 1 / 3, 0.3), (0.25, 0.25, 0.25))
    assert read.preprocessing.interpolation is None


def test_a_card_with_preprocessing_of_its_own_survives_json() -> None:
    own = Preprocessing(
        mean=(0.5,) * 3,
        std=(0.5,) * 3,
        input_size=(10, 12),
        interpolation="bicubic",
        channel_order="bgr",
        geometry=Geometry((10, 12), 14, "bicubic"),
    )
    card = replace(CARD, preprocessing=own)
    assert Card.from_json(card.to_json()) == card
    assert not card.is_plain


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"mean": [0.1]}, "mean must be 3 finite numbers"),
        ({"std": None}, "entry 'std' is missing or of the wrong type"),
        ({"colour": "red"}, "missing or unknown entries: colour"),
    ],
)
def test_a_wrong_entry_of_format_1_is_named(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ModelError, match=said):
        Card.from_json(json.dumps({**OLD, **changes}))


def test_a_card_holds_only_finite_numbers() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        Card(**{**vars(CARD), "provenance": {"loss": float("nan")}}).to_json()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"format": 3}, "format 3 was written by a newer robustkit; .* up to format 2"),
        ({"format": 0}, "format must be 1 to 2, not 0"),
        ({"format": "1"}, "format must be a whole number"),
        ({"colour": "red"}, "missing or unknown entries: colour"),
        ({"architecture": {}}, "architecture must name its family"),
        ({"architecture": "small"}, "entry 'architecture' is of the wrong type"),
        ({"classes": ["cat"]}, "two names or more"),
        ({"classes": ["cat", 2]}, "two names or more"),
        ({"input_shape": [3, 8, 0]}, r"input_shape must be \(channels, height, width\)"),
        ({"input_shape": [3, 8]}, "input_shape"),
        ({"input_shape": [3.0, 8, 8]}, "input_shape"),
        ({"preprocessing": PREPROCESSING | {"mean": [0.1]}}, "1 means and 3 standard deviations"),
        ({"preprocessing": PREPROCESSING | {"std": [1, 1, 0]}}, "std must be positive"),
        ({"preprocessing": PREPROCESSING | {"std": ["1", 1, 1]}}, "std must be finite numbers"),
        ({"preprocessing": PREPROCESSING | {"mean": 3}}, "mean must be a list"),
        ({"preprocessing": PREPROCESSING | {"input_size": [8]}}, "input_size must be"),
        ({"preprocessing": PREPROCESSING | {"interpolation": "cubic"}}, "did you mean 'bicubic'"),
        ({"preprocessing": PREPROCESSING | {"channel_order": "brg"}}, "did you mean '"),
        ({"preprocessing": PREPROCESSING | {"geometry": {"size": 3}}}, "geometry: needs exactly"),
        ({"preprocessing": PREPROCESSING | {"mean": [0.1, 0.1], "std": [1, 1]}}, "one per channel"),
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
