"""Mistakes in the sets of images and of weights by which a repair is localised."""

from __future__ import annotations

from tests.mutants.mutant import Mutant, of

CHOICE = "robustkit/repair/localise.py"
SETS = "robustkit/repair/sets.py"
RANKING = "robustkit/repair/localise.py"
IMPACTS = "robustkit/repair/localise.py"
CHOICE_TESTS = ("tests/robustkit/repair/test_localise.py",)
ARACHNE_TESTS = of("robustkit/repair/test_localise_rivals.py", "arachne_is_the_front_of_the_pool")
SET_TESTS = ("tests/robustkit/repair/test_sets_defined.py",)
IMPACT_TESTS = of("robustkit/repair/test_impacts.py", "impacts_are_their_definitions")

LOCALISATION = (
    Mutant(
        "degraded and improved are swapped, as section 3.1 prints them",
        SETS,
        "deg=before & neg, imp=~before & pos",
        "deg=~before & pos, imp=before & neg",
        SET_TESTS,
    ),
    Mutant(
        "failures of old are degraded, too",
        SETS,
        "deg=before & neg",
        "deg=neg",
        SET_TESTS,
    ),
    Mutant(
        "successes of old are improved, too",
        SETS,
        "imp=~before & pos",
        "imp=pos",
        SET_TESTS,
    ),
    Mutant(
        "a chosen label's successes are failures",
        SETS,
        "return wrong & chosen",
        "return chosen",
        SET_TESTS,
    ),
    Mutant(
        "a pair is PREDICTED:TRUE",
        SETS,
        "(predicted == as_) & (images.labels == of)",
        "(predicted == of) & (images.labels == as_)",
        SET_TESTS,
    ),
    Mutant(
        "the last label alone is chosen",
        SETS,
        "chosen |= images.labels == class_index(name, images.classes)",
        "chosen = images.labels == class_index(name, images.classes)",
        SET_TESTS,
    ),
    Mutant(
        "what improved images use is kept, all else left",
        CHOICE,
        "chosen = without(chosen, imp)",
        "chosen = both(chosen, imp)",
        CHOICE_TESTS,
    ),
    Mutant(
        "either impact is enough",
        CHOICE,
        "return both(best(of.backward), best(of.forward))",
        "return best(of.backward)",
        CHOICE_TESTS,
    ),
    Mutant(
        "weights that moved are chosen, whatever their impact",
        CHOICE,
        "chosen = both(chosen, moved)",
        "chosen = moved",
        CHOICE_TESTS,
    ),
    Mutant(
        "weights that shrank did not move",
        CHOICE,
        "weight_of(previous, name)).detach().abs().cpu()",
        "weight_of(previous, name)).detach().cpu()",
        CHOICE_TESTS,
    ),
    Mutant(
        "all successes stand for the improved",
        CHOICE,
        "torch.nonzero(sets.imp)",
        "torch.nonzero(sets.pos)",
        CHOICE_TESTS,
    ),
    Mutant(
        "improved images do not count towards the number of weights",
        CHOICE,
        '(counts["n_deg"] + counts["n_imp"])',
        'counts["n_deg"]',
        CHOICE_TESTS,
    ),
    Mutant(
        "one weight too many is taken",
        RANKING,
        ".indices[:count]] = True",
        ".indices[: count + 1]] = True",
        CHOICE_TESTS,
    ),
    Mutant(
        "weights without an impact are taken",
        RANKING,
        "chosen &= flat > 0",
        "chosen &= flat >= 0",
        CHOICE_TESTS,
    ),
    Mutant(
        "what only improved images use is chosen, too",
        RANKING,
        "mask & ~second[name]",
        "mask ^ second[name]",
        CHOICE_TESTS,
    ),
    Mutant(
        "dominated points are on the front",
        RANKING,
        "(level > before) & (level == level[start])",
        "(level >= before) & (level == level[start])",
        CHOICE_TESTS,
    ),
    Mutant(
        "Arachne looks at degraded images alone",
        CHOICE,
        "torch.nonzero(sets.neg)",
        "torch.nonzero(sets.deg)",
        ARACHNE_TESTS,
    ),
    Mutant(
        "the forward impact forgets the weight",
        IMPACTS,
        "spread(layer, inputs[name] / len(images)) * layer.weight.detach().abs()",
        "spread(layer, inputs[name] / len(images)) * 1.0",
        IMPACT_TESTS,
    ),
    Mutant(
        "inputs of opposite signs cancel",
        IMPACTS,
        "_magnitude(layer, arguments[0].detach().abs())",
        "_magnitude(layer, arguments[0].detach())",
        IMPACT_TESTS,
    ),
)
