"""How far a phrase's thing reaches around its point: for each cell, how likely the thing's box covers it.

Heat alone doesn't tell a face from the person whose face it is. So small nets look at each cell, at how much it is
like the hottest cells, and at what the phrase means, as people are tall and hats are small. They are fitted to true
boxes of validation images (`groundcli calibrate`), in a minute; training never sees a box.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from groundcli.model.attention import contrasted

HIDDEN, ABOUT, DIRECTIONS = 32, 24, 16  # widths; and how many principal directions of vectors are looked at
MEMBERS = 3  # nets, whose mean is better than each: about a point of R@1
HOTTEST = 12  # cells
LARGEST = 4.0  # deviations; what is further off tells no more
DROPPED, RATE, DECAY, EPOCHS, BATCH, CELLS = 0.3, 5e-3, 0.03, 12, 32, 128  # of the fit


class Extent(nn.Module):
    """A few nets that look at a cell, told what the phrase means; the mean of what they say counts."""

    def __init__(self, levels: int, spaces: int, dimension: int):
        """Of L levels, and words' vectors of dimension D in K spaces, 1 or L."""
        super().__init__()
        self.parts = [spaces * dimension, *[dimension] * levels]  # of vectors: words, the hottest cell at each level
        self.clues = 8 + 2 * levels, 6 + 2 * levels  # how many a cell has, and how many a phrase
        clues, directions = sum(self.clues), DIRECTIONS * len(self.parts)
        self.register_buffer("usual", torch.zeros(2, clues))  # mean and deviation of clues
        self.known = nn.Linear(sum(self.parts), directions)  # principal directions of each part
        self.members = nn.ModuleList(_Net(clues, directions) for _ in range(MEMBERS))
        self.usual: Tensor

    def clues_and_vectors(self, phrases: Tensor) -> tuple[Tensor, ...]:
        """What `look` says of phrases: their clues (P, W), and vectors (P, (K + L) D)."""
        return phrases.split([self.clues[1], sum(self.parts)], dim=1)

    def scaled(self, cells: Tensor, phrases: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """What `look` gives, as the nets want it: clues of cells (P, C, N) and of phrases (P, W), directions (P, V)."""
        clues, vectors = self.clues_and_vectors(phrases)
        of_cells, of_phrases = self.usual.split([*self.clues], dim=1)
        return (
            _scaled(cells, *of_cells.unsqueeze(-1)), _scaled(clues, *of_phrases),
            self.known(vectors).clamp(-LARGEST, LARGEST),
        )  # fmt: skip

    def forward(self, cells: Tensor, phrases: Tensor) -> Tensor:
        """How likely the box covers each cell, (P, N) in [0, 1]; 1 at the hottest one, around which boxes are found."""
        peak, scaled = cells[:, 0].argmax(1, keepdim=True), self.scaled(cells, phrases)
        covered = torch.stack([torch.sigmoid(member(*scaled)) for member in self.members]).mean(0)
        return covered.scatter(1, peak, 1.0)


def _scaled(clues: Tensor, mean: Tensor, deviation: Tensor) -> Tensor:
    return ((clues - mean) / deviation.clamp_min(1e-6)).clamp(-LARGEST, LARGEST)


class _Net(nn.Module):
    """Clues and directions, of `Extent.scaled` -> the logit of each cell, (P, N)."""

    def __init__(self, clues: int, directions: int):
        super().__init__()
        self.about = nn.Linear(directions, ABOUT)
        self.cell, self.told = nn.Linear(clues, HIDDEN), nn.Linear(ABOUT, HIDDEN, bias=False)
        self.hidden, self.out = nn.Linear(HIDDEN, HIDDEN), nn.Linear(HIDDEN, 1)

    def forward(self, cells: Tensor, phrases: Tensor, directions: Tensor) -> Tensor:
        about = F.dropout(F.relu(self.about(directions)), DROPPED, self.training)
        of_cells, of_phrases = self.cell.weight.split([cells.shape[1], phrases.shape[1]], dim=1)
        told = F.linear(phrases, of_phrases, self.cell.bias) + self.told(about)  # the same for all cells of a phrase
        hidden = F.relu(of_cells @ cells + told.unsqueeze(-1))
        hidden = F.relu(self.hidden.weight @ hidden + self.hidden.bias.unsqueeze(-1))
        return (self.out.weight @ hidden)[:, 0] + self.out.bias


def look(v: Tensor, words: Tensor, maps: Tensor, scores: Tensor) -> tuple[Tensor, Tensor]:
    """What `Extent` goes by: clues of each cell (P, C, N), the first of them heat as a share of its peak, and of each
    phrase, with vectors of what it means and of its hottest cell, (P, W + (K + L) D).

    Args:
        v: cells (L, N, D) of one image.
        words: the mean of each phrase's words that name something, (K, P, D).
        maps: heat maps of the phrases, (P, M, M).
        scores: (P), of the phrase's best word.
    """
    count, side, _ = maps.shape
    heat = maps.flatten(1).float()
    heat = heat / heat.amax(1, keepdim=True).clamp_min(1e-12)
    peak = heat.argmax(1)
    row, column = peak // side, peak % side
    each = torch.arange(side, device=v.device)
    # The lowest of the rows' maxima from the hottest one to each, what has to be passed on the way; and of columns.
    down, across = _way(heat.view(count, side, side).amax(2), row), _way(heat.view(count, side, side).amax(1), column)
    down, across = (one.flatten(1) for one in torch.broadcast_tensors(down.unsqueeze(2), across.unsqueeze(1)))
    # Left and right are alike, up and down are not.
    y, x = (each - row.unsqueeze(1)).unsqueeze(2) / side, (each - column.unsqueeze(1)).abs().unsqueeze(1) / side
    y, x = (one.flatten(1) for one in torch.broadcast_tensors(y, x))
    size = (heat >= 0.5).float().mean(1, keepdim=True).clamp_min(1e-3).sqrt()
    cells = contrasted(v)  # (L, N, D)
    hottest = heat.topk(min(HOTTEST, heat.shape[1])).indices
    around = cells.index_select(1, hottest.flatten()).unflatten(1, hottest.shape).mean(2)
    seeds = torch.stack([cells.index_select(1, peak), around])  # (2, L, P, D)
    alike = (seeds @ cells.transpose(1, 2)).flatten(0, 1)  # (2 L, P, N)
    per_cell = [heat, across, down, torch.minimum(across, down), x, y, x / size, y / size, *alike]
    shares = [(heat >= share).float().mean(1) for share in (0.3, 0.7)]
    place = [size[:, 0], row / side, (column / side - 0.5).abs()]
    per_phrase = torch.stack([*shares, *place, scores.float(), *(alike > 0.3).float().mean(2)], 1)
    said, there = F.normalize(words.float(), dim=-1), v.float().index_select(1, peak)  # (K, P, D), (L, P, D)
    vectors = torch.cat([said, there]).transpose(0, 1).flatten(1)
    return torch.stack(per_cell, 1), torch.cat([per_phrase, vectors], 1)


def _way(values: Tensor, start: Tensor) -> Tensor:
    """The lowest of values (P, M) on the way from one of them, (P) int64, to each: (P, M)."""
    each = torch.arange(values.shape[1], device=values.device)
    first, last = torch.minimum(start[:, None], each), torch.maximum(start[:, None], each)  # (P, M)
    between = (each >= first[..., None]) & (each <= last[..., None])  # (P, M, M)
    return torch.where(between, values.unsqueeze(1), torch.inf).amin(2)


def fit_extent(extent: Extent, cells: Tensor, phrases: Tensor, covered: Tensor, counts: Tensor) -> Extent:
    """Fits a new extent to phrases whose boxes are known; the same nets each time.

    Args:
        extent: new.
        cells, phrases: clues of P phrases of any images, of `look`.
        covered: (P, N), the share of each cell that the box covers.
        counts: (P), how much a phrase counts.
    """
    counts = counts / counts.mean()
    clues, vectors = extent.clues_and_vectors(phrases)
    usual = [torch.stack([of.mean(over), of.std(over, correction=0)]) for of, over in ((cells, (0, 2)), (clues, 0))]
    extent.usual.copy_(torch.cat(usual, dim=1))
    _set_directions(extent, vectors)
    steps = EPOCHS * max(len(cells) // BATCH, 1)
    with torch.random.fork_rng():
        for seed, member in enumerate(extent.requires_grad_(True).train().members):
            torch.manual_seed(seed)
            member.apply(lambda part: part.reset_parameters() if isinstance(part, nn.Linear) else None)
            optimizer = torch.optim.AdamW(member.parameters(), weight_decay=DECAY)
            schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=steps)
            for _ in range(steps):
                drawn, some = torch.randint(len(cells), (BATCH,)), torch.randperm(cells.shape[2])[:CELLS]
                with torch.no_grad():
                    scaled = extent.scaled(cells[drawn][..., some], phrases[drawn])
                losses = F.binary_cross_entropy_with_logits(member(*scaled), covered[drawn][:, some], reduction="none")
                optimizer.zero_grad()
                (losses.mean(1) * counts[drawn]).mean().backward()
                optimizer.step()
                schedule.step()
    return extent.requires_grad_(False).eval()


@torch.no_grad()
def _set_directions(extent: Extent, vectors: Tensor) -> None:
    """The principal directions of each part of vectors (P, ...), scaled so that the deviation along each is one."""
    blocks, biases = [], []
    for part in vectors.split(extent.parts, dim=1):
        mean = part.mean(0)
        _, values, directions = torch.linalg.svd(part - mean, full_matrices=False)
        scaled = directions[:DIRECTIONS] / (values[:DIRECTIONS, None] / len(vectors) ** 0.5).clamp_min(1e-6)
        blocks.append(F.pad(scaled, (0, 0, 0, DIRECTIONS - len(scaled))))  # few phrases have fewer
        biases.append(-(blocks[-1] @ mean))
    extent.known.weight.copy_(torch.block_diag(*blocks))
    extent.known.bias.copy_(torch.cat(biases))
