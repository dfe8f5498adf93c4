import os
import pickle
import struct
import tracemalloc
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest

from groundcli.data.referit import load, load_pickle
from groundcli.errors import GroundcliError
from tests.data.files import write
from tests.data.published import BALL, ball, referit


def test_expressions_are_phrases(tmp_path: Path) -> None:
    referit(tmp_path)
    (sample,) = load(tmp_path, "val")
    assert sample.name == "images/saiapr_tc-12/00/images/112.jpg"
    assert sample.image == tmp_path / sample.name
    phrases = [caption.phrases[0] for caption in sample.captions]
    assert [caption.text for caption in sample.captions] == ["red ball", "the ball", "red ball"]
    assert [phrase.boxes for phrase in phrases] == [(tuple(BALL),), (tuple(BALL),), ((100, 0, 10, 20),)]
    assert {(phrase.category, phrase.span[0], phrase.text == "") for phrase in phrases} == {("ball", 0, False)}


def test_boxes_are_scaled_to_the_image_on_the_disk(tmp_path: Path) -> None:
    from PIL import Image

    referit(tmp_path)
    Image.new("RGB", (480, 90)).save(tmp_path / "images/saiapr_tc-12/00/images/112.jpg")
    assert load(tmp_path, "val")[0].captions[0].phrases[0].boxes == ((40, 15, 120, 30),)


@pytest.mark.parametrize(
    ("split", "images"),
    [
        ("test", ["12345.jpg"]),  # berkeley's
        ("berkeley/test", ["12345.jpg"]),
        ("unc/test", ["12345.jpg"]),
        ("unc/testA", ["12345.jpg"]),
        ("unc/testAB", ["12345.jpg"]),
        ("unc/val", ["112.jpg"]),
        ("testA", None),  # berkeley has none
        ("unc/testC", None),
        ("tes", None),
    ],
)
def test_splits(tmp_path: Path, split: str, images: list[str] | None) -> None:
    referit(tmp_path)
    referit(tmp_path, owner="unc")
    if images is None:
        with pytest.raises(GroundcliError, match=r"refs\(\w+\)\.p: no expressions of the split \w+; it has the splits"):
            load(tmp_path, split)
    else:
        assert [sample.image.name for sample in load(tmp_path, split)] == images


def test_only_the_other_list_is_there(tmp_path: Path) -> None:
    referit(tmp_path, owner="unc")
    assert len(load(tmp_path, "testB")) == 1


def test_folders_may_be_left_out(tmp_path: Path) -> None:
    referit(tmp_path, folder=".")
    (tmp_path / "images/saiapr_tc-12").rename(tmp_path / "saiapr_tc-12")
    assert load(tmp_path, "val")[0].name == "saiapr_tc-12/00/images/112.jpg"


def test_all_missing_files_are_named_at_once(tmp_path: Path) -> None:
    ball(tmp_path / "images/a.jpg")
    with pytest.raises(GroundcliError) as error:
        load(tmp_path, "val")
    assert str(error.value) == (
        f"{tmp_path}: lacks refclef/refs(berkeley).p, refclef/instances.json, images/saiapr_tc-12/ "
        "(published at https://github.com/lichengunc/refer)"
    )


@pytest.mark.parametrize(
    ("refs", "words"),
    [
        (3, "not RefClef's expressions"),
        ([{"split": "val"}], "no 'sentences'"),
        ([{"split": "val", "sentences": [], "category_id": 3, "ann_id": 77}], "no 77"),
    ],
)
def test_bad_expressions_are_named(tmp_path: Path, refs: object, words: str) -> None:
    referit(tmp_path)
    write(tmp_path, {"refclef/refs(berkeley).p": pickle.dumps(refs, protocol=2)})
    with pytest.raises(GroundcliError, match=words):
        load(tmp_path, "val")


# --- Pickles


PLAIN = [
    {"a": [1, -2, 3.5, True, False, None, 2**40, 2**2000], "b": ("x", ()), ("k", 1): {}, "é": "日本", "l": "x" * 300}
]


class _Calls:
    """A pickle of this runs something when it is loaded."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.what = function, arguments

    def __reduce__(self) -> Any:
        return self.what


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_plain_data_of_every_protocol(tmp_path: Path, protocol: int) -> None:
    path = tmp_path / "plain.p"
    path.write_bytes(pickle.dumps(PLAIN, protocol))
    assert load_pickle(path) == PLAIN


def test_text_of_python_2(tmp_path: Path) -> None:
    path = tmp_path / "refs.p"
    # pickle.dumps([{'sent': 'caf\xe9', 'n': 7L}], 2) of Python 2.7
    path.write_bytes(b"\x80\x02]q\x00}q\x01(U\x04sentq\x02U\x04caf\xe9q\x03U\x01nq\x04\x8a\x01\x07ua.")
    assert load_pickle(path) == [{"sent": "café", "n": 7}]


TOUCH = "import pathlib; pathlib.Path('touched').touch()"


@pytest.mark.parametrize(
    "content",
    [
        pickle.dumps(_Calls(os.system, "touch touched"), 2),
        pickle.dumps(_Calls(exec, TOUCH), 0),
        pickle.dumps(_Calls(exec, TOUCH), 4),
        pickle.dumps([{"sent": _Calls(eval, f"exec({TOUCH!r})")}], 5),  # deep inside plain data
        pickle.dumps(_Calls(getattr, _Calls(__import__, "os"), "system"), 2),  # a chain of getattr
        b"cos\nsystem\n(S'touch touched'\ntR.",  # GLOBAL, REDUCE
        b"(S'touch touched'\nios\nsystem\n.",  # INST
        b"(cos\nsystem\nS'touch touched'\no.",  # OBJ
        b"\x8c\x05posix\x8c\x06system\x93\x8c\x0dtouch touched\x85R.",  # STACK_GLOBAL
        b"\x82\x01.",  # EXT1: the extension registry
        b"\x80\x02cbuiltins\nlist\n)\x81.",  # NEWOBJ, of something harmless too
        b"}}b.",  # BUILD
        b"S'1'\nQ.",  # BINPERSID
        pickle.dumps(OrderedDict(a=1), 2),
        pickle.dumps({1, 2}, 4),
    ],
)
def test_anything_else_is_refused_and_nothing_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "evil.p"
    path.write_bytes(content)
    with pytest.raises(GroundcliError, match=r"evil\.p: refused \(it holds more than plain data"):
        load_pickle(path)
    assert [file.name for file in tmp_path.iterdir()] == ["evil.p"]


def test_the_malice_is_real(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    pickle.loads(pickle.dumps(_Calls(exec, TOUCH), 2))
    assert (tmp_path / "touched").exists()


@pytest.mark.parametrize(
    "content",
    [
        b"\x80\x02]r" + struct.pack("<I", 2**31 - 1) + b".",  # a memo of 2**31 entries: 16 GB
        b"\x80\x02]p2147483647\n.",
        b"\x8d" + struct.pack("<Q", 2**40) + b"x.",  # a text of 2**40 bytes
        b"X" + struct.pack("<I", 2**31) + b"x.",
        b"\x8b" + struct.pack("<i", 2**31 - 1) + b"x.",  # a number of 2**31 bytes
        b"\x96" + struct.pack("<Q", 2**40) + b"x.",  # a bytearray
        b"I" + b"9" * 100_000 + b"\n.",
        b"",
        b"not a pickle",
        pickle.dumps(PLAIN, 2)[:-20],
        b"}]K\x01s.",  # a list as a key
    ],
)
def test_damaged_files_and_bombs_cost_nothing(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "bad.p"
    path.write_bytes(content)
    tracemalloc.start()
    try:
        with pytest.raises(GroundcliError) as error:
            load_pickle(path)
        assert tracemalloc.get_traced_memory()[1] < 10_000_000
    finally:
        tracemalloc.stop()
    assert "\n" not in str(error.value)
    assert "bad.p: refused (" in str(error.value)


def test_a_folder_is_no_pickle(tmp_path: Path) -> None:
    with pytest.raises(GroundcliError, match="can't be read"):
        load_pickle(tmp_path)
