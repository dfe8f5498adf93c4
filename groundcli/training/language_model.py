"""Pre-training of an ELMo on plain captions: at every word, predict the next and the one before.

One softmax serves both directions, as in Peters et al. (2018); it is adaptive (Grave et al., 2017), since most words
of captions come from a few hundred.
"""

import collections
import gzip
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from rich.console import Console
from torch import Tensor, nn

from groundcli import checkpoint
from groundcli.devices import torch_device
from groundcli.errors import GroundcliError, UsageError
from groundcli.files import LOCK, is_partial, locked, write_json
from groundcli.model.elmo import BEGIN_SENTENCE, END_SENTENCE, Elmo
from groundcli.recipe import RECIPES, ElmoConfig
from groundcli.training import PretrainElmoOptions
from groundcli.training.loop import warmup_cosine
from groundcli.training.progress import Bar
from groundcli.weights.elmo import load_options, save_elmo

UNKNOWN = "<UNK>"
STATE = "checkpoint.safetensors"


class LanguageModel(nn.Module):
    """An ELMo with the softmax that it is trained with."""

    def __init__(self, elmo: ElmoConfig, vocabulary: Sequence[str], dropout: float):
        super().__init__()
        self.elmo = Elmo(elmo)
        self.dropout = nn.Dropout(dropout)
        self.index = {word: i for i, word in enumerate(vocabulary)}
        size = len(vocabulary)
        cutoffs = sorted({min(1000, size // 2), min(4000, size * 3 // 4)})
        self.softmax = nn.AdaptiveLogSoftmaxWithLoss(elmo.projection, size, cutoffs, div_value=2.0)

    def forward(self, captions: Sequence[Sequence[str]]) -> Tensor:
        """Mean negative log-likelihood of a word, in nats, over both directions; sentence ends count as words."""
        tokens, lengths = self.elmo.words(captions)
        layers, reverse = self.elmo.directions(self.dropout(tokens), lengths, self.dropout)
        unknown = self.index[UNKNOWN]
        ids = [[self.index.get(w, unknown) for w in [BEGIN_SENTENCE, *c, END_SENTENCE]] for c in captions]
        forward = nn.utils.rnn.pad_sequence([torch.tensor(i) for i in ids], batch_first=True).to(tokens.device)
        targets = torch.stack([forward, forward.gather(1, reverse)])[:, :, 1:]  # (2, C, T + 1)
        mask = (torch.arange(targets.shape[2], device=tokens.device) < lengths[:, None] - 1).expand_as(targets)
        return self.softmax(layers[-1][:, :, :-1][mask], targets[mask]).loss


def read_captions(path: Path) -> list[list[str]]:
    """One caption per line, words apart by spaces; `.gz` or plain text. Raises GroundcliError."""
    try:
        opener = gzip.open if path.suffix == ".gz" else open
        with opener(path, "rt", encoding="utf-8") as file:
            captions = [line.split() for line in file if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise GroundcliError(f"{path}: can't be read as lines of text ({reason})") from None
    if len(captions) < 2:
        raise GroundcliError(f"{path}: needs at least two captions, one per line")
    return captions


def vocabulary(captions: Sequence[Sequence[str]], min_count: int) -> list[str]:
    """The words to predict, the most frequent first, as the adaptive softmax wants them."""
    counts = collections.Counter(word for caption in captions for word in caption)
    counts[BEGIN_SENTENCE] = counts[END_SENTENCE] = len(captions)
    counts[UNKNOWN] = max(1, sum(n for n in counts.values() if n < min_count))
    words = [w for w, n in counts.items() if n >= min_count or w == UNKNOWN]
    return sorted(words, key=lambda w: (-counts[w], w))


def batches(captions: Sequence[Sequence[str]], size: int, generator: torch.Generator) -> Iterator[list[Sequence[str]]]:
    """Captions of about one length together, so that little is padding; batches in random order."""
    order = torch.randperm(len(captions), generator=generator).tolist()
    order.sort(key=lambda i: len(captions[i]))  # stable: random among equals
    groups = [order[i : i + size] for i in range(0, len(order), size)]
    for group in torch.randperm(len(groups), generator=generator).tolist():
        yield [captions[i] for i in groups[group]]


@torch.no_grad()
def perplexity(model: LanguageModel, captions: Sequence[Sequence[str]], batch_size: int) -> float:
    """exp of the mean negative log-likelihood of a word."""
    model.eval()
    total = words = 0.0
    for batch in batches(captions, batch_size, torch.Generator().manual_seed(0)):
        n = sum(len(c) + 1 for c in batch)
        total, words = total + float(model(batch)) * n, words + n
    model.train()
    return float(torch.tensor(total / words).exp())


def pretrain_elmo(options: PretrainElmoOptions, console: Console) -> float:
    """Trains an ELMo on captions and writes it, in the published file format, after every epoch.

    The last `held_out` captions, a tenth of all at most, measure perplexity; that after the last epoch is returned.

    Raises:
        UsageError: the folder holds a run that isn't to be resumed, or other files.
        GroundcliError: the captions or the sizes can't be read.
    """
    out, saved = options.out, options.out / STATE
    if saved.exists() and not options.resume:
        raise UsageError(f"{out} holds a run already: add --resume to go on with it, or name another folder")
    names = [path.name for path in out.iterdir()] if out.exists() else []
    others = sorted(name for name in names if name != LOCK and not is_partial(name))
    if others and not saved.exists():
        raise UsageError(f"--out {out}: holds other files, such as {others[0]}; name a new folder")
    sizes, captions = load_options(options.sizes or RECIPES / "elmo_laptop.json"), read_captions(options.captions)
    out.mkdir(parents=True, exist_ok=True)
    with locked(out):
        return _learn(options, sizes, captions, console)


def _learn(
    options: PretrainElmoOptions, sizes: ElmoConfig, captions: Sequence[Sequence[str]], console: Console
) -> float:
    out, saved = options.out, options.out / STATE
    held_out = min(options.held_out, len(captions) // 10) or 1
    train, test = captions[:-held_out], captions[-held_out:]
    torch.manual_seed(options.seed)
    words = vocabulary(train, options.min_count)
    model = LanguageModel(sizes, words, options.dropout).to(torch_device(options.device))
    optimizer = torch.optim.Adam(model.parameters(), betas=(0.9, 0.99))
    config = {name: getattr(options, name) for name in options.deciding()}
    epoch, result = 0, float("inf")
    if saved.exists():
        tensors, state = checkpoint.load(saved, ("config", "words", "epoch", "perplexity"))
        if state["config"] != config or state["words"] != len(words):
            raise UsageError(f"{saved}: was trained with other settings or captions; name another folder")
        model.load_state_dict(checkpoint.part("model", tensors))
        checkpoint.restore_optimizer(optimizer, checkpoint.part("optimizer", tensors))
        epoch, result = state["epoch"], state["perplexity"]
        save_elmo(model.elmo, out)  # a kill may have come before it was written
    per_epoch = -(-len(train) // options.batch_size)
    steps = per_epoch * options.epochs
    with Bar(console, steps, epoch * per_epoch, options.batch_size) as bar:
        for epoch in range(epoch, options.epochs):  # noqa: B020 - from where it was
            generator = torch.Generator().manual_seed(options.seed * 1000 + epoch)
            torch.manual_seed(options.seed * 1000 + epoch)
            for i, batch in enumerate(batches(train, options.batch_size, generator)):
                rate = warmup_cosine(epoch * per_epoch + i, steps, options.learning_rate, options.warmup)
                optimizer.param_groups[0]["lr"] = rate
                loss = model(batch)
                optimizer.zero_grad()
                loss.backward()
                nn.utils.clip_grad_norm_(model.parameters(), 1.0)
                optimizer.step()
                bar.step(f"loss {float(loss.detach()):.4f}  lr {rate:.1e}")
            result = perplexity(model, test, options.batch_size)
            bar.line(f"epoch {epoch + 1}: held-out perplexity {result:.2f}")
            state = {"config": config, "words": len(words), "epoch": epoch + 1, "perplexity": result}
            tensors = checkpoint.prefixed("model", model.state_dict())
            tensors |= checkpoint.prefixed("optimizer", checkpoint.optimizer_tensors(optimizer))
            checkpoint.save(saved, tensors, state)
            save_elmo(model.elmo, out)
            write_json(out / "training.json", state)
    return result
