"""Label files as people write them, and `images:` over them."""

from __future__ import annotations

from pathlib import Path

import pytest

from robustkit.data import load, open_evaluation
from robustkit.data.label_table import read_label_table
from robustkit.errors import DataError
from tests.robustkit.data.pictures import flat_folder, write_table


def written(folder: Path, text: str | bytes) -> Path:
    path = folder / "labels.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


@pytest.mark.parametrize(
    "header", ["filename,label", "label,file,x", "image , target", "class,path"]
)
def test_usual_columns_are_found(tmp_path: Path, header: str) -> None:
    names = [name.strip() for name in header.split(",")]
    row = ",".join("7" if name in ("label", "target", "class") else "a.png" for name in names)
    table = read_label_table(written(tmp_path, f"{header}\n{row}\n\n"))
    assert table.filenames == ("a.png",)
    assert table.labels == (7,)
    assert table.classes is None


def test_columns_may_be_named(tmp_path: Path) -> None:
    path = written(tmp_path, "filename,label,ImageId,TrueLabel\na.png,1,b.png,2\n")
    table = read_label_table(path, filename="ImageId", column="TrueLabel")
    assert (table.filenames, table.labels) == (("b.png",), (2,))


def test_a_byte_order_mark_quotes_and_windows_lines_are_read(tmp_path: Path) -> None:
    text = '\ufefffilename,label,name\r\n"a, b.png",0,"tench, Tinca"\r\n./sub/c.png,1,\r\n'
    table = read_label_table(written(tmp_path, text))
    assert table.filenames == ("a, b.png", "sub/c.png")
    assert table.hints == {0: "tench, Tinca"}


def test_names_make_classes_and_numbers_make_indices(tmp_path: Path) -> None:
    named = read_label_table(written(tmp_path, "file,label\na,dog\nb,cat\nc,dog\n"))
    assert named.classes == ("cat", "dog")
    assert named.labels == (1, 0, 1)
    mixed = read_label_table(written(tmp_path, "file,label\na,3\nb,cat\n"))
    assert mixed.classes == ("3", "cat")
    numbers = read_label_table(written(tmp_path, "file,label\na,3\nb,0\n"))
    assert (numbers.classes, numbers.labels) == (None, (3, 0))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty; a header row"),
        ("filename,label\n", "has a header and no rows"),
        ("name,label\na.png,0\n", r"no column filename or file .*name one by filename=COLUMN"),
        ("filename,wnid\na.png,n0\n", r"no column label or .*by column=COLUMN.*filename, wnid"),
        ("filename,label,label\na.png,0,1\n", "has two columns 'label'"),
        ("filename,label\na.png,0\nb.png\n", "line 3: nothing in the column 'label'"),
        ("filename,label\na.png,0\n,1\n", "line 3: nothing in the column 'filename'"),
        ("filename,label\na.png,0\nb.png,1\na.png,2\n", "lists 'a.png' twice, in lines 2 and 4"),
        ("filename,label\na.png,-1\n", "line 2: the label -1; labels count from 0"),
        ("filename,label\na.png,1.5\nb.png,2\n", "line 2: the label 1.5 is no whole number"),
        ("filename,label\na.png,nan\n", "the label nan is no whole number"),
        ("filename,label\na.png,99999999999\n", "the label 99999999999; labels count"),
        ("filename,label\na.png," + "9" * 5000 + "\n", "the label 9+ is no whole number"),
        ("filename,label\n../a.png,1\n", r"line 2: '../a.png' leads out of the folder"),
        ("filename,label\n/etc/a.png,1\n", "'/etc/a.png' leads out of the folder"),
        ("filename,label\nb/../../a.png,1\n", "leads out of the folder"),
        (b"filename,label\n\xe4.png,1\n", r"not text in UTF-8 \(byte 15\)"),
        (b'filename,label\n"a.png,1\n', "cannot be read as CSV: line 2: unexpected end of data"),
        (
            "filename,label\n" + "a" * 200_000 + ",1\n",
            "cannot be read as CSV: line 2: field larger",
        ),
    ],
)
def test_what_is_wrong_is_named_in_one_line(
    tmp_path: Path, text: str | bytes, message: str
) -> None:
    path = written(tmp_path, text)
    with pytest.raises(DataError, match=message) as caught:
        read_label_table(path)
    assert "labels.csv" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 500


def test_an_unknown_column_is_named_with_the_nearest(tmp_path: Path) -> None:
    path = written(tmp_path, "filename,label,TrueLabel\na.png,0,1\n")
    message = r"no column 'TrueLable'; did you mean 'TrueLabel'\? \(known: TrueLabel, filename, "
    with pytest.raises(DataError, match=message):
        read_label_table(path, column="TrueLable")


def test_the_label_file_is_looked_for_in_the_folder_then_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flat = flat_folder(tmp_path / "flat", 4)
    write_table(tmp_path / "here.csv", ("filename", "label"), [("003.png", 3)])
    monkeypatch.chdir(tmp_path)
    assert len(open_evaluation("images:flat?labels=labels.csv")) == 4
    assert open_evaluation("images:flat?labels=here.csv").labels.tolist() == [3]
    assert len(open_evaluation(f"images:flat?labels={flat / 'labels.csv'}")) == 4
    assert open_evaluation("images:flat?labels=../here.csv").labels.tolist() == [3]
    with pytest.raises(DataError, match=r"no label file none\.csv, neither in flat nor in the"):
        open_evaluation("images:flat?labels=none.csv")
    monkeypatch.chdir("/")
    with pytest.raises(DataError, match=r"did you mean labels=\.\./here\.csv"):
        open_evaluation(f"images:{flat}?labels=here.csv")


def test_pictures_named_and_missing_are_counted(tmp_path: Path) -> None:
    flat = flat_folder(tmp_path / "flat", 5)
    (flat / "004.png").unlink()
    (flat / "002.png").unlink()
    with pytest.raises(DataError, match=r"2 of 5 pictures that .* are missing, first '002\.png'"):
        open_evaluation(f"images:{flat}?labels=labels.csv")


def test_pictures_without_a_label_are_a_note(tmp_path: Path) -> None:
    flat = flat_folder(tmp_path / "flat", 5, size=(4, 4))
    write_table(flat / "some.csv", ("filename", "label"), [("001.png", "ant"), ("003.png", "bee")])
    opened = open_evaluation(f"images:{flat}?labels=some.csv")
    assert opened.notes == (
        f"3 pictures in {flat} have no label in {flat / 'some.csv'} and are left out",
    )
    assert opened.classes == ("ant", "bee")
    splits = load(f"images:{flat}?labels=some.csv")
    assert tuple(splits.parts) == ("test",)
    assert splits.test.digest() == opened.read().digest()


def test_pictures_may_lie_in_folders_below(tmp_path: Path) -> None:
    flat_folder(tmp_path / "a" / "b", 3, size=(4, 4))
    rows = [(f"b/{number:03d}.png", number) for number in range(3)]
    write_table(tmp_path / "a" / "labels.csv", ("filename", "label"), rows)
    opened = open_evaluation(f"images:{tmp_path / 'a'}?labels=labels.csv")
    assert opened.read(classes=("x", "y", "z")).labels.tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("images:{}", r"pictures need their labels; write images:.*\?labels=labels\.csv"),
        ("images:{}/none?labels=labels.csv", "no such folder: .*none"),
        ("images:{}?label=labels.csv", "unknown option 'label'; did you mean 'labels'"),
        ("images:{}?labels=labels.csv&column=lable", "no column 'lable'; did you mean 'label'"),
        ("images", "'images' lacks a path; write images:PATH"),
    ],
)
def test_a_spec_that_cannot_be_is_refused(tmp_path: Path, spec: str, message: str) -> None:
    flat_folder(tmp_path, 2)
    with pytest.raises(DataError, match=message):
        open_evaluation(spec.format(tmp_path))


def test_one_name_for_all_is_no_classification(tmp_path: Path) -> None:
    flat_folder(tmp_path, 2)
    write_table(tmp_path / "labels.csv", ("filename", "label"), [("000.png", "ant")])
    with pytest.raises(DataError, match=r"images:.*: only one class, \('ant',\)"):
        open_evaluation(f"images:{tmp_path}?labels=labels.csv")


def test_a_label_that_counts_no_classes_is_refused_when_none_are_given(tmp_path: Path) -> None:
    flat_folder(tmp_path, 2)
    write_table(tmp_path / "labels.csv", ("filename", "label"), [("000.png", 2**30)])
    with pytest.raises(DataError, match="labels go up to 1,073,741,824"):
        load(f"images:{tmp_path}?labels=labels.csv")
