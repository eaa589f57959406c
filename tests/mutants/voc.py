"""Mistakes in the average precision of PASCAL VOC."""

from __future__ import annotations

from tests.mutants.mutant import Mutant, of

PRECISION = "adaptation/evaluation/voc.py"
TESTS = ("tests/adaptation/test_voc_precision.py",)
MEAN_TESTS = of("adaptation/test_evaluation.py", "means_are_over_classes_with_objects_alone")

VOC = (
    Mutant(
        "an overlap of just one half is enough",
        PRECISION,
        "not overlaps[best] > iou",
        "not overlaps[best] >= iou",
        TESTS,
    ),
    Mutant(
        "a second detection takes the next best object, as in COCO",
        PRECISION,
        "best = int(overlaps.argmax()) if len(image_boxes) else -1",
        "best = int((overlaps * ~matched[number]).argmax()) if len(image_boxes) else -1",
        TESTS,
    ),
    Mutant(
        "a second detection is passed over",
        PRECISION,
        "right[rank], wrong[rank] = not matched[number][best], matched[number][best]",
        "right[rank], wrong[rank] = not matched[number][best], 0",
        TESTS,
    ),
    Mutant(
        "difficult objects are right to find",
        PRECISION,
        "elif not ignored[best]:",
        "else:",
        TESTS,
    ),
    Mutant(
        "difficult objects are to be found",
        PRECISION,
        "np.array([(~ignored).sum() for _, ignored in truths])",
        "np.array([len(ignored) for _, ignored in truths])",
        TESTS,
    ),
    Mutant(
        "regions of many objects are one object",
        PRECISION,
        "(truth.difficult | truth.crowd)[chosen]",
        "truth.difficult[chosen]",
        TESTS,
    ),
    Mutant(
        "the least sure come first",
        PRECISION,
        'np.argsort(-sure, kind="stable")',
        'np.argsort(sure, kind="stable")',
        TESTS,
    ),
    Mutant(
        "ties go to the last",
        PRECISION,
        'np.argsort(-sure, kind="stable")',
        'np.argsort(sure, kind="stable")[::-1]',
        TESTS,
    ),
    Mutant(
        "a recall on a tenth does not reach it",
        PRECISION,
        "precision[recall >= level]",
        "precision[recall > level]",
        TESTS,
    ),
    Mutant(
        "tenths are products, and three of them more than 0.3",
        PRECISION,
        "np.arange(11) / 10",
        "np.arange(11) * 0.1",
        TESTS,
    ),
    Mutant(
        "ten points, without recall 0",
        PRECISION,
        "np.arange(11) / 10",
        "np.arange(1, 11) / 10",
        TESTS,
    ),
    Mutant(
        "precision is not made monotone",
        PRECISION,
        "    heights = np.maximum.accumulate(heights[::-1])[::-1]\n",
        "",
        TESTS,
    ),
    Mutant(
        "steps of recall have the precision before them",
        PRECISION,
        "(np.diff(edges) * heights[1:]).sum()",
        "(np.diff(edges) * heights[:-1]).sum()",
        TESTS,
    ),
    Mutant(
        "the union counts the intersection twice",
        PRECISION,
        "common / np.maximum(areas - common, 1e-300)",
        "common / np.maximum(areas, 1e-300)",
        TESTS,
    ),
    Mutant(
        "boxes that are apart on both sides overlap",
        PRECISION,
        "(far - corner).clip(min=0).prod(axis=1)",
        "(far - corner).prod(axis=1)",
        TESTS,
    ),
    Mutant(
        "classes without objects pull the mean down",
        "adaptation/evaluation/evaluate.py",
        "return sum(known) / len(known) if known else None",
        "return sum(known) / len(values) if known else None",
        MEAN_TESTS,
    ),
    Mutant(
        "classes without objects pull a breakdown's mean down",
        "adaptation/evaluation/voc.py",
        "return sum(values) / len(values) if values else None",
        "return sum(values) / len(known) if values else None",
        MEAN_TESTS,
    ),
)
