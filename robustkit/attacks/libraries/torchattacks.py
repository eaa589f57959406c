"""torchattacks by name.

Its LGV trains copies of the model and attacks those (Gubri et al. 2022).
"""

from __future__ import annotations

import contextlib
import copy
import inspect
import io
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from robustkit.attacks.libraries.base import (
    WHOLE_RANGE,
    LibraryAttack,
    Opened,
    check_signs,
    kinds_of,
    one_line,
)
from robustkit.attacks.norms import NORMS
from robustkit.attacks.parameters import check_parameters
from robustkit.compute import device_of
from robustkit.compute.seeds import isolated_rng
from robustkit.compute.tensorfiles import checksum
from robustkit.data import ImageSet
from robustkit.errors import AttackError, did_you_mean
from robustkit.reading import Json

if TYPE_CHECKING:
    import torchattacks

BATCH = 256  # the paper's
# What was collected last from a model, and from which weights and settings.
_COLLECTED: WeakKeyDictionary[nn.Module, tuple[str, list[nn.Module]]] = WeakKeyDictionary()


def open_lgv(
    kind: type[torchattacks.attack.Attack],
    model: nn.Module,
    images: ImageSet,
    eps: float,
    parameters: Mapping[str, Any],
) -> torchattacks.attack.Attack:
    """Return the attack with its models, collected by training once for the same weights.

    What is collected does not depend on global random states. The model itself stays as it is.
    """
    device = device_of(model)
    apart = copy.deepcopy(model).requires_grad_(True)
    attack = kind(apart, _Loader(images, device), eps=eps, verbose=False, **parameters)
    wanted = f"{checksum(dict(model.state_dict()))} {images.digest()} {sorted(parameters.items())}"
    known, kept = _COLLECTED.get(model, ("", []))
    if known != wanted:
        quiet = io.StringIO()
        with isolated_rng(0), torch.enable_grad(), contextlib.redirect_stderr(quiet):
            attack.collect_models()
        kept = [item.eval().requires_grad_(False) for item in attack.list_models]
        if not kept:
            raise AttackError(
                "torchattacks:LGV collected no model: epochs and nb_models_epoch must be at least 1"
            )
        _COLLECTED[model] = (wanted, kept)
    attack.load_models(list(kept))
    return attack


@dataclass(frozen=True)
class _Loader:
    """Shuffled batches of float images, as a DataLoader gives them."""

    images: ImageSet
    device: torch.device

    def __len__(self) -> int:
        return -(-len(self.images) // BATCH)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        for rows in torch.split(torch.randperm(len(self.images)), BATCH):
            labels = self.images.labels[rows].to(self.device)
            yield self.images.floats(rows).to(self.device), labels


PREFIX = "torchattacks:"
# What `Attack` has itself, or the wrapper sees to.
_OURS = (
    *("self", "model", "norm", "eps", "max_epsilon", "seed", "n_classes", "verbose"),
    *("trainloader", "attack_class", "kwargs"),
)
# Attacks made of others, which take a radius though their signatures do not say so.
_RADIUS = inspect.Parameter("eps", inspect.Parameter.KEYWORD_ONLY, default=8 / 255)
_CONTAINERS = {"LGV": _RADIUS, "MultiAttack": _RADIUS}
# Attacks of the whole l2 ball by their name; those that take a `norm` can do either.
_L2 = ("PGDL2", "PGDRSL2")
# Searches that never ask for a gradient.
GRADIENT_FREE = ("GN", "OnePixel", "Pixle", "SPSA", "Square", "VANILA")


@dataclass(frozen=True, kw_only=True)
class TorchAttack(LibraryAttack):
    """The attack `library_name` of torchattacks; `examples` are what LGV trains on."""

    examples: ImageSet | None = None

    @property
    def name(self) -> str:
        """As on the command line."""
        return PREFIX + self.library_name

    @property
    def version(self) -> str:
        """The library's version."""
        import torchattacks as library

        return str(library.__version__)

    @property
    def gradient_free(self) -> bool:
        """Whether the attack only asks for outputs."""
        if self.library_name == "MultiAttack":
            return all(member.gradient_free for member in _members(self.parameters, 0.0, self.norm))
        return self.library_name in GRADIENT_FREE

    def trained_on(self, images: ImageSet) -> TorchAttack:
        """Return this attack with images to train on, if it is one that trains."""
        return replace(self, examples=images) if self.library_name == "LGV" else self

    def to_dict(self) -> Json:
        """Return name and hyper-parameters as plain values: the attack's identity in caches."""
        trained = {} if self.examples is None else {"examples": self.examples.digest()}
        return {**super().to_dict(), **trained}

    def opened(self, model: nn.Module, classes: int, seed: int) -> Opened:
        """Return the library's attack on a model, aimed if this one is targeted."""
        attack = self._open(model, classes, seed)
        if self.targeted:
            _aim(attack, self.name)
        opened: Opened = attack
        return opened

    def _open(self, model: nn.Module, classes: int, seed: int) -> torchattacks.attack.Attack:
        kind, parameters = find(self.library_name), dict(self.parameters)
        if self.library_name == "LGV":
            if self.examples is None:
                raise AttackError(f"{self.name} trains on images: give them with `trained_on`")
            return open_lgv(kind, model, self.examples, self.eps, parameters)
        if self.library_name == "MultiAttack":
            members = _members(self.parameters, self.eps, self.norm)
            if len(members) < 2:
                raise AttackError(f"{self.name}: name at least two attacks, as in 'PGD+Square'")
            return kind([member._open(model, classes, seed) for member in members])
        known = inspect.signature(kind.__init__).parameters
        offered = {
            "eps": self.eps,
            "max_epsilon": self.eps,
            "norm": {"linf": "Linf", "l2": "L2"}[self.norm],
            "seed": seed,
            "n_classes": classes,
            "verbose": False,
        }
        chosen = {name: value for name, value in offered.items() if name in known}
        try:
            return kind(model, **chosen, **parameters)
        except (TypeError, ValueError, AssertionError, NotImplementedError) as error:
            raise AttackError(f"{self.name}: {one_line(error)}") from error


def find(name: str) -> type[torchattacks.attack.Attack]:
    """Return the library's class of that name; raises `AttackError` with the nearest names."""
    classes = library_attacks()
    if name not in classes:
        raise AttackError(f"torchattacks has no attack '{name}'{did_you_mean(name, classes)}")
    return classes[name]


def library_attacks() -> dict[str, type[torchattacks.attack.Attack]]:
    """Return every attack class of torchattacks by its name."""
    import torchattacks as library  # scipy and half a second; few runs need it

    return {name: getattr(library, name) for name in sorted(library.__all__)}


def make_library_attack(name: str, given: Mapping[str, Any]) -> TorchAttack:
    """Return the attack `name` of torchattacks with the parameters `given`.

    Raises `AttackError` for an unknown name or parameter, a value of another type than the
    signature's default, a norm the attack cannot do, or a target for one that takes none.
    """
    kind = find(name)
    label = PREFIX + name
    signature = inspect.signature(kind.__init__).parameters
    accepted = {key: item for key, item in signature.items() if key not in _OURS}
    kinds = {key: _kinds(kind, item) for key, item in accepted.items()}
    kinds |= {"eps": (float,), "norm": (str,), "targeted": (bool,)}
    check_parameters(label, given, kinds)
    check_signs(label, given, accepted)
    radius = signature.get("eps", signature.get("max_epsilon", _CONTAINERS.get(name)))
    norm = given.get("norm", "l2" if name in _L2 else "linf")
    if norm in NORMS and radius is not None and norm not in _norms(name, signature):
        raise AttackError(f"attack {label} works in {_norms(name, signature)[0]} only, not {norm}")
    parameters = tuple((key, given[key]) for key in accepted if key in given)
    bounded = radius is not None
    if name == "MultiAttack":
        bounded = all(member.bounded for member in _members(parameters, 0.0, norm))
    attack = TorchAttack(
        library_name=name,
        parameters=parameters,
        bounded=bounded,
        eps=given.get("eps", WHOLE_RANGE if radius is None else radius.default),
        norm=norm,
        targeted=given.get("targeted", False),
    )
    _rehearse(attack)
    return attack


def make_autoattack(version: str, given: Mapping[str, Any]) -> TorchAttack:
    """Return AutoAttack (Croce and Hein 2020) in its `version`: standard, plus or rand.

    By torchattacks, as long as the authors' own package is not on the index.
    """
    return make_library_attack("AutoAttack", {"version": version, **given})


def _members(parameters: Iterable[tuple[str, Any]], eps: float, norm: str) -> list[TorchAttack]:
    """Return the attacks of a MultiAttack, named as in "attacks=FGSM+PGD", all within one ball."""
    names = str(dict(parameters).get("attacks", ""))
    if not names:
        raise AttackError(f"{PREFIX}MultiAttack: name its attacks, as in '?attacks=PGD+Square'")
    return [make_library_attack(name, {"eps": eps, "norm": norm}) for name in names.split("+")]


def _norms(name: str, signature: Mapping[str, inspect.Parameter]) -> tuple[str, ...]:
    if "norm" in signature or name == "MultiAttack":
        return ("linf", "l2")
    return ("l2",) if name in _L2 else ("linf",)


def _kinds(kind: type, parameter: inspect.Parameter) -> tuple[type, ...]:
    """Return the types a parameter may have: its default's, or float where it is documented."""
    kinds = kinds_of(parameter)
    if not kinds:
        return (str,) if parameter.name == "attacks" else ()
    documented = re.search(rf"\b{parameter.name} \(([^)]*)\)", kind.__doc__ or "")
    real = kinds == (int,) and documented and documented[1] == "float"
    return (float,) if real else kinds


def _rehearse(attack: TorchAttack) -> None:
    """Find out now, on nothing, whether the attack can be made and aimed."""
    if attack.library_name == "LGV":  # it starts by training, which is no rehearsal
        if attack.targeted:
            raise AttackError(f"{attack.name} has no targeted form")
        return
    opened = attack._open(nn.Linear(1, 2), 2, 0)
    if attack.targeted:
        _aim(opened, attack.name)


def _aim(attack: torchattacks.attack.Attack, name: str) -> None:
    if "targeted" not in attack.supported_mode:
        raise AttackError(f"{name} has no targeted form")
    attack.set_mode_targeted_by_label(quiet=True)
