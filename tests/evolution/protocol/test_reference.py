"""A trained model as R: what is taken as trained, what is left out, and whole runs with one."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from evolution.command import check
from evolution.protocol.config import EvolveConfig
from evolution.protocol.reference import (
    Reference,
    find_reference,
    left_out,
    measured,
    own_preprocessing,
    warnings_about,
)
from evolution.protocol.workspace import Workspace, load_splits, open_workspace
from robustkit import models
from robustkit.attacks import predict
from robustkit.data import Splits
from robustkit.errors import ModelError
from robustkit.models.classifier import matched
from robustkit.models.sources import torchvision as source
from robustkit.runs import RunFolder
from robustkit.runs.summaries import Published
from robustkit.stats import wilson
from tests.evolution.protocol.runs import (
    INLINE,
    TINY,
    TWO_WORKERS,
    evolve,
    rows,
    settings_of,
    summary,
    trials,
)

UNTRAINED, TRAINED = (
    Reference(given=given, notes=[], left_out={}, published=None) for given in (False, True)
)
SHORT = [*TINY, "--generations", "1", "--promote", "0"]
# A user's file: a net, one whose weights it loads, one that starts anew, and odder ones.
NETS = """
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import nn

FILE = Path(__file__).parent / "means.safetensors"


def fresh(num_classes=10):
    return nn.Sequential(nn.Flatten(), nn.Linear(256, num_classes))


def trained():
    net = fresh()
    net.load_state_dict(load_file(FILE))
    return net


def zeros():
    net = fresh()
    for each in net.parameters():
        nn.init.zeros_(each)
    return net


def half():
    net = nn.Sequential(nn.Flatten(), nn.Linear(256, 8), nn.ReLU(), nn.Linear(8, 10))
    with torch.no_grad():
        net[1].weight.copy_(load_file(FILE)["1.weight"][:8])
    return net
"""


@pytest.fixture(scope="module")
def splits() -> Splits:
    options: dict[str, object] = {"data": "digits", "root": None, "download": False}
    return load_splits(options, EvolveConfig(test_size=60))


@pytest.fixture(scope="module")
def nets(splits: Splits, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of `nets.py` and of its weights: the class means, right on most digits."""
    folder = tmp_path_factory.mktemp("nets")
    (folder / "nets.py").write_text(NETS)
    images, labels = splits.train.floats().flatten(1), splits.train.labels
    means = torch.stack([images[labels == each].mean(dim=0) for each in range(10)])
    bias = -(means**2).sum(dim=1) / 2
    save_file({"1.weight": 4 * means, "1.bias": 4 * bias}, folder / "means.safetensors")
    return folder


def spec_of(nets: Path, name: str) -> str:
    return f"{nets}/nets.py:{name}"


def saved(net: models.Classifier, path: Path, **provenance: Any) -> str:
    models.save(net, path, **provenance)
    return str(path)


def small(**changes: Any) -> models.Classifier:
    built = {"num_classes": 10, "in_channels": 1, "image_size": 16, "seed": 0}
    return models.build("small", **(built | changes))


# What is taken as trained


def test_weights_that_no_seed_changes_are_taken_as_trained(nets: Path, splits: Splits) -> None:
    net, reference = find_reference(spec_of(nets, "trained"), splits)
    assert reference.given
    assert reference.notes == [
        f"{spec_of(nets, 'trained')} has the same weights under any seed: taken as trained"
    ]
    accuracy = measured(net, splits)
    assert accuracy.n == len(splits.val)
    right = [
        int(net(image[None]).argmax()) == label
        for image, label in zip(splits.val.floats(), splits.val.labels, strict=True)
    ]
    assert accuracy.value == pytest.approx(sum(right) / len(right))
    assert accuracy.value is not None
    assert accuracy.value > 0.7
    assert warnings_about(accuracy, 10) == []


@pytest.mark.parametrize("name", ["fresh", "zeros"])
def test_weights_of_a_seed_or_of_one_number_are_trained_by_the_run(
    nets: Path, splits: Splits, name: str
) -> None:
    assert find_reference(spec_of(nets, name), splits).reference == UNTRAINED


def test_a_net_that_starts_from_trained_weights_says_which(nets: Path, splits: Splits) -> None:
    reference = find_reference(spec_of(nets, "half"), splits).reference
    assert not reference.given
    assert "1 of 4 weight tensors" in reference.notes[0]


@pytest.mark.parametrize("spec", ["small", "torchvision:shufflenet_v2_x0_5"])
def test_an_architecture_is_no_trained_net(splits: Splits, spec: str) -> None:
    assert find_reference(spec, splits).reference == UNTRAINED


def test_a_zoo_name_with_weights_is_given(splits: Splits, tmp_path: Path) -> None:
    net = small(seed=5)
    save_file(net.net.state_dict(), tmp_path / "weights.safetensors")
    found, reference = find_reference(f"small?weights={tmp_path}/weights.safetensors", splits)
    assert reference == TRAINED
    assert all(
        torch.equal(one, other)
        for one, other in zip(found.net.parameters(), net.net.parameters(), strict=True)
    )
    # Normalised by the data's statistics, as R2 and R′ then are.
    assert own_preprocessing(found.card, splits, given=True) is None


# Whether it can be built again


def test_a_function_that_only_gives_trained_weights_leaves_r2_and_rp_out(
    nets: Path, splits: Splits
) -> None:
    missing = find_reference(spec_of(nets, "trained"), splits).reference.left_out
    assert set(missing) == {"R2", "Rp"}
    assert "gives the same weights under any seed" in missing["R2"]


def test_a_function_given_its_weights_can_be_built_again(nets: Path, splits: Splits) -> None:
    spec = f"{spec_of(nets, 'fresh')}?weights={nets}/means.safetensors"
    net, reference = find_reference(spec, splits)
    assert reference == TRAINED
    assert own_preprocessing(net.card, splits, given=True) == models.Preprocessing()
    assert own_preprocessing(net.card, splits, given=False) is None


def test_every_family_of_its_own_is_built_again(splits: Splits) -> None:
    blueprint = models.Blueprint(blocks=(models.Block(channels=4),))
    for architecture in ("small", blueprint, "torchvision:shufflenet_v2_x0_5"):
        net = models.build(architecture, num_classes=10, in_channels=1, image_size=32, seed=3)
        assert left_out(net) == {}


# Classes, sizes, and what is refused


def test_classes_of_the_same_names_are_matched_by_name(splits: Splits, tmp_path: Path) -> None:
    classes = tuple(reversed(splits.train.classes))
    net = small(classes=classes).eval()
    found = find_reference(saved(net, tmp_path / "R.safetensors"), splits).net
    images = splits.val.images[:20]
    assert torch.equal(predict(found, images), predict(net, images).flip(1))
    kept = models.load(saved(found, tmp_path / "2.safetensors"))
    again = matched(kept, splits.val.classes, "2", "digits")
    assert torch.equal(predict(again, images), predict(found, images))


def test_classes_of_other_names_are_matched_by_index_and_said_so(
    splits: Splits, tmp_path: Path
) -> None:
    net = small(classes=[f"class {number}" for number in range(10)]).eval()
    found, reference = find_reference(saved(net, tmp_path / "R.safetensors"), splits)
    assert "matched by index" in reference.notes[0]
    images = splits.val.images[:20]
    assert torch.equal(predict(found, images), predict(net, images))


def test_a_net_of_another_size_resizes_inside_and_its_published_accuracy_is_kept(
    splits: Splits, tmp_path: Path
) -> None:
    net = small(image_size=20, mean=(0.1,), std=(0.2,))
    published = Published(accuracy=0.9, on="somewhere")
    found, reference = find_reference(
        saved(net, tmp_path / "R.safetensors", published=published.to_json()), splits
    )
    assert reference.published == published
    assert reference.notes == ["resizes pictures of 16x16 to 20x20 inside (bilinear)"]
    own = own_preprocessing(found.card, splits, given=True)
    assert own is not None
    assert (own.mean, own.input_size) == ((0.1,), (20, 20))


def test_a_net_of_colours_is_refused_for_grey_images(splits: Splits, tmp_path: Path) -> None:
    built = small(in_channels=3)
    card = replace(built.card, preprocessing=models.Preprocessing())
    spec = saved(models.Classifier(built.net, card), tmp_path / "R.safetensors")
    with pytest.raises(ModelError, match=r"takes images of shape \(3, 16, 16\), the data has \(1"):
        find_reference(spec, splits)


def test_a_net_whose_logits_are_not_finite_is_refused(splits: Splits, tmp_path: Path) -> None:
    net = small()
    torch.nn.init.constant_(next(net.parameters()), torch.nan)
    with pytest.raises(ModelError, match="its logits are not finite"):
        find_reference(saved(net, tmp_path / "R.safetensors"), splits)


def test_a_file_of_a_function_is_loaded_on_trust_alone(
    nets: Path, splits: Splits, tmp_path: Path
) -> None:
    function = spec_of(nets, "trained")
    spec = saved(find_reference(function, splits).net, tmp_path / "R.safetensors")
    with pytest.raises(ModelError, match="--trust"):
        find_reference(spec, splits)
    reference = find_reference(spec, splits, trust=[function]).reference
    assert reference.given
    assert set(reference.left_out) == {"R2", "Rp"}


def refused(capsys: pytest.CaptureFixture[str], folder: Path, spec: str) -> str:
    """The one line of the refusal; there is no run folder."""
    assert evolve(*TINY, *INLINE, "--reference", spec, "--out", str(folder)) == 2
    error = capsys.readouterr().err
    assert error.startswith("robustkit: error: ")
    assert error.count("\n") == 1
    assert not folder.exists()
    return error


def test_weights_that_are_not_there_are_not_fetched(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    error = refused(capsys, tmp_path / "run", "torchvision:shufflenet_v2_x0_5?weights=DEFAULT")
    assert "--download" in error


def shuffle(path: Path, classes: int) -> str:
    """A state dict of torchvision's smallest net; the spec with these weights, resized inside."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = source.make_torchvision("shufflenet_v2_x0_5", classes, 3, (32, 32), {})
    torch.save(net.state_dict(), path)
    return f"torchvision:shufflenet_v2_x0_5?weights={path}&input_size=32"


def test_weights_of_other_classes_get_no_new_head(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    error = refused(capsys, tmp_path / "run", shuffle(tmp_path / "seven.pt", 7))
    assert "7 classes" in error


@pytest.mark.parametrize(
    ("rate", "n", "classes", "warned"),
    [(0.1, 300, 10, True), (0.13, 300, 10, True), (0.2, 300, 10, False), (0.6, 10, 2, True)],
)
def test_chance_is_told_by_wilsons_interval(
    rate: float, n: int, classes: int, warned: bool
) -> None:
    told = warnings_about(wilson(rate, n), classes)
    assert bool(told) == warned
    assert all(f"n = {n}" in each and "mean nothing" in each for each in told)
    below = warnings_about(wilson(0.7, 300), classes, Published(accuracy=0.81, on="ImageNet-1K"))
    assert "11 points below the published 81.0 %" in below[-1]


# Whole runs


def forget(folder: Path, *arms: str) -> None:
    """Make a finished run one that was stopped before the trials of `arms`."""
    (folder / "summary.json").unlink()
    (folder / "report.html").unlink()
    with sqlite3.connect(folder / "ledger.sqlite") as connection:
        for arm in arms:
            connection.execute("DELETE FROM trials WHERE arm = ?", (arm,))
    connection.close()


@pytest.fixture(scope="module")
def given(nets: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run whose R is what a function returns; never to be changed."""
    folder = tmp_path_factory.mktemp("given") / "run"
    arguments = [*SHORT, *INLINE, "--reference", spec_of(nets, "trained")]
    assert evolve(*arguments, "--out", str(folder)) == 0
    return folder


def page(folder: Path) -> str:
    text = (folder / "report.html").read_text(encoding="utf-8")
    return text.replace("&#39;", "'").replace("\N{NO-BREAK SPACE}", " ")


def test_a_run_without_r2_and_rp_says_what_falls_with_them(given: Path, splits: Splits) -> None:
    found = summary(given)
    assert set(found["left_out"]) == {"R2", "Rp", "P", "P0"}
    assert found["gap"] is None
    assert found["baseline"] == {}
    assert set(found["nets"]) == {"R", "E", "E0", "RS", "M"}
    assert found["penalty"] == {"lam": 1.0, "within": False, "accuracy": {}, "transfer": {}}
    assert any("R's architecture, on which the rule" in line for line in found["warnings"])
    assert found["penalty_gap"]["n"] == found["search_gap"]["n"] == found["common_images"]
    names = {trial.id.split("-")[0] for trial in trials(given)}
    assert not names & {"reference/R", "baseline/R2", "baseline/Rp", "final/R2", "final/Rp"}
    accuracy = found["reference"]["accuracy"]
    assert found["reference"]["given"]
    assert accuracy == pytest.approx(measured(open_workspace(str(given)).net("R"), splits).value)
    for choice in found["selection"].values():
        assert f"(R's validation accuracy, {accuracy:.4f}, minus" in choice["rule"]
    text = page(given)
    assert text.index("R2 and R′ are left out") < text.index('class="cards"')
    assert "cannot be tested; what remains is E against E0 and RS" in text
    assert "R's own accuracy minus the tolerance" in text
    assert "R2 at trial budget" not in text
    assert "T(R→E0) − T(R→E) is" in text or "cannot be compared on a common set" in text
    assert "gradient of E0" in text or "There are none." in text


def test_such_a_run_goes_on_from_its_copy_and_is_told_at_its_end(
    given: Path, nets: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "run"
    shutil.copytree(given, folder)
    forget(folder, "judge")
    # Other weights in its place are none of this run's: the copy is R.
    weights, away = nets / "means.safetensors", tmp_path / "away.safetensors"
    shutil.copy(weights, away)
    save_file({name: -each for name, each in load_file(weights).items()}, weights)
    try:
        assert evolve("--resume", str(folder)) == 0
    finally:
        shutil.move(away, weights)
    assert (rows(folder), summary(folder)) == (rows(given), summary(given))
    lines = capsys.readouterr().out.splitlines()
    assert any(line.startswith("R2 and R′ are left out: ") for line in lines)


def test_a_function_that_is_gone_is_named_when_the_run_goes_on(
    given: Path, nets: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, weights = tmp_path / "run", nets / "means.safetensors"
    shutil.copytree(given, folder)
    forget(folder, "judge")
    shutil.move(weights, tmp_path / "away.safetensors")
    try:
        assert evolve("--resume", str(folder)) == 2
    finally:
        shutil.move(tmp_path / "away.safetensors", weights)
    *_, error = capsys.readouterr().err.splitlines()  # after the notes on what is done
    assert error.startswith("robustkit: error: ")
    assert "R.safetensors" in error
    assert "means.safetensors" in error


def test_a_run_that_began_before_references_were_noted_goes_on(
    finished: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    shutil.copytree(finished, folder)
    forget(folder, "judge")
    (folder / "reference.json").unlink()
    config = folder / "config.yaml"
    config.write_text(config.read_text().replace("  trust: []\n", ""))
    assert "trust" not in config.read_text()
    assert evolve("--resume", str(folder)) == 0
    assert (rows(folder), summary(folder)) == (rows(finished), summary(finished))


def test_the_head_of_the_output_says_what_r_is(nets: Path) -> None:
    lines = check(settings_of(*SHORT, *INLINE, "--reference", spec_of(nets, "trained")))
    assert lines[0].endswith("has the same weights under any seed: taken as trained")
    assert lines[1].startswith("R: given trained, right on ")
    assert lines[2].startswith("R2 and R′ are left out: ")
    assert check(settings_of(*SHORT, *INLINE)) == []


def test_a_published_accuracy_stands_beside_rs_own(splits: Splits, tmp_path: Path) -> None:
    net = small()
    published = {"accuracy": 0.97, "on": "digits"}
    spec = saved(net, tmp_path / "R.safetensors", published=published)
    chance, below, told = check(settings_of(*SHORT, *INLINE, "--reference", spec))
    assert "is not above chance" in chance  # untrained as it is
    assert "below the published 97.0 %" in below
    assert told.endswith("of validation; published: 97.0% on digits")


@pytest.mark.slow
def test_torchvisions_net_with_a_file_of_weights_is_built_again_as_it_is_fed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, weights = tmp_path / "run", tmp_path / "weights.pt"
    spec = shuffle(weights, 10)
    arguments = [*SHORT, "--reference", spec, "--max-macs", "400000"]
    assert evolve(*arguments, *INLINE, "--out", str(folder)) == 0
    told = capsys.readouterr().out.splitlines()
    assert told[0].startswith("warning: R is not what it should be: clean accuracy ")
    before = summary(folder)
    assert before["left_out"] == {}
    assert before["gap"] is not None
    assert before["warnings"][0] in page(folder)
    assert set(before["nets"]) == {"R", "R2", "Rp", "E", "E0", "RS"}
    own = models.read_card(folder / "nets" / "R.safetensors").preprocessing
    assert (own.input_size, own.interpolation) == ((32, 32), "bilinear")
    for name in ("R2-0", "Rp-0"):
        again = models.read_card(folder / "nets" / f"{name}.safetensors")
        assert again.preprocessing == own
        assert again.architecture["family"] == "torchvision"
    assert models.read_card(folder / "nets" / "E-0.safetensors").preprocessing != own
    weights.unlink()
    found = rows(folder)
    forget(folder, "judge", "final")
    assert evolve("--resume", str(folder), *TWO_WORKERS) == 0
    assert (rows(folder), summary(folder)) == (found, before)


@pytest.mark.slow
def test_a_function_with_fresh_weights_is_trained_by_the_run(nets: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    spec = spec_of(nets, "fresh")
    assert evolve(*SHORT, *INLINE, "--reference", spec, "--out", str(folder)) == 0
    found = summary(folder)
    assert not found["reference"]["given"]
    assert (found["left_out"], found["warnings"]) == ({}, [])
    assert set(found["nets"]) == {"R", "R2", "Rp", "E", "E0", "RS"}
    assert "reference/R" in {trial.id for trial in trials(folder)}
    # By the data's statistics, as all that the run trains.
    mean, std = Workspace(RunFolder.open(folder)).stats
    for name in ("R", "R2-0", "Rp-0"):
        card = models.read_card(folder / "nets" / f"{name}.safetensors")
        assert (card.mean, card.std) == (mean, std)


@pytest.mark.slow
@pytest.mark.parametrize("search", [[], ["--mode", "steady", "--epochs", "2", "--halving", "2"]])
def test_searches_of_every_kind_do_without_r2(
    nets: Path, tmp_path: Path, search: Sequence[str]
) -> None:
    folder, twice = tmp_path / "run", tmp_path / "twice"
    arguments = [*TINY, *search, "--reference", spec_of(nets, "trained")]
    assert evolve(*arguments, *INLINE, "--out", str(folder)) == 0
    assert summary(folder)["gap"] is None
    if search:
        return
    forget(folder, "judge", "final", "promote-evolve", "random")
    assert evolve("--resume", str(folder)) == 0
    assert evolve(*arguments, *TWO_WORKERS, "--out", str(twice)) == 0
    assert (rows(twice), summary(twice)) == (rows(folder), summary(folder))
