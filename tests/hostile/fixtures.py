"""A finished run of every kind, the smallest that has every part: where strangers' begin."""

from __future__ import annotations

import fcntl
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import yaml

from robustkit.cli.main import main
from tests.adaptation.commands.runs import SMALL
from tests.evolution.protocol.runs import INLINE, TINY

STUDY = Path(__file__).parents[2] / "experiments" / "results" / "digit-shift" / "summary.json"
_PLAIN = ["--device", "cpu"]
_FEW = ["--data", "digits", "--test-size", "60", *_PLAIN]


def made(runs: Path, kind: str) -> Path:
    """The folder of the run `kind`, made where it is missing; several processes may ask for it."""
    out = runs / kind
    if not out.exists():
        with (runs / f".{kind}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not out.exists():
                temporary = runs / f".{kind}"
                shutil.rmtree(temporary, ignore_errors=True)
                KINDS[kind](runs, temporary)
                temporary.rename(out)
    return out


def _run(*arguments: str | Path) -> None:
    code = main([str(each) for each in arguments])
    assert code == 0, arguments


def _train(runs: Path, out: Path) -> None:
    flags = ["--data", "digits", "--model", "vgg3?width=8", "--epochs", "2", "--lr", "0.01"]
    flags += ["--schedule", "constant", "--warmup", "0", "--seed", "0", *_PLAIN]
    _run("train", *flags, "--out", out)


def _model(runs: Path) -> str:
    return str(made(runs, "train") / "model.safetensors")


def _evolve(runs: Path, out: Path) -> None:
    _run("evolve", *TINY, *INLINE, "--out", out)


def _attack(runs: Path, out: Path) -> None:
    flags = ["--attack", "fgsm", "--eps", "0.1,0.15", "--probe", "20"]
    _run("attack", "--model", _model(runs), *flags, *_FEW, "--out", out)


def _transfer(runs: Path, out: Path) -> None:
    early = made(runs, "train") / "history" / "epoch_0001.safetensors"
    nets = [f"late={_model(runs)}", f"early={early}"]
    flags = ["--attack", "fgsm", "--eps", "0.15", "--gradients", "20", "--cache", "none"]
    _run("transfer", "--sources", *nets, "--targets", *nets, *flags, *_FEW, "--out", out)


def _cached(runs: Path, out: Path) -> None:
    """A folder with the cache of an evaluation in it."""
    net = _model(runs)
    flags = ["--attack", "fgsm", "--eps", "0.1", "--data", "digits", "--test-size", "20", *_PLAIN]
    nets = ["--sources", f"a={net}", "--targets", f"b={net}", "--gradients", "2"]
    out.mkdir()
    _run("transfer", *nets, *flags, "--cache", out / "cache", "--out", out / "run")


def _repair(runs: Path, out: Path) -> None:
    flags = ["--attack-images", "10", "--iterations", "3", "--on-empty", "grow", *_PLAIN]
    _run("repair", "--run", made(runs, "train"), *flags, "--out", out)


def _explain(runs: Path, out: Path) -> None:
    flags = ["--data", "digits", "--index", "0,5", "--method", "cav,saliency", *_PLAIN]
    _run("explain", "--model", _model(runs), *flags, "--out", out)


def _checkpoints(runs: Path, out: Path) -> None:
    flags = ["--index", "0,5", "--method", "cav,saliency", "--no-check", *_PLAIN]
    _run("explain", "--run", made(runs, "train"), *flags, "--out", out)


def _explain_transfer(runs: Path, out: Path) -> None:
    """A contrast and a masking check, too, of images that fool one net and were to fool another."""
    weak, strong = made(runs, "train") / "history" / "epoch_0001.safetensors", _model(runs)
    nets = ["--sources", f"late={strong}", "--targets", f"early={weak}", "--eps", "0.3"]
    flags = ["--attack", "fgsm", "--gradients", "0", "--no-control", "--cache", "none", *_FEW]
    _run("transfer", *nets, *flags, "--out", out.with_name(".attacked"))
    flags = ["--method", "saliency", "--mask", "0,0,4,4", "--steps", "2", *_PLAIN]
    both = ["--which", "misled", *flags]
    _run("explain", "--transfer", out.with_name(".attacked"), *both, "--out", out)


def _adapt(runs: Path, out: Path) -> None:
    _run("adapt", *SMALL, "--recipe", "source,adversarial", "--seeds", "1", "--out", out)


def _detect(runs: Path, out: Path) -> None:
    flags = ["--data", "shapes:photo:8?side=64", "--attack-images", "4", "--attack-steps", "2"]
    _run("detect", "--model", made(runs, "adapt") / "source-0.safetensors", *flags, "--out", out)


def _shift(runs: Path, out: Path) -> None:
    flags = ["--source", "shapes:photo:12?side=64", "--target", "shapes:clipart:12?side=64"]
    model = made(runs, "adapt") / "source-0.safetensors"
    _run("shift", "--model", model, *flags, "--draws", "10", "--out", out)


def _reproduce(runs: Path, out: Path) -> None:
    """The folder of a committed study, whose summary alone is kept."""
    out.mkdir()
    shutil.copy(STUDY, out)
    (out / "env.json").write_text("{}")
    told = json.loads(STUDY.read_text())
    config = {"name": told["study"], "scale": "small", "seed": 0}
    saved = {"format": 1, "verb": "reproduce", "config": config}
    (out / "config.yaml").write_text(yaml.safe_dump(saved))


KINDS: dict[str, Callable[[Path, Path], None]] = {
    "train": _train,
    "evolve": _evolve,
    "attack": _attack,
    "transfer": _transfer,
    "cached": _cached,
    "repair": _repair,
    "explain": _explain,
    "checkpoints": _checkpoints,
    "explain-transfer": _explain_transfer,
    "adapt": _adapt,
    "detect": _detect,
    "shift": _shift,
    "reproduce": _reproduce,
}
RESUMABLE = ("evolve", "repair", "checkpoints", "adapt", "reproduce")
