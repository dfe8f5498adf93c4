"""One gradient, however the images of a batch are spread over parts and ranks."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from groundcli.model.attention import pairwise_scores
from groundcli.model.grounding_model import GroundingModel
from groundcli.model.text import TextEncoders, WordPieces
from groundcli.model.visual import Backbone
from groundcli.recipe import LossConfig, ModelConfig, TextConfig, VisualConfig
from groundcli.training.gradient import Batch, Ranks, add_gradient, joined
from tests.model import grounding_loss, in_common_space

WORDS = ["[UNK]", "[SEP]", "[CLS]", "[PAD]", "[MASK]", "a", "red", "blue", "dog", "cat", "on", "grass"]
CAPTIONS = ["a red dog", "a blue cat on grass", "red cat", "a dog on grass", "a blue dog", "grass"]
GRID = 3


def model(levels: str = "each", word_weight: float = 1.0) -> GroundingModel:
    torch.manual_seed(0)
    visual = VisualConfig("tf_efficientnet_lite0", "", ("blocks.1", "blocks.2"), 64, GRID, (8, 8), norm="image")
    text = TextConfig((), 12, (8,), per_level=levels == "each")
    loss = LossConfig(levels=levels, word_weight=word_weight)  # type: ignore[arg-type]
    encoders = TextEncoders(None, [WordPieces(torch.randn(len(WORDS), 12), WORDS)])
    return GroundingModel(ModelConfig(visual, text, loss), Backbone(visual), encoders)


def maps(channels: list[int]) -> list[torch.Tensor]:
    draw = torch.Generator().manual_seed(1)
    return [torch.randn(len(CAPTIONS), c, GRID, GRID, generator=draw) for c in channels]


def batch(of: GroundingModel, parts: list[list[int]], by_rank: list[int]) -> Batch:
    levels = maps(of.backbone.channels)
    captions = [caption.split() for caption in CAPTIONS]
    content = [set(caption) - {"a", "on"} for caption in captions]
    mine = [[level[indices] for level in levels] for indices in parts]
    return Batch(CAPTIONS, captions, content, mine, by_rank)


def gradients(of: GroundingModel) -> dict[str, torch.Tensor]:
    return {name: p.grad for name, p in of.named_parameters() if p.grad is not None}


def plain(levels: str, word_weight: float) -> tuple[float, dict[str, torch.Tensor]]:
    """The loss of the whole batch as `grounding_loss` has it, and autograd's gradients of that."""
    whole = model(levels, word_weight)
    everything = batch(whole, [list(range(6))], [6])
    v, s, z, text = in_common_space(whole, everything.parts[0], everything.captions, GRID)
    present = everything.present(text.tokens)
    loss = grounding_loss(v, s, z, text.index, text.mask, whole.config.loss, present)
    loss.backward()
    return float(loss.detach()), gradients(whole)


@pytest.mark.slow
@pytest.mark.parametrize("levels", ["each", "max"])
@pytest.mark.parametrize("word_weight", [0.0, 1.0])
@pytest.mark.parametrize("parts", [[[0, 1, 2, 3, 4, 5]], [[0, 1], [2, 3], [4, 5]], [[0], [1, 2, 3, 4, 5]]])
def test_parts_give_the_gradient_of_the_whole(levels: str, word_weight: float, parts: list[list[int]]) -> None:
    loss, expected = plain(levels, word_weight)
    accumulated = model(levels, word_weight)
    terms = add_gradient(accumulated, batch(accumulated, parts, [6]), GRID, Ranks(), "float32")
    assert sum(terms.values()) == pytest.approx(loss, abs=1e-5)
    found = gradients(accumulated)
    assert found.keys() == expected.keys()
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, atol=1e-5, rtol=1e-5)


def test_negatives_of_another_part_count() -> None:
    """A loss within each part is another one: the test above can fail."""
    loss, _ = plain("each", 1.0)
    half = model()
    own = batch(half, [[0, 1, 2]], [3])
    with torch.no_grad():
        v, s, z, text = in_common_space(half, own.parts[0], own.captions[:3], GRID)
        alone = grounding_loss(v, s, z, text.index, text.mask, half.config.loss, own.present(text.tokens)[:3])
    assert pairwise_scores(v, s).shape[0] == 3
    assert abs(float(alone) - loss) > 0.1


@pytest.mark.slow
@pytest.mark.parametrize("split", ["3 3", "5 1", "6 0"])
def test_two_ranks_equal_one(tmp_path: Path, split: str) -> None:
    """With real processes over gloo; also where a rank has lost images, or all of them, to bad files."""
    loss, expected = plain("each", 1.0)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    subprocess.run([*command, "-m", "tests.training.test_gradient", str(tmp_path), *split.split()], check=True)
    for rank in range(2):
        terms = json.loads((tmp_path / f"{rank}.json").read_text())
        found = torch.load(tmp_path / f"{rank}.pt")
        assert sum(terms.values()) == pytest.approx(loss, abs=1e-5)
        for name, gradient in expected.items():
            torch.testing.assert_close(found[name], gradient, atol=1e-5, rtol=1e-5)


def one_rank(out: Path, by_rank: list[int]) -> None:
    with joined(torch.device("cpu")) as (ranks, _):
        own = list(range(6))[: by_rank[0]] if ranks.first else list(range(6))[by_rank[0] :]
        part = model()
        parts = [own] if own else []
        terms = add_gradient(part, batch(part, parts, by_rank), GRID, ranks, "float32")
        (out / f"{ranks.rank}.json").write_text(json.dumps(terms))
        torch.save(gradients(part), out / f"{ranks.rank}.pt")


if __name__ == "__main__":
    one_rank(Path(sys.argv[1]), [int(n) for n in sys.argv[2:]])
