"""Other searches on the benchmark, behind the interface of `evolution.strategies`.

"tpe" is optuna's sampler (extra `bench`). "plain genes" is NSGA-II whose first networks are drawn
gene by gene: it says what the themes of `evolution.sampling` are worth.
"""

from __future__ import annotations

import random
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from evolution.genotype import Candidate, Genotype
from evolution.objectives import Individual
from evolution.sampling import sample_block, sample_head
from evolution.space import SearchSpace
from evolution.strategies import NSGA2, SearchSettings, Strategy
from robustkit.compute import derive_seed
from robustkit.errors import ConfigError
from robustkit.models.blueprint import Block, Head

Gene = str | int | None
Choices = Mapping[str, tuple[Gene, ...]]

_ATTEMPTS = 20  # of the sampler, until a network fits the limits and is new
_ORDERED = ("blocks", "channels", "kernel", "hidden")


class PlainGenes(NSGA2):
    """NSGA-II that starts from networks whose genes are drawn one by one."""

    def __init__(self, settings: SearchSettings) -> None:
        super().__init__(settings)
        self.toolbox.register("sample", gene_by_gene, space=settings.space)


def gene_by_gene(rng: random.Random, space: SearchSpace) -> Genotype:
    """Return a genotype of `space` all of whose genes are drawn independently."""
    blocks: list[Block] = []
    for node in range(rng.randint(space.min_blocks, space.max_blocks)):
        count = rng.randint(1, min(space.max_inputs, node + 1))
        inputs = tuple(sorted(rng.sample(range(node + 1), count)))
        blocks.append(replace(sample_block(rng, space, inputs), stride=rng.choice((1, 2))))
    return Genotype(tuple(blocks), sample_head(rng, space))


class TreeParzen(Strategy):
    """Optuna's tree-structured Parzen estimator with several objectives (Ozaki et al. 2022).

    It starts from the same first population as other strategies, and draws parameters together, in
    groups. Bounds are a constraint. Kinds and the like are categorical parameters, widths and
    kernels ordered ones; a block beyond the number drawn has none.
    """

    def __init__(self, settings: SearchSettings) -> None:
        super().__init__(settings)
        try:
            import optuna
        except ImportError:
            raise ConfigError(
                "strategy 'tpe' needs optuna, which is not installed: "
                "pip install 'robustkit[bench]'"
            ) from None
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self._optuna: Any = optuna
        self._choices = gene_choices(settings.space)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            sampler = optuna.samplers.TPESampler(
                seed=derive_seed(settings.seed, "tpe") % 2**32,
                n_startup_trials=0,
                multivariate=True,
                group=True,
            )
        self._study: Any = optuna.create_study(
            directions=["maximize" if o.sign > 0 else "minimize" for o in settings.objectives],
            sampler=sampler,
        )
        self._asked: dict[int, Any] = {}

    def _preselects(self, number: int) -> bool:
        return False  # the sampler proposes one at a time

    def _proposals(self, number: int) -> Iterator[Candidate]:
        if number >= self.settings.population:
            for _ in range(_ATTEMPTS):
                trial = self._study.ask()
                genotype = genotype_of_genes(partial(self._suggest, trial))
                if genotype.key() not in self._keys and self._fits(genotype):
                    self._asked[number] = trial
                    yield Candidate(number, genotype, (), "tpe", number // self.settings.population)
                self._refuse(trial, genotype)
        yield from super()._proposals(number)

    def _absorb(self, born: list[Individual]) -> None:
        for individual in born:
            values, bounds = list(individual.fitness.values), individual.fitness.violation
            asked = self._asked.pop(individual.trial.number, None)
            if asked is not None:
                asked.set_constraint("bounds", bounds)
                self._study.tell(asked, values)
                continue
            genes = genes_of(individual.trial.candidate.genotype)
            self._study.add_trial(
                self._optuna.trial.create_trial(
                    values=values,
                    params={name: self._code(name, gene) for name, gene in genes.items()},
                    distributions={name: self._distribution(name) for name in genes},
                    constraints={"bounds": bounds},
                )
            )

    def _parents(self) -> list[Individual]:
        return []

    def _refuse(self, trial: Any, genotype: Genotype) -> None:
        """Tell the sampler of a network beyond the limits, or of one that was asked for before."""
        if genotype.key() in self._keys:
            self._study.tell(trial, state=self._optuna.trial.TrialState.FAIL)
            return
        # Its numbers are not known; where a constraint is missed the sampler looks at that alone.
        trial.set_constraint("bounds", 1.0)
        self._study.tell(trial, [0.0] * len(self.settings.objectives))

    def _suggest(self, trial: Any, name: str) -> Gene:
        """Return the sampler's choice for a gene."""
        choices = self._choices[name]
        if not _is_ordered(name):
            gene: Gene = trial.suggest_categorical(name, choices)
            return gene
        place: int = trial.suggest_int(name, 0, len(choices) - 1)
        return choices[place]

    def _code(self, name: str, gene: Gene) -> Gene:
        """Return a gene as optuna's parameter; one without effect may be none of the choices."""
        choices = self._choices[name]
        known = gene if gene in choices else choices[0]
        return choices.index(known) if _is_ordered(name) else known

    def _distribution(self, name: str) -> Any:
        choices, distributions = self._choices[name], self._optuna.distributions
        if _is_ordered(name):
            return distributions.IntDistribution(0, len(choices) - 1)
        return distributions.CategoricalDistribution(choices)


PEERS: Mapping[str, Callable[[SearchSettings], Strategy]] = {
    "tpe": TreeParzen,
    "plain genes": PlainGenes,
}

# ------------------------------------------------------------------ a genotype as flat parameters


def gene_choices(space: SearchSpace) -> Choices:
    """Return the choices of every flat gene; of a block's inputs the last and one before it."""
    choices: dict[str, tuple[Gene, ...]] = {
        "blocks": tuple(range(space.min_blocks, space.max_blocks + 1)),
        "head.pool": space.head_pools,
        "head.hidden": space.hidden,
        "head.activation": space.activations,
    }
    for node in range(space.max_blocks):
        choices |= {f"{node}.{gene}": options for gene, options in space.choices.items()}
        choices[f"{node}.input"] = tuple(range(node + 1))
        skips = tuple(range(node)) if space.max_inputs > 1 else ()
        choices[f"{node}.skip"] = (None, *skips)
    return choices


def genes_of(genotype: Genotype) -> dict[str, Gene]:
    """Return the flat genes of a genotype; of more than two inputs of a block the last two."""
    head = genotype.head
    genes: dict[str, Gene] = {
        "blocks": len(genotype.blocks),
        "head.pool": head.pool,
        "head.hidden": head.hidden,
        "head.activation": head.activation,
    }
    for node, block in enumerate(genotype.blocks):
        plain = {gene: value for gene, value in vars(block).items() if gene != "inputs"}
        genes |= {f"{node}.{gene}": value for gene, value in plain.items()}
        genes[f"{node}.input"] = block.inputs[-1]
        genes[f"{node}.skip"] = block.inputs[-2] if len(block.inputs) > 1 else None
    return genes


def genotype_of_genes(gene: Callable[[str], Any]) -> Genotype:
    """Return the genotype whose flat genes `gene` returns by name; only those needed are asked."""
    names = [name for name in vars(Block()) if name != "inputs"]
    blocks = []
    for node in range(gene("blocks")):
        inputs = {gene(f"{node}.input"), gene(f"{node}.skip")} - {None}
        values = {name: gene(f"{node}.{name}") for name in names}
        blocks.append(Block(**values, inputs=tuple(sorted(inputs))))
    head = {name: gene(f"head.{name}") for name in ("pool", "hidden", "activation")}
    return Genotype(tuple(blocks), Head(**head))


def _is_ordered(name: str) -> bool:
    return name.rpartition(".")[2] in _ORDERED
