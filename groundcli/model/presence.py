"""Whether what a word names is in the image at all, which the paper's score doesn't say: it only ranks images.

Two things are asked, neither of which needs a box to learn:

- How much better does the word fit here than in photographs that lack it? Every word has a scale of its own: "man" fits
  the best place of any photograph better than "zebra" does. So a net says, from a word's vector, what its score is
  where it is absent, mean and deviation; and the score here is counted in deviations from that mean.
- Does the image as a whole look like one that is captioned with the word? (A scene head: pooled cells against words.)
  It too is counted in deviations from what the word has on any photograph, which is known in closed form, as the answer
  is linear in the pooled cells.

Words never seen in training get both from their vectors, as do strings of letters that mean nothing.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

HIDDEN, SCENE = 256, 128  # widths
LEAST = 1e-4  # heat below this is as good as none


class Presence(nn.Module):
    """What tells present words from absent ones; see `groundcli.training.presence` for how it learns."""

    def __init__(self, levels: int, spaces: int, dimension: int):
        """Of L levels, and words' vectors of dimension D in K spaces, 1 or L."""
        super().__init__()
        word = spaces * dimension
        self.null = nn.Sequential(
            nn.Linear(word, HIDDEN), nn.GELU(), nn.Linear(HIDDEN, HIDDEN), nn.GELU(), nn.Linear(HIDDEN, 4)
        )
        self.register_buffer("usual", torch.zeros(2, 2))  # mean and deviation of both measures over all words
        self.image = nn.Linear(2 * levels * dimension, SCENE)
        self.word = nn.Sequential(nn.Linear(word, HIDDEN), nn.GELU(), nn.Linear(HIDDEN, SCENE + 1))
        self.register_buffer("pooled", torch.zeros(2, 2 * levels * dimension))  # mean and deviation over photographs
        self.register_buffer("scenes", torch.zeros(SCENE + 1, SCENE))  # mean and covariance of `image`'s outputs
        self.usual: Tensor
        self.pooled: Tensor
        self.scenes: Tensor

    def absent(self, words: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and deviation of `measures` where a word is absent: words (K, T, D) -> twice (T, 2)."""
        mean, deviation = self.null(_one(words)).chunk(2, dim=-1)
        return self.usual[0] + self.usual[1] * mean, self.usual[1] * deviation.clamp(-3, 3).exp()

    def scene(self, cells: Tensor, words: Tensor) -> tuple[Tensor, Tensor]:
        """Logits of words for whole images, pooled cells (B, 2 L D) of `pool`; and in deviations: twice (B, T)."""
        images = self.image((cells - self.pooled[0]) / self.pooled[1].clamp_min(1e-6))
        vectors, bias = self.word(_one(words)).split([SCENE, 1], dim=-1)
        mean, covariance = self.scenes.split([1, SCENE])
        deviation = ((vectors @ covariance) * vectors).sum(-1).clamp_min(1e-6).sqrt()
        return images @ vectors.T + bias[:, 0], (images - mean) @ vectors.T / deviation

    def forward(self, cells: Tensor, words: Tensor, scores: Tensor, top: Tensor) -> Tensor:
        """What speaks for each word's presence in one image; the higher, the more.

        Args:
            cells: (L, N, D).
            words: (K, T, D).
            scores, top: (T), of `GroundingModel.ground_words`.

        Returns:
            (T, 4) float32: deviations of the score and of the highest heat above their means where the word is
            absent; of the scene's logit from its mean; and that logit.
        """
        mean, deviation = self.absent(words)
        logit, scene = self.scene(pool(cells.float()).unsqueeze(0), words)
        return torch.cat([(measures(scores, top) - mean) / deviation, scene.T, logit.T], dim=-1)


def measures(scores: Tensor, top: Tensor) -> Tensor:
    """What is compared with a word's absence: scores and highest heat (...) -> score and log of that heat, (..., 2)."""
    return torch.stack([scores.float(), top.float().clamp_min(LEAST).log()], dim=-1)


def pool(cells: Tensor) -> Tensor:
    """Cells (..., L, N, D) of an image as one vector (..., 2 L D): their mean and their maximum."""
    return torch.cat([cells.mean(-2).flatten(-2), cells.amax(-2).flatten(-2)], dim=-1)


def _one(words: Tensor) -> Tensor:
    """Words (K, T, D), of all spaces together: (T, K D)."""
    return words.float().transpose(0, 1).flatten(1)


def null_loss(presence: Presence, words: Tensor, mean: Tensor, variance: Tensor, weight: Tensor) -> Tensor:
    """Negative log-likelihood of measures whose mean and variance where words are absent are known, (T, 2) each.

    The likelihood is a normal distribution's; `weight` (T) says how much a word counts.
    """
    expected, deviation = presence.absent(words)
    loss = deviation.log() + ((mean - expected).square() + variance) / (2 * deviation.square())
    return (loss.sum(-1) * weight).sum() / weight.sum()


def scene_loss(presence: Presence, pooled: Tensor, words: Tensor, present: Tensor) -> Tensor:
    """Binary cross-entropy of words being in an image's captions: pooled (B, 2 L D), present (B, T) bool."""
    logits, _ = presence.scene(pooled, words)
    return F.binary_cross_entropy_with_logits(logits, present.float(), reduction="sum") / len(pooled)
