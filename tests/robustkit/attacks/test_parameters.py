from __future__ import annotations

from typing import Any

import pytest

from robustkit.attacks import MIFGSM, make
from robustkit.attacks.parameters import split_spec
from robustkit.errors import AttackError


@pytest.mark.parametrize(
    ("spec", "name", "parameters"),
    [
        ("pgd", "pgd", {}),
        ("pgd?steps=40&alpha=2/255", "pgd", {"steps": 40, "alpha": 2 / 255}),
        ("pgd?steps=40,random_start=false", "pgd", {"steps": 40, "random_start": False}),
        ("mifgsm?components=di,ti&decay=1.0", "mifgsm", {"components": "di,ti", "decay": 1.0}),
        ("mifgsm?components=di,ti,steps=2", "mifgsm", {"components": "di,ti", "steps": 2}),
        ("torchattacks:CW?c=1.5", "torchattacks:CW", {"c": 1.5}),
        ("x?a=none&b=text&c=1e-3&d=-2", "x", {"a": None, "b": "text", "c": 1e-3, "d": -2}),
        ("x?a=1/0", "x", {"a": "1/0"}),
        ("x+y?layer=2.10&y.layer=3", "x+y", {"layer": "2.10", "y.layer": "3"}),
    ],
)
def test_specs_are_read(spec: str, name: str, parameters: dict[str, Any]) -> None:
    assert split_spec(spec) == (name, parameters)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("pgd?", r"expected NAME\?OPTION=VALUE"),
        ("pgd?steps=1&steps=2", "option 'steps' is given twice"),
        ("pgd?steps", "not 'steps' after the"),
        ("pgd?=3", "not '=3' after the"),
        ("pgd?steps=3,", "not '' after the"),
        ("pgd?steps=3&eps", "not 'eps' after the"),
        ("pgd?steps=3,4", "steps must be a whole number, not '3,4'"),
        ("mifgsm?components=none", "components must be several names joined by"),
        ("mifgsm?components=di,tii", "unknown attack component 'tii'; did you mean 'ti'"),
        ("mifgsm?components=di,di", "mifgsm: component 'di' is given twice"),
        ("difgsm?components=di", "difgsm: component 'di' is given twice"),
        ("pgd?components=ni", "pgd: component 'ni' needs momentum"),
        ("mifgsm?components=ni&decay=0.0", "mifgsm: component 'ni' needs momentum"),
        ("mifgsm?components=di&kernel=3", "mifgsm: kernel is a parameter of the component 'ti'"),
        ("pgd?diversity=0.3", r"which is not used: pgd\+di"),
        ("mifgsm?components=si&scales=0", r"mifgsm: scales must be in \[1, 24\], not 0"),
        ("mifgsm?components=si&scales=2.5", "scales must be a whole number, not 2.5"),
        ("mifgsm+di+tii", "unknown attack component 'tii'; did you mean 'ti'"),
        ("mifgsm+di?di.kernel=3", r"attack mifgsm\+di: unknown parameter 'kernel'"),
        ("mifgsm+di?ti.kernel=3", "mifgsm: ti.kernel: the component 'ti' is not used"),
        ("mifgsm+vmi+pgn?samples=3", "which component\\? Write vmi.samples or pgn.samples"),
        ("mifgsm+fia+naa", "mifgsm: 'fia' and 'naa' do not go together"),
        ("mifgsm+svre+cwa", "mifgsm: 'svre' and 'cwa' do not go together"),
        ("mifgsm+ni+pi", "mifgsm: 'ni' and 'pi' do not go together"),
        ("mifgsm+mi", "component 'mi' is for attacks without momentum"),
        ("mifgsm+fft", "component 'fft' is for targeted attacks"),
        ("mifgsm+fia?targeted=true", "component 'fia' is for untargeted attacks"),
        ("torchattacks:PGD+di", "torchattacks has no attack 'PGD\\+di'"),
        ("universal?examples=digits", "attack universal: unknown parameter 'examples'"),
        ("pgdd", "unknown attack 'pgdd'; did you mean 'pgd'"),
        ("mifgsm+vmi?sampels=3", "mifgsm: unknown parameter 'sampels'; did you mean 'samples'"),
        ("pgd?stepps=3", "attack pgd: unknown parameter 'stepps'; did you mean 'steps'"),
        ("pgd?steps=3.5", "attack pgd: steps must be a whole number, not 3.5"),
        ("pgd?steps=true", "steps must be a whole number, not True"),
        ("pgd?random_start=1", "random_start must be true or false, not 1"),
        ("pgd?alpha=big", "alpha must be a number or none, not 'big'"),
        ("pgd?alpha=-0.1", "alpha must be at least 0, not -"),
        ("pgd?eps=2", r"eps must be in \[0, 1\]"),
        ("torchattacks:PDG", "torchattacks has no attack 'PDG'; did you mean 'PGD'"),
        ("torchattacks:CW?cc=1", "torchattacks:CW: unknown parameter 'cc'; did you mean 'c'"),
        ("torchattacks:PGD?steps=many", "steps must be a whole number, not 'many'"),
        ("torchattacks:PGD?norm=l2", "works in linf only, not l2"),
        ("torchattacks:PGD?alpha=-1", "torchattacks:PGD: alpha must be at least 0, not -1"),
        ("torchattacks:PGD?steps=0", "steps must be at least 1, not 0"),
        ("torchattacks:GN?std=-0.1", "std must be at least 0"),
        ("torchattacks:MultiAttack?attacks=FGSM", "name at least two attacks"),
        ("torchattacks:TIFGSM?kernel_name=foo", "TIFGSM"),
        ("pgd?steps=2000000000", "steps must be in"),
        ("mifgsm?decay=1e300", "decay must be in"),
        ("torchattacks:PGDL2?norm=linf", "works in l2 only, not linf"),
        ("torchattacks:AutoAttack?version=best", "Not valid version"),
        ("torchattacks:DeepFool?targeted=true", "has no targeted form"),
        ("torchattacks:MultiAttack", "name its attacks"),
        ("torchattacks:MultiAttack?attacks=FGSM+PDG", "no attack 'PDG'"),
    ],
)
def test_what_cannot_be_is_said(spec: str, message: str) -> None:
    with pytest.raises(AttackError, match=message) as caught:
        make(spec)
    assert "\n" not in str(caught.value)


def test_what_stands_in_the_spec_wins() -> None:
    assert make("pgd?eps=0.2", eps=0.1).eps == 0.2
    assert make("pgd", eps=0.1).eps == 0.1


def test_names_are_joined_by_commas_or_plus_signs() -> None:
    expected = MIFGSM(eps=0.1, components=("di", "ti"))
    assert make("mifgsm?eps=0.1&components=di,ti") == expected
    assert make("mifgsm?eps=0.1&components=di+ti") == expected
    assert make("mifgsm+di+ti?eps=0.1") == expected
    assert make("mifgsm+di?eps=0.1&components=ti") == expected
    assert make("mifgsm", eps=0.1, components=["di", "ti"]) == expected
    assert make("mifgsm+vmi+pgn?vmi.samples=3") == MIFGSM(components=("vmi?samples=3", "pgn"))
    assert make("mifgsm", eps=0.1, components=("di", "ti")) == expected
    with pytest.raises(AttackError, match=r"components are several names, .* not 'di'"):
        MIFGSM(components="di")  # type: ignore[arg-type]


def test_torchattacks_attacks_have_their_own_defaults() -> None:
    assert make("torchattacks:PGDL2").norm == "l2"
    assert make("torchattacks:PGDL2").eps == 1.0
    assert make("torchattacks:PIFGSM").eps == 16 / 255
    assert make("torchattacks:CW").eps == 1.0  # the whole range: it looks at any distance
    assert make("torchattacks:APGD", norm="l2").to_dict()["norm"] == "l2"
