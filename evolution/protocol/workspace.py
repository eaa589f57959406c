"""The data, nets, gradients and adversarials that the jobs of a run share.

Every process opens the workspace for itself; whatever is large is memory-mapped, so that
processes share its memory.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from evolution.protocol.config import BEFORE, EvolveConfig
from evolution.protocol.roles import REFERENCE
from robustkit import attacks, evaluation, models, training
from robustkit.cli.parser import config_from
from robustkit.compute import derive_seed, resolve_device
from robustkit.compute.tensorfiles import read_only
from robustkit.data import (
    ImageSet,
    Splits,
    channel_stats,
    fixed_views,
    load,
    map_array,
    packed,
    stratified_sample,
    unpacked,
)
from robustkit.errors import ConfigError, ModelError, RunError
from robustkit.jobs import Executor, cached_per_process, shared
from robustkit.models.classifier import matched
from robustkit.reading import check_plain_folder, typed_path
from robustkit.runs import RunFolder
from robustkit.training.penalty_views import NOISES, noisy_views

SCRATCH = "scratch"  # needed until the run has ended, then removed


class Workspace:
    """The data of one run, and the nets and adversarials that its jobs have computed so far."""

    def __init__(self, folder: RunFolder, scratch: Path | str | None = None) -> None:
        self.folder = folder
        self.config = config_from(EvolveConfig, {**BEFORE, **folder.config})
        self.device = resolve_device(folder.config["device"])
        self.scratch = scratch_of(folder.path) if scratch is None else Path(scratch)
        self._adversarials: dict[str, attacks.AdversarialSet] = {}

    @cached_property
    def splits(self) -> Splits:
        """Return train, val and test; test is cut to `test_size` images, classes kept even."""
        sent = shared(self._name("splits"))
        return unpacked(sent) if sent else load_splits(self.folder.config, self.config)

    def share_images(self, executor: Executor) -> None:
        """Give the workers the images and their views, so that none has to load them."""
        executor.share(self._name("splits"), lambda: packed(self.splits))
        executor.share(str(self.scratch / "views.npy"), self.views.numpy)
        if self.config.penalty_views != "clean":
            executor.share(str(self.scratch / "penalty-views.npy"), self.penalty_views.numpy)

    def share_gradients(self, executor: Executor) -> None:
        """Give the workers the references' gradients, once they have been computed."""
        for name, gradients in zip(self.config.references, self.reference_gradients, strict=True):
            executor.share(self._gradients_name(name), partial(_arrays, gradients))

    def _gradients_name(self, name: str) -> str:
        return self._name("gradients" if name == REFERENCE else f"gradients of {name}")

    def _name(self, item: str) -> str:
        return f"{self.folder.path.resolve()}/{item}"

    @cached_property
    def pool(self) -> ImageSet:
        """Train and val in one set, in this order: what final training uses."""
        train, val = self.splits.train, self.splits.val
        return ImageSet(
            torch.cat([train.images, val.images]),
            torch.cat([train.labels, val.labels]),
            train.classes,
        )

    @cached_property
    def stats(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Return mean and standard deviation of the training split's channels, in [0,1] units."""
        return channel_stats(self.splits.train)

    @cached_property
    def views(self) -> Tensor:
        """Return fixed views of the pool, uint8 (K,N,C,H,W)."""
        path, config = self.scratch / "views.npy", self.config
        if not path.is_file() and shared(str(path)) is None:
            seed = derive_seed(config.seed, "views")
            return fixed_views(self.pool.images, config.views, config.augment, seed, out=path)
        return _map_views(path, (config.views, *self.pool.images.shape))

    @cached_property
    def penalty_views(self) -> Tensor:
        """Return the views with the penalty's noise, uint8 (K,N,C,H,W): `views` where clean."""
        path, kind = self.scratch / "penalty-views.npy", self.config.penalty_views
        if kind == "clean":
            return self.views
        if not path.is_file() and shared(str(path)) is None:
            seed = derive_seed(self.config.seed, "penalty views")
            return noisy_views(self.views, kind, eps=self.config.eps, seed=seed, out=path)
        count = len(NOISES[kind]) * self.config.views
        return _map_views(path, (count, *self.pool.images.shape))

    @cached_property
    def reference_gradients(self) -> tuple[training.ReferenceGradients, ...]:
        """Return unit gradients of every reference on `penalty_views`, (K,N,C,H,W) each.

        Computed the first time, mapped from then on.
        """
        return tuple(self._gradients_of(name) for name in self.config.references)

    def _gradients_of(self, name: str) -> training.ReferenceGradients:
        sent = shared(self._gradients_name(name))
        if sent is not None:
            return training.ReferenceGradients(*map(read_only, sent))
        return training.cached_reference(
            self.net(name),
            self.penalty_views,
            self.pool.labels,
            self.scratch,
            self.config.grad_loss,
        )

    def examples(self, part: str, *, penalised: bool) -> training.Examples:
        """Return what a net trains on: `part` "trial", "train" (the split) or "all" (with val)."""
        references = self.reference_gradients if penalised else ()
        views = self.penalty_views if penalised else self.views
        everything = training.Examples(views, self.pool.labels, references)
        if part == "all":
            return everything
        count = len(self.splits.train)
        size = self.config.train_size
        if part == "train" or size is None:
            return everything.subset(torch.arange(count))
        chosen = stratified_sample(
            self.splits.train.labels, size, derive_seed(self.config.seed, "trial images")
        )
        return everything.subset(chosen)

    def net(self, name: str) -> models.Classifier:
        """Return the trained net called `name`, on the run's device."""
        # The architecture may be the user's own function: naming it for this run was consent.
        net = models.load(self.net_path(name), allow_code=True)
        # A file keeps its own order of classes; a given R's may differ from the data's.
        splits = self.splits
        return matched(net, splits.train.classes, name, splits.name).to(self.device)

    def net_path(self, name: str) -> Path:
        """Return where the net called `name` is kept."""
        return self.folder.file("nets") / f"{name}.safetensors"

    def inherited(self, name: str) -> models.Classifier:
        """Return a trained parent whose weights were kept for its children.

        Raises `RunError` where they are gone: they are no result, but nothing makes them again.
        """
        try:
            return models.load(self._weights_path(name))
        except ModelError as error:
            raise RunError(
                f"the weights that a candidate is to inherit are gone ({error}); go on with the "
                "--scratch they were left in, or start the run anew"
            ) from None

    def keep_for_children(self, name: str, net: models.Classifier) -> None:
        """Keep the weights of a trained candidate for its children, until the run has ended."""
        path = self._weights_path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        models.save(net, path)

    def _weights_path(self, name: str) -> Path:
        return self.scratch / "heirlooms" / f"{name}.safetensors"

    def adversarials(self, source: str, split: str, *, flipped: bool) -> attacks.AdversarialSet:
        """Return adversarials of the net `source` on val or test, crafted once and kept on disk.

        Those of references and surrogates, which every net is evaluated on, stay in memory.
        """
        name = f"{source}/{split}/{flipped}"
        if name in self._adversarials:
            return self._adversarials[name]
        adversarials = attacks.craft(
            self.net(source),
            self.splits.val if split == "val" else self.splits.test,
            self.config.make_attack(flipped=flipped),
            seed=derive_seed(self.config.seed, "craft", split),
            store=attacks.Store(self.scratch / "adversarials"),
        )
        if source in (*self.config.references, *self.config.surrogates):
            self._adversarials[name] = adversarials
        return adversarials

    def clear_scratch(self) -> None:
        """Remove what a finished run does not need: gradients, views, adversarials, weights."""
        shutil.rmtree(self.scratch)
        # Of an earlier session that was started without `--scratch`.
        shutil.rmtree(scratch_of(self.folder.path), ignore_errors=True)

    @cached_property
    def reference_val_gradients(self) -> tuple[Tensor, ...]:
        """Return every reference's input gradients on `val_sample`, float32 (n,C,H,W) each."""
        return tuple(
            evaluation.input_gradients(self.net(name), self.val_sample, self.config.grad_loss)
            for name in self.config.references
        )

    @cached_property
    def val_sample(self) -> ImageSet:
        """Return the images of val on which trials measure cosines: enough for a mean."""
        return self.splits.val.subset(torch.arange(min(500, len(self.splits.val))))


def _map_views(path: Path, shape: tuple[int, ...]) -> Tensor:
    """Map kept views; raises `RunError` unless they are uint8 of this shape (K,N,C,H,W)."""
    views = map_array(path)
    if views.shape != shape or views.dtype != torch.uint8:
        raise RunError(
            f"{path} holds {views.dtype} {tuple(views.shape)}, not uint8 {shape}; delete it"
        )
    return views


def _arrays(gradients: training.ReferenceGradients) -> tuple[Any, Any]:
    return gradients.directions.numpy(), gradients.norms.numpy()


def scratch_of(run: Path, below: Path | None = None) -> Path:
    """Return where the run in the folder `run` keeps its scratch: in it, or in `below`.

    In the latter its name has a hash of the run's path, so that runs share no scratch.
    """
    if below is None:
        return run.resolve() / SCRATCH
    path_hash = hashlib.sha256(os.fsencode(run.resolve())).hexdigest()[:12]
    return below.resolve() / f"{run.resolve().name}-{SCRATCH}-{path_hash}"


def check_scratch(folder: str | None) -> Path | None:
    """Return the folder that `--scratch` names; raises `ConfigError` if it is not writable."""
    if folder is None:
        return None
    path = typed_path(folder, error=ConfigError)
    if not path.is_dir():
        reason = "not a folder" if os.path.lexists(path) else "no such folder; make it first"
        raise ConfigError(f"--scratch: {path}: {reason}")
    if not os.access(path, os.R_OK | os.W_OK | os.X_OK):
        raise ConfigError(f"--scratch: {path}: nothing can be written there")
    return path


def make_scratch(path: Path) -> None:
    """Make the folder of a run's scratch, or go on with the one that it made.

    Raises `RunError` where something else is in its place, such as a link that others put there.
    """
    try:
        path.mkdir(exist_ok=True)
        status = path.lstat()
    except OSError as error:
        raise RunError(f"{path}: {error.strerror}") from None
    # In a folder that everybody may write to, somebody else may have made one beforehand.
    if not stat.S_ISDIR(status.st_mode) or (path.name != SCRATCH and status.st_uid != os.geteuid()):
        raise RunError(f"{path}: not this run's own folder; remove it, or name another --scratch")
    check_plain_folder(path, error=RunError)


def load_splits(options: dict[str, object], config: EvolveConfig) -> Splits:
    """Return the splits that a run's options name, the test split cut to `test_size`."""
    splits = load(
        str(options["data"]),
        root=options["root"],  # type: ignore[arg-type]
        download=bool(options["download"]),
        seed=config.seed,
    )
    if config.train_size is not None:
        # Checked here, before there is a run folder, rather than in the first trial.
        stratified_sample(splits.train.labels, config.train_size, 0)
    if config.test_size is None:
        return splits
    chosen = stratified_sample(
        splits.test.labels, config.test_size, derive_seed(config.seed, "test images")
    )
    return Splits(splits.train, splits.val, splits.test.subset(chosen), splits.name)


@cached_per_process(2)
def open_workspace(path: str, scratch: str | None = None) -> Workspace:
    """Return the workspace of the run folder at `path`, one per process."""
    return Workspace(RunFolder.open(path), scratch)
