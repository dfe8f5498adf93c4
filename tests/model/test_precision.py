"""bfloat16 for convolutions and matrix products; whatever sums up stays in float32."""

import pytest
import torch

from groundcli.devices import autocast
from groundcli.model.elmo import Elmo
from groundcli.model.grounding_model import GroundingModel
from groundcli.model.text import TextEncoders
from groundcli.model.visual import Backbone
from groundcli.recipe import ElmoConfig, LossConfig, ModelConfig, TextConfig, VisualConfig
from tests.model import grounding_loss, in_common_space

CPU = torch.device("cpu")
TINY = ElmoConfig(filters=((1, 4),), character_dim=4, highways=1, activation="relu", hidden=16, projection=8)
VISUAL = VisualConfig("tf_efficientnet_lite0", "", ("blocks.1", "blocks.2"), 64, 8, (32, 16))
CONFIG = ModelConfig(VISUAL, TextConfig(("",), 16, (32, 16)))
CAPTIONS = [["a", "dog"], ["two", "men", "ride"], ["red", "car"], ["water"]]


def outputs(precision):
    torch.manual_seed(0)
    model = GroundingModel(CONFIG, Backbone(VISUAL), TextEncoders(Elmo(TINY), []))
    images = torch.randint(0, 256, (4, 3, 64, 64), dtype=torch.uint8)
    with autocast(CPU, precision):
        maps = model.backbone(images)
        model.visual_mapping.set_scale(maps)
        v, s, z, text = in_common_space(model, maps, CAPTIONS, 8)
        loss = grounding_loss(v, s, z, text.index, text.mask, LossConfig())
    loss.backward()
    return model, maps, v, s, z, text, loss


@pytest.mark.slow
def test_bf16_computes_the_same_to_its_own_precision() -> None:
    for exact, rough in zip(outputs("float32")[2:5], outputs("bf16")[2:5], strict=True):
        torch.testing.assert_close(rough, exact, atol=0.05, rtol=0.05)
        assert not torch.equal(rough, exact)  # it did compute otherwise
    assert abs(outputs("bf16")[-1] / outputs("float32")[-1] - 1) < 0.02


@pytest.mark.slow
def test_norms_loss_text_encoders_and_gradients_stay_float32() -> None:
    model, maps, v, s, z, text, loss = outputs("bf16")
    assert all(m.dtype == torch.bfloat16 for m in maps)
    assert v.dtype == s.dtype == z.dtype == loss.dtype == torch.float32
    for vectors in (v, s, z):
        torch.testing.assert_close(vectors.norm(dim=-1), torch.ones(vectors.shape[:-1]), atol=1e-6, rtol=0)
    assert all(p.grad.dtype == torch.float32 for p in model.parameters() if p.grad is not None)
    for exact, given in zip(outputs("float32")[5].words, text.words, strict=True):
        assert torch.equal(exact, given)


def test_auto_is_float32_without_a_gpu() -> None:
    with autocast(CPU, "auto"):
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.float32


@pytest.mark.slow
def test_frozen_parts_keep_nothing_for_backward() -> None:
    model, maps, _, _, _, text, _ = outputs("float32")
    for tensor in (*maps, *text.words, *text.sentences):
        assert tensor.grad_fn is None
    for part in (model.backbone, model.text):
        assert not part.train().training
        assert all(p.grad is None and not p.requires_grad for p in part.parameters())
