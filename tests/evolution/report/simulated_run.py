"""A finished run made up in a moment: real genotypes and files, invented measurements."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import torch

from evolution import Genotype, SearchSpace, crossover, mutate, sample
from evolution.protocol.gallery import Gallery, save_gallery
from robustkit.runs import Entry, Ledger, RunFolder
from robustkit.stats import wilson

SPACE = SearchSpace(min_blocks=2, max_blocks=6)
RATES = {"R2": 0.97, "Rp": 0.62, "E": 0.2, "E0": 0.45, "RS": 0.3}
IMAGES, COMMON = 400, 300


def make_run(
    path: Path,
    *,
    population: int = 4,
    generations: int = 3,
    channels: int = 3,
    seeds: int = 2,
    failures: int = 2,
    shown: int = 3,
    winner: int | None = None,
    seed: int = 0,
    summary: dict[str, Any] | None = None,
) -> RunFolder:
    """A finished run of `population` × `generations` candidates in each search.

    The first `failures` candidates of the second generation of the evolution fail; `winner` is the
    number of the candidate that became E, the last one unless it is given; `summary` replaces
    entries of the summary.
    """
    config = {
        "data": "cifar10",
        "population": population,
        "generations": generations,
        "final_seeds": seeds,
        "eps": 8 / 255,
    }
    command = ["robustkit", "evolve", "--data", "cifar10", "--out", "a folder"]
    folder = RunFolder.create(path, command="evolve", config=config, argv=command)
    total = population * generations
    winner = total - 1 if winner is None else winner
    rng = random.Random(seed)
    with Ledger.create(folder.file("ledger.sqlite")) as ledger:
        searched = _search(rng, population, generations, failures, winner)
        for trial in [*searched, *_trainings(seeds)]:
            ledger.record(trial)
    save_gallery(_gallery(channels, shown), folder.file("gallery.safetensors"))
    folder.write_summary(_summary(searched, seeds, winner) | (summary or {}))
    return folder


def rate(value: float | None, n: int = COMMON) -> dict[str, Any]:
    """A rate as the summary has it; None for one over no image."""
    return wilson(0.0 if value is None else value, 0 if value is None else n).to_json()


def net(name: str, seeds: int, value: float | None) -> dict[str, Any]:
    """A net's entry in the summary; `value` is its transfer from R, None for no common images."""
    entry: dict[str, Any] = {
        "clean_acc": 0.7,
        "clean_acc_by_seed": [0.7] * seeds,
        "whitebox_acc": 0.0,
        "cos_mean": 0.1,
        "cos_abs_mean": 0.12,
        "grad_norm_mean": 0.8,
        "zero_gradients": 0.0,
        "params": 90_000,
        "macs": 2_500_000,
        "seeds": seeds,
    }
    if name == "R":
        return entry | {"seeds": 1}
    three = {"headline": rate(value), "fooling": rate(value, 290), "all": rate(value, IMAGES)}
    flipped = {"headline": rate(0.0), "fooling": rate(None), "all": rate(0.01, IMAGES)}
    return entry | {
        "transfer_from_R": three,
        "transfer_from_R_flipped": flipped,
        "transfer_from_surrogate": three,
        "transfer_to_R": three,
    }


def without_control() -> dict[str, Any]:
    """Entries of a summary whose R was given and cannot be built again."""
    reason = "nets.py:make gives the same weights under any seed"
    nets = {"R": net("R", 1, None)} | {
        name: net(name, 2, RATES[name]) for name in ("E", "E0", "RS")
    }
    given = {"given": True, "validation_images": 500, "published": {"accuracy": 0.7, "on": "CIFAR"}}
    return {
        "nets": nets,
        "gap": None,
        "penalty_gap": {"points": 25.0, "low": 20.0, "high": 30.0, "p_value": 1e-9, "n": COMMON},
        "left_out": {"R2": reason, "Rp": reason},
        "warnings": [],
        "baseline": {},
        "reference": {"accuracy": 0.68, "fooled": 0.99, "notes": ["taken as trained"], **given},
    }


def _search(
    rng: random.Random, population: int, generations: int, failures: int, winner: int
) -> list[Entry]:
    trials = []
    for arm in ("evolve", "random"):
        known: list[Genotype] = []
        for number in range(population * generations):
            generation = number // population
            bred = arm == "evolve" and generation > 0
            parents: list[int] = []
            genotype, operator = sample(rng, SPACE), "sample"
            if bred:
                born = range((generation - 1) * population, generation * population)
                parents = rng.sample(born, 2 - number % 2)
                genotype, operator = _child(rng, [known[each] for each in parents])
            known.append(genotype)
            failed = bred and number != winner and number - population < failures
            trials.append(_trial(rng, arm, number, genotype, parents, operator, generation, failed))
    return trials


def _child(rng: random.Random, parents: list[Genotype]) -> tuple[Genotype, str]:
    names: tuple[str, ...] = ()
    child = parents[0]
    if len(parents) > 1:
        child, names = crossover(parents[0], parents[1], rng, SPACE), ("crossover",)
    child, mutations = mutate(child, rng, SPACE)
    return child, "+".join((*names, *mutations))


def _trial(
    rng: random.Random,
    arm: str,
    number: int,
    genotype: Genotype,
    parents: list[int],
    operator: str,
    generation: int,
    failed: bool,
) -> Entry:
    payload = {
        "genotype": genotype.to_dict(),
        "genotype_key": genotype.key(),
        "number": number,
        "parents": parents,
        "operator": operator,
        "generation": generation,
        "rung": 0,
    }
    learnt = rng.random() > 0.1
    result = {
        "accuracy": 0.5 + 0.02 * generation + 0.1 * rng.random() if learnt else 0.12,
        "transfer": 0.75 - 0.05 * generation - 0.3 * rng.random(),
        "transfer_n": 900,
        "cos": 0.1,
        "cos_abs": 0.05 + 0.2 * rng.random(),
        "grad_norm": 1.0,
        "params": rng.randrange(10_000, 300_000),
        "macs": rng.randrange(300_000, 8_000_000),
        "curves": {"train_loss": [2.0, 1.0], "val_acc": [0.3, 0.5], "penalty": [0.1, 0.05]},
    }
    return Entry(
        id=f"{arm}/{number:04d}",
        stage=arm,
        key=f"{genotype.key()}/0",
        payload=payload,
        outcome="Diverged" if failed else "Ok",
        reason="the loss is <NaN> in epoch 2" if failed else "",
        result=None if failed else result,
        seconds=12.0,
    )


def _trainings(seeds: int) -> list[Entry]:
    names = ["reference/R", "reference/S"]
    names += [f"final/{role}-{each}" for role in RATES for each in range(seeds)]
    names += ["judge/R"]
    trials = []
    for place, name in enumerate(names):
        penalised = any(role in name for role in ("Rp", "E-", "RS"))
        steps = [1 / (epoch + 1 + 0.1 * place) for epoch in range(6)]
        curves = {
            "train_loss": steps,
            "penalty": [0.1 * each for each in steps] if penalised else [None] * 6,
            "val_acc": [None] * 6 if name.startswith("final") else [1 - each for each in steps],
        }
        result = {"curves": curves, "params": 90_000, "macs": 2_500_000}
        if name.startswith("judge"):
            result |= {"clean_acc": 0.7, "whitebox_acc": 0.0}
        arm = name.split("/")[0]
        trials.append(Entry(id=name, stage=arm, key=name, payload={}, outcome="Ok", result=result))
    return trials


def _gallery(channels: int, shown: int) -> Gallery:
    generator = torch.Generator().manual_seed(0)
    shape = (shown, channels, 16, 16)
    clean = torch.rand(shape, generator=generator)
    step = (torch.rand(shape, generator=generator) - 0.5).sign() * 8 / 255
    gradients = torch.randn((3, *shape), generator=generator)
    if shown:
        gradients[1, 0] = 0.0  # a net whose gradient vanished
    labels = torch.arange(shown)
    return Gallery(
        index=labels + 100,
        labels=labels,
        clean=clean,
        adversarial=(clean + step).clamp(0, 1),
        predicted=labels.repeat(3, 1),
        predicted_adversarial=torch.stack([labels + 1, labels + 1, labels]),
        gradients=gradients,
    )


def _summary(searched: list[Entry], seeds: int, winner: int) -> dict[str, Any]:
    trials = {trial.id: trial for trial in searched}
    baseline = {"accuracy": 0.55, "cos_abs": 0.3, "transfer_n": 950, "params": 58_314}
    return {
        "trials": len(searched),
        "trials_from_cache": 0,
        "nets": {"R": net("R", 1, None)}
        | {name: net(name, seeds, value) for name, value in RATES.items()},
        "gap": {"points": 42.0, "low": 36.5, "high": 47.5, "p_value": 1e-9, "n": COMMON},
        "search_gap": {"points": 6.0, "low": 1.5, "high": 10.5, "p_value": 0.01, "n": COMMON},
        "common_images": COMMON,
        "test_images": IMAGES,
        "data": "cifar10",
        "data_digest": "0123abcd",
        "reference": {"gradients": 5000, "masked": 0, "accuracy": 0.68, "fooled": 0.99},
        "baseline": {
            "R2": baseline | {"transfer": 0.95, "macs": 1_800_000},
            "Rp": baseline | {"transfer": 0.65, "macs": 1_800_000},
        },
        "selection": {
            "E": _choice(trials[f"evolve/{winner:04d}"]),
            "E0": _choice(trials[f"evolve/{winner:04d}"]),
            "RS": _choice(trials["random/0001"]),
        },
        "failed_finalists": [],
        "seconds": {"search": 300.0, "finalists": 100.0, "wall": 260.0},
    }


def _choice(trial: Entry) -> dict[str, Any]:
    names = ("accuracy", "transfer", "cos_abs", "params", "macs")
    return {
        "number": trial.payload["number"],
        "key": trial.payload["genotype_key"],
        "rule": "the least transfer among those accurate enough",
        "considered": 2,
        "validation": {name: (trial.result or {})[name] for name in names},
    }
