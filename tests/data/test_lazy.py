import pytest

from groundcli.data.lazy import Lazy


def test_items_are_made_when_they_are_asked_for() -> None:
    made: list[int] = []
    items = Lazy([1, 2, 3, 4], lambda key: made.append(key) or 10 * key)
    assert (len(items), len(items[1:3]), made) == (4, 2, [])
    assert (items[1], items[-1], items[1:3][1]) == (20, 40, 30)
    assert made == [2, 4, 3]
    assert list(items) == [10, 20, 30, 40]
    with pytest.raises(IndexError):
        items[4]
