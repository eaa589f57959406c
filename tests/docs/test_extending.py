"""Every block of docs/extending.md, as it stands: from a file of its own, by name, in its verb."""

from __future__ import annotations

import json
import random
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

import evolution
from adaptation import detectors, recipes
from adaptation.training import DetectionConfig, train_detector
from evolution import (
    Genotype,
    SearchSettings,
    SearchSpace,
    open_strategy,
    parse_objectives,
    sample,
)
from evolution.genotype import Trial
from robustkit import attacks, data, explain, extensions, models
from robustkit.cli.main import main
from robustkit.data.detection import load_detection
from robustkit.errors import AttackError, ModelError
from robustkit.jobs import EXECUTORS, Ok, open_executor
from robustkit.models.blueprint import BLOCKS, Block
from robustkit.runs import Ledger
from tests.evolution.protocol.runs import INLINE, TINY, evolve

PAGE = Path(__file__).parents[2] / "docs" / "extending.md"
BLOCKS_OF_CODE = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
NAMED = r"^`(\w+)\.py`: [^`]*```python\n(.*?)```"
FILES = dict(re.findall(NAMED, PAGE.read_text(), re.DOTALL | re.MULTILINE))
REGISTRIES: tuple[dict[str, Any], ...] = (
    attacks.ATTACKS,
    attacks.COMPONENTS,
    BLOCKS,
    evolution.MEASURES,
    explain.METHODS,
    recipes.PARTS,
    EXECUTORS,
)


@contextmanager
def fresh(folder: Path) -> Iterator[None]:
    """As in a process of its own that starts in `folder`: what was added is gone at the end."""
    before = [dict(each) for each in REGISTRIES]
    path, known = list(sys.path), dict(extensions._LOADED)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        try:
            yield
        finally:
            sys.path[:] = path
            extensions._LOADED.clear()
            extensions._LOADED.update(known)
            for registry, entries in zip(REGISTRIES, before, strict=True):
                for name in registry.keys() - entries.keys():
                    del registry[name]
            for name in (*FILES, "rolls"):
                sys.modules.pop(name, None)


@pytest.fixture(autouse=True)
def place(tmp_path: Path) -> Iterator[Path]:
    for name, code in FILES.items():
        (tmp_path / f"{name}.py").write_text(code)
    with fresh(tmp_path):
        yield tmp_path


@pytest.fixture(scope="module")
def net(tmp_path_factory: pytest.TempPathFactory) -> models.Classifier:
    return models.build("small", num_classes=10, in_channels=1, image_size=16, seed=0).eval()


def summary(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "summary.json").read_text())
    return found


def test_the_blocks_are_short_and_add_what_they_say() -> None:
    assert len(FILES) == len(BLOCKS_OF_CODE) == 7
    assert max(len(code.splitlines()) for code in BLOCKS_OF_CODE) <= 20
    before = [len(each) for each in REGISTRIES]
    extensions.load(*FILES)
    added = [len(each) - was for each, was in zip(REGISTRIES, before, strict=True)]
    assert added == [1, 1, 1, 1, 1, 2, 1]


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_the_attack_keeps_to_its_ball(norm: str, net: models.Classifier) -> None:
    extensions.load("my_attacks")
    test = data.load("digits").test
    images, labels = data.to_unit(test.images[:64]), test.labels[:64]
    attack = attacks.make("corners?tries=3", eps=0.2, norm=norm)
    made = attack(net, images, labels)
    attacks.verify(made, images, attack)
    one = attacks.make("corners?tries=1", eps=0.2, norm=norm)(net, images, labels)
    margin = attacks.LOSSES["margin"]
    worse = margin(net(made), labels) >= margin(net(one), labels) - 1e-5
    assert bool(worse.all())
    assert not torch.equal(made, images)


def test_the_component_combines_with_others(net: models.Classifier) -> None:
    extensions.load("my_components")
    test = data.load("digits").test
    images, labels = data.to_unit(test.images[:16]), test.labels[:16]
    attack = attacks.make("mifgsm+stripes+ti?width=3", eps=0.2)
    made = attack(net, images, labels)
    attacks.verify(made, images, attack)
    assert not torch.equal(made, attacks.make("mifgsm+ti", eps=0.2)(net, images, labels))
    assert torch.allclose(attack(net, images[:3], labels[:3]), made[:3], atol=1e-6)
    with pytest.raises(AttackError, match=r"unknown parameter 'widht'; did you mean 'width'"):
        attacks.make("mifgsm+stripes?stripes.widht=3")


def test_the_attack_goes_through_its_verb(
    place: Path, net: models.Classifier, capsys: pytest.CaptureFixture[str]
) -> None:
    models.save(net, place / "net.safetensors")
    command = ["attack", "--model", "m=net.safetensors", "--eps", "0.2", "--probe", "0"]
    command += ["--attack", "corners?tries=2", "--out"]
    assert main([*command, "without"]) == 2
    assert "unknown attack 'corners'" in capsys.readouterr().err
    assert main([*command, "with", "--extend", "my_attacks"]) == 0
    assert "corners" in (place / "with" / "summary.json").read_text()
    assert main([*command, "other", "--extend", "my_attacks", "--attack", "corner"]) == 2
    assert "did you mean 'corners'? (known: apgd, corners, " in capsys.readouterr().err


def test_the_block_is_sampled_built_saved_and_loaded(place: Path) -> None:
    with fresh(place):
        extensions.load("my_blocks")
        space = SearchSpace(kinds=("dilated", "pool"), max_blocks=4)
        genotype = sample(random.Random(0), space)
        assert any(block.kind == "dilated" for block in genotype.blocks)
        assert space.contains(genotype)
        assert Genotype.from_dict(genotype.to_dict()) == genotype
        made = models.build(genotype.blueprint(), num_classes=3, in_channels=1, image_size=9)
        made.eval()
        images = torch.rand(2, 1, 9, 9)
        models.save(made, "dilated.safetensors")
        assert torch.equal(models.load("dilated.safetensors")(images), made(images))
        wide, narrow = (Block(kind="dilated", channels=width, norm="none") for width in (8, 4))
        costs = [
            models.cost(models.Blueprint(blocks=(each,)), (1, 8, 8), 2) for each in (wide, narrow)
        ]
        assert costs[0].macs == 2 * costs[1].macs == 8 * 9 * 64 + 8 * 2
    with pytest.raises(ModelError, match="unknown kind 'dilated'"):
        models.load("dilated.safetensors")


def test_block_and_objective_serve_a_search(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wanted = ["--kinds", "[dilated, pool]", "--objectives", "accuracy:max,shifted:max"]
    short = ["--generations", "1", "--promote", "0"]
    both = ["--extend", "my_blocks,my_objectives"]
    with fresh(place):
        assert evolve(*TINY, *short, *INLINE, *wanted, *both, "--out", "run") == 0
    with Ledger.open("run/ledger.sqlite") as ledger:
        trials = [trial for trial in ledger.trials("evolve") if trial.result is not None]
    assert trials
    for trial in trials:
        assert trial.result is not None
        assert 0 <= trial.result["shifted"] <= 1
        kinds = {block["kind"] for block in trial.payload["genotype"]["blocks"]}
        assert "dilated" in kinds <= {"dilated", "pool"}
    # Drawn anew and gone on with in other processes: a folder imports nothing by itself.
    with fresh(place):
        assert main(["report", "run"]) == 2
        assert "unknown name 'shifted'" in capsys.readouterr().err
    with fresh(place):
        assert main(["report", "run", *both]) == 0
    for given in ([], ["--extend", "my_blocks"]):
        with fresh(place):
            assert evolve("--resume", "run", *given) == 2
            assert "run was made with --extend my_blocks,my_objectives" in capsys.readouterr().err
            assert "my_objectives" not in sys.modules
    with fresh(place):
        assert evolve("--resume", "run", *both) == 0
        assert "dilated" in BLOCKS


def test_the_objective_drives_ask_and_tell(net: models.Classifier) -> None:
    extensions.load("my_objectives")
    measure, val = evolution.MEASURES["shifted"], data.load("digits").val
    assert measure is not None
    here = measure(net, val)
    assert here == pytest.approx(round(here * len(val)) / len(val))  # a share of the images
    objectives = parse_objectives("shifted:max", evolution.MEASURES)
    space = SearchSpace(min_blocks=1, max_blocks=2)
    asked = SearchSettings(
        space=space,
        input_shape=(1, 16, 16),
        num_classes=10,
        objectives=objectives,
        population=4,
        generations=2,
    )
    search, told = open_strategy("nsga2", asked), []
    while candidates := search.ask():
        for candidate in candidates:
            made = models.build(
                candidate.genotype.blueprint(),
                num_classes=10,
                in_channels=1,
                image_size=16,
                seed=candidate.number,
            )
            told.append(Trial(candidate, "Ok", {"shifted": measure(made, val)}))
        search.tell({each.candidate.number: each for each in told[-len(candidates) :]})
    best = evolution.front(told, objectives)
    assert len(told) == 8
    assert {each.values["shifted"] for each in best if each.values} == {
        max(each.values["shifted"] for each in told if each.values)
    }


def test_the_map_is_read_from_a_trace_and_drawn(place: Path, net: models.Classifier) -> None:
    extensions.load("my_maps")
    images = data.to_unit(data.load("digits").test.images[:3])
    made = explain.make_maps(net, images, torch.tensor([1, 2, 3]), ["contrast"])["contrast"]
    assert made.pixels.shape == (3, 16, 16)
    assert not made.layers
    assert float(made.pixels.abs().sum()) > 0
    models.save(net, place / "net.safetensors")
    command = ["explain", "--model", "net.safetensors", "--index", "0", "--extend", "my_maps"]
    assert main([*command, "--method", "contrast,saliency", "--out", "run"]) == 0
    assert set(summary(place / "run")["scores"]) >= {"contrast", "saliency"}


def test_the_recipes_train(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    extensions.load("my_recipes")
    base = DetectionConfig(steps=2, batch_size=2, warmup=0)
    config = recipes.recipe("gentle+patient", base)
    assert (config.adversary, config.eps, config.ema, config.steps) == ("pgd", 1 / 255, 0.9995, 2)
    source, target = (load_detection(f"shapes:{style}:8?side=64") for style in ("photo", "clipart"))
    model = detectors.build("tiny_ssd?side=64&width=16", classes=source.classes, seed=0)
    before = {name: each.clone() for name, each in model.state_dict().items()}
    losses: list[float] = []
    train_detector(
        model, source, config, target=target, on_step=lambda record: losses.append(record.loss)
    )
    assert len(losses) == 2
    assert all(loss > 0 for loss in losses)
    assert any(not torch.equal(each, before[name]) for name, each in model.state_dict().items())
    # `gentle` says its own radius, so there is nobody whose --eps this would be.
    assert main(["adapt", "--recipe", "source,gentle", "--eps", "0.1", "--out", "run"]) == 2
    assert "--eps is of the recipe adversarial or fast or free" in capsys.readouterr().err


# A job that needs a person's module in the process that runs it.
ROLL = """
from dataclasses import dataclass
import torch
from robustkit import attacks

@dataclass(frozen=True)
class Roll:
    seed: int

    def run(self):
        found = torch.randn(1, generator=torch.Generator().manual_seed(self.seed))
        return float(found), "corners" in attacks.ATTACKS
"""


def test_the_executor_gives_what_inline_gives(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (place / "rolls.py").write_text(ROLL)
    extensions.load("my_executors", "my_attacks")
    jobs = [extensions.found("rolls").Roll(seed) for seed in range(5)]
    found = {}
    for name, workers in (("inline", 1), ("pool", 1), ("processes", 1)):
        with open_executor(name, workers=workers) as executor:
            outcomes = dict(executor.run(iter(jobs)))
        assert all(isinstance(each, Ok) for each in outcomes.values())
        found[name] = {job: each.value for job, each in outcomes.items()}
    assert found["pool"] == found["processes"] == found["inline"]
    assert all(known for _, known in found["pool"].values())
    flags = ["--executor", "pool", "--workers", "2", "--out", "run"]
    assert main(["evolve", "--extend", "my_executors", *flags]) == 2  # it has a limit of its own
    assert "cannot keep timeout" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "code", "said"),
    [
        ("nowhere", None, "--extend nowhere: No module named 'nowhere'"),
        ("taken", "import robustkit.attacks as a\na.ATTACKS.enter('pgd', a.PGD)", "taken.py:2"),
        ("torn", "def broken(:", "--extend torn: invalid syntax"),
        ("my_attacks.py", None, "a module is named without .py"),
    ],
)
def test_what_cannot_be_imported_is_one_line(
    name: str, code: str | None, said: str, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if code is not None:
        (place / f"{name}.py").write_text(code)
    assert main(["train", "--extend", name, "--out", "run"]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1
    assert not (place / "run").exists()
    (place / "settings.yaml").write_text(f"extend: {name}\n")
    assert main(["train", "--config", "settings.yaml", "--out", "run"]) == 2
    assert said in capsys.readouterr().err
