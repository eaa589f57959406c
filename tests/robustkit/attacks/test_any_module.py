"""Any module from images to logits is a source and a target; what is none is refused in a line."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from robustkit.attacks import FGSM, PGD, Ensemble, Store, craft, make, predict
from robustkit.attacks.predictions import source_digest
from robustkit.data import ImageSet
from robustkit.errors import AttackError, DataError, ModelError, RobustkitError
from robustkit.evaluation.diagnosis import diagnose
from robustkit.evaluation.gradient_similarity import gradient_pairs, input_gradients
from robustkit.evaluation.robustness import worst_case
from robustkit.evaluation.transferability import transfer_matrix
from tests.robustkit.attacks.nets import CLASSES, batch, classifier, smooth_net, striped

IMAGES = striped(12)
SHAPE = IMAGES.shape


def test_a_plain_module_is_source_and_target() -> None:
    nets = {"plain": smooth_net(norm=True), "other": smooth_net(seed=1), "card": classifier()}
    sources = {**nets, "both": Ensemble(list(nets.values()))}
    matrix = transfer_matrix(sources, nets, IMAGES, PGD(eps=0.2, steps=3))
    plain = nets["plain"].eval()
    made = craft(plain, IMAGES, PGD(eps=0.2, steps=3))
    seen = plain(made.images).argmax(1) != IMAGES.labels
    assert matrix.target_fooled["plain", "plain"].tolist() == seen.tolist()
    assert matrix.keys["plain"] == made.key
    assert gradient_pairs(nets, IMAGES).cosine.shape == (3, 3, 12)
    assert worst_case(plain, IMAGES, [FGSM(eps=0.2)]).survivors.shape == (12,)
    diagnose(plain, IMAGES, eps=0.2)


class Scaled(nn.Module):
    """A net whose logits depend on a number that is no weight."""

    def __init__(self, net: nn.Module, factor: float) -> None:
        super().__init__()
        self.net, self.factor = net, factor

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.net(images) * self.factor
        return logits


class Renamed(Scaled):
    """The same, by another name."""


def test_a_modules_digest_tells_weights_code_and_kind() -> None:
    net = smooth_net()
    others = [net, smooth_net(seed=1), Scaled(net, 2.0), Scaled(net, 3.0), Renamed(net, 2.0)]
    digests = [source_digest(each, SHAPE) for each in others]
    assert len(set(digests)) == len(others)
    assert source_digest(smooth_net(), SHAPE) == digests[0]


def test_a_digest_depends_on_nothing_else() -> None:
    random = Scaled(smooth_net(norm=True), 2.0)
    random.register_forward_hook(lambda module, given, made: made + torch.randn_like(made))
    first = source_digest(random.train(), SHAPE)
    torch.manual_seed(99)
    before = torch.get_num_threads()
    assert source_digest(random.eval(), SHAPE) == first
    assert torch.get_num_threads() == before


def test_a_classifiers_digest_is_that_of_its_file() -> None:
    from robustkit import models

    net = classifier()
    assert source_digest(net, SHAPE) == models.digest(net)


class Gives(nn.Module):
    """Whatever is made of a net's logits."""

    def __init__(self, change: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.net, self.change = smooth_net(), change

    def forward(self, images: Tensor) -> Any:
        return self.change(self.net(images))


USES: dict[str, Callable[[nn.Module], Any]] = {
    "craft": lambda net: craft(net, IMAGES, FGSM()),
    "transfer": lambda net: transfer_matrix({"a": smooth_net()}, {"b": net}, IMAGES, FGSM()),
    "worst case": lambda net: worst_case(net, IMAGES, [FGSM()]),
    "diagnose": lambda net: diagnose(net, IMAGES, eps=0.1),
    "pairs": lambda net: gradient_pairs({"a": smooth_net(), "b": net}, IMAGES),
}


@pytest.mark.parametrize("use", USES.values(), ids=USES)
@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda z: (z, z), ModelError, r"Gives: must give float logits .* images, not tuple"),
        (lambda z: {"out": z}, ModelError, "must give float logits .* images, not dict"),
        (lambda z: z[:, :, None], ModelError, r"not float32 \(\d+, 3, 1\)"),
        (lambda z: z.argmax(1), ModelError, r"not int64 \(\d+,\)"),
        (lambda z: torch.cat([z, z]), ModelError, r"must give float logits \((\d+),K\) of \1 im"),
        (lambda z: z / 0 * 0, ModelError, "NaN"),
        (lambda z: z[:, :2], DataError, r"labels reach 2, but Gives gives 2 logits: .* \[0, 1\]"),
    ],
)
def test_what_gives_no_logits_is_refused_in_a_line(
    use: Callable[[nn.Module], Any],
    change: Callable[[Tensor], Any],
    error: type[RobustkitError],
    message: str,
) -> None:
    with pytest.raises(error, match=message) as caught:
        use(Gives(change).eval())
    assert "\n" not in str(caught.value)


def test_gradient_attacks_need_a_gradient() -> None:
    net = Gives(lambda z: z.detach()).eval()
    for use in (lambda: craft(net, IMAGES, FGSM()), lambda: input_gradients(net, IMAGES)):
        with pytest.raises(ModelError, match="no gradient with respect to the image") as caught:
            use()
        assert "\n" not in str(caught.value)
    craft(net, IMAGES, make("torchattacks:Square?n_queries=2"))


def test_diverged_nets_have_gradients_that_are_not_finite() -> None:
    # What a search asks to find out that a training diverged.
    assert bool(input_gradients(Gives(lambda z: z / 0 * 0).eval(), IMAGES).isnan().all())


class Writes(nn.Module):
    """A net that writes into its images."""

    def __init__(self) -> None:
        super().__init__()
        self.net = smooth_net()

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.net(images.sub_(0.5))
        return logits


def test_a_model_that_writes_into_its_images_reaches_a_copy() -> None:
    images, _ = batch()
    kept = images.clone()
    predict(Writes(), images)
    assert torch.equal(images, kept)


class Shelf(Mapping[str, nn.Module]):
    """Nets that are made when they are asked for, of which one is kept; counts both."""

    def __init__(self, *names: str) -> None:
        self.names = names
        self.loads: list[str] = []
        self.kept: tuple[str, nn.Module] | None = None

    def __getitem__(self, name: str) -> nn.Module:
        if name not in self.names:
            raise KeyError(name)
        if self.kept is None or self.kept[0] != name:
            self.loads.append(name)
            self.kept = (name, smooth_net(seed=self.names.index(name)))
        return self.kept[1]

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def __len__(self) -> int:
        return len(self.names)


@pytest.mark.parametrize("folder", [True, False])
def test_each_net_is_loaded_once_as_a_source_and_once_as_a_target(
    tmp_path: Path, folder: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("robustkit.attacks.cache.SMALL_SETS", 0)
    attack = PGD(eps=0.2, steps=3)
    sources, targets = Shelf("a", "b"), Shelf("c", "b", "a")
    store = Store(tmp_path) if folder else None
    matrix = transfer_matrix(sources, targets, IMAGES, attack, store=store)
    assert (sources.loads, targets.loads) == (["a", "b"], ["c", "b", "a"])
    plain = transfer_matrix(dict(Shelf("a", "b")), dict(Shelf("c", "b", "a")), IMAGES, attack)
    assert list(matrix.target_fooled) == list(plain.target_fooled)
    assert list(matrix.correct) == list(plain.correct) == ["c", "b", "a"]
    assert all(
        matrix.target_fooled[cell].tolist() == plain.target_fooled[cell].tolist()
        for cell in matrix.target_fooled
    )
    shelf = Shelf("a", "b", "c")
    pairs = gradient_pairs(shelf, IMAGES)
    assert shelf.loads == ["a", "b", "c"]
    assert torch.equal(pairs.cosine, gradient_pairs(dict(Shelf("a", "b", "c")), IMAGES).cosine)


def test_a_set_that_was_lost_is_made_again_from_its_source(tmp_path: Path) -> None:
    attack, targets = PGD(eps=0.2, steps=3), Shelf("a", "b")
    transfer_matrix(Shelf("a"), Shelf("a"), IMAGES, attack, store=Store(tmp_path))
    for path in tmp_path.glob("set-*"):
        path.unlink()
    again = transfer_matrix(Shelf("a"), targets, IMAGES, attack, store=Store(tmp_path))
    fresh = transfer_matrix(Shelf("a"), Shelf("a", "b"), IMAGES, attack)
    assert again.target_fooled["a", "b"].tolist() == fresh.target_fooled["a", "b"].tolist()


class Small(nn.Module):
    """A net on a device with room for `limit` images."""

    def __init__(self, limit: int) -> None:
        super().__init__()
        self.net, self.limit = smooth_net(), limit

    def forward(self, images: Tensor) -> Tensor:
        if len(images) > self.limit:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate")
        logits: Tensor = self.net(images)
        return logits


@pytest.mark.parametrize("name", ["pgd", "pgd?norm=l2", "difgsm", "torchattacks:PGD"])
def test_what_does_not_fit_is_computed_in_smaller_batches(name: str) -> None:
    attack = make(name, eps=0.3)
    notes: list[str] = []
    store = Store(None)
    made = craft(Small(5), IMAGES, attack, store=store)
    assert "batch 12 did not fit on cpu; halved to 6" in store.notes
    # torchattacks seeds each batch.
    if not name.startswith("torchattacks"):
        whole = craft(Small(99), IMAGES, attack)
        assert torch.allclose(made.images, whole.images, atol=1e-5)
        few = worst_case(Small(5), IMAGES, [attack], on_note=notes.append)
        many = worst_case(Small(99), IMAGES, [attack])
        assert torch.equal(few.survivors, many.survivors)
    notes.clear()
    assert torch.allclose(
        input_gradients(Small(1), IMAGES, on_note=notes.append),
        input_gradients(Small(99), IMAGES),
        atol=1e-7,
    )
    assert notes[-1] == "batch 3 did not fit on cpu; halved to 1"


def test_notes_of_every_function_reach_the_caller() -> None:
    def heard(use: Callable[..., Any], *given: Any, **options: Any) -> bool:
        notes: list[str] = []
        use(*given, **options, on_note=notes.append)
        return any("halved" in note for note in notes)

    net = Small(5)
    assert heard(predict, net, IMAGES.images)
    assert heard(craft, net, IMAGES, FGSM())
    assert heard(transfer_matrix, {"a": net}, {"a": net}, IMAGES, FGSM())
    assert heard(gradient_pairs, {"a": net}, IMAGES)
    assert heard(diagnose, net, IMAGES, eps=0.1)
    with pytest.warns(RuntimeWarning, match="halved"):
        predict(net, IMAGES.images)


@pytest.mark.parametrize("size", [1, 5, 100])
def test_the_batch_size_is_as_chosen(size: int) -> None:
    seen: list[int] = []
    net = smooth_net()
    net.register_forward_hook(lambda module, given, made: seen.append(len(made)))
    predict(net, IMAGES.images, batch_size=size)
    craft(net, IMAGES, FGSM(), batch_size=size)
    gradient_pairs({"a": net}, IMAGES, batch_size=size)
    worst_case(net, IMAGES, [FGSM()], batch_size=size)
    assert max(seen) == max(min(size, 12), 4)  # four are the probe of the digest
    assert CLASSES == 3


def test_targets_beside_an_untargeted_attack_are_refused_by_the_matrix_too() -> None:
    net, images = smooth_net(), ImageSet(IMAGES.images, IMAGES.labels, IMAGES.classes)
    with pytest.raises(AttackError, match="target labels, but the attack is not targeted"):
        transfer_matrix({"a": net}, {"a": net}, images, FGSM(), target_labels=images.labels)
