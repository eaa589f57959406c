"""Surrogates rewritten while they compute: their gradients against those written by hand."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor, nn

from robustkit.attacks import Ensemble, make
from robustkit.attacks.components.surgery import _Pooling
from robustkit.attacks.components.transformers import without_extreme_pairs, without_extreme_tokens
from robustkit.attacks.rewriting import Call, Kind, Rewritten, rewritten
from robustkit.errors import AttackError
from robustkit.models import build
from robustkit.models.defences import defended
from tests.robustkit.attacks.nets import ascent_of


def seeded(count: int, *shape: int, seed: int = 0) -> Tensor:
    return torch.rand(count, *shape, generator=torch.Generator().manual_seed(seed)).double()


class Residual(nn.Module):
    """Two residual blocks in different spellings, with pooling between them."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.stem = nn.Conv2d(3, 4, 3, padding=1)
            self.first = nn.Sequential(
                nn.Conv2d(4, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 4, 3, padding=1)
            )
            self.second = nn.Conv2d(4, 4, 3, padding=1)
            self.head = nn.Linear(4, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        out = self.first(x)
        out += x
        x = F.max_pool2d(torch.relu(out), 2)
        x = x + self.second(x).relu()
        logits: Tensor = self.head(x.mean((2, 3)))
        return logits


def gradient_of(model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    leaf = images.clone().requires_grad_(True)
    return torch.autograd.grad(F.cross_entropy(model(leaf), labels), leaf)[0]


def operated(component: str, net: nn.Module, images: Tensor, labels: Tensor) -> nn.Module:
    """The model as a component's first step attacks it."""
    attack = make(f"mifgsm+{component}", eps=0.1, steps=1)
    seen: list[nn.Module] = []
    kind = type(attack.components[0])  # type: ignore[attr-defined]
    plain = kind.operated

    def spy(self: object, model: nn.Module, ascent: object) -> nn.Module:
        seen.append(plain(self, model, ascent))
        return seen[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kind, "operated", spy)
        attack(net, images, labels)
    return seen[0]


EXAMPLES = seeded(3, 3, 8, 8), torch.tensor([0, 3, 1])


@pytest.mark.parametrize("name", ["sgm", "linbp?after=0.0", "bpa?after=0.0"])
def test_what_is_computed_stays_and_gradients_do_not(name: str) -> None:
    net = Residual().double()
    model = operated(name, net, *EXAMPLES)
    torch.testing.assert_close(model(EXAMPLES[0]), net(EXAMPLES[0]), atol=1e-12, rtol=0)
    changed, plain = (gradient_of(each, *EXAMPLES) for each in (model, net))
    assert not torch.allclose(changed, plain, rtol=1e-3)


def test_skips_keep_their_gradients_and_branches_lose_theirs() -> None:
    net, gamma = Residual().double(), 0.3
    made = gradient_of(operated(f"sgm?gamma={gamma}", net, *EXAMPLES), *EXAMPLES)

    def damped(branch: Tensor) -> Tensor:
        return gamma * branch + ((1 - gamma) * branch).detach()

    def by_hand(x: Tensor) -> Tensor:
        x = net.stem(x)
        x = F.max_pool2d(torch.relu(x + damped(net.first(x))), 2)
        x = x + damped(net.second(x).relu())
        return net.head(x.mean((2, 3)))  # type: ignore[no-any-return]

    leaf = EXAMPLES[0].clone().requires_grad_(True)
    (expected,) = torch.autograd.grad(F.cross_entropy(by_hand(leaf), EXAMPLES[1]), leaf)
    torch.testing.assert_close(made, expected)


def test_linear_gradients_are_as_long_as_the_true_ones() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        weights = [torch.randn(6, 12).double(), torch.randn(5, 6).double()]

    def net(x: Tensor) -> Tensor:
        return F.linear(torch.relu(F.linear(x.flatten(1), weights[0])), weights[1])

    class Chain(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return net(x)

    images, labels = seeded(4, 3, 2, 2), torch.tensor([0, 1, 2, 3])
    made = gradient_of(operated("linbp?after=0.0", Chain(), images, labels), images, labels)
    for row in range(4):
        hidden = weights[0] @ images[row].flatten()
        logits = weights[1] @ hidden.clamp_min(0)
        slope = weights[1].T @ (logits.softmax(0) - F.one_hot(labels[row], 5)) / 4
        true = slope * (hidden > 0)
        expected = weights[0].T @ (slope * true.norm() / slope.norm())
        torch.testing.assert_close(made[row].flatten(), expected)


def test_relus_of_a_residual_sum_stay() -> None:
    net = Residual().double()
    made = gradient_of(operated("linbp?after=0.0", net, *EXAMPLES), *EXAMPLES)
    kinds: list[bool] = []

    def watch(call: Call) -> Tensor:
        kinds.append(call.options["joined"])
        return call.go(*call.inputs)

    Rewritten(net, ("relu",), watch, "x", EXAMPLES[0][:1])(EXAMPLES[0])
    assert kinds == [False, True, False]
    assert made.isfinite().all()


@pytest.mark.parametrize(("kernel", "stride", "padding"), [(3, 2, 1), (2, 2, 0), (3, 1, 1)])
def test_poolings_gradient_goes_where_softmax_says(kernel: int, stride: int, padding: int) -> None:
    maps = seeded(2, 3, 7, 7).requires_grad_(True)
    pooled = _Pooling.apply(maps, kernel, stride, padding, 10.0)
    torch.testing.assert_close(pooled, F.max_pool2d(maps, kernel, stride, padding))
    weights = seeded(*pooled.shape, seed=1)
    (made,) = torch.autograd.grad((pooled * weights).sum(), maps)
    expected = torch.zeros_like(maps)
    for n, c, i, j in torch.cartesian_prod(*map(torch.arange, pooled.shape)).tolist():
        rows = range(max(i * stride - padding, 0), min(i * stride - padding + kernel, 7))
        columns = range(max(j * stride - padding, 0), min(j * stride - padding + kernel, 7))
        places = [(row, column) for row in rows for column in columns]
        values = torch.stack([maps[n, c, row, column] for row, column in places])
        for (row, column), share in zip(places, (10 * values).softmax(0), strict=True):
            expected[n, c, row, column] += share * weights[n, c, i, j]
    torch.testing.assert_close(made, expected.detach())


def test_a_relus_gradient_is_that_of_silu_behind_its_share() -> None:
    class Two(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            first = torch.relu(x.flatten(1) - 0.5)
            return F.relu(first @ torch.eye(3).double() * 2 - 0.7)

    images, labels = seeded(4, 3, 1, 1), torch.tensor([0, 1, 2, 0])
    made = gradient_of(operated("bpa?after=0.5", Two(), images, labels), images, labels)
    leaf = images.clone().requires_grad_(True)
    second = 2 * torch.relu(leaf.flatten(1) - 0.5) - 0.7
    out = F.silu(second)
    logits = out + (torch.relu(second) - out).detach()
    (expected,) = torch.autograd.grad(F.cross_entropy(logits, labels), leaf)
    torch.testing.assert_close(made, expected)


class Repeated(nn.Module):
    """The mean of a net's logits for the image, its mirror image and it upside down."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> Tensor:
        mean: Tensor = (self.net(x) + self.net(x.flip(2)) + self.net(x.flip(3))) / 3
        return mean


@pytest.mark.parametrize("name", ["linbp?after=0.5", "bpa?after=0.5"])
def test_a_net_that_runs_several_times_is_changed_alike_in_each(name: str) -> None:
    layers = [layer for _ in range(4) for layer in (nn.Conv2d(3, 3, 3, padding=1), nn.ReLU())]
    net = nn.Sequential(*layers, nn.Flatten(), nn.Linear(192, 5)).double()
    made = gradient_of(operated(name, Repeated(net), *EXAMPLES), *EXAMPLES)
    expected = gradient_of(Repeated(operated(name, net, *EXAMPLES)), *EXAMPLES)
    torch.testing.assert_close(made, expected)


def test_the_share_is_of_one_vote_of_a_smoothed_net() -> None:
    net = defended(
        build("vgg3", num_classes=3, in_channels=1, image_size=8, seed=0), ["smoothing?votes=3"]
    )
    images, labels = seeded(2, 1, 8, 8).float(), torch.tensor([0, 1])
    shares: list[float] = []

    def watch(call: Call) -> Tensor:
        shares.append(call.after)
        return call.go(*call.inputs)

    rewritten(net.eval(), ("relu",), watch, "x", ascent_of(images, labels, net))(images)
    each = len(shares) // 3
    assert shares == [number / each for number in range(each)] * 3


def test_ghosts_scale_what_skips_each_image_by_its_own() -> None:
    net = Residual().double()
    model = operated("ghost", net, *EXAMPLES)
    outputs = [model(EXAMPLES[0]) for _ in range(2)]
    assert torch.equal(*outputs)  # within a call all is drawn alike
    assert not torch.allclose(outputs[0], net(EXAMPLES[0]), rtol=1e-4)
    still = operated("ghost?skip=0.0", net, *EXAMPLES)
    torch.testing.assert_close(still(EXAMPLES[0]), net(EXAMPLES[0]))
    chain = nn.Sequential(nn.Flatten(), nn.Linear(192, 64), nn.ReLU(), nn.Linear(64, 5)).double()
    dropped = operated("ghost?dropped=0.5", chain, *EXAMPLES)
    assert not torch.allclose(dropped(EXAMPLES[0]), chain(EXAMPLES[0]), rtol=1e-2)


class Attention(nn.Module):
    """A block of a vision transformer; `spelt` says how its attention is."""

    def __init__(self, spelt: str) -> None:
        super().__init__()
        self.spelt = spelt
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.whole = nn.MultiheadAttention(6, 2, batch_first=True)
            self.head = nn.Linear(6, 5)

    def forward(self, x: Tensor) -> Tensor:
        tokens = F.pixel_unshuffle(x, 2)[:, :6].flatten(2).transpose(1, 2)
        if self.spelt == "whole":
            mixed = self.whole(tokens, tokens, tokens, need_weights=False)[0]
        else:
            weight, bias = self.whole.in_proj_weight, self.whole.in_proj_bias
            count = 3 if self.spelt == "apart" else 1
            pieces = zip(weight.chunk(count), bias.chunk(count), strict=True)
            projected = torch.cat([F.linear(tokens, *each) for each in pieces], dim=2)
            q, k, v = projected.reshape(*tokens.shape[:2], 3, 2, 3).permute(2, 0, 3, 1, 4)
            if self.spelt == "fused":
                heads = F.scaled_dot_product_attention(q, k, v)
            else:
                heads = (q @ k.transpose(2, 3) / 3**0.5).softmax(dim=-1) @ v
            mixed = self.whole.out_proj(heads.transpose(1, 2).flatten(2))
        logits: Tensor = self.head((tokens + mixed).mean(dim=1))
        return logits


@pytest.mark.parametrize("name", ["pna", "tgr"])
def test_attention_is_known_however_it_is_spelt(name: str) -> None:
    found = []
    for spelt in ("whole", "fused", "softmax", "apart"):
        net = Attention(spelt).double().eval()
        model = operated(name, net, *EXAMPLES)
        torch.testing.assert_close(model(EXAMPLES[0]), net(EXAMPLES[0]), atol=1e-12, rtol=0)
        found.append(gradient_of(model, *EXAMPLES))
        assert not torch.allclose(found[-1], gradient_of(net, *EXAMPLES), rtol=1e-3)
    torch.testing.assert_close(found[0], found[1])
    torch.testing.assert_close(found[1], found[2])
    torch.testing.assert_close(found[2], found[3])


class Encoder(nn.Module):
    """A transformer whose tokens (T,N,d) or (N,T,d) have the same weights."""

    def __init__(self, first: bool) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.embed, self.head = nn.Linear(12, 8), nn.Linear(8, 5)
            self.whole = nn.MultiheadAttention(8, 2, batch_first=first)
            self.wide, self.narrow = nn.Linear(8, 32), nn.Linear(32, 8)
        self.first = first

    def forward(self, x: Tensor) -> Tensor:
        tokens = F.pixel_unshuffle(x, 2).flatten(2).transpose(1, 2)
        tokens = self.embed(tokens if self.first else tokens.transpose(0, 1))
        tokens = tokens + self.whole(tokens, tokens, tokens, need_weights=False)[0]
        tokens = tokens + self.narrow(self.wide(tokens).relu())
        logits: Tensor = self.head(tokens.mean(dim=1 if self.first else 0))
        return logits


@pytest.mark.parametrize("count", [1, 4, 16])  # 16 is also the number of tokens
@pytest.mark.parametrize("name", ["tgr", "pna", "sgm", "ghost", "linbp?after=0", "cfm?chance=1"])
def test_tokens_may_come_before_images(name: str, count: int) -> None:
    images, labels = seeded(count, 3, 8, 8, seed=5), torch.arange(count) % 5
    made = []
    for first in (True, False):
        net = Encoder(first).double().eval()
        made.append(make(f"mifgsm+{name}", eps=0.1, steps=2)(net, images, labels))
    torch.testing.assert_close(*made)


def test_no_gradient_passes_attentions_weights() -> None:
    net = Attention("softmax").double().eval()
    made = gradient_of(operated("pna", net, *EXAMPLES), *EXAMPLES)
    plain = torch.Tensor.softmax
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.Tensor, "softmax", lambda self, dim: plain(self, dim).detach())
        expected = gradient_of(net, *EXAMPLES)
    torch.testing.assert_close(made, expected)


def test_extreme_tokens_and_pairs_get_no_gradient() -> None:
    pairs = seeded(2, 3, 4, 5) - 0.5
    made = without_extreme_pairs(pairs)
    for n in range(2):
        for head in range(3):
            kept = pairs[n, head].clone()
            for place in (int(pairs[n, head].argmax()), int(pairs[n, head].argmin())):
                kept[place // 5] = 0
                kept[:, place % 5] = 0
            assert torch.equal(made[n, head], kept)
    tokens = seeded(2, 6, 3) - 0.5
    made = without_extreme_tokens(tokens)
    for n in range(2):
        for channel in range(3):
            kept = tokens[n, :, channel].clone()
            kept[kept.argmax()] = kept[kept.argmin()] = 0
            assert torch.equal(made[n, :, channel], kept)
    assert torch.equal(without_extreme_tokens(tokens.view(2, 2, 3, 3)).view(2, 6, 3), made)


def test_dense_connections_are_skips_and_parallel_branches_are_not() -> None:
    class Dense(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem, self.layer = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 2, 3, padding=1)
            self.wide = nn.Sequential(nn.Conv2d(4, 2, 1), nn.Conv2d(2, 2, 1))
            self.head = nn.Linear(10, 5)

        def forward(self, x: Tensor) -> Tensor:
            x = self.stem(x)
            x = torch.cat([x, self.layer(x)], 1)
            branches = torch.cat([self.layer(x[:, :4]), self.wide(x[:, :4])], 1)
            logits: Tensor = self.head(torch.cat([x, branches], 1).mean((2, 3)))
            return logits

    joins: list[int] = []

    def count(call: Call) -> Tensor:
        joins.append(len(call.inputs))
        return call.go(*call.inputs)

    net = Dense().double()
    leaf = EXAMPLES[0].clone().requires_grad_(True)
    rewriting = Rewritten(net, ("join",), count, "x", leaf[:1])
    torch.testing.assert_close(rewriting(leaf), net(leaf))
    assert joins == [2, 2]  # the stem beside its layer, and what came of both beside branches
    assert rewriting.totals["join"] == 2


@pytest.mark.parametrize(
    ("component", "net", "message"),
    [
        ("pna", Residual(), "pna: this net has no attention: it is for vision transformers"),
        ("tgr", nn.Sequential(nn.Flatten(), nn.ReLU(), nn.Linear(192, 5)), "tgr: this net has no"),
        ("linbp", Attention("fused"), "linbp: this net has no ReLU"),
        ("bpa", Attention("fused"), "bpa: this net has no ReLU"),
        ("sgm", nn.Sequential(nn.Flatten(), nn.Linear(192, 5)), "no residual connection"),
    ],
)
def test_a_net_without_what_a_component_needs_is_refused(
    component: str, net: nn.Module, message: str
) -> None:
    with pytest.raises(AttackError, match=message):
        make(f"mifgsm+{component}")(net.double(), *EXAMPLES)


def test_members_of_an_ensemble_are_each_rewritten() -> None:
    both = Ensemble([Residual().double(), Attention("fused").double()])
    kinds: list[str] = []

    def watch(call: Call) -> Tensor:
        kinds.append(call.kind)
        return call.go(*call.inputs)

    model = rewritten(both, ("join",), watch, "x", ascent_of(EXAMPLES[0], EXAMPLES[1], both))
    torch.testing.assert_close(model(EXAMPLES[0]), both(EXAMPLES[0]))
    assert len(kinds) == 3


@pytest.mark.parametrize("name", ["resnet18", "densenet121", "mobilenet_v3_small", "swin_t"])
def test_nets_that_nobody_here_made(name: str) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = getattr(torchvision.models, name)(num_classes=5).eval()
    images, labels = seeded(2, 3, 32, 32).float(), torch.tensor([0, 1])
    joins = {"resnet18": 8, "densenet121": 58, "mobilenet_v3_small": 6, "swin_t": 24}
    model = operated("sgm", net, images, labels)
    torch.testing.assert_close(model(images), net(images))
    assert model.totals["join"] == joins[name]  # type: ignore[index]
    whole = operated("sgm?gamma=1.0", net, images, labels)
    torch.testing.assert_close(
        gradient_of(whole, images, labels), gradient_of(net, images, labels), rtol=1e-3, atol=1e-6
    )
    changed, plain = (gradient_of(each, images, labels).flatten() for each in (model, net))
    assert float(F.cosine_similarity(changed / plain.norm(), plain / plain.norm(), dim=0)) < 0.999


class InPlace(nn.Module):
    """What is written into the very tensor, as a statement of its own."""

    def __init__(self, plain: bool) -> None:
        super().__init__()
        self.plain = plain
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.first, self.second = (nn.Conv2d(3, 3, 3, padding=1) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        out = self.second(self.first(x))
        if self.plain:
            return F.relu(F.relu(out + x) - 0.1).mean((2, 3))
        out.add_(x)
        F.relu_(out)
        out = F.relu(out - 0.1, inplace=True)
        return out.mean((2, 3))


@pytest.mark.parametrize("name", ["sgm?gamma=0.3", "linbp?after=0.0", "bpa?after=0.0", "ghost"])
def test_what_is_written_in_place_is_neither_lost_nor_missed(name: str) -> None:
    images, labels = seeded(3, 3, 8, 8), torch.tensor([0, 1, 2])
    found = []
    for plain in (True, False):
        net = InPlace(plain).double()
        model = operated(name, net, images, labels)
        if name != "ghost":
            torch.testing.assert_close(model(images), net(images))
        found.append(gradient_of(model, images, labels))
    torch.testing.assert_close(*found)
    kinds: tuple[Kind, ...] = (
        "attention",
        "relu",
    )  # of which this net has none, and what it leaves alone

    def leave(call: Call) -> Tensor:
        return call.go(*call.inputs)

    net = InPlace(plain=False).double()
    rewriting = Rewritten(net, kinds, leave, "x", images[:1], first=True)
    torch.testing.assert_close(rewriting(images), net(images))


def test_attention_that_is_not_known_is_refused() -> None:
    class Masked(nn.Module):
        def __init__(self, **given: object) -> None:
            super().__init__()
            self.whole, self.given = nn.MultiheadAttention(3, 1, batch_first=True), given

        def forward(self, x: Tensor) -> Tensor:
            tokens = x.flatten(2).transpose(1, 2)
            mixed, _ = self.whole(tokens, tokens, tokens, **self.given)
            mean: Tensor = mixed.mean(dim=1)
            return mean

    images, labels = torch.rand(2, 3, 4, 4), torch.tensor([0, 1])
    padding = torch.zeros(2, 16).bool()
    for given, message in (
        ({"need_weights": False, "key_padding_mask": padding}, "with masks"),
        ({}, "whose weights are used"),
    ):
        with pytest.raises(AttackError, match=message):
            make("mifgsm+pna", steps=1)(Masked(**given), images, labels)


def test_a_net_that_expands_tokens_but_has_no_attention_is_no_transformer() -> None:
    net = nn.Sequential(
        nn.Flatten(2), nn.Linear(64, 256), nn.GELU(), nn.Flatten(), nn.Linear(768, 5)
    )
    with pytest.raises(AttackError, match="tgr: this net has no attention"):
        make("mifgsm+tgr", steps=1)(net.double(), *EXAMPLES)


def test_a_scripted_net_cannot_be_looked_into() -> None:
    net = torch.jit.script(nn.Sequential(nn.Flatten(), nn.ReLU(), nn.Linear(192, 5)).double())
    with pytest.raises(AttackError, match="a scripted net cannot be looked into"):
        make("mifgsm+linbp", steps=1)(net, *EXAMPLES)
