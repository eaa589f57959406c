from __future__ import annotations

import pytest

from robustkit.data.sources.base import check_options, geometry_of, parse_spec
from robustkit.errors import DataError
from robustkit.geometry import Geometry


def test_a_spec_is_taken_apart() -> None:
    spec = parse_spec("images:a/b c?labels=x=y.csv&size=224")
    assert (spec.name, spec.path) == ("images", "a/b c")
    assert spec.options == {"labels": "x=y.csv", "size": "224"}
    assert parse_spec("digits").options == {}
    assert parse_spec("folder:C:/x").path == "C:/x"


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ("size=224", Geometry((224, 224), 224)),
        ("size=192x256", Geometry((192, 256), 256)),
        ("size=224&resize=256", Geometry((224, 224), 256)),
        ("size=224&resize=stretch", Geometry((224, 224), (224, 224))),
        ("size=192x256&resize=stretch", Geometry((192, 256), (192, 256))),
        ("size=224&resize=240x260", Geometry((224, 224), (240, 260))),
        ("interpolation=bicubic&size=32", Geometry((32, 32), 32, "bicubic")),
    ],
)
def test_options_say_the_geometry(options: str, expected: Geometry) -> None:
    assert geometry_of(parse_spec(f"folder:x?{options}")) == expected


def test_no_option_is_no_geometry() -> None:
    assert geometry_of(parse_spec("images:x?labels=y.csv")) is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("", "expected key=value between '&', not ''"),
        ("size", "expected key=value between '&', not 'size'"),
        ("size=", "expected key=value between '&', not 'size='"),
        ("=3", "expected key=value between '&', not '=3'"),
        ("size=8&size=9", "the option 'size' is given twice"),
        ("size=8&", "expected key=value between '&', not ''"),
    ],
)
def test_what_is_no_option_is_refused(options: str, message: str) -> None:
    with pytest.raises(DataError, match=f"folder:x.*{message}"):
        parse_spec(f"folder:x?{options}")


def test_unknown_options_are_named_with_the_nearest() -> None:
    spec = parse_spec("folder:x?sise=3")
    with pytest.raises(DataError, match="unknown option 'sise'; did you mean 'size'\\?"):
        check_options(spec, ("size", "resize"))
    with pytest.raises(DataError, match="'folder' takes no options"):
        check_options(spec, ())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("size=0", "size must be .* from 1 to 4096, not \\(0, 0\\)"),
        ("size=999999", "size must be"),
        ("size=" + "9" * 5_000, "size=9+… is no size in pixels; write size=224 or size=HxW"),
        ("size=-3", "size=-3 is no size"),
        ("size=big", "size=big is no size"),
        ("size=3x", "size=3x is no size"),
        ("size=²", "size=² is no size"),
        (
            "size=8&resize=wide",
            "resize=wide is no size .* or resize=HxW, a shorter side or stretch",
        ),
        ("size=8&resize=0", "resize must be"),
        ("resize=8", "'resize' needs a size beside it"),
        ("interpolation=bicubic", "'interpolation' needs a size beside it"),
        ("size=8&interpolation=cubic", "unknown interpolation 'cubic'; did you mean 'bicubic'"),
    ],
)
def test_what_is_no_geometry_is_refused_in_one_line(options: str, message: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        geometry_of(parse_spec(f"folder:x?{options}"))
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 600
