import pytest

from robustkit.errors import AttackError
from robustkit.registry import Registry


def test_what_was_registered_is_found_in_order_and_left_as_it_was() -> None:
    registry: Registry[object] = Registry("knife", AttackError, {"bread": 1})
    thing = object()
    assert registry.register("cheese")(thing) is thing
    registry.enter("apple", 3)
    assert list(registry) == ["bread", "cheese", "apple"]
    assert registry.find("cheese") is thing


def test_an_unknown_name_raises_the_error_of_its_kind_with_the_nearest() -> None:
    registry = Registry("knife", AttackError, {"bread": 1, "cheese": 2})
    with pytest.raises(AttackError) as caught:
        registry.find("chese")
    expected = "unknown knife 'chese'; did you mean 'cheese'? (known: bread, cheese)"
    assert str(caught.value) == expected


def test_a_name_that_is_taken_is_a_bug_and_changes_nothing() -> None:
    registry = Registry("knife", AttackError, {"bread": 1})
    for enter in (registry.enter, lambda name, thing: registry.register(name)(thing)):
        with pytest.raises(ValueError, match="knife 'bread' is registered twice"):
            enter("bread", 2)
    assert registry == {"bread": 1}
