"""What is learned from: images with captions of several sources, what can be known of them before the first step, and
which image meets which caption in which step.
"""

import hashlib
import json
import re
import shutil
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from functools import cache
from itertools import chain, cycle, islice
from pathlib import Path
from typing import NamedTuple

import torch

from groundcli import data as datasets
from groundcli.data import Caption, Sample, find
from groundcli.data.images import decode
from groundcli.data.phrases import content_key, tokenize
from groundcli.errors import BadInput, GroundcliError, UsageError
from groundcli.files import sha256
from groundcli.model.text import WordPieces
from groundcli.recipe import TrainingConfig
from groundcli.training import FOLDER, LearningOptions, Source
from groundcli.training.features import LiveFeatures
from groundcli.training.gradient import Batch, Ranks
from groundcli.weights.load import Loaded

HELD_OUT, AT_LEAST = 0.1, 10  # share of the images, and images where a quarter gives them: fewer measure nothing
SIDED = re.compile(r"\b(left|right)")
DECODED = 8  # images tried before the first step, evenly over the list
SHOWN = 3  # names in a message
LISTED = 10  # skipped images, a line each
YEAR = re.compile(r"^COCO_(?:train|val|test)\d{4}_")  # COCO's names of 2014 are those of 2017 with this before them


class Data(NamedTuple):
    """What a run learns from."""

    samples: Sequence[Sample]  # images to learn from
    weights: Sequence[float]  # how often per epoch each of them is seen
    validation: Sequence[Sample]  # images to choose the best epoch by
    evaluation: Mapping[str, Sequence[Sample]]  # that mustn't be learned from, by their split, "flickr30k test"
    source: str  # where all that is from, for the checkpoint's metadata


def load(
    options: LearningOptions, tell: Callable[[str], None], *, validate: bool = True, aside: int | None = None
) -> Data:
    """The images of all sources that options name; a line is told for each that can't be used.

    The best epoch is chosen by data sets' split "val", where `validate` says so, and by some images of each folder that
    are kept aside, drawn with the seed `aside`; None keeps none.

    Raises:
        GroundcliError: files are missing or can't be read.
        UsageError: a data set can't have such a split.
    """
    samples: list[Sample] = []
    weights: list[float] = []
    validation: list[Sample] = []
    evaluation: dict[str, Sequence[Sample]] = {}
    names: list[str] = []
    for source in options.sources:
        learning: Sequence[Sample]
        if source.dataset == FOLDER:
            name, found = "a folder", find.load([source.root], options.captions, None, columns=options.columns)
            skipped = [f"skipped {failure.path}: {failure.reason}" for failure in found.failures]
            more = [f"and {len(skipped) - LISTED} more skipped"] if len(skipped) > LISTED else []
            for line in (*skipped[:LISTED], *more, *found.notes):
                tell(line)
            learning, kept = (found.samples, []) if aside is None else hold_out(found.samples, aside)
            validation += kept
        else:
            name = f"{source.dataset}, {options.split} split"
            learning = datasets.load(source.dataset, source.root, options.split)
            splits = evaluation_splits(source, needed="val" if validate else "")
            evaluation |= splits
            validation += splits[f"{source.dataset} val"] if validate else ()
        learning = learning[: options.limit]
        samples += learning
        weights += [source.weight] * len(learning)
        names.append(f"{name}: {len(learning)} images" + (f", weight {source.weight:g}" if source.weight != 1 else ""))
    for source in options.compared:
        splits = evaluation_splits(source)
        if not splits:
            raise GroundcliError(f"--evaluation {source.dataset}={source.root}: has neither a val nor a test split")
        evaluation |= splits
    return Data(samples, weights, validation, evaluation, "; ".join(names))


def evaluation_splits(source: Source, needed: str = "") -> dict[str, Sequence[Sample]]:
    """The images that a data set is evaluated on, by "DATASET SPLIT", as far as they are there.

    Raises:
        GroundcliError: the split that is needed isn't.
    """
    splits: dict[str, Sequence[Sample]] = {}
    for split in ("val", "test"):
        try:
            splits[f"{source.dataset} {split}"] = datasets.load(source.dataset, source.root, split)
        except GroundcliError as error:  # a data set without the split, or a copy without its files
            if split == needed:
                hint = "To learn without choosing an epoch, add --set training.validate_every=0"
                raise type(error)(f"{error}. {hint}") from None
    return splits


def hold_out(samples: Sequence[Sample], seed: int) -> tuple[list[Sample], list[Sample]]:
    """Images to learn from, and a part kept aside to compare by. Raises GroundcliError where there are under four."""
    if len(samples) < 4:
        raise GroundcliError(
            f"{len(samples)} images with captions are too few: two have to be told apart in training, and two after it"
        )
    count = max(2, int(HELD_OUT * len(samples)), min(AT_LEAST, len(samples) // 4))
    order = torch.randperm(len(samples), generator=torch.Generator().manual_seed(seed)).tolist()
    aside = set(order[:count])
    return [s for i, s in enumerate(samples) if i not in aside], [samples[i] for i in sorted(aside)]


def unseen_words(samples: Sequence[Sample], known: Collection[str]) -> list[tuple[str, int]]:
    """Words in captions that a vocabulary lacks in every form, with how often they come, the most frequent first."""
    words = (content_key(word.text) for s in samples for caption in s.captions for word in tokenize(caption.text))
    return Counter(word for word in words if word and word not in known).most_common()


def vocabulary(loaded: Loaded) -> Collection[str]:
    """The words that a model has learned from, as its checkpoint says; of older ones, whole words of its word table."""
    if "vocabulary" in loaded.metadata:
        return set(loaded.metadata["vocabulary"])
    tables = (table for table in loaded.model.text.tables if isinstance(table, WordPieces))
    return {content_key(piece) for table in tables for piece in table.pieces if not piece.startswith("##")}


# --- What can be known before the first step: counts, files, a few decodes, free disk, images that mustn't be here


def check(data: Data, options: LearningOptions, purpose: str, tell: Callable[[str], None]) -> None:
    """Tells what is there, line by line; `purpose` is what the validation images are for.

    Raises:
        UsageError: images to learn from are of an evaluation split, and that isn't allowed.
        GroundcliError: nothing can be learned from the images.
    """
    for line in check_images(data.samples):
        tell(line)
    tell(f"{len(data.validation)} images {purpose}")
    folder = next(path for path in (options.out.absolute(), *options.out.absolute().parents) if path.exists())
    tell(f"{shutil.disk_usage(folder).free / 1e9:.1f} GB free in {folder}")
    if not options.allow_evaluation_images:
        tell(check_leaks(data.samples, data.evaluation))


def check_images(samples: Sequence[Sample]) -> Iterator[str]:
    """Lines about the images to learn from. Raises GroundcliError where there are under two, or none can be used."""
    if len(samples) < 2:
        raise GroundcliError(f"{len(samples)} images with captions: training tells pairs apart, and needs two at least")
    missing = [sample.name for sample in samples if not sample.image.is_file()]
    if len(missing) == len(samples):
        raise GroundcliError(f"{samples[0].image}: no such file, nor any other of the {len(samples)} images")
    captions = sum(len(sample.captions) for sample in samples)
    yield f"{len(samples)} images to learn from, {captions} captions"
    if missing:
        yield f"{len(missing)} images have no file and will be skipped: {_some(missing)}"
    tried = samples[:: max(1, len(samples) // DECODED)]
    bad = []
    for sample in tried:
        try:
            decode(sample.image)
        except BadInput:
            bad.append(sample.name)
    if len(bad) == len(tried):
        raise GroundcliError(f"none of {len(tried)} images tried can be decoded: {_some(bad)}")
    yield f"decoded {len(tried) - len(bad)} of {len(tried)} images tried" + (f", not {_some(bad)}" if bad else "")


def check_leaks(samples: Sequence[Sample], evaluation: Mapping[str, Sequence[Sample]]) -> str:
    """A line about the evaluation splits, none of whose images, by name or by content, are among those to learn from.

    Raises:
        UsageError: some are.
    """
    if not evaluation:
        return "not compared with any evaluation images: none are known; --evaluation DATASET=DIR names some"
    leaks = shared_images(samples, evaluation)
    if leaks:
        splits = ", ".join(dict.fromkeys(split for _, split in leaks))
        raise UsageError(
            f"{len(leaks)} images to learn from are also in {splits}: {_some([image for image, _ in leaks])}; "
            "numbers on it would mean nothing. Remove them, or add --allow-evaluation-images"
        )
    compared = ", ".join(f"{split} ({len(held)} images)" for split, held in evaluation.items())
    return f"no image to learn from is in {compared}"


def shared_images(learning: Sequence[Sample], evaluation: Mapping[str, Sequence[Sample]]) -> list[tuple[str, str]]:
    """Images to learn from that evaluation splits hold too, by the names of their files or by their bytes.

    Names are compared without folders, suffix and case, and COCO's of 2014 are equal to those of 2017. Contents are
    compared by SHA-256, of files of equal size only. A copy under another name that was scaled or saved anew isn't
    noticed. Files that can't be read share nothing but their names.

    Returns:
        (image, split) by their names, in the order of `learning`; a split's is that in `evaluation`, "flickr30k val".
    """
    names: dict[str, list[str]] = defaultdict(list)
    sizes: dict[int, list[tuple[str, Path]]] = defaultdict(list)
    for split, samples in evaluation.items():
        for sample in samples:
            names[_key(sample.image)].append(split)
            sizes[_size(sample.image)].append((split, sample.image))
    digest, shared = cache(_digest), []
    for sample in learning:
        splits = dict.fromkeys(names.get(_key(sample.image), ()))
        for split, other in sizes.get(_size(sample.image), ()):
            if split not in splits and (mine := digest(sample.image)) and mine == digest(other):
                splits[split] = None
        shared += [(sample.name, split) for split in splits]
    return shared


def _key(image: Path) -> str:
    return YEAR.sub("", image.stem).casefold()


def _size(image: Path) -> int:
    try:
        return image.stat().st_size
    except OSError:
        return -1


def _digest(image: Path) -> str:
    try:
        return sha256(image)
    except OSError:
        return ""


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:SHOWN]) + (", ..." if len(names) > SHOWN else "")


# --- Which image meets which caption in which step


def spoken(captions: Sequence[Caption]) -> list[list[str]]:
    """Captions as their words; those without any are left out."""
    tokenised = ([word.text for word in tokenize(caption.text)] for caption in captions)
    return [words for words in tokenised if words]


class Pairs:
    """Images with their tokenised captions."""

    def __init__(self, samples: Sequence[Sample], weights: Sequence[float], features: LiveFeatures):
        """Tokenises; `weights` are how often per epoch each image is seen."""
        self.features = features
        self.names = [sample.name for sample in samples]
        captions = {index: spoken(samples[index].captions) for index in features.indices}
        self.captions = {index: some for index, some in captions.items() if some}  # by the image's index
        self.indices = list(self.captions)
        self.sets: dict[float, list[int]] = defaultdict(list)  # images of one weight
        for index in self.indices:
            self.sets[weights[index]].append(index)
        self.content = {index: {content_key(w) for c in cs for w in c} - {""} for index, cs in self.captions.items()}

    @property
    def vocabulary(self) -> set[str]:
        """What the captions' words share with their other forms."""
        return set().union(*self.content.values())

    @property
    def digest(self) -> str:
        """Hash of all names, captions and unequal weights: a run is resumed on the same pairs alone."""
        pairs: list[object] = [(self.names[index], captions) for index, captions in self.captions.items()]
        pairs += [(weight, indices) for weight, indices in self.sets.items() if weight != 1]
        return hashlib.sha256(json.dumps(pairs).encode()).hexdigest()

    @property
    def drawn(self) -> int:
        """Pairs of an epoch, those of an incomplete last batch included."""
        return sum(round(weight * len(indices)) for weight, indices in self.sets.items())

    def batches(self, settings: TrainingConfig, epoch: int, first: int, ranks: Ranks) -> Iterator[Batch]:
        """An epoch: every image as often as its weight says, in random order, each time with some of its captions.

        The incomplete last batch is left out. Images that can't be decoded, and one that comes twice in a batch, leave
        it smaller. Where the settings say so, half of the images are mirrored, but never one with a caption that tells
        left from right. Order and captions depend on the epoch and the settings' seed alone, wherever one begins, with
        the batch `first`, and however many ranks share the images.
        """
        size, parts, tuning = settings.batch_size, settings.accumulate, epoch >= settings.epochs
        mirror, more = (settings.tuning.mirror, settings.tuning.captions) if tuning else (settings.mirror, 1)
        draw = torch.Generator().manual_seed(settings.seed * 1000 + epoch)
        order = self._order(draw)
        drawn = torch.rand(len(order), generator=draw).tolist()
        # Captions from a drawn one on; again from the first where an image has no more.
        starts = [(i, int(x * len(self.captions[i]))) for i, x in zip(order, drawn, strict=True)]
        groups = [dict(starts[i : i + size]) for i in range(0, len(starts) - size + 1, size)][first:]
        # Every rank draws all batches alike and reads its share, in parts where memory is short: see `gradient`.
        split = [Ranks(i, parts).share(ranks.share(list(group))) for group in groups for i in range(parts)]
        maps = self.features.read(split, self._mirrored(draw) if mirror else ())
        for start in groups:
            mine = list(islice(maps, parts))
            # Only now is it known which images could be decoded. All ranks have to agree on the pairs, and on whose
            # images are whose, as every image is scored against all captions.
            by_rank = ranks.gather([index for part in mine for index in part.indices])
            indices = list(chain.from_iterable(by_rank))
            said = [(self.captions[index], start[index]) for index in indices]
            yield Batch(
                [self.names[index] for index in indices],
                [captions[(number + i) % len(captions)] for i in range(more) for captions, number in said],
                [self.content[index] for index in indices],
                [part.maps for part in mine if part.indices],
                list(map(len, by_rank)),
            )

    def _order(self, draw: torch.Generator) -> list[int]:
        """Indices of an epoch: those of each set in a random order, again and again until its weight is reached."""
        orders = []
        for weight, indices in self.sets.items():
            order = [indices[i] for i in torch.randperm(len(indices), generator=draw).tolist()]
            orders.append(list(islice(cycle(order), round(weight * len(indices)))))
        if len(orders) == 1:
            return orders[0]
        sets = [i for i, order in enumerate(orders) for _ in order]  # whose turn it is, shuffled
        left = [iter(order) for order in orders]
        return [next(left[sets[i]]) for i in torch.randperm(len(sets), generator=draw).tolist()]

    def _mirrored(self, draw: torch.Generator) -> set[int]:
        """Half of the images whose captions don't tell left from right."""
        coins = torch.rand(len(self.indices), generator=draw).tolist()
        even = (index for index, cs in self.captions.items() if not any(SIDED.search(w.lower()) for c in cs for w in c))
        return {index for index, x in zip(even, coins, strict=False) if x < 0.5}
