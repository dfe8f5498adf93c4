"""The table of an evaluation, a row per phrase and system; and the evaluation itself."""

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from importlib.metadata import version
from itertools import islice, repeat
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
import pandas as pd

import groundcli
from groundcli import data
from groundcli.data import Box, Caption, Sample
from groundcli.data.images import decode, resize
from groundcli.errors import BadInput, GroundcliError, UsageError
from groundcli.evaluation import EvaluateOptions
from groundcli.evaluation.metrics import Truth, draw_absent, measure
from groundcli.evaluation.predictions import PredictionFile
from groundcli.evaluation.summary import average_precision, summarize
from groundcli.evaluation.systems import ABSENT, COMPARED, EVALUATED, GrounderSystem, Predictions, System, baselines
from groundcli.evaluation.tables import as_markdown, check_report, write_page
from groundcli.files import now, replacing, sha256
from groundcli.heat import EVIDENCE, FEATURES
from groundcli.options import MIN_SCORE, RuntimeName
from groundcli.parallel import ahead, in_order, lanes

BATCH = 4  # images that are asked about together, where no lanes are: in those each has a core
TEXTS = ["image", "file", "caption_text", "phrase", "true_boxes"]
PHRASE = ["image", "file", "caption", "caption_text", "phrase", "start", "end", "category", "true_boxes"]
SYSTEM = ["group", "system"]
NUMBERS = [
    *("hit", "attention", "iou", "any_rank", "merged_rank", "score", "x", "y"),
    *("boxes", "box_x", "box_y", "box_width", "box_height", *FEATURES, *EVIDENCE),
]

# What stands near the beginning or the end of a file that eval wrote, by the option that names it.
MARKS = {"json": b'"command": "groundcli eval ', "markdown": b", protocol ", "rows": b"merged_rank"}
ENDS = 1 << 16  # bytes

Progress = Callable[[Iterable[Any], int], Iterable[Any]]  # passes items on, and knows how many there will be
Read = tuple[Truth, dict[int, np.ndarray]]  # an image with its pixels, by side


class Evaluation(NamedTuple):
    """What an evaluation gives: all numbers, and the table that they are made of, see `Rows`.

    To what `groundcli.evaluation.summary.summarize` gives the summary adds "version", "command", "date", "weights",
    "sha256" (of their file), "dataset", "split"; of a model "device", "runtime", "torch" (its version), "boxes", and
    "untrained" where the weights are.
    """

    summary: dict[str, Any]
    rows: pd.DataFrame


class Rows:
    """The table while it grows: numbers alone, no heat maps and no pictures.

    Its columns, with coordinates in pixels of the image and NaN for what a system says nothing of:

    - of the phrase: `image` (name), `file`, `caption` (number in the image, from 0), `caption_text`, `phrase`, `start`,
      `end` (its span), `category`, `true_boxes` (JSON);
    - `group` and `system`: who answers; in the group "absent" the evaluated one, of phrases that aren't in the image:
      they have no true boxes and no category, their caption is numbered among them, and `hit` is 0;
    - `hit`: 1 where the point lies in a box of the phrase (for a random point, the probability), else 0; `attention`:
      attention correctness; `iou` of the box around all boxes and the one around all true ones; `any_rank`: of the
      first box that matches any true one, from 1, infinite where none does; `merged_rank`: the same for the box around
      all true ones;
    - as the system says: `score`, `x` and `y` of the point, how many `boxes`, the best one (`box_x` to `box_height`),
      `log_peak` and `near_peak` of its heat (`heat.features`), what speaks for the phrase's presence
      (`heat.EVIDENCE`), and `level` (name).

    Attributes:
        skipped: how many phrases weren't scored, by reason.
        detections: of COCO's categories, all boxes, with the image's number, the category's name and the box's score.
    """

    def __init__(self, options: EvaluateOptions) -> None:
        self.options = options
        self.skipped: Counter[str] = Counter()
        self.detections: list[tuple[int, str, Box, float]] = []
        self._phrases: dict[bool, list[tuple[Any, ...]]] = {False: [], True: []}  # by whether they are absent
        self._columns: dict[tuple[str, str], list[dict[str, np.ndarray]]] = {}
        self._images = 0

    def add(self, truth: Truth, predictions: Predictions) -> None:
        """Measures what systems, the same each time, and the baselines say of an image."""
        self.skipped += truth.skipped
        protocol, tolerance = self.options.protocol, self.options.tolerance
        for system, predicted in (baselines(truth, tolerance) | predictions).items():
            captions = truth.absent if system[0] == ABSENT else truth.captions
            if self.options.dataset == "coco_categories" and system[0] in (EVALUATED, ABSENT) and predicted.box_scores:
                for caption, boxes, scores in zip(captions, predicted.boxes or (), predicted.box_scores, strict=True):
                    self.detections += [(self._images, caption.text, *said) for said in zip(boxes, scores, strict=True)]
            if system[0] == ABSENT:  # wrong wherever it points
                wrong = np.zeros(len(captions))
                predicted = replace(predicted, points=None, chances=wrong, boxes=None, heat=None)
            self._columns.setdefault(system, []).append(measure(truth, predicted, protocol, tolerance))
        for absent, captions in ((False, truth.captions), (True, truth.absent)):
            for number, caption in enumerate(captions):
                said = truth.sample.name, str(truth.sample.image), number, caption.text
                for phrase in caption.phrases:
                    known = (None, "[]") if absent else (phrase.category or None, json.dumps(phrase.boxes))
                    self._phrases[absent].append((*said, phrase.text, *phrase.span, *known))
        self._images += 1

    def skip(self, sample: Sample, reason: str) -> None:
        """Counts an image that couldn't be used: all its phrases are skipped for this reason."""
        self.skipped[reason] += sum(len(caption.phrases) for caption in sample.captions)

    def table(self, levels: Sequence[str] = ()) -> pd.DataFrame:
        """All rows, system by system, each with the phrases in one order; levels by these names, else by numbers.

        Texts are categorical: in order of their appearance, categories the largest first, levels in the model's order.
        """
        if not self._phrases[False]:
            return pd.DataFrame(columns=PHRASE)
        phrases = pd.DataFrame([*self._phrases[False], *self._phrases[True]], columns=PHRASE)
        largest_first = [category for category, _ in Counter(phrases["category"].dropna()).most_common()]
        phrases = phrases.assign(
            category=pd.Categorical(phrases["category"], largest_first),
            **{name: _categorical(phrases[name]) for name in TEXTS},
        )
        present = len(self._phrases[False])
        parts = [
            (phrases[present:] if system[0] == ABSENT else phrases[:present]).assign(
                **dict(zip(SYSTEM, system, strict=True)),
                **{name: np.concatenate([image[name] for image in images]) for name in images[0]},
            )
            for system, images in self._columns.items()
        ]
        rows = pd.concat(parts, ignore_index=True).reindex(columns=[*PHRASE, *SYSTEM, *NUMBERS, "level"])
        index = rows["level"].fillna(-1).astype(int)
        level = pd.Categorical.from_codes(index, list(levels) or [str(i) for i in range(index.max() + 1)])
        return rows.assign(level=level, **{name: _categorical(rows[name]) for name in SYSTEM})


def _categorical(texts: pd.Series) -> pd.Categorical:
    return pd.Categorical(texts, texts.unique())


def collect(
    samples: Sequence[Sample],
    options: EvaluateOptions,
    system: System,
    compared: System | None = None,
    progress: Progress = lambda items, total: items,
) -> Rows:
    """Measures a system, and another one beside it, on samples with boxes.

    Three things go on at a time: images are decoded, the systems answer about earlier ones, and answers before them
    are measured. An image that can't be decoded is counted under the skipped reason `image_failed`.
    """
    rows, systems = Rows(options), [system, *([compared] if compared else [])]
    absent = draw_absent(samples) if options.absent else repeat([], len(samples))

    def read(pair: tuple[Sample, list[Caption]]) -> Read | Sample:
        sample, missing = pair
        try:
            image = decode(sample.image)
        except BadInput:
            return sample
        truth = Truth.of(sample, image.size, options.protocol, missing)
        return truth, {side: resize(image, side) for side in {asked.side for asked in systems} if side}

    def scored() -> Iterator[Read]:
        for image in ahead(read, zip(progress(samples, len(samples)), absent, strict=True), 2 * BATCH):
            if isinstance(image, Sample):
                rows.skip(image, "image_failed")
            elif image[0].phrases:
                yield image
            else:
                rows.skipped += image[0].skipped

    def answer(batch: Sequence[Read]) -> tuple[list[Truth], list[list[Predictions]]]:
        truths = [truth for truth, _ in batch]
        return truths, [asked([pixels[asked.side] for _, pixels in batch if asked.side], truths) for asked in systems]

    threads, images = max(asked.threads for asked in systems), scored()
    batches = iter(lambda: list(islice(images, 1 if threads > 1 else BATCH)), [])
    with lanes(threads) as pool:
        for truths, answers in in_order(lambda batch: pool.submit(answer, batch), batches, 2 * threads):
            for truth, predictions, *others in zip(truths, *answers, strict=True):
                for (group, name), predicted in (pair for other in others for pair in other.items()):
                    if group == EVALUATED:
                        predictions[COMPARED, name] = replace(predicted, levels=None)  # they may have other names
                rows.add(truth, predictions)
    return rows


def evaluate(
    options: EvaluateOptions,
    progress: Progress = lambda items, total: items,
    warn_untrained: Callable[[str], None] = lambda name: None,
    show: Callable[[Mapping[str, Any]], None] = lambda summary: None,
) -> Evaluation:
    """Measures how well a model points, beside the baselines of the same phrases, and writes the files asked for.

    Args:
        options: what to do.
        progress: shows how far it is.
        warn_untrained: is given the name of weights that mean nothing.
        show: is given all numbers before they are written anywhere: a full disk doesn't lose them.

    Raises:
        UsageError: --report names a folder with another page, or another option a file that eval did not write.
        GroundcliError: weights, data or the device are missing, nothing is to be scored, or a file can't be written.
    """
    for name, mark in MARKS.items():  # hours of work shouldn't end at a folder that isn't there
        path: Path | None = getattr(options, name)
        if path:
            _check_file(f"--{name} {path}", path, mark)
    if options.report:
        check_report(options.report)
    samples = data.load(options.dataset, options.data, options.split)

    def load(weights: str, settings: Sequence[str], alone: bool = False) -> tuple[System, dict[str, Any]]:
        from groundcli.grounder import Grounder  # here, as wrong options and data are told before torch is imported

        runtime: RuntimeName = "torch" if options.ablations else options.runtime
        how = options.boxes or "extents", MIN_SCORE, runtime
        grounder = Grounder.load(weights, options.device, options.precision, settings, *how)
        assert grounder.loaded
        about: dict[str, Any] = {"weights": grounder.loaded.name, "sha256": sha256(grounder.loaded.path)}
        about |= {"device": grounder.device, "runtime": grounder.runtime.name, "torch": version("torch")}
        if grounder.loaded.untrained:
            warn_untrained(grounder.loaded.name)
            about["untrained"] = True
        ablations = options.ablations and not alone
        detects = options.dataset == "coco_categories"  # boxes of absent phrases count there
        return GrounderSystem(grounder, grounder.loaded.name, options.encode, ablations, alone, detects), about

    compared, about_other = load(options.compare, (), alone=True) if options.compare else (None, {})
    if options.predictions:
        system: System = PredictionFile(options.predictions)
        about: dict[str, Any] = {"weights": system.name, "sha256": sha256(options.predictions)}
    else:
        system, about = load(options.weights, options.settings)
        about["boxes"] = options.boxes
    collected = collect(samples, options, system, compared, progress)
    rows = collected.table(system.levels)
    summary = {
        **{"version": groundcli.__version__, "command": options.command, "date": now()},
        **{"dataset": options.dataset, "split": options.split, **about},
        **summarize(rows, collected.skipped, options),
    }
    if collected.detections:
        summary["average_precision"] = average_precision(rows, collected.detections)
    if options.compare:
        summary["compared"] |= about_other
    if isinstance(system, PredictionFile):
        summary["predictions"] = {"missing": system.missing, "unused": system.unused}
    show(summary)
    _write(options, summary, rows)
    return Evaluation(summary, rows)


def _check_file(said: str, path: Path, mark: bytes) -> None:
    """Refuses a file to write that can't be, or that eval didn't write: there may be photographs and boxes here."""
    if not path.parent.is_dir():
        raise GroundcliError(f"{said}: can't be written, as there is no folder {path.parent}; make it")
    if path.is_dir():
        raise GroundcliError(f"{said}: is a folder; name a file")
    if path.is_file() and (size := path.stat().st_size):
        with suppress(OSError), path.open("rb") as file:  # what can't be read is met again, and told
            head = file.read(ENDS)
            file.seek(max(0, size - ENDS))
            if mark not in head + file.read():
                raise UsageError(f"{said}: holds what eval did not write; name another file")


def _write(options: EvaluateOptions, summary: Mapping[str, Any], rows: pd.DataFrame) -> None:
    """The files asked for, each that can be. Raises GroundcliError with the options' names of those that can't."""
    to_file = rows.to_parquet if options.rows and options.rows.suffix == ".parquet" else rows.to_csv

    def whole(write: Callable[[IO[bytes]], object]) -> Callable[[Path], None]:
        def to_path(path: Path) -> None:
            is_device = path.exists() and not path.is_file()
            with path.open("wb") if is_device else replacing(path.resolve(), "wb") as file:
                write(file)

        return to_path

    writers: dict[str, Callable[[Path], object]] = {
        "json": whole(lambda file: file.write((json.dumps(summary, indent=2) + "\n").encode())),
        "markdown": whole(lambda file: file.write(as_markdown(summary).encode())),
        "rows": whole(lambda file: to_file(file, index=False)),
        "report": lambda folder: write_page(folder, summary, rows),
    }
    failed = []
    for name, write in writers.items():
        path: Path | None = getattr(options, name)
        try:
            if path:
                write(path)
        except OSError as error:
            failed.append(f"--{name} {path}: can't be written ({error.strerror or error})")
    if failed:
        raise GroundcliError("; ".join(failed))
