"""Everything on a GPU: the same verbs, and numbers close to the CPU's. Skipped where there is none.

`ROBUSTKIT_TEST_DEVICE=cpu` runs the very same tests without one, which shows that they are right.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from adaptation import detectors
from adaptation.attacks import DetectionAttack
from robustkit import attacks, data, explain, models, training
from robustkit.cli.main import main
from robustkit.compute import exact_products
from robustkit.data.detection import load_detection
from tests.adaptation.commands.runs import SMALL
from tests.evolution.protocol.runs import INLINE, TINY

DEVICE = os.environ.get("ROBUSTKIT_TEST_DEVICE", "cuda")
pytestmark = pytest.mark.skipif(
    DEVICE.startswith("cuda") and not torch.cuda.is_available(), reason="no GPU"
)


def small(seed: int = 0) -> models.Classifier:
    return models.build("small", num_classes=10, in_channels=1, image_size=16, seed=seed)


@pytest.fixture(autouse=True)
def exact() -> Iterator[None]:
    """What is compared with the CPU's is computed as exactly."""
    with exact_products():
        yield


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A net trained by the verb on the device."""
    out = tmp_path_factory.mktemp("cuda") / "train"
    flags = ["--data", "digits", "--model", "small", "--epochs", "2", "--device", DEVICE]
    assert main(["train", *flags, "--out", str(out)]) == 0
    return out / "model.safetensors"


def test_a_trained_net_is_as_good_as_on_the_cpu(trained: Path) -> None:
    net, images = models.load(trained), data.load("digits").test
    right = attacks.predict(net, images.images).argmax(dim=1) == images.labels
    assert float(right.double().mean()) > 0.8


@pytest.mark.parametrize(
    "arguments",
    [
        ["attack", "--model", "{net}", "--data", "digits", "--test-size", "60", "--probe", "40"],
        ["transfer", "--sources", "{net}", "--data", "digits", "--test-size", "60", "--eps", "0.1"],
        ["explain", "--model", "{net}", "--data", "digits", "--index", "0,1"],
        ["train", "--data", "digits", "--epochs", "1", "--bf16", "--channels-last"],
        ["evolve", *TINY, *INLINE],
        ["adapt", *SMALL, "--recipe", "source,adversarial+aligned", "--seeds", "1"],
    ],
    ids=lambda arguments: arguments[0],
)
def test_every_verb_runs(arguments: list[str], trained: Path, tmp_path: Path) -> None:
    verb, *rest = (each.replace("{net}", str(trained)) for each in arguments)
    if "--device" in rest:
        place = rest.index("--device")
        del rest[place : place + 2]
    if verb == "transfer":
        rest += ["--targets", str(trained), "--cache", str(tmp_path / "cache")]
    out = tmp_path / "out"
    assert main([verb, *rest, "--device", DEVICE, "--out", str(out)]) == 0
    assert json.loads((out / "summary.json").read_text())


def test_reference_gradients_are_the_cpus() -> None:
    net, images = small().eval(), data.load("digits").val.subset(torch.arange(64))
    views = images.images[None]
    here = training.compute_reference(net, views, images.labels)
    there = training.compute_reference(small().eval().to(DEVICE), views, images.labels)
    assert torch.allclose(here.directions.float(), there.directions.float(), atol=5e-3)
    assert torch.allclose(here.norms, there.norms, rtol=1e-3)


def test_a_penalised_training_goes_as_on_the_cpu() -> None:
    splits = data.load("digits")
    losses = []
    for device in ("cpu", DEVICE):
        chosen = splits.train.subset(torch.arange(256))
        reference = training.compute_reference(small(1).eval(), chosen.images[None], chosen.labels)
        examples = training.Examples(chosen.images[None], chosen.labels, (reference,))
        config = training.TrainConfig(epochs=2, lam=1.0, seed=0)
        history = training.fit_examples(
            small(), examples, splits.val, config, device=torch.device(device)
        )
        losses.append(torch.tensor([record.train_loss for record in history.records]))
    assert torch.allclose(losses[0], losses[1], rtol=0.02)


def test_attacks_stay_in_the_ball_and_near_the_cpus() -> None:
    images = data.load("digits").test.subset(torch.arange(32))
    x, y = data.to_unit(images.images), images.labels
    attack = attacks.PGD(eps=0.1, steps=3, random_start=False)
    made = attack(small().eval(), x, y)
    there = attack(small().eval().to(DEVICE), x.to(DEVICE), y.to(DEVICE)).cpu()
    assert (there - x).abs().max() <= 0.1 + 1e-6
    assert 0 <= float(there.min()) <= float(there.max()) <= 1
    # Signs of gradients near 0 may differ, and no more than a few.
    assert float((made - there).abs().gt(1e-4).double().mean()) < 0.02


def test_contributions_add_up() -> None:
    net = small().eval().to(DEVICE)
    x = data.to_unit(data.load("digits").test.images[:4]).to(DEVICE)
    with explain.trace(net, x, 0, layers=["auto"]) as traced:
        found = explain.cav(traced)
    for each in found.values():
        assert float(each.residual.abs().max()) < 1e-3


@pytest.mark.parametrize("name", sorted(detectors.TINY))
def test_detectors_learn_and_are_attacked(name: str) -> None:
    images = load_detection("shapes:photo:4?side=64", "train")
    model = detectors.build(f"{name}?side=64&width=16", images.classes, seed=0).to(DEVICE)
    pixels = [data.to_unit(images.image(row)).to(DEVICE) for row in range(4)]
    loss = model.train().losses(pixels, images.truths)
    torch.autograd.backward(loss.total)
    assert torch.isfinite(loss.total)
    made = DetectionAttack(eps=4 / 255, steps=2)(
        model, pixels, images.truths, generator=torch.Generator().manual_seed(0)
    )
    assert all((a - b).abs().max() <= 4 / 255 + 1e-6 for a, b in zip(made, pixels, strict=True))
    assert len(model.eval()(pixels)) == 4
