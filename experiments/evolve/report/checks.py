"""Signs that a figure may not mean what it seems to: masked gradients, a weak attack, a trick."""

from __future__ import annotations

from experiments.evolve.report.players import SHOWN, present
from experiments.evolve.report.words import rate_text, share
from experiments.evolve.result import ComparedNet, Nets, Summary, compared_net, net_of, rate_of
from robustkit.runs.report import Section, table

Row = tuple[str, str, str]
FINE, DOUBTFUL = "fine", "doubtful"


def checks_section(summary: Summary) -> Section:
    """The checks without which figures about robustness are no evidence (Croce & Hein 2020)."""
    nets = summary["nets"]
    rows = [_attack(summary), _black_box(nets)]
    rows += [_zero_gradients(nets), _flipped(nets["E"]), _surrogate(nets)]
    note = (
        "A net can seem to resist transfer because its gradients vanish, because the attack is "
        "weak, or because it answers R's gradient with the opposite sign."
    )
    html = table(("check", "verdict", "measured"), rows)
    return Section("checks", "Can the figures be trusted?", html, note)


def _attack(summary: Summary) -> Row:
    fooled = summary["reference"].get("fooled")
    weak = fooled is None or fooled < 0.9
    measured = f"{share(fooled)} of R's own adversarials on validation fool R"
    return ("the attack works on R itself", _verdict(weak), measured)


def _black_box(nets: Nets) -> Row:
    """A net must not do worse under another's adversarials than under its own."""
    right = {}
    for name in present(nets)[1:]:
        transfer = rate_of(compared_net(nets, name), "transfer_from_R", "all")["rate"]
        right[name] = (
            net_of(nets, name)["whitebox_acc"],
            1.0 if transfer is None else 1 - transfer,
        )
    masked = any(own > other for own, other in right.values())
    each = [f"{SHOWN[n]} {share(own)} and {share(other)}" for n, (own, other) in right.items()]
    measured = f"accuracy under its own and under R's: {'; '.join(each)}"
    return (
        "every net is hurt more by its own adversarials than by R's",
        _verdict(masked),
        measured,
    )


def _zero_gradients(nets: Nets) -> Row:
    zeros = {name: net_of(nets, name).get("zero_gradients") or 0.0 for name in present(nets)}
    most = max(zeros, key=lambda name: zeros[name])
    worst = zeros[most]
    measured = f"at most {share(worst)} of the gradients are zero ({SHOWN[most]})"
    if worst == 0:
        measured = "no gradient of any net is zero"
    return ("input gradients do not vanish", _verdict(worst > 0.05), measured)


def _flipped(evolved: ComparedNet) -> Row:
    """A net driven to a cosine of -1 is fooled by the opposite step."""
    flipped = evolved["transfer_from_R_flipped"]["headline"]
    turned, plain = flipped["rate"], evolved["transfer_from_R"]["headline"]["rate"]
    bad = turned is None or plain is None or turned > max(plain, 0.05)
    title = "E has not merely turned R's gradient round"
    measured = f"transfer from the flipped gradient: {rate_text(flipped)}"
    return (title, _verdict(bad), measured)


def _surrogate(nets: Nets) -> Row:
    """What was learnt against R should hold against a net that took no part in the penalty."""
    other = "Rp" if "Rp" in nets else "E0"
    rates = {
        name: rate_of(compared_net(nets, name), "transfer_from_surrogate") for name in (other, "E")
    }
    low, high = rates["E"]["low"], rates[other]["high"]
    worse = low is None or high is None or low > high
    measured = f"E {rate_text(rates['E'])}; {SHOWN[other]} {rate_text(rates[other])}"
    title = f"E is no easier prey for a surrogate than {SHOWN[other]}"
    return (title, _verdict(worse), measured)


def _verdict(doubtful: bool) -> str:
    return DOUBTFUL if doubtful else FINE
