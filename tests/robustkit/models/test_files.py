from __future__ import annotations

import errno
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from safetensors.torch import load_file, save_file

from robustkit.errors import ModelError, RunError
from robustkit.models import Blueprint, Classifier, build, digest, load, read_card, save
from tests.robustkit.models.blueprints import blueprints

SITE: dict[str, Any] = {"num_classes": 3, "in_channels": 1, "image_size": 8}


@pytest.fixture
def model() -> Classifier:
    return build("resnet20", **SITE, width=2, mean=(1 / 3,), classes=("a", "b", "c"), seed=0)


@pytest.fixture
def path(tmp_path: Path, model: Classifier) -> Path:
    save(model, tmp_path / "m.safetensors", data="digits", epochs=3)
    return tmp_path / "m.safetensors"


def test_a_loaded_model_computes_the_same(model: Classifier, path: Path) -> None:
    model.train()(torch.rand(8, 1, 8, 8))  # moves the running statistics
    save(model, path)
    loaded = load(path)
    assert not loaded.training
    x = torch.rand(4, 1, 8, 8)
    assert torch.equal(loaded(x), model.eval()(x))
    assert digest(loaded) == digest(model)


@settings(
    max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(blueprints())
def test_any_blueprint_travels_in_one_file(tmp_path: Path, blueprint: Blueprint) -> None:
    model = build(blueprint, **SITE).eval()
    save(model, tmp_path / "b.safetensors")
    x = torch.rand(2, 1, 8, 8)
    assert torch.equal(load(tmp_path / "b.safetensors")(x), model(x))


def test_the_card_travels_with_the_weights(model: Classifier, path: Path) -> None:
    card = read_card(path)
    assert card == load(path).card
    assert card.provenance == {"data": "digits", "epochs": 3}
    assert (card.classes, card.mean) == (("a", "b", "c"), (1 / 3,))
    assert model.card.provenance == {}
    child = load(path)
    save(child, path, parent=digest(model), epochs=4)
    assert read_card(path).parent == digest(model)
    assert read_card(path).provenance == {"data": "digits", "epochs": 4}


def test_a_file_is_the_same_bytes_whichever_process_writes_it(path: Path) -> None:
    content = path.read_bytes()
    size = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + size], object_pairs_hook=list)
    assert [name for name, _ in header] == sorted(name for name, _ in header)
    assert len(header[0][1]) == 2
    assert size % 8 == 0


def test_the_digest_sees_weights_architecture_and_normalisation(model: Classifier) -> None:
    seen = {digest(model)}
    seen.add(digest(build("resnet20", **SITE, width=2, mean=(0.5,), seed=0)))
    seen.add(digest(build("resnet20", **SITE, width=2, mean=(1 / 3,), seed=1)))
    with torch.no_grad():
        next(model.parameters()).flatten()[0] += 1e-3
    seen.add(digest(model))
    assert len(seen) == 4


def test_a_seed_is_not_needed_nor_used_up_by_loading(path: Path) -> None:
    before = torch.get_rng_state()
    load(path)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("kept", [0, 4, 100, 0.5, 0.99])
def test_a_truncated_file_is_refused(path: Path, kept: float) -> None:
    whole = path.read_bytes()
    path.write_bytes(whole[: int(kept * len(whole)) if kept < 1 else int(kept)])
    with pytest.raises(ModelError, match=r"m\.safetensors: damaged, or not a safetensors file"):
        load(path)


def test_a_changed_byte_is_noticed(path: Path) -> None:
    whole = bytearray(path.read_bytes())
    whole[-100] ^= 1
    path.write_bytes(whole)
    with pytest.raises(ModelError, match="damaged: its weights do not match the checksum"):
        load(path)


def test_what_is_no_model_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no such model file"):
        load(tmp_path / "absent.safetensors")
    with pytest.raises(ModelError, match="a folder, not a regular file"):
        load(tmp_path)
    bare = tmp_path / "bare.safetensors"
    save_file({"w": torch.zeros(2)}, bare)
    with pytest.raises(ModelError, match="holds weights but no model card"):
        load(bare)


def _rewrite(path: Path, weights: dict[str, torch.Tensor] | None = None, **changes: Any) -> None:
    """Write the model in `path` with another card or other weights, and a true checksum."""
    from robustkit.models import files

    card = read_card(path)
    plain = {**json.loads(card.to_json()), **changes}
    tensors = load_file(path) if weights is None else weights
    altered = type(card)(**{**vars(card), "architecture": plain["architecture"]})
    notes = {"robustkit": json.dumps(plain), "sha256": files._digest(tensors, altered)}
    save_file(tensors, path, metadata=notes)


def test_a_newer_format_is_refused(path: Path) -> None:
    _rewrite(path, format=3)
    with pytest.raises(ModelError, match=r"m\.safetensors: .*format 3 was written by a newer"):
        load(path)


@pytest.mark.parametrize(
    ("architecture", "said"),
    [
        ({"family": "onnx"}, "unknown family 'onnx'"),
        ({"family": "zoo"}, "entry 'name' is missing"),
        ({"family": "zoo", "name": "small"}, "entry 'options' is missing"),
        ({"family": "zoo", "name": "smal", "options": {}}, "did you mean 'small'"),
        (
            {"family": "zoo", "name": "vgg11", "options": {"width": 2}},
            "least size that works is 32",
        ),
        ({"family": "blueprint", "blueprint": {}}, "entry 'blocks' is missing"),
        ({"family": "zoo", "name": "small", "options": {}}, "'stage1.0.weight' is missing"),
        (
            {"family": "zoo", "name": "resnet20", "options": {"width": 3}},
            r"'stem.0.weight' has shape \(2, 1, 3, 3\), not \(3, 1, 3, 3\)",
        ),
    ],
)
def test_a_card_that_does_not_fit_is_refused(
    path: Path, architecture: dict[str, Any], said: str
) -> None:
    _rewrite(path, architecture=architecture)
    with pytest.raises(ModelError, match=rf"m\.safetensors: .*{said}"):
        load(path)


def test_left_over_weights_are_refused(path: Path) -> None:
    _rewrite(path, {**load_file(path), "extra": torch.zeros(1)})
    with pytest.raises(ModelError, match="'extra' is not part of it"):
        load(path)


def test_a_model_for_other_data_is_refused(path: Path) -> None:
    with pytest.raises(ModelError, match="the model has 3 classes, the data 10"):
        load(path, num_classes=10)
    with pytest.raises(ModelError, match=r"shape \(1, 8, 8\), the data has \(3, 8, 8\)"):
        load(path, input_shape=(3, 8, 8))
    assert load(path, num_classes=3, input_shape=(1, 8, 8))


def test_a_full_disk_leaves_the_old_file(
    model: Classifier, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = path.read_bytes()

    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(RunError, match="no space left"):
        save(model, path)
    assert path.read_bytes() == before
    assert [each.name for each in path.parent.iterdir()] == [path.name]


def test_a_file_that_names_code_is_refused_unless_allowed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "mine_to_load.py").write_text(
        "from torch import nn\n"
        "def make(num_classes, image_size):\n"
        "    return nn.Sequential(nn.Flatten(), nn.Linear(image_size**2, num_classes))\n"
    )
    model = build("mine_to_load:make", **SITE)
    path = tmp_path / "code.safetensors"
    save(model, path)
    with pytest.raises(ModelError, match="made by the function mine_to_load:make"):
        load(path)
    assert digest(load(path, allow_code=True)) == digest(model)
