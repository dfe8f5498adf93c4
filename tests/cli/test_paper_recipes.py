"""Recipes of large backbones through the command line, at their own size on small pictures, without any weights."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from groundcli import checkpoint
from groundcli.model.elmo import Elmo
from groundcli.recipe import ElmoConfig
from groundcli.weights.elmo import save_elmo
from groundcli.weights.load import load_model
from tests.cli.conftest import Run
from tests.shapes import write_shapes

pytestmark = pytest.mark.slow
TINY = ElmoConfig(
    filters=((1, 8), (2, 8), (3, 16)), character_dim=8, highways=1, activation="relu", hidden=32, projection=16
)
SETTINGS = {
    "model.visual.image_size": 64,
    "model.visual.grid": 4,
    "training.image_size": 0,  # the model's own
    "training.grid": 0,
    "model.visual.mapping": [32, 32],
    "model.text.width": 32,
    "model.text.mapping": [32, 32],
    "training.epochs": 50,
    "training.batch_size": 16,
    "training.learning_rate": 3e-3,
}

Done = subprocess.CompletedProcess[str]


def train(groundcli: Run, recipe: str, data: Path, elmo: Path, out: Path, *more: object, code: int = 0) -> Done:
    values = {**SETTINGS, "model.text.encoders": json.dumps([str(elmo)])}
    settings = [word for key, value in values.items() for word in ("--set", f"{key}={value}")]
    arguments = ["--dataset", "folder", "--data", data, "--recipe", recipe, "--out", out, *settings, *more]
    return groundcli("train", *arguments, code=code)


@pytest.fixture(scope="module")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shapes")
    write_shapes(folder)
    return folder


@pytest.fixture(scope="module")
def elmo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("elmo") / "tiny"
    save_elmo(Elmo(TINY), folder)
    return folder


@pytest.fixture(scope="module", params=["vgg16_elmo", "vgg16_bilstm_3x3", "dinov2_s14"])
def run(
    request: pytest.FixtureRequest, shapes: Path, elmo: Path, groundcli: Run, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    out = tmp_path_factory.mktemp("run") / request.param
    done = train(groundcli, request.param, shapes, elmo, out, "--untrained", "--set", "training.cache_features=true")
    assert (
        "WARNING: this run stands on a random backbone and ELMo (--untrained): its points mean nothing." in done.stderr
    )
    assert "on a RANDOM backbone and ELMo (--untrained)" in done.stdout
    return out


def test_the_loss_falls_on_random_frozen_parts(run: Path) -> None:
    losses = [json.loads(line)["loss"] for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert losses[-1] < 0.9 * losses[0]


def test_words_in_context_are_not_exported(run: Path, groundcli: Run, tmp_path: Path) -> None:
    done = groundcli("weights", "export", run, "--format", "onnx", "--out", tmp_path / "onnx", code=3)
    assert "which can't be exported; a single table of word pieces can" in " ".join(done.stderr.split())
    assert not [*tmp_path.iterdir()]


def test_the_checkpoint_says_so_and_holds_no_frozen_part(run: Path) -> None:
    tensors, metadata = checkpoint.load(run / "best.safetensors")
    assert metadata["untrained"] == 0
    assert all(digest.startswith("random ") for digest in metadata["frozen"].values())
    assert tensors
    assert all(
        name.startswith(("model/visual_m", "model/word_m", "model/sentence_m", "model/context")) for name in tensors
    )
    moments, _ = checkpoint.load(run / "last.safetensors")
    shapes = {tuple(t.shape) for name, t in tensors.items()}
    assert {tuple(t.shape) for name, t in moments.items() if name.endswith("exp_avg")} <= shapes


def test_annotate_and_eval_use_it_and_warn(run: Path, shapes: Path, groundcli: Run, tmp_path: Path) -> None:
    done = groundcli("annotate", shapes, "--weights", run, "--out", tmp_path / "out", "--no-overlays")
    assert "stands on a random backbone and ELMo (--untrained): its points mean nothing" in done.stderr
    assert json.loads((tmp_path / "out" / "run.json").read_text())["weights"]["untrained"] is True
    assert len(json.loads((tmp_path / "out" / "annotations.json").read_text())["annotations"]) == 32


def test_random_parts_come_out_the_same_again(run: Path) -> None:
    first, second = (load_model(str(run)).model.state_dict() for _ in range(2))
    assert all(tensor.equal(second[name]) for name, tensor in first.items())


def test_other_random_parts_are_refused(run: Path, groundcli: Run, shapes: Path, tmp_path: Path) -> None:
    tensors, metadata = checkpoint.load(run / "best.safetensors")
    metadata["untrained"] = 1
    other = tmp_path / "other"
    other.mkdir()
    shutil.copy(run / "run.json", other)  # only a run in its folder may name its ELMo by a path
    checkpoint.save(other / "best.safetensors", tensors, metadata)
    done = groundcli("annotate", shapes, "--weights", other, "--out", tmp_path / "out", code=3)
    assert f"its random {metadata['recipe']['model']['visual']['weights']} comes out otherwise" in done.stderr


def test_missing_weights_are_one_line(
    groundcli: Run, shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GROUNDCLI_WEIGHTS", str(tmp_path / "store"))
    arguments = ["--dataset", "folder", "--data", shapes, "--recipe", "vgg16_elmo", "--out", tmp_path / "run"]
    done = groundcli("train", *arguments, code=3)
    assert len(done.stderr.splitlines()) == 1
    for word in ("vgg16", "https://download.pytorch.org/models/vgg16-397923af.pth", "weights import", "weights fetch"):
        assert word in done.stderr


def test_images_that_cannot_be_decoded_are_left_out(groundcli: Run, shapes: Path, elmo: Path, tmp_path: Path) -> None:
    write_shapes(tmp_path / "data")
    (tmp_path / "data" / "red_circle_0.png").write_bytes(b"no picture")
    more = ["--untrained", "--limit", 16, "--set", "training.epochs=2"]
    done = train(groundcli, "vgg16_elmo", tmp_path / "data", elmo, tmp_path / "run", *more)
    assert "epoch 2: loss" in done.stdout
    (tmp_path / "data" / "blue_circle_0.png").write_bytes(b"no picture")
    done = train(groundcli, "vgg16_elmo", tmp_path / "data", elmo, tmp_path / "again", *more)
    assert done.stdout.count("skipped blue_circle_0.png") == 1
