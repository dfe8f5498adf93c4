"""Image and caption in, answer out."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from groundcli.data.images import decode
from groundcli.data.markup import parse
from groundcli.data.phrases import How, PhraseFinder
from groundcli.data.sample import Caption
from groundcli.data.words import tokenize, words_in
from groundcli.grounding.answer import Answer, GroundedPhrase
from groundcli.grounding.boxes import authors_boxes
from groundcli.grounding.points import peak
from groundcli.model.grounding_model import GroundingModel
from groundcli.model.precision import Precision, autocast


@dataclass(frozen=True)
class EncodedImage:
    """An image in the common space, for any number of captions.

    Attributes:
        size: (width, height) of the image in pixels.
        cells: (L, N, D).
    """

    size: tuple[int, int]
    cells: Tensor


class Grounder:
    """Points at what captions talk about.

    An image is encoded once however many captions it has:

        encoded = grounder.encode("street.jpg")
        answers = [grounder.ground(encoded, caption) for caption in captions]
    """

    def __init__(self, model: GroundingModel, device: torch.device | str = "cpu", precision: Precision = "auto"):
        self.device = torch.device(device)
        self.precision: Precision = precision
        self.model = model.eval().to(self.device)
        self.finder = PhraseFinder()

    @classmethod
    def load(
        cls, weights: str = "lite", device: torch.device | str = "cpu", precision: Precision = "auto"
    ) -> "Grounder":
        """A grounder from shipped weights by their name, or from a checkpoint by its path.

        `precision` is float32, bf16 (of convolutions and matrix products), or auto: bf16 on a GPU that has it.

        Raises:
            GroundcliError: the weights are missing or damaged.
        """
        from groundcli.weights.load import load_model

        return cls(load_model(weights).model, device, precision)

    def encode(self, image: str | Path | np.ndarray) -> EncodedImage:
        """Encodes one image: a file, or (H, W, 3) uint8 RGB, upright.

        Raises:
            BadInput: the file can't be decoded.
        """
        return self.encode_batch([image if isinstance(image, np.ndarray) else decode(Path(image))])[0]

    @torch.no_grad()
    def encode_batch(self, images: Sequence[np.ndarray]) -> list[EncodedImage]:
        """Encodes images of any sizes, each (H, W, 3) uint8 RGB, together; none gives none."""
        if not images:
            return []
        side = self.model.config.visual.image_size
        batch = torch.cat([resize_image(image, side) for image in images]).to(self.device)
        with autocast(self.device, self.precision):
            maps = self.model.backbone(batch)
        return self.encode_maps(maps, [(image.shape[1], image.shape[0]) for image in images])

    @torch.no_grad()
    def encode_maps(self, maps: Sequence[Tensor], sizes: Sequence[tuple[int, int]]) -> list[EncodedImage]:
        """Encodes images of (width, height) pixels from the backbone's feature maps of them, (B, C_l, H_l, W_l)."""
        with autocast(self.device, self.precision):
            cells = self.model.visual_mapping(maps, self.model.config.visual.grid)
        return [EncodedImage(size, c) for size, c in zip(sizes, cells, strict=True)]

    def ground(
        self, image: str | Path | np.ndarray | EncodedImage, caption: str | Caption, phrases: How = "auto"
    ) -> Answer:
        """Grounds the phrases of a caption.

        Args:
            image: a file, (H, W, 3) uint8 RGB, or what `encode` gave.
            caption: text, in which `[a man] rides [a brown horse]` marks phrases; or a Caption with its phrases.
            phrases: which phrases: `auto` takes the marked ones, or noun phrases where none is marked.

        Raises:
            BadInput: the file can't be decoded.
        """
        encoded = image if isinstance(image, EncodedImage) else self.encode(image)
        if isinstance(caption, str):
            caption = parse(caption)
        return self.ground_captions(encoded, self.finder.find([caption], phrases))[0]

    @torch.no_grad()
    def ground_captions(self, image: EncodedImage, captions: Sequence[Caption], boxes: bool = True) -> list[Answer]:
        """Grounds captions whose phrases are known already, on one image, all together; with boxes, or points alone."""
        words = [tokenize(caption.text) for caption in captions]
        spoken = [i for i, w in enumerate(words) if w]
        if not spoken:
            return [Answer(caption.text, image.size, ()) for caption in captions]
        with autocast(self.device, self.precision):
            s = self.model.map_words([[word.text for word in words[i]] for i in spoken])
            heat, scores, levels = self.model.ground_words(image.cells, torch.cat(s, dim=1))  # (W, N), (W), (W)
        heat = heat.float()
        start = dict(zip(spoken, np.cumsum([0, *(words.shape[1] for words in s)]).tolist(), strict=False))
        rows = [
            range(start[i] + inside.start, start[i] + inside.stop) if inside else range(0)
            for i, caption in enumerate(captions)
            for inside in (words_in(words[i], phrase.span) for phrase in caption.phrases)
        ]
        grounded = iter(self._phrases(heat, scores, levels, rows, image.size, boxes))
        return [
            Answer(
                caption.text,
                image.size,
                tuple(GroundedPhrase(phrase.text, phrase.span, *next(grounded)) for phrase in caption.phrases),
            )
            for caption in captions
        ]

    def _phrases(
        self, heat: Tensor, scores: Tensor, levels: Tensor, rows: Sequence[range], size: tuple[int, int], boxed: bool
    ) -> list[tuple]:
        """What a GroundedPhrase holds after its text and span, for phrases that are ranges of words."""
        member = torch.zeros(len(rows), len(scores), device=heat.device)
        for phrase, words in zip(member, rows, strict=True):
            phrase[list(words)] = 1
        weights = member * scores
        side = self.model.config.visual.grid
        maps = (weights @ heat / weights.sum(1, keepdim=True).clamp_min(1e-12)).view(-1, side, side)
        maps = (smooth(maps) if self.model.config.smooth else maps).cpu()
        best = weights.argmax(1)
        points = peak(maps, size).tolist()
        out = []
        for i, heatmap in enumerate(maps.numpy()):
            boxes, box_scores = authors_boxes(heatmap, size) if boxed else ([], [])
            score, level = (float(weights[i].max()), int(levels[best[i]])) if rows[i] else (0.0, 0)
            out.append((tuple(points[i]), tuple(boxes), tuple(box_scores), score, level, heatmap))
        return out


def smooth(maps: Tensor) -> Tensor:
    """Heat maps (P, M, M), each cell the mean of its 3 x 3 cells; borders repeated."""
    return F.avg_pool2d(F.pad(maps.unsqueeze(1), (1, 1, 1, 1), mode="replicate"), 3, 1)[:, 0]


def resize_image(image: np.ndarray, side: int) -> Tensor:
    """(H, W, 3) uint8 RGB -> (1, 3, side, side) uint8, bilinear with antialiasing, without keeping the aspect ratio."""
    pixels = torch.tensor(image).permute(2, 0, 1).unsqueeze(0)
    return F.interpolate(pixels, (side, side), mode="bilinear", antialias=True)
