import pytest

from groundcli.annotation import parse_shard
from groundcli.errors import UsageError


@pytest.mark.parametrize(("text", "expected"), [("1/1", (1, 1)), ("2/8", (2, 8)), (" 10/10 ", (10, 10))])
def test_parse_shard(text: str, expected: tuple[int, int]) -> None:
    assert parse_shard(text) == expected


@pytest.mark.parametrize(
    "text", ["", "2", "0/8", "9/8", "-1/8", "1/0", "a/b", "1/2/3", "1.5/2", "1 / 2", "9" * 5_000 + "/1"]
)
def test_shards_that_make_no_sense(text: str) -> None:
    with pytest.raises(UsageError, match="expected I/N"):
        parse_shard(text)
