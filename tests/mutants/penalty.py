"""Mistakes in the gradient-misalignment penalty and in the references' gradients."""

from __future__ import annotations

from tests.mutants.mutant import Mutant, of

FORMULA = "robustkit/training/misalignment.py"
REFERENCES = "robustkit/training/references.py"
FORMULA_TESTS = of(
    "robustkit/training/test_misalignment.py",
    "the_penalty_is_its_definition",
    "a_row_whose_own_gradient_vanishes_is_masked",
    "double_backpropagation_is_the_finite_difference",
)
REFERENCE_TESTS = of(
    "robustkit/training/test_references.py",
    "directions_are_unit_gradients_view_by_view",
    "a_confident_reference_keeps_its_rows",
    "unit_rows_do_not_underflow",
)
BATCH_TESTS = of(
    "robustkit/training/test_examples.py",
    "images_labels_and_directions_are_of_one_view_and_image",
)
STEP_TESTS = of(
    "robustkit/training/test_step.py", "total_is_cross_entropy_and_lam_times_the_penalty"
)

PENALTY = (
    Mutant(
        "the cosine is not squared",
        FORMULA,
        "cosines.square().mean(dim=0)",
        "cosines.mean(dim=0)",
        FORMULA_TESTS,
    ),
    Mutant(
        "opposite gradients cost, aligned ones do not",
        FORMULA,
        "cosines.relu().mean(dim=0)",
        "cosines.neg().relu().mean(dim=0)",
        FORMULA_TESTS,
    ),
    Mutant(
        "the smooth maximum is over images, not over references",
        FORMULA,
        "cosines.logsumexp(dim=0)",
        "cosines.logsumexp(dim=1)",
        FORMULA_TESTS,
    ),
    Mutant(
        "the net's own gradient is not normalised",
        FORMULA,
        "PHI[phi](dots / norms).mean()",
        "PHI[phi](dots).mean()",
        FORMULA_TESTS,
    ),
    Mutant(
        "one reference with a direction is enough",
        FORMULA,
        "usable.all(dim=0)",
        "usable.any(dim=0)",
        FORMULA_TESTS,
    ),
    Mutant(
        "a row whose own gradient vanished is kept",
        FORMULA,
        "usable.all(dim=0) & (norms.detach() > MIN_NORM)",
        "usable.all(dim=0)",
        FORMULA_TESTS,
    ),
    Mutant(
        "masked rows count in the denominator",
        FORMULA,
        "PHI[phi](dots / norms).mean()",
        "PHI[phi](dots / norms).sum() / len(gradient)",
        FORMULA_TESTS,
    ),
    Mutant(
        "the softmax counts as a constant when the penalty is differentiated",
        FORMULA,
        "torch.autograd.grad(logits, images, cotangent, create_graph=True)",
        "torch.autograd.grad(logits, images, cotangent.detach(), create_graph=True)",
        FORMULA_TESTS,
    ),
    Mutant(
        "directions keep their length",
        REFERENCES,
        "return scaled / safe.view(-1, 1, 1, 1), norms",
        "return gradient / safe.view(-1, 1, 1, 1), norms",
        REFERENCE_TESTS,
    ),
    Mutant(
        "norms are those of the scaled rows",
        REFERENCES,
        "norms = size * peak",
        "norms = size * 1.0",
        REFERENCE_TESTS,
    ),
    Mutant(
        "gradients are cast down before they are normalised",
        REFERENCES,
        "unit_rows(gradient.cpu().float())",
        "unit_rows(gradient.cpu().half().float())",
        REFERENCE_TESTS,
    ),
    Mutant(
        "every view gets the gradients of the first",
        REFERENCES,
        "to_unit(views[view, part])",
        "to_unit(views[0, part])",
        REFERENCE_TESTS,
    ),
    Mutant(
        "references without a direction are not masked in a batch",
        "robustkit/training/examples.py",
        "torch.stack(norms) > MIN_NORM",
        "torch.stack(norms) >= 0",
        BATCH_TESTS,
    ),
    Mutant(
        "the penalty is rewarded",
        "robustkit/training/step.py",
        "loss + weight * measured.penalty",
        "loss - weight * measured.penalty",
        STEP_TESTS,
    ),
)
