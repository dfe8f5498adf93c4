"""The main job: images with captions in, a folder of annotations and overlays out."""

import json
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from groundcli.data.ahead import ahead
from groundcli.data.folder import Found
from groundcli.data.images import decode
from groundcli.data.phrases import How
from groundcli.data.sample import Caption, Failure, Sample
from groundcli.errors import BadInput, GroundcliError, UsageError
from groundcli.grounding.grounder import Grounder
from groundcli.output.coco import CocoWriter
from groundcli.output.overlays import draw

RUN, FAILURES, OVERLAYS = "run.json", "failures.jsonl", "overlays"


@dataclass
class Count:
    """What became of the images: found = done + resumed + failed."""

    found: int = 0
    done: int = 0
    resumed: int = 0
    failed: int = 0


def annotate(
    grounder: Grounder,
    found: Found,
    out: Path,
    *,
    phrases: How,
    batch_size: int,
    overlays: bool,
    on_existing: str,
    run: dict[str, Any],
    progress: Callable[[Iterable[Sample]], Iterable[Sample]],
) -> Count:
    """Annotates images into a folder; an image that can't be used is reported there, and the rest goes on.

    Args:
        grounder: points.
        found: images with captions, and what couldn't be used already, to be reported with the rest.
        out: the folder, which is made where needed.
        phrases: which phrases of a caption.
        batch_size: images encoded together.
        overlays: also draw a picture an image.
        on_existing: `error` refuses a folder that holds a run, `overwrite` starts it over, `resume` keeps the
            images that it has done, where it was run the same way.
        run: what `run.json` says of this run: version, weights, arguments.
        progress: shown each sample as it is taken up.

    Raises:
        UsageError: the folder holds another run, and `on_existing` says to stop.
        GroundcliError: the folder can't be written to.
    """
    _admit(out, on_existing, run)
    started = time.time()
    count = Count(found=found.images)
    try:
        with CocoWriter(out, resume=on_existing == "resume") as writer:
            _write(out / RUN, {**run, "finished": False})
            todo = [s for s in found.samples if s.name not in writer.done]
            count.resumed = len(found.samples) - len(todo)
            lost = list(found.failures)
            decoded = ahead(_decoded, progress(todo), 2 * batch_size)
            while batch := list(islice(decoded, batch_size)):
                lost += [item for item in batch if isinstance(item, Failure)]
                good = [item for item in batch if not isinstance(item, Failure)]
                images = grounder.encode_batch([image for _, image in good])
                for (sample, image), encoded in zip(good, images, strict=True):
                    captions = grounder.finder.find(sample.captions, phrases)
                    lost += [_wordless(sample, caption) for caption in captions if not caption.phrases]
                    answers = grounder.ground_captions(encoded, captions)
                    if overlays:
                        path = out / OVERLAYS / _as_jpeg(sample.name)
                        path.parent.mkdir(parents=True, exist_ok=True)
                        draw(image, answers).save(path, quality=88)
                    writer.add(sample.name, encoded.size, answers)
                    count.done += 1
        with (out / FAILURES).open("w", encoding="utf-8") as file:
            for failure in lost:
                file.write(json.dumps({"path": failure.path, "reason": failure.reason}, ensure_ascii=False) + "\n")
        count.failed = count.found - count.done - count.resumed
        times = {"seconds": round(time.time() - started, 1), "finished": True}
        _write(out / RUN, {**run, "counts": vars(count), "problems": len(lost), **times})
    except OSError as error:
        raise GroundcliError(f"{out}: can't be written ({error.strerror or error}); what was done is kept") from None
    return count


def _admit(out: Path, on_existing: str, run: dict[str, Any]) -> None:
    """Refuses a folder that holds what `on_existing` doesn't allow for."""
    if not (out / RUN).exists():
        return
    if on_existing == "error":
        raise UsageError(f"{out} holds a run already: add --on-existing overwrite or resume, or name another --out")
    if on_existing == "resume":
        try:
            before = json.loads((out / RUN).read_text("utf-8"))
        except (OSError, ValueError):
            raise UsageError(f"{out / RUN}: can't be read; add --on-existing overwrite") from None
        changed = [key for key in run if before.get(key) != run[key]]
        if changed:
            raise UsageError(f"{out} was run with another {', '.join(changed)}; add --on-existing overwrite")


def _decoded(sample: Sample) -> tuple[Sample, np.ndarray] | Failure:
    try:
        return sample, decode(sample.image)
    except BadInput as error:
        return Failure(sample.name, str(error))


def _as_jpeg(name: str) -> str:
    """An overlay's path: the image's own, with .jpg after it where it has another suffix."""
    return name if name.lower().endswith((".jpg", ".jpeg")) else f"{name}.jpg"


def _wordless(sample: Sample, caption: Caption) -> Failure:
    return Failure(sample.name, f"no phrases in the caption {caption.text!r}")


def _write(path: Path, values: dict[str, Any]) -> None:
    partial = path.with_name(path.name + ".partial")
    partial.write_text(json.dumps(values, indent=2) + "\n", "utf-8")
    partial.replace(path)
