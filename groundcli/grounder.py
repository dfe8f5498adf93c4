"""Image and caption in, answer out."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from groundcli.answer import Answer, PhraseHeat, Reading, answer
from groundcli.data import Caption
from groundcli.data.images import as_image, decode, resize
from groundcli.data.phrases import How, PhraseFinder, Word, content_key, parse, tokenize, words_in
from groundcli.devices import autocast, torch_device
from groundcli.errors import BadInput
from groundcli.heat import EVIDENCE
from groundcli.heat.boxes import DEFAULT, Method
from groundcli.model.grounding_model import GroundingModel
from groundcli.options import MIN_SCORE, Precision
from groundcli.weights.load import Loaded, load_model


@dataclass(frozen=True)
class EncodedImage:
    """An image in the common space, for any number of captions.

    Attributes:
        size: (width, height) of the image in pixels.
        cells: (L, N, D).
        image: the picture or its file, for answers to draw on, where `encode` was given one.
    """

    size: tuple[int, int]
    cells: Tensor
    image: Image.Image | Path | None = None


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
        min_score: float = 0.0,
        loaded: Loaded | None = None,
    ):
        """A grounder of a model; `load` makes one from weights. `loaded` says where the model is from."""
        self.device = torch.device(device)
        self.precision: Precision = precision
        self.boxes: Method = boxes
        self.min_score = min_score
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
        boxes: Method = DEFAULT,
        min_score: float = MIN_SCORE,
    ) -> "Grounder":
        """A grounder from shipped weights by their name, or from a checkpoint by its path.

        Args:
            weights: the name or the path.
            device: `cpu`, `cuda`, `cuda:N`, or `auto`, which takes a GPU where there is one.
            precision: float32, bf16 (of convolutions and matrix products), or auto: bf16 on a GPU that has it.
            settings: `key.key=value` over the recipe of the weights, such as `model.text.elmo_backend=allennlp`.
            boxes: the way to get boxes from heat maps, of `groundcli.heat.boxes.METHODS`.
            min_score: phrases with a lower score are not found; the default keeps 99 % of the right points.

        Raises:
            GroundcliError: the weights are missing or damaged, or there is no such device.
        """
        chosen = torch_device(str(device))
        loaded = load_model(weights, settings)
        return cls(loaded.model, chosen, precision, boxes, min_score, loaded)

    def encode(self, image: Any) -> EncodedImage:
        """Encodes one image: a file's path, or whatever `groundcli.data.images.as_image` takes.

        Raises:
            BadInput: the file can't be decoded.
            TypeError: it is no image.
        """
        picture = _opened(image)
        (encoded,) = self.encode_pictures([picture])
        return replace(encoded, image=Path(image) if isinstance(image, str | Path) else picture)

    def encode_pictures(self, pictures: Sequence[Image.Image]) -> list[EncodedImage]:
        """Encodes upright pictures of mode RGB together."""
        side = self.model.config.visual.image_size
        return self.encode_pixels([resize(picture, side) for picture in pictures], [p.size for p in pictures])

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

    def ground(self, image: Any, caption: str | Caption = "", phrases: How | Sequence[str] = "auto") -> Answer:
        """Grounds the phrases of a caption, or phrases by themselves.

            grounder.ground("street.jpg", "[a man] rides [a brown horse]")
            grounder.ground("street.jpg", phrases=["a man", "an elephant"])

        Args:
            image: what `encode` takes, or what it gave.
            caption: text, in which brackets mark phrases; or a Caption with its phrases.
            phrases: which phrases of the caption: `auto` takes the marked ones, or noun phrases where none is marked;
                or, in place of a caption, a list of phrases, each of which is read by itself.

        Returns:
            The answer. For a list its phrases are the list's, in this order; its caption joins them by commas.

        Raises:
            BadInput: the file can't be decoded.
            TypeError: no image, neither or both of a caption and a list of phrases.
        """
        encoded = image if isinstance(image, EncodedImage) else self.encode(image)
        if isinstance(phrases, str):
            if isinstance(caption, str) and not caption:
                raise TypeError("expected a caption, or a list of phrases")
            return self.ground_captions(encoded, self._read([caption], cast(How, phrases)))[0]
        if caption:
            raise TypeError("expected a caption or a list of phrases, not both")
        answers = self.ground_captions(encoded, [Caption.of_phrase(phrase) for phrase in phrases])
        return answers[0].followed_by(answers[1:]) if answers else Answer("", encoded.size, (), encoded.image)

    def ground_batch(
        self,
        pairs: Iterable[tuple[Any, str | Caption]],
        phrases: How = "auto",
        batch_size: int = 8,
        skip: Callable[[int, BadInput], None] | None = None,
    ) -> Iterator[Answer]:
        """Grounds any number of captions, each on its image; answers come in order, as the pairs are read.

        Only a batch is in memory at a time; on a GPU its images are encoded together.

            for answer in grounder.ground_batch([("a.jpg", "a dog"), ("b.jpg", "a red car")]): ...

        Args:
            pairs: (image, caption), as `ground` takes them.
            phrases: which phrases of the captions.
            batch_size: pairs that are worked on together.
            skip: is given the number of a pair, from 0, whose image can't be decoded, and why; the pair has no answer
                then. Without it BadInput is raised.

        Raises:
            BadInput: an image can't be decoded.
            TypeError: no image.
        """
        numbered = enumerate(pairs)
        while batch := list(islice(numbered, batch_size)):
            good: list[tuple[Image.Image, str | Caption]] = []
            for number, (image, caption) in batch:
                try:
                    good.append((_opened(image), caption))
                except BadInput as error:
                    if skip is None:
                        raise
                    skip(number, error)
            captions = self._read([caption for _, caption in good], phrases)
            text = self.encode_captions(captions)
            pictures = [picture for picture, _ in good]
            for picture, encoded, caption in zip(pictures, self.encode_pictures(pictures), captions, strict=True):
                yield self.ground_captions(replace(encoded, image=picture), [caption], text)[0]

    def _read(self, captions: Sequence[str | Caption], phrases: How) -> list[Caption]:
        """Captions with their phrases."""
        return self.finder.find([parse(c) if isinstance(c, str) else c for c in captions], phrases)

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
        return answer(
            captions, image.size, self.phrase_heat(image, captions, encoded), self.reading(boxes), image.image
        )

    def reading(self, boxes: bool = True) -> Reading:
        """How answers are read off heat maps; without boxes, points alone."""
        config = self.model.config
        return Reading(config.calibration, config.box_calibration, self.boxes if boxes else None, self.min_score)

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
            evidence = np.zeros((count, len(EVIDENCE) if self.model.presence else 0), np.float32)
            nothing = np.zeros(count, np.float32)
            return PhraseHeat(np.zeros((count, side, side), np.float32), nothing, nothing.astype(int), evidence)
        with autocast(self.device, self.precision):
            s = torch.cat([vectors[text] for text in spoken], dim=1)
            heat, scores, levels, top = self.model.ground_words(image.cells, s)  # (W, N), (W), (W), (W)
        words_evidence = self.model.presence(image.cells, s, scores, top) if self.model.presence else None  # (W, E)
        first = dict(zip(spoken, np.cumsum([0, *(len(words[text]) for text in spoken)]).tolist(), strict=False))
        # All phrases at once: row p of `member` marks the words of phrase p, so that one matrix product averages the
        # heat of its words, weighted by their scores (design: the heat of a phrase). (P, W) @ (W, N) -> (P, N)
        member, naming = torch.zeros(2, count, len(scores), device=heat.device)
        last = [0] * count  # of each phrase, the last word that names something: its head, for the most part
        spans = [(c.text, words_in(words[c.text], phrase.span)) for c in captions for phrase in c.phrases]
        for i, (text, inside) in enumerate(spans):
            if inside:
                member[i, first[text] + inside.start : first[text] + inside.stop] = 1
                content = [first[text] + j for j in inside if content_key(words[text][j].text)]
                content = content or [first[text] + j for j in inside]
                naming[i, content], last[i] = 1 / len(content), content[-1]
        weights = member * scores
        means = weights @ heat.float() / weights.sum(1, keepdim=True).clamp_min(1e-12)
        best, word = weights.max(1)
        chosen = torch.where(member.any(1), levels[word], 0)
        parts = [words_evidence[last], naming @ words_evidence] if words_evidence is not None else [member[:, :0]]
        maps = self._smooth(self.model.spread(image.cells, means).view(-1, side, side))
        found = maps, best, chosen, torch.cat(parts, dim=1)
        return PhraseHeat(*(values.cpu().numpy() for values in found))

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
                heat, *_ = self.model.ground_words(image.cells, z)
            maps = self.model.spread(image.cells, heat.float()).view(-1, side, side)
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


def _opened(image: Any) -> Image.Image:
    """An image of any kind as an upright picture of mode RGB."""
    return decode(Path(image)) if isinstance(image, str | Path) else as_image(image)
