"""Ids of the ledger: their fields are written and read back, and nothing else is an id."""

from __future__ import annotations

import pytest

from evolution.protocol.roles import TrialId

IDS = {
    "prepare": TrialId(stage="prepare"),
    "reference/S": TrialId(stage="reference", role="S"),
    "baseline/R2": TrialId(stage="baseline", role="R2"),
    "reference/R.2": TrialId(stage="reference", role="R.2"),
    "reference/S.12": TrialId(stage="reference", role="S.12"),
    "qualification/R2-1": TrialId(stage="qualification", role="R2", replicate=1),
    "qualification/R.12-1": TrialId(stage="qualification", role="R.12", replicate=1),
    "baseline/R2-2": TrialId(stage="baseline", role="R2", replicate=2),
    "baseline/R2-1/3": TrialId(stage="baseline", role="R2", replicate=1, epochs=3),
    "lambda/30-0": TrialId(stage="lambda", lam=30.0, replicate=0),
    "lambda/0.5-2": TrialId(stage="lambda", lam=0.5, replicate=2),
    "final/F0-1": TrialId(stage="final", role="F0", replicate=1),
    "judge/M-0": TrialId(stage="test", role="M", replicate=0),
    "baseline/R2/3": TrialId(stage="baseline", role="R2", epochs=3),
    "evolve/0007": TrialId(stage="search", search="evolve", number=7),
    "random/12345": TrialId(stage="search", search="random", number=12345),
    "rungs-evolve/0007/2": TrialId(stage="rung", search="evolve", number=7, epochs=2),
    "promote-random/0000": TrialId(stage="promotion", search="random", number=0),
    "final/E0-2": TrialId(stage="final", role="E0", replicate=2),
    "judge/Rp-0": TrialId(stage="test", role="Rp", replicate=0),
    "judge/R": TrialId(stage="test", role="R"),
}


@pytest.mark.parametrize(("text", "fields"), IDS.items())
def test_an_id_is_written_and_read_back(text: str, fields: TrialId) -> None:
    assert str(fields) == text
    assert TrialId.parse(text) == fields
    assert fields.arm == ("reference" if text == "prepare" else text.split("/")[0])


@pytest.mark.parametrize(
    "text",
    [
        *("", "evolve", "evolve/", "evolve/7", "evolve/00007", "evolve/x", "rungs-evolve/0007"),
        *("judge/E", "judge/R-0", "judge/S-0", "final/R-0", "final/E-00", "reference/E"),
        *(
            "baseline/E",
            "baseline/R2/",
            "prepare/R",
            "evolve/0007/1",
            "Evolve/0007",
            "evolve/0007\n",
            "reference/R.1",
            "reference/S.02",
            "lambda/30",
            "lambda/30.0-0",
            "lambda/e-0",
            "lambda/1.2.3-0",
            "qualification/R2",
            "qualification/R-1",
            "qualification/R.1-1",
            "qualification/S.2-1",
            "final/F1-0",
        ),
    ],
)
def test_any_other_text_is_no_id(text: str) -> None:
    assert TrialId.parse(text) is None
