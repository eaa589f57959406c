from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image

from experiments.studies import EXPERIMENTS, SCALES
from experiments.studies.base import OURS, SYSTEMS, CommandRun, Plan, StudyJob
from experiments.studies.contribution_maps.jobs import own_pictures, taps
from robustkit import models
from robustkit.class_names import imagenet_classes
from robustkit.cli.main import main
from robustkit.errors import DataError


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["misalignment", "--scale", "large"], "--scale large: one of smoke, small, paper"),
        (["digit-shift", "--scale", "paper"], "'digit-shift' has smoke and small alone"),
        (["history-repair", "--device", "cuda"], "takes none, unlike misalignment, overtraining"),
        (["overtraining", "--weights", "w", "--images", "d"], "unlike contribution-maps"),
        (["overtraining", "--device", "gpu"], "unknown device 'gpu'"),
        (["contribution-maps", "--weights", "w"], "go with --scale paper"),
        (["contribution-maps", "--scale=paper"], "needs --weights FILE and --images DIR"),
        (
            ["contribution-masking", "--scale=paper", "--weights=w", "--images=."],
            "--weights w: no such file",
        ),
    ],
)
def test_options_that_a_study_has_no_use_for(
    flags: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert main(["reproduce", *flags, "--out", str(out)]) == 2
    assert said in capsys.readouterr().err
    assert not out.exists()


PLANNED = [(name, scale) for name, study in EXPERIMENTS.items() for scale in study.scales]


@pytest.mark.parametrize(("name", "scale"), PLANNED)
def test_every_scale_is_planned_with_names_of_its_own(
    name: str, scale: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("ROBUSTKIT_DATA", raising=False)  # a plan asks for no data
    study, plan = EXPERIMENTS[name], Plan(folder=tmp_path, scale=scale)
    steps: list[StudyJob | CommandRun] = [*study.commands(plan)]
    steps += [job for phase in study.jobs(plan) for job in phase]
    assert len({step.id for step in steps}) == len(steps) > 0
    for item in study.items if scale == "small" else ():
        assert any(map(item.needs, steps)), item.name
    for run in study.commands(plan):
        assert main([run.command, *run.arguments, "--print_config"]) == 0


def test_every_published_study_has_all_scales_and_the_seven_systems_are_there() -> None:
    for study in EXPERIMENTS.values():
        assert set(study.scales) == set(SCALES) - ({"paper"} if study.system == OURS else set())
        assert study.deviations or study.system == OURS
        assert len({each.name for each in study.items}) == len(study.items) > 0
    assert {study.system for study in EXPERIMENTS.values()} == {*SYSTEMS, OURS}


def test_the_paper_scale_of_overtraining_passes_a_thousand_epochs(tmp_path: Path) -> None:
    study = EXPERIMENTS["overtraining"]
    phases = study.jobs(Plan(folder=tmp_path, scale="paper", device="cuda"))
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
