"""Choose the networks of the benchmark, measure them, and go on where a stopped run left off.

    python -m evolution.benchmark.collect runs/benchmark --workers 2

    python -m evolution.benchmark.collect runs/benchmark --table evolution/benchmark/table.jsonl

The second command writes the table of what has been measured so far.

Networks come in waves of a hundred: sampled ones, random walks from these, and offspring of the
best so far, so that good regions are covered and bad ones are not empty. Every tenth network is
trained three times. A wave depends on the results of the waves before it and on nothing else.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from evolution.benchmark.measure import (
    ARCHITECTURES,
    CLASSES,
    INPUT_SHAPE,
    LAMBDA_LOSS,
    LAMBDAS,
    REFERENCES,
    SEED,
    SPACE,
    Measure,
    Measurement,
    Rung,
    Sets,
    vgg5_genotype,
)
from evolution.benchmark.table import Table, record_of, save_table, setting_of
from evolution.genotype import Candidate, Genotype, Trial
from evolution.objectives import front, parse_objectives
from evolution.runner import Scheduler, Task
from evolution.runner.scheduler import Pending
from evolution.sampling import sample
from evolution.variation import crossover, mutate
from robustkit.compute import derive_seed
from robustkit.errors import RunError
from robustkit.jobs import open_executor
from robustkit.runs import Entry, Ledger

SEED_WIDTHS = (16, 8)  # of the first networks, the reference's architecture
FIRST_WAVE, WAVE = 200, 100
NETWORKS = 2_020  # of the first 2,000 thirteen left the finite numbers in training
REPLICATED = 10  # one network of so many is trained three times
REPLICATES = 3
WALK = (4, 12)  # mutations of a random walk
BRED, SAMPLED = 60, 25  # of a wave; the others are random walks


@dataclass(frozen=True)
class Network:
    """A network of the benchmark and how it was chosen: "seed", "sample", "walk" or "bred".

    `parents` are the numbers of the networks that it was bred from.
    """

    number: int
    genotype: Genotype
    origin: str
    parents: tuple[int, ...] = ()


Known = Sequence[tuple[Network, Measurement | None]]
"""Networks with their measurements, None for a training that failed."""


def architecture_of(genotype: Genotype) -> dict[str, object]:
    """Return the genotype's network as an architecture on a card."""
    return {"family": "blueprint", "blueprint": genotype.blueprint().to_dict()}


def wave(count: int, known: Known) -> Iterator[Network]:
    """Yield the networks of the wave that follows the `count` networks `known`."""
    keys = {network.genotype.key() for network, _ in known}
    size = FIRST_WAVE if count == 0 else WAVE
    fronts = _fronts(known) if count else []
    for number in range(count, min(count + size, NETWORKS)):
        for attempt in range(10_000):
            rng = random.Random(derive_seed(SEED, "benchmark network", number, attempt))
            network = _proposal(number, number - count, rng, fronts)
            key = network.genotype.key()
            if key not in keys and SPACE.fits(network.genotype, INPUT_SHAPE, CLASSES):
                keys.add(key)
                yield network
                break
        else:
            raise RunError(f"no further network was found after {len(keys)}")


def _proposal(
    number: int, place: int, rng: random.Random, fronts: Sequence[Sequence[Network]]
) -> Network:
    if number < len(SEED_WIDTHS):
        return Network(number, vgg5_genotype(SEED_WIDTHS[number]), "seed")
    if fronts and place < BRED:
        return _child(number, rng, rng.choice(fronts))
    genotype = sample(rng, SPACE)
    if not fronts or place < BRED + SAMPLED:
        return Network(number, genotype, "sample")
    for _ in range(rng.randint(*WALK)):
        genotype, _ = mutate(genotype, rng, SPACE)
    return Network(number, genotype, "walk")


def _child(number: int, rng: random.Random, best: Sequence[Network]) -> Network:
    if len(best) == 1 or rng.random() >= 0.4:
        parents = [rng.choice(best)]
        child, _ = mutate(parents[0].genotype, rng, SPACE)
    else:
        parents = rng.sample(best, 2)
        child = crossover(parents[0].genotype, parents[1].genotype, rng, SPACE)
        if rng.random() < 0.5:
            child, _ = mutate(child, rng, SPACE)
    return Network(number, child, "bred", tuple(parent.number for parent in parents))


def _fronts(known: Known) -> list[list[Network]]:
    """Return the Pareto fronts of accuracy, transfer and MACs: one per reference, and the mean's.

    Candidates whose accuracy is below the median are left out: they cost little and transfer
    little, and there are enough of them.
    """
    objectives = parse_objectives("accuracy:max,transfer:min,macs:min")
    measured = [(network, found) for network, found in known if found is not None]
    networks = {network.number: network for network, _ in measured}
    median = statistics.median(found.rungs[-1].accuracy for _, found in measured)
    fronts = []
    for reference in (*range(len(REFERENCES)), None):
        trials = []
        for network, found in measured:
            last = found.rungs[-1]
            if last.accuracy < median:
                continue
            transfer = (
                statistics.mean(last.transfer) if reference is None else last.transfer[reference]
            )
            values = {"accuracy": last.accuracy, "transfer": transfer, "macs": float(found.macs)}
            candidate = Candidate(network.number, network.genotype, (), network.origin, 0)
            trials.append(Trial(candidate, "Ok", values))
        fronts.append([networks[trial.number] for trial in front(trials, objectives)])
    return fronts


class Collection:
    """The collection in `folder`: prepared sets, and a ledger of what was measured."""

    def __init__(self, folder: Path, scheduler: Scheduler) -> None:
        self.folder, self.scheduler = folder, scheduler

    def _task(
        self,
        name: str,
        stage: str,
        architecture: Mapping[str, object],
        lam: float,
        replicate: int,
        **about: object,
    ) -> Task:
        identity = f"{name}/{replicate}"
        sets = str(self.folder / "sets")
        job = Measure(
            id=name, folder=sets, architecture=dict(architecture), lam=lam, replicate=replicate
        )
        payload = {"architecture": dict(architecture), "lam": lam, "replicate": replicate, **about}
        return Task(id=identity, stage=stage, key=identity, job=job, payload=payload)

    async def collect(self) -> None:
        """Choose the penalty's weight, then measure wave after wave."""
        lam = await self._choose_lambda()
        known: list[tuple[Network, Measurement | None]] = []
        count = 0
        while count < NETWORKS:
            networks = list(wave(count, known))
            pending = [(network, self._submit(network, lam)) for network in networks]
            for network, entries in pending:
                first, *_ = [(await entry).result for entry in entries]
                measured = None if first is None else msgspec.convert(first, Measurement)
                known.append((network, measured))
            count += len(networks)

    def _submit(self, network: Network, lam: float) -> list[Pending[Entry]]:
        replicates = REPLICATES if network.number % REPLICATED == 0 else 1
        architecture = architecture_of(network.genotype)
        return [
            self.scheduler.submit(
                self._task(
                    f"net/{network.number:04d}",
                    "network",
                    architecture,
                    lam,
                    replicate,
                    origin=network.origin,
                    parents=list(network.parents),
                    genotype=network.genotype.to_dict(),
                ),
                priority=replicate > 0,
            )
            for replicate in range(replicates)
        ]

    async def _choose_lambda(self) -> float:
        """Return the largest weight that costs the references' architectures a point at most.

        Each is trained three times per weight; the smallest weight is taken if all cost more.
        """
        accuracy: dict[float, float] = {}
        entries: dict[float, list[Pending[Entry]]] = {
            lam: [
                self.scheduler.submit(
                    self._task(f"lambda/{lam:g}/{name}", "lambda", ARCHITECTURES[name], lam, each)
                )
                for name in REFERENCES
                for each in range(REPLICATES)
            ]
            for lam in (0.0, *LAMBDAS)
        }
        for lam, pending in entries.items():
            measured = [_last(await entry) for entry in pending]
            accuracy[lam] = statistics.mean(each.accuracy for each in measured)
        fit = [lam for lam in LAMBDAS if accuracy[lam] >= accuracy[0.0] - LAMBDA_LOSS]
        return max(fit, default=LAMBDAS[0])


def table_of(entries: Sequence[Entry]) -> Table:
    """Return the table of a collection's networks, without those of which no training succeeded."""
    trainings: dict[int, list[Measurement | None]] = {}
    about: dict[int, Entry] = {}
    for entry in sorted(entries, key=lambda each: each.id):
        if entry.stage != "network":
            continue
        number = int(entry.id.split("/")[1])
        about.setdefault(number, entry)
        measured = entry.result and msgspec.convert(entry.result, Measurement)
        trainings.setdefault(number, []).append(measured or None)
    if not about:
        raise RunError("no network has been measured yet")
    records = [
        record_of(
            number,
            str(about[number].payload["origin"]),
            about[number].payload["parents"],
            Genotype.from_dict(about[number].payload["genotype"]),
            trainings[number],
        )
        for number in sorted(about)
        if any(trainings[number])
    ]
    lam = float(next(iter(about.values())).payload["lam"])
    return Table(setting_of(lam), tuple(records))


def _last(entry: Entry) -> Rung:
    if entry.result is None:
        raise RunError(f"{entry.id}: {entry.outcome} ({entry.reason})")
    return msgspec.convert(entry.result, Measurement).rungs[-1]


def main(arguments: Sequence[str] | None = None) -> int:
    """Collect into the folder named on the command line."""
    parser = argparse.ArgumentParser(prog="python -m evolution.benchmark.collect")
    parser.add_argument("folder", type=Path, help="where measurements are kept and resumed")
    parser.add_argument("--workers", type=int, default=2, help="processes")
    parser.add_argument("--table", type=Path, help="write the table so far to this file and stop")
    options = parser.parse_args(arguments)
    folder = options.folder.resolve()
    path = folder / "ledger.sqlite"
    if options.table is not None:
        with Ledger.read(path) as ledger:
            save_table(table_of(ledger.trials()), options.table)
        return 0
    (folder / "sets").mkdir(parents=True, exist_ok=True)
    Sets(folder / "sets").prepare()
    with (
        open_executor("processes", workers=options.workers) as executor,
        Ledger.open(path) if path.exists() else Ledger.create(path) as ledger,
    ):
        scheduler = Scheduler(executor, ledger, _log)
        scheduler.run(Collection(folder, scheduler).collect())
    return 0


def _log(entry: Entry) -> None:
    if entry.seconds:
        last = json.dumps(entry.result and entry.result["rungs"][-1])
        print(f"{entry.id} {entry.outcome} {entry.seconds:.0f} s {last}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
