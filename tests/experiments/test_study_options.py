from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image

from experiments.cli import main
from experiments.reproduce import EXPERIMENTS, Study
from experiments.reproduce.maps.jobs import taps
from experiments.reproduce.maps.pictures import imagenet_classes, own_pictures
from experiments.reproduce.study import Plan
from robustkit import models
from robustkit.errors import DataError


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["misalignment", "--published"], "--published: 'misalignment' takes none; filter-c"),
        (["history-repair", "--device", "cuda"], "--device: 'history-repair' takes none; overtr"),
        (["overtraining", "--weights", "w", "--images", "d"], "contribution-maps does"),
        (["overtraining", "--quick", "--published"], "exclude each other"),
        (["overtraining", "--device", "gpu"], "unknown device 'gpu'"),
        (["contribution-maps", "--weights", "w"], "go together"),
        (["contribution-maps", "--weights", "w", "--images", "."], "--weights w: no such file"),
    ],
)
def test_options_that_a_study_has_no_use_for(
    flags: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert main(["reproduce", *flags, "--out", str(out)]) == 2
    assert said in capsys.readouterr().err
    assert not out.exists()


@pytest.mark.parametrize("name", [n for n, each in EXPERIMENTS.items() if isinstance(each, Study)])
@pytest.mark.parametrize("size", ["quick", "small", "published"])
def test_every_size_is_planned_with_names_of_its_own(name: str, size: str, tmp_path: Path) -> None:
    study = EXPERIMENTS[name]
    assert isinstance(study, Study)
    if size == "published" and size not in study.takes:
        pytest.skip("not offered")
    pieces = [piece for phase in study.phases(Plan(folder=tmp_path, size=size)) for piece in phase]
    assert len({piece.id for piece in pieces}) == len(pieces) > 0


def test_the_published_size_of_overtraining_passes_a_thousand_epochs(tmp_path: Path) -> None:
    study = EXPERIMENTS["overtraining"]
    assert isinstance(study, Study)
    phases = study.phases(Plan(folder=tmp_path, size="published", device="cuda"))
    segments = [piece for phase in phases for piece in phase if piece.id.startswith("train/plain")]
    assert sum(each.setting.epochs for each in segments) > 1000  # type: ignore[attr-defined]
    assert {each.setting.device for each in segments} == {"cuda"}  # type: ignore[attr-defined]


def test_the_five_pooling_stages_are_found_in_ours_and_in_torchvisions_vgg() -> None:
    ours = models.build("vgg16?width=4", num_classes=10, in_channels=3, image_size=32)
    with torch.device("meta"):
        from torchvision.models import vgg16

        theirs = vgg16(num_classes=10)
    assert [name.rpartition(".")[0] for name in taps(ours)] == [
        f"net.stage{number}" for number in range(1, 6)
    ]
    assert taps(theirs) == [f"features.{place}" for place in (3, 8, 15, 22, 29)]


def test_a_users_pictures_become_the_models_input_labelled_by_its_answers(tmp_path: Path) -> None:
    model = models.build("vgg3?width=4", num_classes=7, in_channels=3, image_size=32, seed=0)
    for name, size in (("b.png", (40, 30)), ("a/c.jpg", (64, 64)), ("d.png", (32, 32))):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.effect_noise(size, 80).convert("RGB").save(tmp_path / name)
    images = own_pictures(model, tmp_path, 2)
    assert images.shape == (3, 32, 32)
    assert len(images) == 2
    assert images.labels.tolist() == model.eval()(images.floats()).argmax(dim=1).tolist()
    (tmp_path / "a" / "b.png").write_bytes(b"no picture")
    with pytest.raises(DataError, match=r"b\.png"):
        own_pictures(model, tmp_path, 9)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no pictures"):
        own_pictures(model, tmp_path / "empty", 9)


def test_imagenets_classes_are_a_thousand_different_names() -> None:
    names = imagenet_classes()
    assert len(set(names)) == len(names) == 1000
    assert names[:1] == ("tench",)
