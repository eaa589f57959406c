"""What makes iterative attacks transfer better, as components that combine freely in one loop.

A new component is a class in the module of its kind, decorated by `component`.
"""

from robustkit.attacks.components.base import (
    COMPONENTS,
    Combination,
    Component,
    combine,
    component,
    make_component,
    parameters_of,
    with_parameters,
)
from robustkit.attacks.components.ensembles import (
    AdaptiveEnsemble,
    CommonWeakness,
    ReducedVariance,
)
from robustkit.attacks.components.features import (
    CleanFeatureMixup,
    FeatureFineTuning,
    FeatureImportance,
    IntermediateLevel,
    NeuronAttribution,
)
from robustkit.attacks.components.inputs import (
    Admix,
    BlockShuffleAndRotation,
    DiverseInput,
    ObjectDiverseInput,
    ScaleInvariance,
    SpectrumSimulation,
    StructureInvariance,
    TranslationInvariance,
)
from robustkit.attacks.components.momentum import (
    EnhancedMomentum,
    Momentum,
    Nesterov,
    PreGradient,
    of_unit_mean,
)
from robustkit.attacks.components.surgery import (
    BackwardPropagation,
    GhostNetworks,
    LinearBackward,
    SkipGradients,
)
from robustkit.attacks.components.transformers import PatchOut, PayNoAttention, TokenGradients
from robustkit.attacks.components.variance import (
    GradientRelevance,
    PenalisedGradientNorm,
    ReversePerturbation,
    VarianceTuning,
    VarianceTuningAhead,
)

__all__ = [
    "COMPONENTS",
    "AdaptiveEnsemble",
    "Admix",
    "BackwardPropagation",
    "BlockShuffleAndRotation",
    "CleanFeatureMixup",
    "Combination",
    "CommonWeakness",
    "Component",
    "DiverseInput",
    "EnhancedMomentum",
    "FeatureFineTuning",
    "FeatureImportance",
    "GhostNetworks",
    "GradientRelevance",
    "IntermediateLevel",
    "LinearBackward",
    "Momentum",
    "Nesterov",
    "NeuronAttribution",
    "ObjectDiverseInput",
    "PatchOut",
    "PayNoAttention",
    "PenalisedGradientNorm",
    "PreGradient",
    "ReducedVariance",
    "ReversePerturbation",
    "ScaleInvariance",
    "SkipGradients",
    "SpectrumSimulation",
    "StructureInvariance",
    "TokenGradients",
    "TranslationInvariance",
    "VarianceTuning",
    "VarianceTuningAhead",
    "combine",
    "component",
    "make_component",
    "of_unit_mean",
    "parameters_of",
    "with_parameters",
]
