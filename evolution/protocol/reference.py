"""The reference R: trained by the run itself, or given trained and taken as it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Any, NamedTuple, TypedDict

import torch

from evolution.protocol.roles import CONTROLS, REFERENCE
from evolution.protocol.workspace import Workspace
from robustkit import models
from robustkit.attacks import correct, predict
from robustkit.cli.models import fit_to_images, resolve_net
from robustkit.data import Splits, channel_stats
from robustkit.errors import ModelError
from robustkit.evaluation import check_clean
from robustkit.models.resolve import ZOO_NAME, is_file, parse
from robustkit.models.sources.factory import FACTORY
from robustkit.reading import Json
from robustkit.report import format_estimate
from robustkit.runs import read_object
from robustkit.runs.summaries import Published, Result
from robustkit.stats import Rate, wilson


class Reference(Result, frozen=True, kw_only=True):
    """The reference R as known before the run; the content of `reference.json`.

    `given`: it is trained already, and taken as it is. `left_out` says of R2 and Rp why they cannot
    be trained, where they cannot. `published` is the accuracy published with R's weights. `notes`
    are lines for the user.
    """

    given: bool
    notes: list[str]
    left_out: dict[str, str]
    published: Published | None


class LoadedReference(NamedTuple):
    """The net R and its description; where it is not given, R has fresh weights."""

    net: models.Classifier
    reference: Reference


def _reference(
    *,
    given: bool,
    notes: Sequence[str] = (),
    left_out: Mapping[str, str] = MappingProxyType({}),
    published: Published | None = None,
) -> Reference:
    return Reference(given=given, notes=list(notes), left_out=dict(left_out), published=published)


def find_reference(
    spec: str, splits: Splits, *, download: bool = False, trust: Sequence[str] = ()
) -> LoadedReference:
    """Return the reference that `spec` names, for the images of `splits`.

    It is given where `spec` is a model file, names weights, or is a function whose net has the same
    weights under two seeds; everything else is an architecture that the run trains. Raises
    `ModelError` where a given one has other classes than the data, does not take its images, or has
    weights that are not there and must not be fetched (without `download`).
    """
    if is_file(spec):
        net = models.load(spec, num_classes=splits.train.num_classes, trust=trust)
        return _given(net, spec, splits, ())
    parsed = parse(spec)
    built = resolve_net(spec, splits, seed=0, download=download)
    notes: tuple[str, ...] = ()
    if parsed.scheme in (FACTORY, ZOO_NAME):
        trained = "weights" in parsed.options
    else:
        trained = bool(built.card.provenance)  # a source tells where trained weights are from
    if parsed.scheme == FACTORY and not trained:
        again = resolve_net(spec, splits, seed=1, download=download)
        trained = _same(built, again) and not _constant(built)
        if trained:
            notes = (f"{spec} has the same weights under any seed: taken as trained",)
        elif shared := _shared(built, again):
            notes = (f"{shared} of {spec} are the same under any seed: R, R2 and R′ start there",)
    if not trained:
        return LoadedReference(built, _reference(given=False, notes=(*notes, *built.notes)))
    if parsed.scheme != ZOO_NAME:
        # Built to be trained it would have got a new head for the data's classes.
        train = splits.train
        built = models.load(
            spec, input_shape=train.shape, classes=train.classes, download=download, trust=trust
        )
    return _given(built, spec, splits, notes)


def left_out(net: models.Classifier) -> dict[str, str]:
    """Return why R2 and Rp cannot be built without R's weights; {} where they can."""
    reason = _built_again(net)[0]
    return dict.fromkeys(CONTROLS, reason) if reason else {}


def own_preprocessing(
    card: models.Card, splits: Splits, *, given: bool
) -> models.Preprocessing | None:
    """Return the preprocessing to train `card`'s architecture with; None: the data's statistics.

    R's own where R is `given`; else what was asked for beside normalising by the data.
    """
    train, preprocessing = splits.train, card.preprocessing
    mean, std = channel_stats(train)
    usual = models.new_card(card.architecture, train.classes, train.shape, mean, std)
    if preprocessing == usual.preprocessing:
        return None
    if not given and (preprocessing == models.Preprocessing() or card.is_plain):
        return None
    return preprocessing


def measured(net: models.Classifier, splits: Splits) -> Rate:
    """Return the accuracy of `net` on validation, with its interval."""
    right = correct(net, splits.val)
    return wilson(float(right.double().mean()), len(splits.val))


def warnings_about(
    accuracy: Rate, classes: int, published: Published | None = None, name: str = REFERENCE
) -> list[str]:
    """Return warnings about the whole run from a reference's `accuracy` on validation.

    It may be at chance, or ten points below the one that was `published` with its weights.
    """
    published_accuracy = None if published is None else published.accuracy
    return [
        f"{name} is not what it should be: {check.seen}; {check.means} Attacks on it, and what "
        "transfers from it, mean nothing"
        for check in check_clean(accuracy, num_classes=classes, published=published_accuracy)
    ]


def rate_words(rate: Rate) -> str:
    """Return a rate with its interval and n as plain text."""
    return "no image (n = 0)" if rate.value is None else format_estimate(rate, ".1%", with_n=True)


def published_words(published: Published | None) -> str:
    """Return the published accuracy as plain text, empty where there is none."""
    if published is None:
        return ""
    return f"; published: {published}"


def missing_words(missing: Mapping[str, str]) -> str:
    """Return which nets are left out, why, and the claim that falls; empty where none is."""
    reason = missing.get("Rp")
    if reason is None:
        return ""
    return (
        f"R2 and R′ are left out: {reason}. The published claim, "
        "T(R→R′) − T(R→E) > 0, cannot be tested; what remains is E against E0 and RS"
    )


def introduced(
    loaded: LoadedReference, accuracy: Rate, splits: Splits, name: str = REFERENCE
) -> list[str]:
    """Return lines about a given reference, before anything is computed."""
    reference = loaded.reference
    suspect = warnings_about(accuracy, splits.train.num_classes, reference.published, name)
    lines = [f"warning: {warning}" for warning in suspect]
    lines += [f"{name}: {note}" for note in reference.notes]
    published = published_words(reference.published)
    lines.append(
        f"{name}: given trained, right on {rate_words(accuracy)}, of validation{published}"
    )
    missing = missing_words(reference.left_out) if name == REFERENCE else ""
    return [*lines, missing] if missing else lines


def _given(
    net: models.Classifier, spec: str, splits: Splits, notes: tuple[str, ...]
) -> LoadedReference:
    net = fit_to_images(net.eval(), splits.train, spec, splits.name)
    _check_runs(net, spec, splits)
    reason, shared = _built_again(net)
    missing = dict.fromkeys(CONTROLS, reason) if reason else {}
    if shared:
        notes = (*notes, f"{shared} are the same under any seed: R2 and R′ start there")
    published = net.card.published
    return LoadedReference(
        net,
        _reference(given=True, notes=(*notes, *net.notes), left_out=missing, published=published),
    )


def _check_runs(net: models.Classifier, spec: str, splits: Splits) -> None:
    """Raise `ModelError` unless finite logits come of the data's images."""
    shape = "x".join(map(str, splits.train.shape))
    try:
        logits = predict(net, splits.val.images[:8])
    except (ModelError, RuntimeError) as error:
        reason = str(error).partition("\n")[0].removeprefix("model: ")
        raise ModelError(f"{spec}: cannot take the data's images of {shape} ({reason})") from error
    if not bool(torch.isfinite(logits).all()):
        raise ModelError(f"{spec}: its logits are not finite; its training diverged")


def _built_again(net: models.Classifier) -> tuple[str, str]:
    """Return why no net like `net` can have fresh weights, by building two; "" if it can.

    And, where there is one, which weights all such nets have in common, else "".
    """
    try:
        first, second = (models.rebuild(net.card, seed=seed) for seed in (0, 1))
    except ModelError as error:
        return f"R's architecture cannot be built again ({error})", ""
    source = net.card.architecture.get("factory", "what builds R")
    if _same(first, second):  # R's own, or others that are no more by chance
        return (
            f"{source} gives the same weights under any seed, never R's untrained architecture",
            "",
        )
    return "", _shared(first, second)


def _shared(first: models.Classifier, second: models.Classifier) -> str:
    """Return how many weight tensors are equal in both though not constant; empty if none."""
    second_parameters = dict(second.net.named_parameters())
    named = [
        (name, parameter)
        for name, parameter in first.net.named_parameters()
        if parameter.requires_grad
    ]
    equal = [
        parameter
        for name, parameter in named
        if name in second_parameters
        and torch.equal(parameter, second_parameters[name])
        and not _flat(parameter)
    ]
    return f"{len(equal)} of {len(named)} weight tensors" if equal else ""


def _same(first: models.Classifier, second: models.Classifier) -> bool:
    """Return whether two nets have equal state dicts."""
    first_state, second_state = first.net.state_dict(), second.net.state_dict()
    return first_state.keys() == second_state.keys() and all(
        torch.equal(first_state[name], second_state[name]) for name in first_state
    )


def _constant(net: models.Classifier) -> bool:
    """Return whether every weight tensor is constant, as no training leaves them."""
    return all(_flat(parameter) for parameter in net.net.parameters())


def _flat(tensor: torch.Tensor) -> bool:
    return tensor.numel() < 2 or bool((tensor == tensor.reshape(-1)[0]).all())


NOTED = "reference.json"


class Permissions(TypedDict):
    """The permissions to fetch weights and to run functions that files name."""

    download: bool
    trust: Any


class Recipe(NamedTuple):
    """The architecture of a net, as on a card, and its own preprocessing.

    None: it normalises by the statistics of the run's data.
    """

    architecture: Json
    preprocessing: models.Preprocessing | None = None


def open_reference(space: Workspace, name: str = REFERENCE) -> Reference:
    """Return what is known of the reference `name`; copy a given one into the run the first time.

    From then on the copy is the reference, whatever becomes of its source before the run is
    resumed.
    """
    config = space.config
    spec = dict(zip(config.references, config.reference, strict=True))[name]
    noted = space.folder.file(NOTED if name == REFERENCE else f"reference-{name}.json")
    kept_file = space.net_path(name)
    kept_file.parent.mkdir(exist_ok=True)
    if noted.is_file():
        reference = Reference.from_json(read_object(noted), str(noted))
        if kept_file.is_file() or not reference.given:
            return reference
    elif kept_file.is_file():  # of a run that began before there was such a note
        given = is_file(spec)
        missing = left_out(space.net(name)) if given else {}
        return _reference(given=given, left_out=missing)
    loaded = find_reference(spec, space.splits, **_leave(space))
    # The note first: R without it would be taken for one that the run has trained.
    space.folder.write_json(noted.name, loaded.reference.to_json())
    if loaded.reference.given:
        models.save(loaded.net, kept_file)
    return loaded.reference


def architecture(name: str, spec: str, space: Workspace) -> Json:
    """Return the architecture, as on a card, of the kept net `name`, else of the net `spec`."""
    return dict(_card(name, spec, space).architecture)


def recipe(name: str, spec: str, space: Workspace, *, given: bool = False) -> Recipe:
    """Return what the kept net `name`, else the net `spec`, is built of; `given` as of R."""
    card = _card(name, spec, space)
    return Recipe(dict(card.architecture), own_preprocessing(card, space.splits, given=given))


def pooled(built_of: Recipe, space: Workspace) -> Recipe:
    """Return the architecture of `built_of` behind a 2x2 average pool (baseline P).

    Raises `ModelError` where it takes no images of half the size.
    """
    train, (mean, std) = space.splits.train, space.stats
    _, height, width = train.shape
    if min(height, width) < 2:
        raise ModelError(f"images of {height}x{width} have no half")
    before = built_of.preprocessing or models.Preprocessing(mean=mean, std=std)
    if before.input_size not in (None, (height, width)):
        raise ModelError(f"it resizes {height}x{width} images itself")
    if height % 2 or width % 2:
        raise ModelError(f"sides of {height}x{width} pixels are odd")
    behind = replace(before, input_size=(height // 2, width // 2), interpolation="box")
    card = models.Card(
        architecture=built_of.architecture,
        classes=train.classes,
        input_shape=train.shape,
        preprocessing=behind,
    )
    net = models.rebuild(card, seed=0)
    try:
        predict(net, space.splits.val.images[:2])
    except (ModelError, RuntimeError) as error:
        reason = str(error).partition("\n")[0].removeprefix("model: ")
        raise ModelError(reason) from error
    return Recipe(built_of.architecture, behind)


FAMILIES = ("small", "resnet20?width=8", "vgg3", "mobilenet?width=8")


def other_family(space: Workspace, reference: Mapping[str, object]) -> str:
    """Return the architecture of baseline F: the one asked for, else a net of the zoo.

    That is the first of `FAMILIES` that is neither R's, whose architecture `reference` is as on a
    card, nor named as a reference or surrogate: a source of attacks it would be kin to.
    """
    config = space.config
    if config.family is not None:
        return config.family
    taken = {parse(spec).name for spec in (*config.reference, *config.surrogate)}
    taken.add(str(reference.get("name")))
    free = [family for family in FAMILIES if parse(family).name not in taken]
    return free[0] if free else FAMILIES[0]


def _card(name: str, spec: str, space: Workspace) -> models.Card:
    file = space.net_path(name)
    if file.is_file():
        return models.read_card(file)
    height, width = space.splits.train.shape[1:]
    net = resolve_net(spec, space.splits, seed=0, **_leave(space))
    return models.resizing(net, (height, width)).card


def _leave(space: Workspace) -> Permissions:
    """Return the run's permissions to fetch weights and to run functions that files name."""
    settings = space.folder.config
    return {"download": bool(settings["download"]), "trust": settings.get("trust") or ()}
