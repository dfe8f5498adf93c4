import gzip
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console

from groundcli import checkpoint
from groundcli.errors import GroundcliError, UsageError
from groundcli.recipe import ElmoConfig
from groundcli.training import PretrainElmoOptions, language_model
from groundcli.training.language_model import pretrain_elmo, read_captions, vocabulary
from groundcli.weights.elmo import load_elmo, save_options

TINY = ElmoConfig(filters=((1, 8), (2, 8)), character_dim=8, highways=1, activation="relu", hidden=32, projection=16)
QUICK = {"epochs": 4, "batch_size": 16, "learning_rate": 1e-2, "warmup": 5, "min_count": 1, "held_out": 20}
# Twelve sentences of one grammar: a language model can know every word but the third.
CAPTIONS = [
    ["a", colour, thing, "runs", "."] for colour in ("red", "blue", "green") for thing in ("dog", "cat", "fox", "cow")
] * 20


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    """Captions and sizes."""
    captions, sizes = tmp_path / "captions.txt", tmp_path / "sizes.json"
    captions.write_text("".join(f"{' '.join(words)}\n" for words in CAPTIONS))
    save_options(TINY, sizes)
    return captions, sizes


def run(files: tuple[Path, Path], out: Path, **more: Any) -> float:
    captions, sizes = files
    options = PretrainElmoOptions(captions=captions, sizes=sizes, out=out, device="cpu", **{**QUICK, **more})
    return pretrain_elmo(options, Console(quiet=True))


@pytest.mark.slow
def test_it_learns_the_grammar(files: tuple[Path, Path], tmp_path: Path) -> None:
    perplexity = run(files, tmp_path / "elmo")
    words = len(vocabulary(CAPTIONS, 1))
    assert perplexity < words / 4
    assert math.isfinite(perplexity)
    assert load_elmo(tmp_path / "elmo").config == TINY


@pytest.mark.slow
def test_a_resumed_run_ends_as_an_undisturbed_one(
    files: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(files, tmp_path / "whole")

    class PulledPlug(Exception):
        pass

    save = checkpoint.save

    def save_twice(path: Path, tensors: dict, state: dict) -> None:
        if state["epoch"] == 3:
            raise PulledPlug
        save(path, tensors, state)

    with monkeypatch.context() as patch:
        patch.setattr(language_model.checkpoint, "save", save_twice)
        with pytest.raises(PulledPlug):
            run(files, tmp_path / "cut")
    with pytest.raises(UsageError, match="was trained with other settings or captions"):
        run(files, tmp_path / "cut", resume=True, seed=1)
    run(files, tmp_path / "cut", resume=True)
    whole, cut = load_elmo(tmp_path / "whole"), load_elmo(tmp_path / "cut")
    for name, tensor in whole.state_dict().items():
        torch.testing.assert_close(cut.state_dict()[name], tensor)
    with pytest.raises(UsageError, match="holds a run already"):
        run(files, tmp_path / "cut")


@pytest.mark.parametrize("name", ["captions.txt", "captions.txt.gz"])
def test_captions_come_plain_or_packed(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    text = "A dog .\n\nTwo cats .\n"
    path.write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())
    assert read_captions(path) == [["A", "dog", "."], ["Two", "cats", "."]]


@pytest.mark.parametrize(
    ("name", "content"), [("a.txt", b"one line\n"), ("a.gz", b"no gzip"), ("a.txt", b"\xff\xfe\n")]
)
def test_bad_captions_are_one_line(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(GroundcliError, match=name):
        read_captions(tmp_path / name)
