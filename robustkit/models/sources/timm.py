"""timm's classifiers (Wightman 2019): published weights, the Hub's, a user's, or none."""

from __future__ import annotations

import difflib
import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from robustkit.class_names import distinct, imagenet_classes
from robustkit.errors import ConfigError, ModelError
from robustkit.geometry import Geometry, Size
from robustkit.models.fitting import make_fitting
from robustkit.models.preprocessing import Preprocessing
from robustkit.models.sources.base import (
    SOURCES,
    Request,
    SourceNet,
    exchange_head,
    import_quietly,
    make_anywhere,
    need_package,
    size_of,
)
from robustkit.models.weights import cached_download, check_weights, read_checkpoint, read_weights
from robustkit.reading import Json, read_json

_HUB = "hf-hub:"
# What timm itself hands to a net, or what would have it read files: never a card's to say.
_RESERVED = ("num_classes", "features_only", "model_cfg", "feature_cfg", "pretrained_filter_fn")
_CONFIG = ("config.json",)
_TENSORS, _PICKLE = ("model.safetensors", "pytorch_model.bin")


@SOURCES.register("timm")
def open_timm(request: Request) -> SourceNet:
    """Offer `timm:NAME?pretrained=true|FILE`; NAME as timm takes it, `hf-hub:org/name` included.

    Published weights bring their preprocessing (`timm.data.resolve_data_config`) and classes; they
    are read from the Hub's cache (or torch's), or fetched where that is allowed, and timm's own
    loading puts them in. A FILE (`weights=FILE` says the same) is a user's state dict for this
    architecture: of as many classes as the published weights have, it is taken for the same classes
    and preprocessing; of another number, for something trained on pictures as they come, normalised
    by the published statistics. Raises `ModelError`.
    """
    need_package("timm")
    spec = request.spec
    spec.refuse_unknown("pretrained", "weights")
    if len(spec.options) == 2:
        raise ModelError(f"{spec.text}: pretrained and weights say the same; give one of them")
    variant = _variant(request)
    file = spec.options.get("weights", "none")
    if file != "none":
        return _with_file(request, variant, file)
    wanted = spec.options.get("pretrained", "false")
    if wanted.lower() == "false":
        return _fresh(request, variant)
    if wanted.lower() == "true":
        return _with_published(request, variant)
    return _with_file(request, variant, wanted)


def make_timm(
    name: str, num_classes: int, in_channels: int, size: Size, options: Mapping[str, Any]
) -> nn.Module:
    """Return timm's classifier `name` with fresh weights, built with `options` and without network.

    Raises `ModelError` for an unknown name, for options that are not the architecture's, and for
    images that it cannot take.
    """
    need_package("timm")
    where = f"timm:{name}"
    _check_name(name, where)
    _check_options(where, options)
    variant = Variant(name, None, options)
    if torch.empty(0).device.type == "meta":  # only described: not everything runs there
        return variant.make(num_classes, where)
    return make_fitting(
        lambda _: variant.make(num_classes, where), where, num_classes, in_channels, size
    )


@dataclass(frozen=True)
class Variant:
    """One of timm's architectures: its `name`, its pretrained configuration, and what it is built
    with beside the number of classes. `config` None: timm's own for the name."""

    name: str
    config: Any  # timm.models.PretrainedCfg
    options: Mapping[str, Any]

    @property
    def entry(self) -> Json:
        """The architecture on a card."""
        plain = {"family": "timm", "name": self.name}
        return {**plain, "options": dict(self.options)} if self.options else plain

    def make(self, num_classes: int, where: str, **given: Any) -> nn.Module:
        """Return the net; `given` are further arguments of `timm.create_model`."""
        timm = import_quietly("timm")

        options = {
            name: tuple(value) if name == "img_size" and isinstance(value, list) else value
            for name, value in self.options.items()
        }

        def make() -> nn.Module:
            net: nn.Module = timm.create_model(
                self.name,
                num_classes=num_classes,
                pretrained_cfg=self.config,
                **options,
                **given,
            )
            return net

        # A card's options may ask for a net of any size, which must cost nothing to describe.
        known = self.options.keys() <= {"in_chans", "img_size"}
        try:
            return make_anywhere(make, may_move=known)
        except TypeError as error:
            raise ModelError(f"{where}: timm cannot build it ({_line(error)})") from None


def timm_preprocessing(config: Mapping[str, Any], where: str) -> Preprocessing:
    """Return timm's preprocessing in evaluation, for a net of this pretrained configuration.

    Raises `ModelError` for a way of cropping that a `Geometry` cannot say.
    """
    from timm.data import resolve_data_config

    resolved = resolve_data_config(pretrained_cfg=dict(config))
    size = size_of(resolved["input_size"])
    mode = resolved["crop_mode"]
    scaled = tuple(math.floor(side / resolved["crop_pct"]) for side in size)
    if mode not in ("center", "squash") or (mode == "center" and size[0] != size[1]):
        shape = f"{size[0]}x{size[1]}"
        raise ModelError(
            f"{where}: timm crops its pictures ({shape}) in the way '{mode}', which is not "
            "supported; supported are 'center' of squares, and 'squash'"
        )
    filtered = resolved["interpolation"]
    try:
        return Preprocessing(
            mean=tuple(map(float, resolved["mean"])),
            std=tuple(map(float, resolved["std"])),
            input_size=size,
            interpolation=filtered,
            geometry=Geometry(
                size, scaled[0] if mode == "center" else (scaled[0], scaled[1]), filtered
            ),
        )
    except ConfigError as error:
        raise ModelError(f"{where}: {error}") from None


def _variant(request: Request) -> Variant:
    from timm.models import PretrainedCfg, get_pretrained_cfg

    where, name = request.spec.text, request.spec.name.replace("hf_hub:", _HUB)
    if name.startswith(_HUB):
        return _of_hub(request, name.removeprefix(_HUB))
    _check_name(name, where)
    config = get_pretrained_cfg(name)
    if config is None:  # an old name, which timm maps to another
        with torch.device("meta"):
            net: Any = Variant(name, None, {}).make(1, where)
        config = PretrainedCfg(**net.pretrained_cfg)
    return Variant(name, config, {})


def _of_hub(request: Request, hub: str) -> Variant:
    """Return what the Hub's `config.json` describes, without the name that leads there."""
    from timm.models import PretrainedCfg

    where = request.spec.text
    path = _hub_file(hub, _CONFIG, request)
    try:
        held = read_json(path, error=ModelError)
        name, options = str(held["architecture"]), dict(held.get("model_args") or {})
        plain = dict(held["pretrained_cfg"])
        for entry in ("num_classes", "label_names", "label_descriptions"):  # those outside count
            if held.get(entry) is not None:
                plain[entry] = held[entry]
        config = PretrainedCfg(**{**plain, "hf_hub_id": hub, "source": None})
    except KeyError as error:
        raise ModelError(f"{where}: {path} is not timm's (it has no entry {error})") from None
    except (TypeError, ValueError, OSError) as error:
        raise ModelError(f"{where}: {path} is not timm's ({_line(error)})") from None
    _check_name(name, where)
    _check_options(where, options)
    channels, *size = config.input_size
    if channels != 3:
        options.setdefault("in_chans", channels)
    if config.fixed_input_size:
        options.setdefault("img_size", list(size))
    return Variant(name, config, options)


def _fresh(request: Request, variant: Variant) -> SourceNet:
    shape, count = request.wanted_shape(), request.wanted_classes()
    where = request.spec.text
    options = {name: value for name, value in variant.options.items() if name != "in_chans"}
    if shape[0] != 3:
        options["in_chans"] = shape[0]
    fixed = bool(variant.config.fixed_input_size)

    def sized(size: Size) -> Variant:
        size_option = {"img_size": list(size)} if fixed else {}
        return Variant(variant.name, variant.config, options | size_option)

    net = make_fitting(
        lambda size: sized(size).make(count, where), where, count, shape[0], size_of(shape)
    )
    return SourceNet(net, sized(size_of(shape)).entry, num_classes=count)


def _with_published(request: Request, variant: Variant) -> SourceNet:
    where, count = request.spec.text, variant.config.num_classes
    path = _published_file(request, variant.config)
    net = _loaded(variant, read_checkpoint(path), count, path, where)
    preprocessing = timm_preprocessing(variant.config.to_dict(), where)
    return _headed(request, net, variant, count, _class_names(variant.config), preprocessing)


def _with_file(request: Request, variant: Variant, file: str) -> SourceNet:
    where, config = request.spec.text, variant.config
    state = read_weights(file)
    count = _logits_of(variant, state, where)
    net = variant.make(config.num_classes if count is None else count, where)
    try:
        check_weights(net, state, file)
    except ModelError:
        # Published files often need what timm does to their names and shapes.
        net = _loaded(variant, read_checkpoint(file), count or config.num_classes, file, where)
    else:
        net.load_state_dict(state)
    count = count or config.num_classes
    preprocessing = timm_preprocessing(config.to_dict(), where)
    if count == config.num_classes:
        return _headed(request, net, variant, count, _class_names(config), preprocessing)
    size = preprocessing.input_size if config.fixed_input_size else None
    as_they_come = Preprocessing(
        mean=preprocessing.mean,
        std=preprocessing.std,
        input_size=size,
        interpolation=preprocessing.interpolation,
    )
    return _headed(request, net, variant, count, None, as_they_come)


def _loaded(
    variant: Variant, checkpoint: Mapping[str, Any], count: int, path: Path | str, where: str
) -> nn.Module:
    """Return the net with the weights of a checkpoint, loaded by timm's own means."""
    # The checkpoint goes before any place where timm would look for one by itself.
    overlay = {
        "state_dict": dict(checkpoint),
        "source": None,
        "file": None,
        "custom_load": False,
        "num_classes": count,
    }
    try:
        net: Any = variant.make(count, where, pretrained=True, pretrained_cfg_overlay=overlay)
    except ModelError:
        raise
    except Exception as error:  # whatever a filter for other checkpoints trips over
        check_weights(variant.make(count, where), read_weights(path), path)
        raise ModelError(f"{path}: timm cannot load it ({_line(error)})") from None
    net.pretrained_cfg.pop("state_dict", None)
    return net  # type: ignore[no-any-return]


def _headed(
    request: Request,
    net: nn.Module,
    variant: Variant,
    count: int,
    classes: tuple[str, ...] | None,
    preprocessing: Preprocessing,
) -> SourceNet:
    """Return the net with its own head or, to be trained on other classes, a new one."""
    where, wanted = request.spec.text, request.classes
    _check_channels(where, request.shape, preprocessing)
    known = wanted is None or (wanted == classes if classes is not None else len(wanted) == count)
    if known and not count:
        raise ModelError(f"{where}: its weights give features, not logits: they have no classes")
    if wanted is None or known:
        return SourceNet(net, variant.entry, preprocessing, classes, count, trained=True)
    new = exchange_head(
        lambda number: variant.make(number, where),
        net.state_dict(),
        max(count, 1),
        len(wanted),
        where,
    )
    note = f"new head: {count:,} classes of the weights become the data's {len(wanted)}"
    return SourceNet(
        new, variant.entry, preprocessing, None, len(wanted), trained=True, notes=(note,)
    )


def _class_names(config: Any) -> tuple[str, ...] | None:
    """Return the names of the logits: the weights' own, or those of a subset of ImageNet.

    None where the weights have none and no subset has as many classes.
    """
    from timm.data import ImageNetInfo, infer_imagenet_subset

    count, labels = config.num_classes, config.label_names
    if isinstance(labels, Mapping):
        indexed = {int(index): name for index, name in labels.items()}
        labels = [indexed[index] for index in range(count)] if len(indexed) == count else None
    if labels and len(labels) == count and not all(map(_is_wnid, labels)):
        return distinct([str(name) for name in labels])
    if count == 1000:
        return imagenet_classes()
    subset = infer_imagenet_subset({"num_classes": count})
    if subset is None:
        return None
    names = ImageNetInfo(subset).label_descriptions()
    return distinct(names) if len(names) == count else None


def _is_wnid(label: object) -> bool:
    text = str(label)
    return len(text) == 9 and text[0] == "n" and text[1:].isdigit()


def _logits_of(variant: Variant, state: Mapping[str, Tensor], where: str) -> int | None:
    """Return the number of classes of a state dict, from its head; None for other names."""
    with torch.device("meta"):
        one, other = (variant.make(count, where).state_dict() for count in (7, 8))
    for name in one:
        if one[name].shape != other[name].shape and name in state and state[name].dim():
            return int(state[name].shape[0])
    return None


def _published_file(request: Request, config: Any) -> Path:
    """Return the file of published weights, in the Hub's cache or in torch's."""
    where = request.spec.text
    if config.custom_load == "hf":
        raise ModelError(f"{where}: its weights are JAX's; give a state dict: ?pretrained=FILE")
    if config.hf_hub_id:
        return _hub_file(config.hf_hub_id, _hub_names(config.hf_hub_filename), request)
    if config.url:
        return cached_download(config.url, where, download=request.download)
    raise ModelError(f"{where}: timm has no weights for it; give a file: ?pretrained=FILE")


def _hub_names(given: str | None) -> tuple[str, ...]:
    """Return the files that may hold the weights, the safe one first, as timm searches them."""
    name = given or _PICKLE
    if name == _PICKLE:
        return _TENSORS, _PICKLE
    stem = name.removesuffix(".bin")
    if stem == name:
        return (name,)
    safe = "open_clip_model" if stem == "open_clip_pytorch_model" else stem
    return f"{safe}.safetensors", name


def _hub_file(hub: str, names: Sequence[str], request: Request) -> Path:
    """Return the first of the files `names` of `hub`, org/name[@revision], in the Hub's cache.

    Fetched only where that is allowed; raises `ModelError` otherwise.
    """
    from huggingface_hub import constants, hf_hub_download, try_to_load_from_cache
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    where = request.spec.text
    repository, _, revision = hub.partition("@")
    last: Exception | None = None
    fetch: Callable[..., Any] = hf_hub_download if request.download else try_to_load_from_cache
    for look in dict.fromkeys((try_to_load_from_cache, fetch)):
        for name in names:
            try:
                cached = look(repository, name, revision=revision or None)
            except (EntryNotFoundError, OSError, ValueError, RuntimeError) as error:
                last = error
                missing = isinstance(error, EntryNotFoundError)
                if not missing or isinstance(error, LocalEntryNotFoundError):
                    raise ModelError(f"{where}: cannot fetch {name} ({_line(error)})") from None
                continue
            if isinstance(cached, str):
                return Path(cached)
    if last is not None:
        raise ModelError(f"{where}: {repository} has no {' or '.join(names)}")
    instead = "" if names == _CONFIG else ", or name a file: ?pretrained=FILE"
    raise ModelError(
        f"{where}: {names[0]} of {repository} is not in {constants.HF_HUB_CACHE}; allow it to be "
        f"fetched with --download (download=True){instead}"
    )


def _check_name(name: str, where: str) -> None:
    timm = import_quietly("timm")
    from timm.models import is_model, list_pretrained

    bare, _, tag = name.partition(".")
    if not is_model(bare):
        names = timm.list_models()
        near = ", ".join(difflib.get_close_matches(bare, names, n=3, cutoff=0.0))
        raise ModelError(f"{where}: timm has no model '{bare}'; the nearest names are {near}")
    known = [item.partition(".")[2] for item in list_pretrained(f"{bare}.*")]
    if tag and tag not in known:
        near = ", ".join(difflib.get_close_matches(tag, known, n=3, cutoff=0.0)) or "none"
        raise ModelError(f"{where}: {bare} has no weights '{tag}'; the nearest tags are {near}")


def _check_options(where: str, options: Mapping[str, Any]) -> None:
    """Raise `ModelError` for options that would have timm read files or build something else."""
    timm = import_quietly("timm")

    for name in options:
        if name in _RESERVED or name in inspect.signature(timm.create_model).parameters:
            raise ModelError(f"{where}: '{name}' is no option of an architecture")


def _check_channels(
    where: str, shape: tuple[int, int, int] | None, preprocessing: Preprocessing
) -> None:
    """Raise `ModelError` unless pictures of `shape` can be shown to the net; grey ones can."""
    channels = len(preprocessing.mean)
    if shape is not None and shape[0] not in (1, channels):
        raise ModelError(f"{where} takes images of 1 or {channels} channels, not {shape[0]}")


def _line(error: Exception) -> str:
    """Return the message of a library's error in one line of limited length."""
    text = " ".join(str(error).split())
    return text if len(text) <= 160 else f"{text[:160]}…"
