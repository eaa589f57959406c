"""Mistakes in contributions: in what goes back, in biases, and in what they add up to."""

from __future__ import annotations

from tests.mutants.mutant import Mutant, of

MAPS = "robustkit/explain/cav.py"
RULES = "robustkit/explain/rules.py"
RECORDING = "robustkit/explain/recording.py"
TESTS = of(
    "robustkit/explain/test_cav.py",
    "one_backward_pass_gives_what_the_definition_gives",
    "contributions_and_biases_add_up_to_the_score",
    "secants_close_to_zero_are_exact",
    "constants_are_biases",
    "normalisations_have_frozen_statistics",
)
REFUSALS = ("tests/robustkit/explain/test_refusals.py",)

CAV = (
    Mutant(
        "the slope is taken for the contribution",
        MAPS,
        "return self.activation * self.slope",
        "return self.slope",
        TESTS,
    ),
    Mutant(
        "the ratio is of all contributions, not of the score",
        MAPS,
        "return self.raw / self.score.view(-1, *[1] * (self.raw.dim() - 1))",
        "return self.raw / self.raw.flatten(1).sum(1).view(-1, *[1] * (self.raw.dim() - 1))",
        TESTS,
    ),
    Mutant(
        "biases are added to what is left",
        MAPS,
        "self.score - self.raw.flatten(1).sum(dim=1) - self.biases",
        "self.score - self.raw.flatten(1).sum(dim=1) + self.biases",
        TESTS,
    ),
    Mutant(
        "a layer's own bias counts as one behind it",
        MAPS,
        "if place > trace.places[name]",
        "if place >= trace.places[name]",
        TESTS,
    ),
    Mutant(
        "activations pass their derivative, not their secant",
        RULES,
        "return _secant(ctx.f, z, a, zeroth) * g, None",
        "return _derivative(ctx.f, z) * g, None",
        TESTS,
    ),
    Mutant(
        "the secant goes through 0, not through f(0)",
        RULES,
        "slope = (f(fine) - start) / ",
        "slope = f(fine) / ",
        TESTS,
    ),
    Mutant(
        "f(0) is no bias",
        RULES,
        "ctx.now.add(ctx.place, zeroth * g.reshape(len(g), -1).sum(dim=1))",
        "ctx.now.add(ctx.place, 0 * g.reshape(len(g), -1).sum(dim=1))",
        TESTS,
    ),
    Mutant(
        "nothing passes an activation at exactly 0",
        RULES,
        "return torch.where(at, _derivative(f, z), slope) if bool(at.any()) else slope",
        "return torch.where(at, 0.0, slope)",
        TESTS,
    ),
    Mutant(
        "the paper's rule keeps f(0) as a bias",
        RULES,
        "if zeroth and ctx.now.paper:",
        "if zeroth and not ctx.now.paper:",
        TESTS,
    ),
    Mutant(
        "a normalisation passes on what it was given",
        RULES,
        "return (g * scale, *nothing)",
        "return (g, *nothing)",
        TESTS,
    ),
    Mutant(
        "a normalisation's shift is no bias",
        RULES,
        "ctx.now.add(ctx.place, (g * shift).reshape(len(g), -1).sum(dim=1))",
        "ctx.now.add(ctx.place, (g * 0).reshape(len(g), -1).sum(dim=1))",
        TESTS,
    ),
    Mutant(
        "batch norm's mean is not scaled",
        RECORDING,
        'shift = -of["running_mean"] * scale',
        'shift = -of["running_mean"]',
        TESTS,
    ),
    Mutant(
        "batch norm's own bias is dropped",
        RECORDING,
        'shift = shift + of["bias"]',
        "shift = shift * 1.0",
        TESTS,
    ),
    Mutant(
        "a layer's bias is counted at one position alone",
        RECORDING,
        "spread = g.flatten(2).sum(dim=2) if g.dim() > 2 else g",
        "spread = g.flatten(2)[:, :, 0] if g.dim() > 2 else g",
        TESTS,
    ),
    Mutant(
        "a subtracted constant is added",
        RECORDING,
        "constant = -constant",
        "constant = constant * 1",
        TESTS,
    ),
    Mutant(
        "what does not add up is passed over",
        MAPS,
        "    if not contribution.cut:\n        return\n",
        "    if contribution.cut:\n        return\n",
        REFUSALS,
    ),
)
