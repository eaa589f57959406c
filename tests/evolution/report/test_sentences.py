"""The sentences follow the results, whatever these are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import pytest

from evolution import Candidate, Genotype
from evolution.protocol.result import Summary
from evolution.report import comparison, headline
from evolution.report.lineage import origin
from robustkit.models.blueprint import Block
from tests.evolution.report.simulated_run import RATES, net, rate, without_control

T = TypeVar("T")
MEASURES = {"accuracy": 0.6, "transfer": 0.3, "cos_abs": 0.1, "params": 9, "macs": 9}


def of_plain(function: Callable[[Summary], T]) -> Callable[[Any], T]:
    return lambda plain: function(Summary.from_json(plain, "summary"))


accuracy_sentence = of_plain(headline.accuracy_sentence)
controls_sentence = of_plain(headline.controls_sentence)
gap_sentence = of_plain(headline.gap_sentence)
robustness_sentence = of_plain(headline.robustness_sentence)
search_sentence = of_plain(headline.search_sentence)
checks_section = of_plain(comparison.checks_section)


def selected(key: str) -> dict[str, Any]:
    return {"number": 1, "key": key, "rule": "", "considered": 2, "validation": MEASURES}


@pytest.fixture
def summary() -> Any:
    return {
        "nets": {"R": net("R", 1, None)} | {n: net(n, 3, value) for n, value in RATES.items()},
        "gap": {"points": 42.0, "low": 36.5, "high": 47.5, "p_value": 1e-9, "n": 300},
        "search_gap": {"points": 6.0, "low": 1.5, "high": 10.5, "p_value": 0.01, "n": 300},
        "reference": {"accuracy": 0.7, "fooled": 0.99},
        "selection": {"E": selected("a"), "RS": selected("b")},
        "trials": 8,
        "trials_from_cache": 0,
        "common_images": 300,
        "test_images": 400,
        "data": "cifar10",
        "data_digest": "0123abcd",
        "baseline": {},
        "seconds": {"wall": 1.0},
    }


@pytest.mark.parametrize(
    ("low", "high", "p_value", "said"),
    [
        (36.5, 47.5, 1e-9, "Fewer of R's adversarials"),
        (-3.0, 4.0, 0.5, "includes zero"),
        (-9.0, -2.0, 1e-9, "negative result"),
        (6.0, 26.0, 0.18, "Not for every pair of trainings"),
    ],
)
def test_the_gap_is_claimed_only_where_its_interval_allows(
    summary: Any, low: float, high: float, p_value: float, said: str
) -> None:
    summary["gap"] |= {"points": (low + high) / 2, "low": low, "high": high, "p_value": p_value}
    sentence = gap_sentence(summary)
    assert said in sentence
    assert f"[{low:.1f}, {high:.1f}]" in sentence
    assert "300 test images" in sentence
    assert ("Fewer of R's adversarials" in sentence) == (low > 0)


@pytest.mark.parametrize(
    ("accuracy", "low", "said"),
    [
        (0.70, 30.0, "within one point (+0.0)"),
        (0.695, 30.0, "within one point (-0.5)"),
        (0.65, 30.0, "costs 5.0 points"),
        (0.65, -5.0, "5.0 points less accurate"),
        (0.75, 30.0, "5.0 points more accurate"),
    ],
)
def test_accuracy_is_compared_with_the_reference(
    summary: Any, accuracy: float, low: float, said: str
) -> None:
    summary["gap"]["low"] = low
    summary["nets"]["E"]["clean_acc"] = accuracy
    assert said in accuracy_sentence(summary)


@pytest.mark.parametrize(
    ("whitebox", "said"), [(0.0, "fool it as easily as R"), (0.2, "20.0 points more than R")]
)
def test_low_transfer_is_never_called_robustness(summary: Any, whitebox: float, said: str) -> None:
    summary["nets"]["E"]["whitebox_acc"] = whitebox
    sentence = robustness_sentence(summary)
    assert sentence.startswith("Low transfer is not robustness.")
    assert said in sentence


def test_the_controls_are_told_apart(summary: Any) -> None:
    sentence = controls_sentence(summary)
    for said in ("97.0 %", "62.0 % (R′)", "45.0 % (E0)", "20.0 % (E)"):
        assert said in sentence


@pytest.mark.parametrize("key", ["a", "b"])
def test_a_net_that_both_searches_start_from_is_told_as_such(summary: Any, key: str) -> None:
    summary["selection"]["RS"] = selected(key) | {"operator": "preset"}
    sentence = search_sentence(summary)
    assert "known families that both searches start from: RS." in sentence
    summary["selection"]["E"]["operator"] = "preset"
    assert "E and RS." in search_sentence(summary)


@pytest.mark.parametrize(
    ("operator", "said"),
    [
        ("preset", "from which both searches start: no variation"),
        ("preset+gene", "a mutation of R's own architecture"),
        ("sample", "sampled at random in generation 3"),
    ],
)
def test_the_origin_of_a_net_without_parents_is_told(operator: str, said: str) -> None:
    candidate = Candidate(17, Genotype((Block(),)), (), operator, 2)
    assert said in origin(candidate)


@pytest.mark.parametrize(
    ("low", "high", "said"),
    [
        (1.5, 10.5, "net that evolution found"),
        (-9.0, -2.0, "net that the random search found"),
        (-1.0, 3.0, "neither search can be called the better one"),
    ],
)
def test_evolution_is_credited_only_where_it_beat_random_search(
    summary: Any, low: float, high: float, said: str
) -> None:
    summary["search_gap"] |= {"points": (low + high) / 2, "low": low, "high": high}
    sentence = search_sentence(summary)
    assert said in sentence
    assert f"[{low:.1f}, {high:.1f}]" in sentence


@pytest.mark.parametrize(
    ("low", "high", "said"),
    [
        (20.0, 30.0, "the penalty lowers the transfer"),
        (-9.0, -2.0, "the penalty raises the transfer"),
        (-1.0, 3.0, "does not show that the penalty matters"),
    ],
)
def test_without_the_control_e_is_compared_with_itself_unpenalised(
    summary: Any, low: float, high: float, said: str
) -> None:
    summary |= without_control()
    summary["penalty_gap"] |= {"points": (low + high) / 2, "low": low, "high": high}
    sentence = gap_sentence(summary)
    assert said in sentence
    assert f"[{low:.1f}, {high:.1f}]" in sentence
    assert "R's own architecture would do the same under the penalty is not known" in sentence
    assert controls_sentence(summary) == ""
    assert "net that evolution found" in search_sentence(summary)
    assert "E is 5.0 points less accurate" in accuracy_sentence(
        summary | {"nets": summary["nets"] | {"E": summary["nets"]["E"] | {"clean_acc": 0.65}}}
    )


def test_checks_do_without_the_control(summary: Any) -> None:
    summary |= without_control()
    assert doubtful(summary) == 0
    assert "than E0" in checks_section(summary).html
    summary["nets"]["E"]["transfer_from_surrogate"] = dict.fromkeys(
        ("headline", "fooling", "all"), rate(0.9)
    )
    assert doubtful(summary) == 1


def test_a_single_training_is_said_to_be_one(summary: Any) -> None:
    assert "single training" not in gap_sentence(summary)
    summary["nets"]["E"]["seeds"] = 1
    assert "single training of R′ or E" in gap_sentence(summary)


def test_one_architecture_selected_by_both_searches_speaks_for_neither(
    summary: Any,
) -> None:
    summary["selection"]["RS"]["key"] = "a"
    assert "evidence for evolution over random" in search_sentence(summary)


def doubtful(summary: Any) -> int:
    return checks_section(summary).html.count("doubtful")


def test_sound_results_raise_no_doubt(summary: Any) -> None:
    assert doubtful(summary) == 0


def test_a_weak_attack_is_doubted(summary: Any) -> None:
    summary["reference"]["fooled"] = 0.5
    assert doubtful(summary) == 1


def test_white_box_weaker_than_black_box_is_doubted(summary: Any) -> None:
    summary["nets"]["E"]["whitebox_acc"] = 0.95
    assert doubtful(summary) == 1


def test_vanished_gradients_are_doubted(summary: Any) -> None:
    summary["nets"]["Rp"]["zero_gradients"] = 0.3
    assert doubtful(summary) == 1
    assert "30.0\N{NO-BREAK SPACE}% of the gradients are zero (R′)" in checks_section(summary).html


def test_a_net_that_follows_the_flipped_gradient_is_doubted(summary: Any) -> None:
    summary["nets"]["E"]["transfer_from_R_flipped"]["headline"] = rate(0.6)
    assert doubtful(summary) == 1


def test_more_transfer_from_the_surrogate_is_doubted(summary: Any) -> None:
    summary["nets"]["E"]["transfer_from_surrogate"] = dict.fromkeys(
        ("headline", "fooling", "all"), rate(0.9)
    )
    assert doubtful(summary) == 1


def against(verdict: str, transfer: float, accuracy: float) -> dict[str, Any]:
    """E against another net, in points, with intervals three points wide to either side."""

    def gap(points: float) -> dict[str, Any]:
        return {"points": points, "low": points - 3, "high": points + 3, "p_value": 0.1, "n": 250}

    return {"transfer": gap(transfer), "accuracy": gap(accuracy), "verdict": verdict}


@pytest.mark.parametrize(
    ("verdict", "transfer", "accuracy", "said"),
    [
        ("better", 9.0, 2.5, "yes"),
        ("better", 9.0, 0.0, "yes; in accuracy the interval includes more than a point less"),
        ("worse", -9.0, 0.0, "no: more of R's adversarials transfer to E"),
        ("undecided", 1.0, 0.0, "undecided: the interval includes zero"),
        ("costs accuracy", 9.0, -2.5, "no: E is 2.5 points less accurate"),
        ("less accurate", -9.0, 4.0, "not at equal accuracy: P0 is 4.0 points less accurate"),
    ],
)
def test_a_question_is_answered_by_its_verdict(
    summary: Any, verdict: str, transfer: float, accuracy: float, said: str
) -> None:
    summary["comparisons"] = {"P0": against(verdict, transfer, accuracy)}
    asked = headline.questions(Summary.from_json(summary, "summary"))
    assert asked == [("Does E beat R behind an average pool, no penalty (P0)?", "P0", said)]


def test_the_first_screen_asks_the_four_questions_in_order(summary: Any) -> None:
    roles = ("M", "F", "RS", "Rp", "R2", "E0")
    summary["comparisons"] = {role: against("costs accuracy", 9.0, -1.5) for role in roles}
    typed = Summary.from_json(summary, "summary")
    asked = headline.questions(typed)
    assert [role for _, role, _ in asked] == ["Rp", "F", "M", "RS", "R2"]
    assert asked[-1][2] == "no: E is 1.5 points less accurate"
    page = str(headline.headline_section(typed).html)
    assert page.index("Does E beat R′") < page.index("Adversarials made on R fool R′")
    assert "+9.0 [+6.0, +12.0]" in page.replace("\N{MINUS SIGN}", "-")


def test_a_run_that_knew_no_comparisons_has_no_questions(summary: Any) -> None:
    typed = Summary.from_json(summary, "summary")
    assert headline.questions(typed) == []
    assert "question" not in str(headline.headline_section(typed).html)


@pytest.mark.parametrize(
    ("accuracy", "tolerance", "said"),
    [
        (4.0, 0.01, "yes"),
        (2.0, 0.01, "yes"),
        (0.5, 0.01, "yes, as a mean; the interval includes more than a point less"),
        (0.5, 0.03, "yes"),
        (-0.5, 0.02, "yes, as a mean; the interval includes more than 2 points less"),
    ],
)
def test_accuracy_is_kept_for_sure_where_the_interval_says_so(
    summary: Any, accuracy: float, tolerance: float, said: str
) -> None:
    summary["comparisons"] = {"R2": against("better", 9.0, accuracy)}  # three points either way
    summary["tolerance"] = tolerance
    ((_, _, found),) = headline.questions(Summary.from_json(summary, "summary"))
    assert found == said
