from pathlib import Path

import pytest
import torch

from groundcli.data import Caption, find
from groundcli.data.phrases import tokenize
from groundcli.devices import TorchRuntime
from groundcli.errors import Interrupted
from groundcli.grounder import Grounder
from groundcli.heat import EVIDENCE
from groundcli.model.grounding_model import GroundingModel
from groundcli.training import presence
from groundcli.training.features import LiveFeatures, Preparation
from groundcli.training.gradient import Ranks
from groundcli.training.presence import learn_presence
from groundcli.weights.load import load_model
from tests.shapes import draw_shape, write_shapes

SMALL = ["model.visual.image_size=96", "model.visual.grid=6", "model.calibration=[]", "model.box_calibration=[]"]


@pytest.fixture(scope="module")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shapes")
    write_shapes(folder, copies=6)
    return folder


def learn(folder: Path, stopped: bool = False) -> tuple[GroundingModel, bool]:
    model = load_model("lite", SMALL).model
    model.presence = None
    samples, *_ = find.load([folder])
    captions = {i: [[word.text for word in tokenize(c.text)] for c in s.captions] for i, s in enumerate(samples)}
    features = LiveFeatures(samples, model.backbone, Preparation(96, 6))
    return model, learn_presence(model, features, captions, 0, Ranks(), "float32", lambda: stopped)


@pytest.mark.slow
def test_it_learns_which_words_are_there(shapes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(presence, "AT_LEAST", 20)
    model, learned = learn(shapes)
    assert learned
    assert not any(parameter.requires_grad for parameter in model.presence.parameters())
    grounder = Grounder(TorchRuntime(model))
    image = grounder.encode(draw_shape("red", "circle", (80, 60)))
    words = ["red", "circle", "green", "square", "zzqx"]
    evidence = grounder.phrase_heat(image, [Caption.of_phrase(word) for word in words]).evidence
    assert evidence.shape == (len(words), len(EVIDENCE))
    likely = dict(zip(words, evidence[:, EVIDENCE.index("head_likely")].tolist(), strict=True))
    assert min(likely["red"], likely["circle"]) > max(likely["green"], likely["square"], likely["zzqx"])
    again, _ = learn(shapes)
    for one, other in zip(model.presence.state_dict().values(), again.presence.state_dict().values(), strict=True):
        assert torch.equal(one, other)


@pytest.mark.slow
def test_few_photographs_tell_nothing(shapes: Path) -> None:
    model, learned = learn(shapes)
    assert not learned
    assert model.presence is None


@pytest.mark.slow
def test_a_stop_changes_nothing(shapes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(presence, "AT_LEAST", 20)
    with pytest.raises(Interrupted):
        learn(shapes, stopped=True)
