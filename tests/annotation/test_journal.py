import json
import zlib
from pathlib import Path
from typing import Any

import pytest

from groundcli.annotation.journal import Journal, Line, read
from groundcli.errors import GroundcliError
from groundcli.output.record import opened


def record(name: str, key: str = "0f", **more: Any) -> dict[str, Any]:
    """Of an image without captions, or with an error."""
    return {"file_name": name, "key": key, **(more or {"width": 3, "height": 2, "captions": []})}


def sealed(text: str) -> bytes:
    """A JSON object with its own checksum, whatever is in it."""
    return f'{text[:-1]}, "crc32": "{zlib.crc32(text.encode()):08x}"}}'.encode()


def journal_of(path: Path, *records: dict[str, Any]) -> list[Line]:
    lines = [Line.of(one) for one in records]
    path.write_text("".join(f"{line.text}\n" for line in lines))
    return lines


@pytest.mark.parametrize("name", ["a.jpg", "sub/ü 熊\n.jpg", "latin-\udcfc.jpg", 'crc32": "00000000"}.jpg'])
def test_a_line_gives_its_record_back(name: str) -> None:
    for one, failed in ((record(name), False), (record(name, error="torn"), True)):
        line = Line.of(one)
        assert (line.name, line.key, line.failed) == (name, "0f", failed)
        assert "\n" not in line.text
        assert opened(line.text.encode()) == one
        assert json.loads(line.text).keys() == one.keys() | {"crc32"}


def test_no_byte_of_a_line_can_change_unseen() -> None:
    line = Line.of(record("a.jpg")).text.encode()
    for i in range(len(line)):
        assert opened(line[:i] + bytes([line[i] ^ 1]) + line[i + 1 :]) is None
        assert opened(line[:i]) is None


@pytest.mark.parametrize(
    "text",
    [
        "[]",
        "{}",
        '{"a": 1}',
        '{"file_name": "a.jpg", "key": "0f"}',
        '{"file_name": "/etc/a.jpg", "key": "0f", "error": "x"}',
        '{"file_name": "../a.jpg", "key": "0f", "error": "x"}',
        '{"file_name": "a/../../b.jpg", "key": "0f", "error": "x"}',
        "[" * 100_000 + "]",
    ],
)
def test_what_is_no_record_of_an_image_is_none(text: str) -> None:
    assert opened(sealed('{"file_name": "a.jpg", "key": "0f", "error": "x"}')) is not None
    assert opened(sealed(text)) is None
    assert opened(text.encode()) is None


def test_the_later_of_two_records_counts_and_order_is_brought_in(tmp_path: Path) -> None:
    path = tmp_path / "annotations.jsonl"
    journal_of(path, record("c.jpg", "1"), record("a.jpg", "1", error="torn"), record("gone.jpg"))
    journal = Journal(path)
    assert journal.keys == {"c.jpg": "1", "a.jpg": "1", "gone.jpg": "0f"}
    assert journal.failed == {"a.jpg"}
    journal.add([Line.of(record("a.jpg", "2")), Line.of(record("b.jpg", error="empty"))])
    assert (journal.keys["a.jpg"], journal.failed) == ("2", {"b.jpg"})
    journal.close(["a.jpg", "b.jpg", "c.jpg", "never.jpg"])
    assert [*read(path)] == [record("a.jpg", "2"), record("b.jpg", error="empty"), record("c.jpg", "1")]
    assert [file.name for file in tmp_path.iterdir()] == ["annotations.jsonl"]


def test_half_a_line_is_dropped_and_damaged_ones_are_set_aside(tmp_path: Path) -> None:
    path = tmp_path / "annotations.jsonl"
    first, second = journal_of(path, record("a.jpg"), record("b.jpg"))
    bad = b'{"file_name": "c.jpg"}\n\xff\x00\n'
    path.write_bytes(f"{first.text}\n".encode() + bad + b"\n" + f"{second.text}\n".encode() + b'{"file_name": "hal')
    journal = Journal(path)
    assert (journal.damaged, journal.keys) == (2, {"a.jpg": "0f", "b.jpg": "0f"})
    assert (tmp_path / "annotations.damaged.jsonl").read_bytes() == bad
    journal.add([Line.of(record("c.jpg"))])
    journal.close(["a.jpg", "b.jpg", "c.jpg"])
    assert [one["file_name"] for one in read(path)] == ["a.jpg", "b.jpg", "c.jpg"]


def test_a_damaged_line_of_a_closed_journal_is_named(tmp_path: Path) -> None:
    path = tmp_path / "annotations.jsonl"
    journal_of(path, record("a.jpg"), record("b.jpg"))
    path.write_bytes(path.read_bytes().replace(b"b.jpg", b"c.jpg"))
    records = read(path)
    assert next(records)["file_name"] == "a.jpg"
    with pytest.raises(GroundcliError, match=r"annotations\.jsonl:2: damaged; run the same command again"):
        next(records)
