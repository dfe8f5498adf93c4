"""Checkpoints are whole or refused, in one line."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from groundcli.checkpoint import load, load_trained, save
from groundcli.errors import GroundcliError

TENSORS = {"model/a": torch.arange(6.0).view(2, 3), "model/b": torch.tensor([1, 2])}


def test_what_was_written_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    save(path, TENSORS, {"epoch": 3, "sums": {"words": 0.1}})
    tensors, metadata = load(path, ("epoch",))
    assert metadata == {"epoch": 3, "sums": {"words": 0.1}}
    assert tensors.keys() == TENSORS.keys()
    assert all(torch.equal(tensors[name], tensor) for name, tensor in TENSORS.items())
    assert [file.name for file in tmp_path.iterdir()] == ["a.safetensors"]


def test_the_one_before_is_kept_where_asked(tmp_path: Path) -> None:
    last, previous = tmp_path / "last.safetensors", tmp_path / "previous.safetensors"
    for epoch in (1, 2, 3):
        save(last, TENSORS, {"epoch": epoch}, previous)
    assert [load(path)[1]["epoch"] for path in (last, previous)] == [3, 2]


def test_equal_checkpoints_are_equal_files(tmp_path: Path) -> None:
    for name in ("a", "b"):
        save(tmp_path / name, TENSORS, {"epoch": 3, "recipe": {"x": 1}})
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def refusal(path: Path) -> str:
    with pytest.raises(GroundcliError) as error:
        load_trained(path)
    assert len(str(error.value).splitlines()) == 1
    return str(error.value).removeprefix(f"{path}: ")


@pytest.mark.parametrize(
    "metadata", ["no JSON", "null", "[1, 2]", "3", '{"recipe": ', "[" * 100_000], ids=lambda text: text[:9]
)
def test_metadata_that_is_no_dictionary(tmp_path: Path, metadata: str) -> None:
    save_file(TENSORS, tmp_path / "a", {"groundcli": metadata})
    assert refusal(tmp_path / "a") == "damaged: its metadata can't be read"


@pytest.mark.parametrize(
    "metadata",
    [
        {},
        {"recipe": {}},
        {"frozen": {}},
        {"recipe": [], "frozen": {}},
        {"recipe": {}, "frozen": None},
        {"recipe": {}, "frozen": {"vgg16": 3}},
    ],
    ids=str,
)
def test_metadata_of_no_model(tmp_path: Path, metadata: dict[str, object]) -> None:
    save_file(TENSORS, tmp_path / "a", {"groundcli": json.dumps(metadata)})
    assert refusal(tmp_path / "a") == "written by groundcli, but not a trained model"


def test_a_key_that_is_needed(tmp_path: Path) -> None:
    save(tmp_path / "a", TENSORS, {"epoch": 3})
    with pytest.raises(GroundcliError, match="a: damaged: its metadata lacks batch"):
        load(tmp_path / "a", ("epoch", "batch"))


@pytest.mark.parametrize(
    ("place", "message"),
    [(5, "not a whole safetensors file ("), (-5, "damaged: its tensors are not those that were written")],
)
def test_a_changed_byte(tmp_path: Path, place: int, message: str) -> None:
    save(tmp_path / "a", TENSORS, {"recipe": {}, "frozen": {}})
    content = bytearray((tmp_path / "a").read_bytes())
    content[place] ^= 4
    (tmp_path / "a").write_bytes(content)
    assert refusal(tmp_path / "a").startswith(message)


def test_what_is_no_checkpoint(tmp_path: Path) -> None:
    assert refusal(tmp_path / "none") == "no such file"
    (tmp_path / "empty").touch()
    assert refusal(tmp_path / "empty").startswith("not a whole safetensors file (")
    save_file(TENSORS, tmp_path / "others")
    assert refusal(tmp_path / "others") == "was not written by groundcli: it has no recipe in its metadata"


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(GroundcliError, match=r"can't be written .*make room on the disk"):
        save(tmp_path / "none" / "a.safetensors", TENSORS, {})
