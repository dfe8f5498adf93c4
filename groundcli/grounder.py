"""Image and caption in, answer out."""

import json
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from ctypes import CDLL
from dataclasses import dataclass, field, replace
from functools import cache, cached_property
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

import numpy as np
from PIL import Image
from safetensors import safe_open

from groundcli.answer import Answer, PhraseHeat, Reading, answer
from groundcli.data import Caption
from groundcli.data.images import as_image, decode, resize
from groundcli.data.phrases import How, PhraseFinder, Word, content_key, parse, tokenize, words_in
from groundcli.errors import BadInput, GroundcliError, UsageError, first_line
from groundcli.heat import EVIDENCE
from groundcli.heat.boxes import DEFAULT, Method
from groundcli.model import piece_cutter
from groundcli.options import MIN_SCORE, AnyPrecision, Precision, RuntimeName, one_of
from groundcli.parallel import threads
from groundcli.recipe import ModelConfig
from groundcli.weights.store import EXPORTED, INT8, Checkpoint, find, hash_of, open_model

if TYPE_CHECKING:
    from onnxruntime import InferenceSession


class Runtime(Protocol):
    """What computes a model: `OnnxRuntime`, or `groundcli.devices.TorchRuntime`. Its arrays are of its own kind."""

    name: str
    device: str  # cpu, cuda or cuda:N
    config: ModelConfig

    @property
    def knows(self) -> tuple[bool, bool]:
        """Whether the model tells if a phrase's thing is in the image at all, and how far it reaches."""

    def cells(self, pixels: Sequence[np.ndarray]) -> Sequence[Any]:
        """Images (S, S, 3) uint8 RGB -> the cells (L, N, D) of each."""

    def words(self, captions: Sequence[Sequence[str]]) -> Sequence[Sequence[Any]]:
        """Captions of at least one word each -> its T words (K, D) each; equal ones without context are one object."""

    def sentences(self, captions: Sequence[Sequence[str]]) -> Sequence[Any]:
        """Captions of at least one word each -> each as a whole, (K, D)."""

    def heat(self, cells: Any, words: Sequence[Any], *phrases: np.ndarray) -> Sequence[np.ndarray]:
        """What `PhraseHeat` is made of: phrases on the cells of one image, by W words.

        Of P phrases: `member`, `naming` (P, W) float32, `last` (P) and `boxed` (Q) int64, see
        `GroundingModel.ground_phrases`.
        """


@dataclass(frozen=True)
class EncodedImage:
    """An image in the common space, for any number of captions."""

    size: tuple[int, int]  # (width, height) in pixels
    cells: Any = field(repr=False)  # (L, N, D), an array of the runtime
    image: Image.Image | Path | None = None  # to draw answers on, where `encode` was given a picture or its file


KEPT = 1 << 13  # words, 28 MB, whose vectors are kept

# Captions in the common space, for any number of images: by their texts, if those have words, the words and the vector
# (K, D) of each, an array of the runtime.
EncodedCaptions = Mapping[str, tuple[list[Word], Sequence[Any]]]


class Grounder:
    """Points at what captions talk about.

    An image is encoded once however many captions it has:

        encoded = grounder.encode("street.jpg")
        answers = [grounder.ground(encoded, caption) for caption in captions]
    """

    def __init__(
        self, runtime: Runtime, boxes: Method = DEFAULT, min_score: float = 0.0, loaded: Checkpoint | None = None
    ):
        """A grounder of a model; `load` makes one from weights. `loaded` says where the model is from."""
        self.runtime = runtime
        self.boxes: Method = boxes
        self.min_score = min_score
        self.loaded = loaded
        self.finder = PhraseFinder()

    @classmethod
    def load(
        cls,
        weights: str = "lite",
        device: Any = "cpu",
        precision: AnyPrecision = "auto",
        settings: Sequence[str] = (),
        boxes: Method = DEFAULT,
        min_score: float = MIN_SCORE,
        runtime: RuntimeName = "auto",
    ) -> "Grounder":
        """A grounder from shipped weights by their name, or from a checkpoint by its path.

        Args:
            weights: the name or the path.
            device: `cpu`, `cuda`, `cuda:N`, or `auto`, which takes a GPU where there is one.
            precision: float32; bf16 (of convolutions and matrix products); auto: bf16 on a GPU that has it; or int8 (of
                the image's network, on CPUs): about 0.6 of its time.
            settings: `key.key=value` over the recipe of the weights, such as `model.text.elmo_backend=allennlp`.
            boxes: the way to get boxes from heat maps, of `groundcli.heat.boxes.METHODS`.
            min_score: phrases with a lower score are not found; the default keeps 99 % of the right points.
            runtime: `onnx` takes the export beside the weights, on a CPU and without torch; `torch` the weights
                themselves; `auto` onnx where that is possible.

        Raises:
            GroundcliError: the weights are missing or damaged, there is no such device, or no export for `onnx`.
            UsageError: no such precision, boxes or runtime, or a score that isn't from 0 to 1.
        """
        one_of("precision", precision, AnyPrecision)
        one_of("boxes", boxes, Method)
        one_of("runtime", runtime, RuntimeName)
        if not 0 <= min_score <= 1:
            raise UsageError(f"min_score {min_score}: expected 0 to 1")
        reason = "is computed by ONNX Runtime, not torch"
        if runtime != "torch":
            opened = open_model(weights, settings)
            reason = _hindrance(opened, str(device), precision)
            if not reason:
                opened.check_frozen({part: hash_of(find(part)) for part in opened.recipe.model.text.encoders})
                return cls(OnnxRuntime(opened.export, opened.recipe.model, precision), boxes, min_score, opened)
        if runtime == "onnx" or precision == "int8":
            asked = "--precision int8" if precision == "int8" else "--runtime onnx"
            raise GroundcliError(f"{asked}: {reason}")
        from groundcli.devices import TorchRuntime, torch_device  # here, as torch takes seconds to import
        from groundcli.weights.load import load_model

        chosen, loaded = torch_device(str(device)), load_model(weights, settings)
        return cls(TorchRuntime(loaded.model, chosen, cast(Precision, precision)), boxes, min_score, loaded)

    @property
    def config(self) -> ModelConfig:
        """What decides what the model computes."""
        return self.runtime.config

    @property
    def device(self) -> str:
        """Where it is computed: cpu, cuda or cuda:N."""
        return self.runtime.device

    @property
    def on_cpu(self) -> bool:
        """Whether that is on CPUs."""
        return self.device == "cpu"

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
        side = self.config.visual.image_size
        return self.encode_pixels([resize(picture, side) for picture in pictures], [p.size for p in pictures])

    def encode_pixels(self, pixels: Sequence[np.ndarray], sizes: Sequence[tuple[int, int]]) -> list[EncodedImage]:
        """Encodes images that have the model's size already, (S, S, 3) uint8 RGB, of (width, height) pixels once."""
        cells = self.runtime.cells(pixels) if pixels else ()
        return [EncodedImage(size, each) for size, each in zip(sizes, cells, strict=True)]

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
            TypeError: no image, no text, neither or both of a caption and a list of phrases.
            UsageError: no such way to find phrases.
        """
        encoded = image if isinstance(image, EncodedImage) else self.encode(image)
        if isinstance(phrases, str):
            if isinstance(caption, str) and not caption:
                raise TypeError("expected a caption, or a list of phrases")
            return self.ground_captions(encoded, self._read([caption], cast(How, phrases)))[0]
        if caption:
            raise TypeError("expected a caption or a list of phrases, not both")
        answers = self.ground_captions(encoded, [Caption.of_phrase(_text(phrase)) for phrase in phrases])
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
            TypeError: no pair, no image, no text.
            UsageError: no such way to find phrases, or a batch of none.
        """
        if not isinstance(batch_size, int) or batch_size < 1:
            raise UsageError(f"batch_size {batch_size}: expected 1 or more")
        numbered = enumerate(pairs)
        while batch := list(islice(numbered, batch_size)):
            pictures: list[Image.Image] = []
            said: list[str | Caption] = []
            for number, pair in batch:
                if not isinstance(pair, tuple | list) or len(pair) != 2:
                    raise TypeError(f"expected a pair (image, caption), not {type(pair).__name__}")
                image, caption = pair
                try:
                    pictures.append(_opened(image))
                    said.append(caption)
                except BadInput as error:
                    if skip is None:
                        raise
                    skip(number, error)
            captions = self._read(said, phrases)
            text = self.encode_captions(captions)
            for picture, encoded, caption in zip(pictures, self.encode_pictures(pictures), captions, strict=True):
                yield self.ground_captions(replace(encoded, image=picture), [caption], text)[0]

    def _read(self, captions: Sequence[str | Caption], phrases: How) -> list[Caption]:
        """Captions with their phrases."""
        one_of("phrases", phrases, How)
        return self.finder.find([c if isinstance(c, Caption) else parse(_text(c)) for c in captions], phrases)

    def encode_captions(self, captions: Iterable[Caption]) -> EncodedCaptions:
        """Encodes captions of any number of images together; equal ones once."""
        texts = dict.fromkeys(caption.text for caption in captions)
        words = {text: tokens for text in texts if (tokens := tokenize(text))}
        vectors = self.runtime.words([[word.text for word in tokens] for tokens in words.values()]) if words else ()
        return {text: (tokens, each) for (text, tokens), each in zip(words.items(), vectors, strict=True)}

    def ground_captions(
        self,
        image: EncodedImage,
        captions: Sequence[Caption],
        encoded: EncodedCaptions | None = None,
        boxes: bool = True,
    ) -> list[Answer]:
        """Grounds captions whose phrases are known already, on one image, all together; without `boxes`, points alone.

        `encoded` is what `encode_captions` gave for these captions, and others; None encodes them here.
        """
        heat = self.phrase_heat(image, captions, encoded, boxed=None if boxes else 0)
        return answer(captions, image.size, heat, self.reading(boxes), image.image)

    def reading(self, boxes: bool = True) -> Reading:
        """How answers are read off heat maps; without boxes, points alone."""
        config = self.config
        return Reading(config.calibration, config.box_calibration, self.boxes if boxes else None, self.min_score)

    def phrase_heat(
        self,
        image: EncodedImage,
        captions: Sequence[Caption],
        encoded: EncodedCaptions | None = None,
        sentences: Sequence[str] = (),
        boxed: int | None = None,
    ) -> PhraseHeat:
        """The model's half of `ground_captions`: heat maps, of which `groundcli.answer` makes answers.

        After the captions' phrases come whole texts, by their sentence vectors, as if each were a phrase. How far
        things reach is found for the first `boxed` phrases; without it for all, if boxes are found by that.
        """
        encoded = encoded or self.encode_captions(captions)
        # The words that any phrase has are looked for, and no others; equal ones once, but for those of one phrase.
        vectors: dict[tuple[int, int], Any] = {}
        phrases = []  # of each the keys of its words in `vectors`, and of those that name something
        for caption in captions:
            words, each = encoded.get(caption.text, ([], []))
            for phrase in caption.phrases:
                inside = words_in(words, phrase.span)
                often: Counter[int] = Counter()
                keys = []
                for one in (id(each[j]) for j in inside):
                    keys.append((one, often[one]))
                    often[one] += 1
                vectors.update(zip(keys, (each[j] for j in inside), strict=True))
                phrases.append((keys, [k for k, j in zip(keys, inside, strict=True) if content_key(words[j].text)]))
        spoken = {i: words for i, text in enumerate(sentences, len(phrases)) if (words := tokenize(text))}
        count = len(phrases) + len(sentences)
        if not vectors and not spoken:
            return self._nothing(count)
        column = {key: number for number, key in enumerate(vectors)}
        looked_for = [*vectors.values()]
        if spoken:
            looked_for += self.runtime.sentences([[word.text for word in words] for words in spoken.values()])
        # Row p of `member` marks the words of phrase p, row p of `naming` those that name something.
        member, naming = np.zeros((2, count, len(looked_for)), np.float32)
        last = np.zeros(count, np.int64)
        for word, i in enumerate(spoken, len(column)):  # a sentence is a phrase of one word, itself
            member[i, word], naming[i, word], last[i] = 1, 1, word
        for i, (keys, content) in enumerate(phrases):
            if keys:
                named = [column[key] for key in content or keys]
                member[i, [column[key] for key in keys]], naming[i, named], last[i] = 1, 1 / len(named), named[-1]
        if boxed is None:
            boxed = count if self.boxes == "extents" else 0
        return PhraseHeat(*self.runtime.heat(image.cells, looked_for, member, naming, last, np.arange(count)[:boxed]))

    def _nothing(self, count: int) -> PhraseHeat:
        """What there is to say of phrases without any word."""
        side, nothing, (presence, extent) = self.config.visual.grid, np.zeros(count, np.float32), self.runtime.knows
        maps = np.zeros((count, side, side), np.float32)
        evidence = np.zeros((count, len(EVIDENCE) * presence), np.float32)
        return PhraseHeat(maps, nothing, nothing.astype(int), evidence, maps[:, : side * extent].copy())


class OnnxRuntime:
    """An exported model on CPUs, by ONNX Runtime (`groundcli weights export --format onnx`). Its arrays are numpy's.

    In a lane (`groundcli.parallel.lanes`) it takes one thread: sums are the same however many lanes there are.
    """

    name, device = "onnx", "cpu"

    def __init__(self, folder: Path, config: ModelConfig, precision: AnyPrecision = "auto"):
        """Of the folder of an export, and the model's configuration. What a part of it needs is loaded at first use."""
        self.config = config
        self._image = INT8 if precision == "int8" else "image"
        self._folder = folder
        self._session = cache(self._load)
        self._known: dict[str, tuple[np.ndarray, np.ndarray]] = {}  # see `_lookup`

    @property
    def knows(self) -> tuple[bool, bool]:
        """See `Runtime`."""
        *_, evidence, extents = self._session("heat", threads()).get_outputs()
        return bool(evidence.shape[1]), bool(extents.shape[1])

    def _load(self, part: str, threads: int) -> "InferenceSession":
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        try:
            return onnxruntime.InferenceSession(self._folder / f"{part}.onnx", options, ["CPUExecutionProvider"])
        except Exception as error:  # of types of its own
            raise GroundcliError(
                f"{self._folder / part}.onnx: can't be loaded ({first_line(error)}); export it again, or "
                "add --runtime torch"
            ) from None

    def _run(self, part: str, **inputs: np.ndarray) -> list[np.ndarray]:
        return cast(list[np.ndarray], self._session(part, threads()).run(None, inputs))

    def cells(self, pixels: Sequence[np.ndarray]) -> Sequence[np.ndarray]:
        """See `Runtime`."""
        return [self._run(self._image, pixels=each)[0] for each in pixels]

    @cached_property
    def _pieces(self) -> tuple[Callable[[Sequence[str]], list[list[int]]], np.ndarray]:
        """What cuts words into pieces, and the vectors of all pieces (V, E) float16."""
        with safe_open(find(self.config.text.encoders[0]), framework="numpy") as file:
            return piece_cutter(json.loads(file.metadata()["pieces"])), file.get_tensor("table")

    def _lookup(self, words: Sequence[str]) -> Mapping[str, tuple[np.ndarray, np.ndarray]]:
        """By word, the mean of its pieces (E) and its vector (K, D), float32; kept, as captions have most in common."""
        known = self._known
        if len(known) > KEPT:  # a thread that reads the old ones goes on with them
            known = self._known = {}
        new = [word for word in dict.fromkeys(words) if word not in known]
        if new:
            cut, table = self._pieces
            pieces = cut(new)
            counts = [len(ids) for ids in pieces]
            starts = np.cumsum([0, *counts[:-1]])
            sums = np.add.reduceat(table[[i for ids in pieces for i in ids]].astype(np.float32), starts)
            # rounded as torch does it
            features = (sums.astype(table.dtype) / np.array(counts, table.dtype)[:, None]).astype(np.float32)
            vectors, _ = self._run("words", features=features)
            for word, feature, vector in zip(new, features, vectors.swapaxes(0, 1), strict=True):
                known.setdefault(word, (feature, vector))  # another thread may have been quicker
        return known

    def words(self, captions: Sequence[Sequence[str]]) -> Sequence[Sequence[np.ndarray]]:
        """See `Runtime`."""
        known = self._lookup([word for caption in captions for word in caption])
        return [[known[word][1] for word in caption] for caption in captions]

    def sentences(self, captions: Sequence[Sequence[str]]) -> Sequence[np.ndarray]:
        """See `Runtime`. A sentence is the mean of its words."""
        known = self._lookup([word for caption in captions for word in caption])
        features = np.stack([np.mean([known[word][0] for word in caption], axis=0) for caption in captions])
        return [*self._run("words", features=features)[1].swapaxes(0, 1)]

    def heat(self, cells: np.ndarray, words: Sequence[np.ndarray], *phrases: np.ndarray) -> Sequence[np.ndarray]:
        """See `Runtime`."""
        given = dict(zip(("member", "naming", "last", "boxed"), phrases, strict=True))
        return self._run("heat", cells=cells, words=np.stack(words, axis=1), **given)


def _hindrance(opened: Checkpoint, device: str, precision: AnyPrecision) -> str:
    """Why a model can't be computed by ONNX Runtime; empty where it can."""
    if device != "cpu" and not (device == "auto" and not has_gpu_driver()):
        return f"computes on CPUs; add --device cpu, as {device} may be a GPU"
    if precision == "bf16":
        return "computes in float32 or int8; leave --precision bf16 out"
    if not (opened.export / EXPORTED).is_file():
        how = f"`groundcli weights export {opened.name} --format onnx --out {opened.export}`"
        return f"{opened.path} has no export beside it; make it with {how}"
    said: dict[str, Any] = {}
    with suppress(OSError, ValueError):
        said = json.loads((opened.export / EXPORTED).read_text("utf-8"))
    if not opened.made(said):
        return f"{opened.export} was exported from other weights or settings than {opened.path}; export it again"
    if precision == "int8" and not (opened.export / f"{INT8}.onnx").is_file():
        return f"{opened.export} has no {INT8}.onnx; export it again, with --int8 PHOTOS"
    return ""


def has_gpu_driver() -> bool:
    """Whether the system has a driver of NVIDIA's or AMD's GPUs: without one there is no GPU for torch to find."""
    for library in ("nvcuda.dll",) if os.name == "nt" else ("libcuda.so.1", "libamdhip64.so"):
        with suppress(OSError):
            CDLL(library)
            return True
    return False


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"expected a text, not {type(value).__name__}; several phrases are phrases=[...]")
    return value


def _opened(image: Any) -> Image.Image:
    """An image of any kind as an upright picture of mode RGB."""
    return decode(Path(image)) if isinstance(image, str | Path) else as_image(image)
