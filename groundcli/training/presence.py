"""How a model learns what absent words look like: from photographs and their captions, after all else is learned.

A word is absent from an image where no caption of it has the word in any form. What captions leave out is not always
absent, but for most words nearly so; and nothing else is known without boxes.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from itertools import chain
from typing import Any, cast

import torch
import torch.nn.functional as F
from rich.console import Console
from rich.progress import track
from torch import Tensor, nn

from groundcli.data.phrases import content_key
from groundcli.devices import autocast
from groundcli.errors import Interrupted
from groundcli.model.grounding_model import GroundingModel
from groundcli.model.presence import Presence, measures, null_loss, pool, scene_loss
from groundcli.options import Precision
from groundcli.parallel import Stopped
from groundcli.training.features import LiveFeatures
from groundcli.training.gradient import Ranks

BANK, AT_LEAST = 6000, 200  # photographs that are looked at; fewer than those tell nothing
MEASURED = 1500  # of them, those on which every word is measured: a mean needs no more
OFTEN = 5  # words that stand in so many captions of the bank are learned from
NONSENSE, LITTLE = 300, 0.3  # words of random letters, which are absent everywhere, and how much each counts
READ, AT_ONCE = 16, 256  # photographs, and words, that are encoded together
STEPS, RATE, DECAY = 400, 1e-3, 1e-2  # of AdamW, with a rate that falls to 0
SCENE_STEPS, SCENE_BATCH, DROPOUT = 1500, 64, 0.2


def learn_presence(
    model: GroundingModel,
    features: LiveFeatures,
    captions: Mapping[int, Sequence[Sequence[str]]],
    seed: int,
    ranks: Ranks,
    precision: Precision,
    stopped: Stopped,
    console: Console | None = None,
) -> bool:
    """Gives a trained model its `presence`; False where there are too few photographs to learn from.

    The model's mappings stay as they are. Ranks share the photographs; these have features at the size of use, and
    tokenised captions, by index. The choice of photographs, nonsense and the initial weights depend on the seed. A
    console shows how far it is.

    Raises:
        Interrupted: it was stopped; nothing has changed.
    """
    draw = torch.Generator().manual_seed(seed)
    known = [index for index in features.indices if index in captions]
    if len(known) < AT_LEAST:
        return False
    bank = [known[i] for i in torch.randperm(len(known), generator=draw)[:BANK].tolist()]
    counts = Counter(word.lower() for index in bank for caption in captions[index] for word in caption)
    words = sorted(word for word, count in counts.items() if count >= OFTEN and content_key(word))
    letters = torch.randint(97, 123, (NONSENSE, 8), generator=draw).tolist()
    lengths = torch.randint(3, 9, (NONSENSE,), generator=draw).tolist()
    nonsense = ["".join(map(chr, row[:length])) for row, length in zip(letters, lengths, strict=True)]
    keys = [*map(content_key, words), *[""] * NONSENSE]
    has = {}  # which of the T words an image has, (T) bool
    for index in bank:
        content = {content_key(word) for caption in captions[index] for word in caption} - {""}
        has[index] = torch.tensor([key in content for key in keys])
    device, grid = model.backbone.mean.device, model.config.visual.grid
    with autocast(device, precision):
        alone = [[word] for word in words + nonsense]
        parts = (model.map_words(alone[i : i + AT_ONCE]) for i in range(0, len(alone), AT_ONCE))
        s = torch.stack([word for part in parts for (word,) in part], dim=1)  # (K, T, D)

    mine, measured = ranks.share(bank), set(bank[:: -(-len(bank) // MEASURED)])
    pooled, present = [], []
    sums = torch.zeros(3, len(keys), 2, dtype=torch.float64)
    batches = [mine[start : start + READ] for start in range(0, len(mine), READ)]
    shown = track(batches, "what absent words look like", console=console, disable=console is None)
    for batch in features.read(shown):
        with torch.no_grad(), autocast(device, precision):
            cells = model.visual_mapping(batch.maps, grid) if batch.indices else []
            for index, v in zip(batch.indices, cells, strict=True):
                if index in measured:
                    said = model.ground_words(v, s)
                    found = measures(said.scores, said.top).double().cpu()
                    absent = (~has[index]).double()[:, None].expand_as(found)
                    sums += torch.stack([absent, absent * found, absent * found.square()])
                pooled.append(pool(v.float()).cpu())
                present.append(has[index])
        if stopped():
            break
    everyone: list[Any] = ranks.gather((pooled, present, sums, stopped()))
    if any(stop for *_, stop in everyone):
        raise Interrupted("interrupted")
    looks, words_of, totals = ([part[i] for part in everyone] for i in range(3))
    seen = (torch.stack(totals).sum(0).float(), torch.stack([*chain(*looks)]), torch.stack([*chain(*words_of)]))

    weight = torch.tensor([1.0] * len(words) + [LITTLE] * NONSENSE, device=device)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        presence = Presence(len(model.visual_mapping.stacks), len(s), s.shape[-1]).to(device)
        _fit(presence, s.float(), weight, *(values.to(device) for values in seen))
    model.presence = presence.requires_grad_(False)
    return True


def _fit(presence: Presence, s: Tensor, weight: Tensor, sums: Tensor, pooled: Tensor, present: Tensor) -> None:
    """Lets both halves learn from what R photographs say of words (K, T, D), of which each has a weight (T).

    `sums` (3, T, 2) are of photographs that lack the word: how many, and of both measures the sum and the sum of
    squares; `pooled` (R, 2 L D) are the photographs' cells, and `present` (R, T) bool their words.
    """
    count, first, second = sums
    mean = first / count.clamp_min(1)
    variance = (second / count.clamp_min(1) - mean.square()).clamp_min(1e-8)
    presence.usual.copy_(torch.stack([mean.mean(0), variance.mean(0).sqrt()]))
    _steps(presence.null, STEPS, lambda: null_loss(presence, s, mean, variance, weight))
    presence.pooled.copy_(torch.stack([pooled.mean(0), pooled.std(0)]))
    *_, last = presence.word
    nn.init.constant_(cast(nn.Linear, last).bias[-1:], -5.0)  # most words are absent from most images

    def loss() -> Tensor:
        some = torch.randint(len(pooled), (SCENE_BATCH,), device=s.device)
        dropped = F.dropout(pooled[some] - presence.pooled[0], DROPOUT) + presence.pooled[0]
        return scene_loss(presence, dropped, s, present[some])

    _steps(nn.ModuleList([presence.image, presence.word]), SCENE_STEPS, loss)
    with torch.no_grad():
        images = presence.image((pooled - presence.pooled[0]) / presence.pooled[1].clamp_min(1e-6))
        presence.scenes.copy_(torch.cat([images.mean(0, keepdim=True), torch.cov(images.T)]))


def _steps(module: nn.Module, steps: int, loss: Callable[[], Tensor]) -> None:
    """So many steps of AdamW down a loss."""
    optimizer = torch.optim.AdamW(module.parameters(), RATE, weight_decay=DECAY)
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = RATE * (1 - step / steps)
        optimizer.zero_grad()
        loss().backward()
        optimizer.step()
