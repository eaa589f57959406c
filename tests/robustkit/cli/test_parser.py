from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from robustkit.cli.parser import CommandParser, add_config, config_from, real, several
from robustkit.errors import ConfigError
from robustkit.settings import setting


@dataclass(frozen=True, kw_only=True)
class Settings:
    epochs: int = setting(3, "help")
    batch_size: int = setting(4, "help")
    eps: float = setting(0.1, "help")
    clip: float | None = setting(None, "help")
    bf16: bool = setting(False, "help")
    patience: int | None = setting(None, "help")
    kinds: tuple[str, ...] = setting(("conv", "pool"), "help")


@pytest.fixture
def parser() -> CommandParser:
    parser = CommandParser("train")
    add_config(parser, Settings, title="settings")
    parser.add_argument("--against", action="append", type=several, default=[])
    parser.add_argument("--out")
    return parser


def write(folder: Path, text: str) -> str:
    file = folder / "options.yaml"
    file.write_text(text)
    return str(file)


def test_no_flags_give_the_dataclass_defaults(parser: CommandParser) -> None:
    options = parser.parse([])
    assert options is not None
    assert config_from(Settings, options.values) == Settings()
    assert options.given == {}


def test_flags_override_the_file_and_the_file_the_defaults(
    parser: CommandParser, tmp_path: Path
) -> None:
    file = write(
        tmp_path, "epochs: 7\nbatch_size: 8\neps: 8/255\nkinds: [dense]\nagainst: [a, b]\n"
    )
    options = parser.parse(["--config", file, "--batch-size", "9", "--bf16"])
    assert options is not None
    assert config_from(Settings, options.values) == Settings(
        epochs=7, batch_size=9, eps=8 / 255, bf16=True, kinds=("dense",)
    )
    assert options.against == ["a", "b"]
    assert set(options.given) == {"epochs", "batch_size", "eps", "kinds", "against", "bf16"}
    assert options.command[:2] == ("robustkit", "train")


def test_a_repeated_flag_collects_its_values(parser: CommandParser) -> None:
    options = parser.parse(["--against", "a", "--against=b"])
    assert options is not None
    assert options.against == ["a", "b"]


def test_the_printed_config_can_be_given_back(
    parser: CommandParser, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ["--eps", "8/255", "--patience", "5", "--against", "a"]
    assert parser.parse([*flags, "--out", "here", "--print_config"]) is None
    printed = capsys.readouterr().out
    assert "out" not in yaml.safe_load(printed)
    again = parser.parse(["--config", write(tmp_path, printed)])
    first = parser.parse(flags)
    assert again is not None
    assert first is not None
    skipped = {"config", "print_config"}
    assert {k: v for k, v in again.values.items() if k not in skipped} == {
        k: v for k, v in first.values.items() if k not in skipped
    }


def test_a_run_folders_config_is_a_config_file(parser: CommandParser, tmp_path: Path) -> None:
    file = write(tmp_path, "format: 1\nverb: train\nconfig:\n  epochs: 11\n")
    options = parser.parse(["--config", file])
    assert options is not None
    assert options.epochs == 11


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--batchsize", "3"], r"unknown option '--batchsize'; did you mean '--batch-size'\?$"),
        (["--batch", "3"], "unknown option '--batch'"),
        (["--zzz=1"], "unknown option '--zzz'; --help lists them"),
        (["--batch-size", "x"], r"^--batch-size: expected int, not 'x'$"),
        (["--patience", "x"], r"^--patience: expected (int, null|null, int), not 'x'$"),
        (["--eps", "x"], r"^--eps: expected a number or a fraction, not 'x'$"),
        (["--eps", "8/0"], r"^--eps: expected a number or a fraction, not '8/0'$"),
        (["--clip", "x"], r"^--clip: expected a number or a fraction, not 'x'$"),
        (["--epochs"], "^--epochs: expected one argument$"),
        (["stray"], "[Uu]nrecognized arguments: stray"),
    ],
)
def test_a_wrong_flag_is_one_line(
    parser: CommandParser, arguments: list[str], message: str
) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        parser.parse(arguments)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("batchsize: 3", r"options.yaml: unknown key 'batchsize'; did you mean 'batch_size'\?"),
        ("config: x", "unknown key 'config'"),
        ("3: 4", "unknown key '3'"),
        ("epochs: null", r"options.yaml: epochs: null is no value"),
        ("epochs: many", r"options.yaml: epochs: expected int, not 'many'"),
        ("bf16: maybe", "options.yaml: bf16: .*boolean.*maybe"),
        ("against: 3", "options.yaml: against: expected texts, not 3"),
        ("- epochs", "expected a mapping"),
        ("epochs: [3", "not YAML"),
        ("verb: evolve\nconfig: {}", "holds options of 'evolve', not of 'train'"),
        ("verb: train\nconfig: 3", "expected a mapping"),
        ("eps: !!python/object/apply:os.system [true]", "none of plain values"),
    ],
)
def test_a_wrong_file_is_named(
    parser: CommandParser, tmp_path: Path, text: str, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        parser.parse(["--config", write(tmp_path, text)])


def test_a_missing_file_is_named(parser: CommandParser) -> None:
    with pytest.raises(ConfigError, match=r"nowhere\.yaml: No such file"):
        parser.parse(["--config", "nowhere.yaml"])


def test_a_field_without_help_is_a_bug() -> None:
    @dataclass(frozen=True)
    class Bare:
        eps: float = 0.1

    with pytest.raises(KeyError, match="help"):
        add_config(CommandParser("train"), Bare, title="t")


@given(st.integers(-255, 255), st.integers(1, 255))
def test_fractions_are_read_as_python_divides(numerator: int, denominator: int) -> None:
    assert real(f"{numerator}/{denominator}") == numerator / denominator


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_numbers_are_read_as_python_reads_them(number: float) -> None:
    assert real(repr(number)) == number
    assert real(number) == number


@pytest.mark.parametrize("text", ["", "nan", "1/2/3", "1/0", "eight", "1e400"])
def test_what_is_no_number_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        real(text)


@pytest.mark.parametrize("number", [float("inf"), float("nan")])
def test_a_file_cannot_give_a_number_that_is_not_finite(number: float) -> None:
    with pytest.raises(ValueError, match=r"."):
        real(number)
