"""Image and caption in, answer out."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from groundcli.answer import Answer, PhraseHeat, answer
from groundcli.data.images import decode, resize
from groundcli.data.markup import parse
from groundcli.data.phrases import How, PhraseFinder
from groundcli.data.sample import Caption
from groundcli.data.words import Word, tokenize, words_in
from groundcli.devices import autocast, torch_device
from groundcli.heat.boxes import DEFAULT, Method
from groundcli.model.grounding_model import GroundingModel
from groundcli.options import Precision
from groundcli.weights.load import Loaded, load_model


@dataclass(frozen=True)
class EncodedImage:
    """An image in the common space, for any number of captions.

    Attributes:
        size: (width, height) of the image in pixels.
        cells: (L, N, D).
    """

    size: tuple[int, int]
    cells: Tensor


@dataclass(frozen=True)
class EncodedCaptions:
    """Captions in the common space, for any number of images.

    Attributes:
        words: of each text, none where it has no word.
        vectors: of each text that has words, (K, T, D).
    """

    words: Mapping[str, list[Word]]
    vectors: Mapping[str, Tensor]


class Grounder:
    """Points at what captions talk about.

    An image is encoded once however many captions it has:

        encoded = grounder.encode("street.jpg")
        answers = [grounder.ground(encoded, caption) for caption in captions]
    """

    def __init__(
        self,
        model: GroundingModel,
        device: torch.device | str = "cpu",
        precision: Precision = "auto",
        boxes: Method = DEFAULT,
        loaded: Loaded | None = None,
    ):
        """A grounder of a model; `load` makes one from weights. `loaded` says where the model is from."""
        self.device = torch.device(device)
        self.precision: Precision = precision
        self.boxes: Method = boxes
        self.model = model.eval().to(self.device)
        self.loaded = loaded
        self.finder = PhraseFinder()

    @classmethod
    def load(
        cls,
        weights: str = "lite",
        device: torch.device | str = "cpu",
        precision: Precision = "auto",
        settings: Sequence[str] = (),
        boxes: Method | None = DEFAULT,
    ) -> "Grounder":
        """A grounder from shipped weights by their name, or from a checkpoint by its path.

        Args:
            weights: the name or the path.
            device: `cpu`, `cuda`, `cuda:N`, or `auto`, which takes a GPU where there is one.
            precision: float32, bf16 (of convolutions and matrix products), or auto: bf16 on a GPU that has it.
            settings: `key.key=value` over the recipe of the weights, such as `model.text.elmo_backend=allennlp`.
            boxes: the way to get boxes from heat maps, of `groundcli.heat.boxes.METHODS`.

        Raises:
            GroundcliError: the weights are missing or damaged, or there is no such device.
        """
        chosen = torch_device(str(device))
        loaded = load_model(weights, settings)
        return cls(loaded.model, chosen, precision, boxes or DEFAULT, loaded)

    def encode(self, image: str | Path | Image.Image | np.ndarray) -> EncodedImage:
        """Encodes one image: a file, or an upright picture of mode RGB, or as (H, W, 3) uint8.

        Raises:
            BadInput: the file can't be decoded.
        """
        if isinstance(image, str | Path):
            image = decode(Path(image))
        elif isinstance(image, np.ndarray):
            image = Image.fromarray(image)
        return self.encode_pixels([resize(image, self.model.config.visual.image_size)], [image.size])[0]

    @torch.no_grad()
    def encode_pixels(self, pixels: Sequence[np.ndarray], sizes: Sequence[tuple[int, int]]) -> list[EncodedImage]:
        """Encodes images that have the model's size already, (S, S, 3) uint8 RGB, of (width, height) pixels once."""
        if not pixels:
            return []
        with autocast(self.device, self.precision):
            maps = self.model.backbone(as_batch(pixels).to(self.device))
        return self.encode_maps(maps, sizes)

    @torch.no_grad()
    def encode_maps(self, maps: Sequence[Tensor], sizes: Sequence[tuple[int, int]]) -> list[EncodedImage]:
        """Encodes images of (width, height) pixels from the backbone's feature maps of them, (B, C_l, H_l, W_l)."""
        with autocast(self.device, self.precision):
            cells = self.model.visual_mapping(maps, self.model.config.visual.grid)
        return [EncodedImage(size, c) for size, c in zip(sizes, cells, strict=True)]

    def ground(
        self, image: str | Path | Image.Image | np.ndarray | EncodedImage, caption: str | Caption, phrases: How = "auto"
    ) -> Answer:
        """Grounds the phrases of a caption.

        Args:
            image: what `encode` takes, or what it gave.
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
    def encode_captions(self, captions: Iterable[Caption]) -> EncodedCaptions:
        """Encodes captions of any number of images together; equal ones once."""
        words = {caption.text: tokenize(caption.text) for caption in captions}
        spoken = [text for text, tokens in words.items() if tokens]
        with autocast(self.device, self.precision):
            s = self.model.map_words([[word.text for word in words[text]] for text in spoken]) if spoken else []
        return EncodedCaptions(words, dict(zip(spoken, s, strict=True)))

    def ground_captions(
        self,
        image: EncodedImage,
        captions: Sequence[Caption],
        encoded: EncodedCaptions | None = None,
        boxes: bool = True,
    ) -> list[Answer]:
        """Grounds captions whose phrases are known already, on one image, all together.

        Args:
            image: what `encode` gave.
            captions: with their phrases.
            encoded: what `encode_captions` gave for these captions, and others; None encodes them here.
            boxes: whether to find boxes; or points alone.
        """
        found = self.phrase_heat(image, captions, encoded)
        return answer(captions, image.size, found, self.model.config.calibration, self.boxes if boxes else None)

    @torch.no_grad()
    def phrase_heat(
        self, image: EncodedImage, captions: Sequence[Caption], encoded: EncodedCaptions | None = None
    ) -> PhraseHeat:
        """The model's half of `ground_captions`: heat maps, of which `groundcli.answer` makes answers without torch."""
        encoded = encoded or self.encode_captions(captions)
        words, vectors = encoded.words, encoded.vectors
        spoken = list(dict.fromkeys(c.text for c in captions if c.text in vectors))
        side, count = self.model.config.visual.grid, sum(len(c.phrases) for c in captions)
        if not spoken or not count:
            return PhraseHeat(
                np.zeros((count, side, side), np.float32), np.zeros(count, np.float32), np.zeros(count, int)
            )
        with autocast(self.device, self.precision):
            s = torch.cat([vectors[text] for text in spoken], dim=1)
            heat, scores, levels = self.model.ground_words(image.cells, s)  # (W, N), (W), (W)
        first = dict(zip(spoken, np.cumsum([0, *(len(words[text]) for text in spoken)]).tolist(), strict=False))
        # All phrases at once: row p of `member` marks the words of phrase p, so that one matrix product averages the
        # heat of its words, weighted by their scores (design: the heat of a phrase). (P, W) @ (W, N) -> (P, N)
        member = torch.zeros(count, len(scores), device=heat.device)
        spans = [(c.text, words_in(words[c.text], phrase.span)) for c in captions for phrase in c.phrases]
        for row, (text, inside) in zip(member, spans, strict=True):
            if inside:
                row[first[text] + inside.start : first[text] + inside.stop] = 1
        weights = member * scores
        means = (weights @ heat.float() / weights.sum(1, keepdim=True).clamp_min(1e-12)).view(-1, side, side)
        best, word = weights.max(1)
        chosen = torch.where(member.any(1), levels[word], 0)
        return PhraseHeat(self._smooth(means).cpu().numpy(), best.cpu().numpy(), chosen.cpu().numpy())

    @torch.no_grad()
    def sentence_heat(self, image: EncodedImage, texts: Sequence[str]) -> np.ndarray:
        """Where whole texts are by their sentence vectors: heat maps (C, M, M) float32; no heat for one without words.

        Where the text encoder has no sentence of its own, as a table of word pieces, it is the mean of its words.
        """
        side = self.model.config.visual.grid
        out = np.zeros((len(texts), side, side), dtype=np.float32)
        words = {i: [word.text for word in tokenize(text)] for i, text in enumerate(texts)}
        spoken = [i for i, tokens in words.items() if tokens]
        if spoken:
            with autocast(self.device, self.precision):
                z = self.model.map_sentences([words[i] for i in spoken])
                heat, _, _ = self.model.ground_words(image.cells, z)
            maps = heat.float().view(-1, side, side)
            out[spoken] = self._smooth(maps).cpu().numpy()
        return out

    def _smooth(self, maps: Tensor) -> Tensor:
        """Heat maps (P, M, M), each cell the mean of its 3 x 3 cells, borders repeated, where the recipe says so."""
        if not self.model.config.smooth:
            return maps
        return F.avg_pool2d(F.pad(maps.unsqueeze(1), (1, 1, 1, 1), mode="replicate"), 3, 1)[:, 0]


def as_batch(pixels: Sequence[np.ndarray]) -> Tensor:
    """Images (S, S, 3) uint8 -> (B, 3, S, S) uint8."""
    return torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2)
