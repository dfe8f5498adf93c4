import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from groundcli import checkpoint
from groundcli.errors import GroundcliError, UsageError
from groundcli.weights.export import export
from groundcli.weights.imports import import_weights
from groundcli.weights.inventory import verify
from groundcli.weights.store import find

pytestmark = pytest.mark.usefixtures("store")


def write_run(folder: Path, **frozen: str) -> Path:
    """A run's folder as training leaves it, with optimizer; `frozen` are other names of the frozen parts."""
    tensors, metadata = checkpoint.load(find("lite"))
    visual, text = metadata["recipe"]["model"]["visual"], metadata["recipe"]["model"]["text"]
    visual["weights"] = frozen.get("backbone", visual["weights"])
    text["encoders"] = [frozen.get("words", text["encoders"][0])]
    names = zip([visual["weights"], *text["encoders"]], ["efficientnet_lite2", "minilm_words"], strict=True)
    metadata["frozen"] = {name: metadata["frozen"][part] for name, part in names}
    metadata["folder"] = str(folder)
    folder.mkdir()
    checkpoint.save(folder / "best.safetensors", tensors | {"optimizer/0/step": torch.zeros(1)}, metadata)
    return folder


@pytest.mark.slow
def test_an_exported_model_works_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = write_run(tmp_path / "run")
    parts = export(str(run), tmp_path / "shared" / "mine.safetensors")
    assert parts == {"efficientnet_lite2": "ships", "minilm_words": "ships"}
    monkeypatch.setenv("GROUNDCLI_WEIGHTS", str(tmp_path / "elsewhere"))
    assert import_weights(tmp_path / "shared" / "mine.safetensors").name == "mine"
    assert all(check.ok for check in verify("mine"))


def test_nothing_but_the_model_is_shared(tmp_path: Path) -> None:
    out = tmp_path / "mine.safetensors"
    export(str(write_run(tmp_path / "run")), out)
    with safe_open(out, framework="pt") as file:
        assert all(name.startswith("model/") for name in file.keys())  # noqa: SIM118 - not a mapping
        metadata = file.metadata()
    assert json.loads(metadata["groundcli"])["source"] == checkpoint.load(find("lite"))[1]["source"]
    assert str(tmp_path) not in metadata["groundcli"]


def test_a_path_of_a_frozen_part_becomes_its_name(tmp_path: Path) -> None:
    elsewhere = tmp_path / "words.safetensors"
    elsewhere.write_bytes(find("minilm_words").read_bytes())
    run = write_run(tmp_path / "run", words=str(elsewhere))
    export(str(run), tmp_path / "mine.safetensors")
    metadata = checkpoint.load(tmp_path / "mine.safetensors")[1]
    assert metadata["recipe"]["model"]["text"]["encoders"] == ["minilm_words"]
    assert metadata["frozen"].keys() == {"efficientnet_lite2", "minilm_words"}


def test_a_path_without_a_name_is_refused_with_the_way_out(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", backbone="runs/cnn.safetensors")
    tensors, metadata = checkpoint.load(run / "best.safetensors")
    metadata["frozen"]["runs/cnn.safetensors"] = "0" * 64
    checkpoint.save(run / "best.safetensors", tensors, metadata)
    with pytest.raises(GroundcliError, match=r"stands on runs/cnn.safetensors, .*weights import runs/cnn.safetensors"):
        export(str(run), tmp_path / "mine.safetensors")
    assert not (tmp_path / "mine.safetensors").exists()


def test_parts_of_ones_own_are_to_be_sent_too(tmp_path: Path, store: Path) -> None:
    store.mkdir()
    (store / "my_words.safetensors").write_bytes(find("minilm_words").read_bytes())
    parts = export(str(write_run(tmp_path / "run", words="my_words")), tmp_path / "mine.safetensors")
    assert parts["my_words"].endswith(str(store / "my_words.safetensors"))


def test_another_file_is_not_overwritten(tmp_path: Path) -> None:
    out = tmp_path / "mine.safetensors"
    run = write_run(tmp_path / "run")
    export(str(run), out)
    export(str(run), out)
    tensors, metadata = checkpoint.load(run / "best.safetensors")
    checkpoint.save(run / "best.safetensors", tensors, metadata | {"epoch": 1})
    before = out.read_bytes()
    with pytest.raises(UsageError, match=r"mine.safetensors: exists and holds something else"):
        export(str(run), out)
    assert out.read_bytes() == before
    assert [path.name for path in tmp_path.glob("mine*")] == ["mine.safetensors"]


def test_frozen_parts_are_no_models(tmp_path: Path) -> None:
    with pytest.raises(GroundcliError, match=r"minilm_words.safetensors: was not written by groundcli"):
        export("minilm_words", tmp_path / "mine.safetensors")
    with pytest.raises(UsageError, match=r"--out .*: expected a name that ends in .safetensors"):
        export("lite", tmp_path / "mine.pth")
