"""The table of an evaluation, a row per phrase and system; and the evaluation itself."""

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timezone
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import numpy as np
import pandas as pd

import groundcli
from groundcli import data
from groundcli.data.images import decode, resize
from groundcli.data.sample import Sample
from groundcli.errors import BadInput, GroundcliError
from groundcli.evaluation import EvaluateOptions
from groundcli.evaluation.metrics import FEATURES, Truth, measure
from groundcli.evaluation.predictions import PredictionFile
from groundcli.evaluation.summary import fit_calibration, summarize
from groundcli.evaluation.systems import COMPARED, GrounderSystem, Predictions, System, baselines
from groundcli.evaluation.tables import as_markdown
from groundcli.files import sha256
from groundcli.parallel import ahead, in_order, lanes

if TYPE_CHECKING:
    from groundcli.grounder import Grounder

BATCH = 4  # images that a thread asks about together
PHRASE = ("image", "file", "caption", "caption_text", "phrase", "start", "end", "category", "true_boxes")
SYSTEM = ("group", "system")
NUMBERS = (
    *("hit", "attention", "iou", "any_rank", "merged_rank", "score", "x", "y"),
    *("boxes", "box_x", "box_y", "box_width", "box_height", *FEATURES),
)

T = TypeVar("T")
Progress = Callable[[Iterable[Any], int], Iterable[Any]]  # passes items on, and knows how many there will be


class Evaluation(NamedTuple):
    """What an evaluation gives.

    Attributes:
        summary: all numbers, see `groundcli.evaluation.summary.summarize`; and "version", "command", "date", "weights",
            "sha256" (of their file), "dataset", "split", "boxes", and "untrained" where the weights are.
        rows: the table that they are made of, see `Rows`.
    """

    summary: dict[str, Any]
    rows: pd.DataFrame


class Rows:
    """The table while it grows: numbers alone, no heat maps and no pictures.

    Its columns, with coordinates in pixels of the image and NaN for what a system says nothing of:

    - of the phrase: `image` (name), `file`, `caption` (number in the image, from 0), `caption_text`, `phrase`, `start`,
      `end` (its span), `category`, `true_boxes` (JSON);
    - `group` and `system`: who answers;
    - `hit`: 1 where the point lies in a box of the phrase (for a random point, the probability), else 0; `attention`:
      attention correctness; `iou` of the box around all boxes and the one around all true ones; `any_rank`: of the
      first box that matches any true one, from 1, infinite where none does; `merged_rank`: the same for the box around
      all true ones;
    - as the system says: `score`, `x` and `y` of the point, how many `boxes`, the best one (`box_x` to `box_height`),
      `log_peak` and `near_peak` of its heat (`heat.confidence.features`), and `level` (name).

    Attributes:
        skipped: how many phrases weren't scored, by reason.
    """

    def __init__(self, options: EvaluateOptions) -> None:
        self.skipped: Counter[str] = Counter()
        self._options = options
        self._phrases: list[tuple[Any, ...]] = []
        self._columns: dict[tuple[str, str], list[dict[str, np.ndarray]]] = {}

    def add(self, truth: Truth, predictions: Predictions) -> None:
        """Measures what systems, the same each time, and the baselines say of an image with scored phrases."""
        protocol, tolerance = self._options.protocol, self._options.tolerance
        for system, predicted in (baselines(truth, tolerance) | predictions).items():
            self._columns.setdefault(system, []).append(measure(truth, predicted, protocol, tolerance))
        self._phrases += [
            (
                *(truth.sample.name, str(truth.sample.image), number, caption.text, phrase.text, *phrase.span),
                *(phrase.category or None, json.dumps(phrase.boxes)),
            )
            for number, caption in enumerate(truth.captions)
            for phrase in caption.phrases
        ]
        self.skipped += truth.skipped

    def skip(self, sample: Sample, reason: str) -> None:
        """Counts an image that couldn't be used: all its phrases are skipped for this reason."""
        self.skipped[reason] += sum(len(caption.phrases) for caption in sample.captions)

    def table(self, levels: Sequence[str] = ()) -> pd.DataFrame:
        """All rows, system by system, each with the phrases in one order.

        Texts are categorical: in order of their appearance, categories the largest first, levels in the model's order.

        Args:
            levels: names of the visual levels; without them, their numbers.
        """
        phrases = pd.DataFrame(self._phrases, columns=list(PHRASE))
        for name in ("image", "file", "caption_text", "phrase", "true_boxes"):
            phrases[name] = _categorical(phrases[name])
        largest_first = [name for name, _ in Counter(phrases["category"].dropna()).most_common()]
        phrases["category"] = pd.Categorical(phrases["category"], largest_first)
        parts = [
            phrases.assign(
                **dict(zip(SYSTEM, system, strict=True)),
                **{name: np.concatenate([image[name] for image in images]) for name in images[0]},
            )
            for system, images in self._columns.items()
        ]
        if not parts:
            return phrases
        rows = pd.concat(parts, ignore_index=True).reindex(columns=[*PHRASE, *SYSTEM, *NUMBERS, "level"])
        codes = rows["level"].fillna(-1).astype(int)
        rows["level"] = pd.Categorical.from_codes(codes, list(levels) or [str(i) for i in range(codes.max() + 1)])
        return rows.assign(**{name: _categorical(rows[name]) for name in SYSTEM})


def _categorical(texts: pd.Series) -> pd.Categorical:
    return pd.Categorical(texts, texts.unique())


# --- Systems over a data set


class _Image(NamedTuple):
    sample: Sample
    size: tuple[int, int] | None  # none: the image can't be decoded
    pixels: dict[int, np.ndarray]  # by side


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
    rows = Rows(options)
    systems = [system, *([compared] if compared else [])]
    sides = {asked.side for asked in systems if asked.side}

    def read(sample: Sample) -> _Image:
        try:
            image = decode(sample.image)
        except BadInput:
            return _Image(sample, None, {})
        return _Image(sample, image.size, {side: resize(image, side) for side in sides})

    def scored() -> Iterator[tuple[Truth, dict[int, np.ndarray]]]:
        for image in ahead(read, progress(samples, len(samples)), 2 * BATCH):
            if image.size is None:
                rows.skip(image.sample, "image_failed")
                continue
            truth = Truth.of(image.sample, image.size, options.protocol)
            if truth.phrases:
                yield truth, image.pixels
            else:
                rows.skipped += truth.skipped

    def answer(
        batch: Sequence[tuple[Truth, dict[int, np.ndarray]]],
    ) -> tuple[list[Truth], list[list[Predictions]]]:
        truths = [truth for truth, _ in batch]
        return truths, [asked([pixels[asked.side] for _, pixels in batch if asked.side], truths) for asked in systems]

    threads = max(asked.threads for asked in systems)
    with lanes(threads) as pool:
        for truths, answers in in_order(lambda batch: pool.submit(answer, batch), _batches(scored()), threads):
            for truth, predictions, *others in zip(truths, *answers, strict=True):
                for other in others:  # its levels have other names
                    (((_, name), predicted),) = other.items()
                    predictions[COMPARED, name] = replace(predicted, levels=None)
                rows.add(truth, predictions)
    return rows


def _batches(items: Iterator[T]) -> Iterator[list[T]]:
    while batch := list(islice(items, BATCH)):
        yield batch


# --- The command


def evaluate(
    options: EvaluateOptions,
    progress: Progress = lambda items, total: items,
    warn_untrained: Callable[[str], None] = lambda name: None,
) -> Evaluation:
    """Measures how well a model points, beside the baselines of the same phrases, and writes the files asked for.

    Args:
        options: what to do.
        progress: shows how far it is.
        warn_untrained: is given the name of weights that mean nothing.

    Raises:
        UsageError: --report names a folder with another page.
        GroundcliError: weights, data or the device are missing, nothing is to be scored, or a file can't be written.
    """
    for name in ("json", "markdown", "rows"):  # hours of work shouldn't end at a folder that isn't there
        path: Path | None = getattr(options, name)
        if path and not path.parent.is_dir():
            raise GroundcliError(f"--{name} {path}: can't be written, as there is no folder {path.parent}; make it")
    if options.report:
        from groundcli.evaluation.page import check_report

        check_report(options.report)
    samples = data.load(options.dataset, options.data, options.split)
    compared = None
    if options.compare:
        rival, about_rival = _load(options, options.compare, (), warn_untrained)
        compared = GrounderSystem(rival, about_rival["weights"], options.encode, alone=True)
    if options.predictions:
        system: System = PredictionFile(options.predictions)
        about: dict[str, Any] = {"weights": system.name, "sha256": sha256(options.predictions)}
    else:
        grounder, about = _load(options, options.weights, options.settings, warn_untrained)
        system = GrounderSystem(grounder, about["weights"], options.encode, options.ablations)
        about["boxes"] = options.boxes
    collected = collect(samples, options, system, compared, progress)
    rows = collected.table(system.levels)
    run = {"version": groundcli.__version__, "command": options.command, "date": _now()}
    summary = run | {"dataset": options.dataset, "split": options.split} | about
    summary |= summarize(rows, collected.skipped, options, system.calibration)
    if options.compare:
        summary["compared"] |= about_rival
    if isinstance(system, PredictionFile):
        summary["predictions"] = {"missing": system.missing, "unused": system.unused}
    _write(options, summary, rows)
    if options.calibrate:
        from groundcli.weights.imports import write_calibrated

        assert grounder.loaded
        write_calibrated(grounder.loaded, fit_calibration(rows), options.calibrate)
    return Evaluation(summary, rows)


def _load(
    options: EvaluateOptions, weights: str, settings: Sequence[str], warn_untrained: Callable[[str], None]
) -> tuple["Grounder", dict[str, Any]]:
    """A grounder, and what the summary says of its weights."""
    from groundcli.grounder import Grounder  # here, as wrong options and data are told before torch is imported

    grounder = Grounder.load(weights, options.device, options.precision, settings, options.boxes)
    assert grounder.loaded
    about: dict[str, Any] = {"weights": grounder.loaded.name, "sha256": sha256(grounder.loaded.path)}
    if grounder.loaded.untrained:
        warn_untrained(grounder.loaded.name)
        about["untrained"] = True
    return grounder, about


def _write(options: EvaluateOptions, summary: Mapping[str, Any], rows: pd.DataFrame) -> None:
    """The files asked for. Raises GroundcliError by the option's name."""

    def write_rows(path: Path) -> None:
        rows.to_parquet(path, index=False) if path.suffix == ".parquet" else rows.to_csv(path, index=False)

    def write_report(folder: Path) -> None:
        from groundcli.evaluation.page import write_page

        write_page(folder, summary, rows)

    writers: dict[str, Callable[[Path], object]] = {
        "json": lambda path: path.write_text(json.dumps(summary, indent=2) + "\n", "utf-8"),
        "markdown": lambda path: path.write_text(as_markdown(summary), "utf-8"),
        "rows": write_rows,
        "report": write_report,
    }
    for name, write in writers.items():
        path: Path | None = getattr(options, name)
        try:
            if path:
                write(path)
        except OSError as error:
            raise GroundcliError(f"--{name} {path}: can't be written ({error.strerror or error})") from None


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")
