"""The ways through the model give the same lines and pictures; that of a GPU is run on a CPU here."""

import copy
import os
import signal
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from groundcli import Grounder
from groundcli.annotation import AnnotateOptions
from groundcli.annotation.folder import TRACEBACKS
from groundcli.annotation.journal import Line
from groundcli.annotation.work import Task, annotate_batches, default_workers
from groundcli.answer import PhraseHeat
from groundcli.data import Caption, find
from groundcli.data.images import decode
from groundcli.data.phrases import parse
from groundcli.errors import GroundcliError, Interrupted
from groundcli.grounder import EncodedImage
from groundcli.output.overlays import draw
from groundcli.output.record import opened
from groundcli.parallel import interruptible
from tests.shapes import write_shapes

Batches = list[list[Task]]


class OnGpu(Grounder):
    """One that goes a GPU's way."""

    on_cpu = False  # type: ignore[assignment]


def beside_gpu(batches: Batches, grounder: Grounder, options: AnnotateOptions) -> Iterator[list[Line]]:
    """As if the grounder, with all that a test has changed about it, were on a GPU."""
    there = copy.copy(grounder)
    there.__class__ = OnGpu
    return annotate_batches(batches, there, options)


def options(out: Path, **more: Any) -> AnnotateOptions:
    return AnnotateOptions.make(images=".", out=out, **{"report": False, **more})


def pictures(out: Path) -> dict[str, bytes]:
    return {path.relative_to(out).as_posix(): path.read_bytes() for path in out.rglob("*") if path.is_file()}


@pytest.fixture(scope="module", params=["onnx", "torch"])
def grounder(request: pytest.FixtureRequest) -> Grounder:
    return Grounder.load("lite", runtime=request.param)


@pytest.fixture(scope="module")
def batches(tmp_path_factory: pytest.TempPathFactory) -> Batches:
    """Six batches, of three images but the last; one of the images is broken."""
    photos = tmp_path_factory.mktemp("photos")
    write_shapes(photos, copies=2)
    (photos / "green_circle_0.png").write_bytes(b"no picture")
    tasks = [Task(sample, sample.name) for sample in find.load([photos]).samples]
    return [tasks[i : i + 3] for i in range(0, len(tasks), 3)]


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where a run of one thread draws all that there is."""
    return tmp_path_factory.mktemp("one")


@pytest.fixture(scope="module")
def lines(batches: Batches, grounder: Grounder, one: Path) -> list[list[Line]]:
    """Its lines."""
    return [*annotate_batches(batches, grounder, options(one, report=True, save_heatmaps=True, workers=1))]


@pytest.fixture(scope="module")
def overlays(one: Path, lines: list[list[Line]]) -> dict[str, bytes]:
    """Its overlays, once the lines are there."""
    return {f"overlays/{name}": content for name, content in pictures(one / "overlays").items()}


@pytest.fixture
def one_thread(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """As the images have on a CPU, so that sums are equal."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.slow
def test_one_bad_image_spoils_no_other(lines: list[list[Line]], batches: Batches) -> None:
    assert [[line.name for line in batch] for batch in lines] == [[t.sample.name for t in b] for b in batches]
    records = {line.name: opened(line.text.encode()) or {} for batch in lines for line in batch}
    assert {line.name for batch in lines for line in batch if line.failed} == {"green_circle_0.png"}
    assert {name for name, record in records.items() if "error" in record} == {"green_circle_0.png"}
    for batch in batches:
        for task in batch:
            record = records[task.sample.name]
            assert (record["file_name"], record["key"]) == (task.sample.name, task.key)
            if "error" not in record:
                said = [caption["caption"] for caption in record["captions"]]
                assert said == [caption.text for caption in task.sample.captions]


@pytest.mark.slow
@pytest.mark.usefixtures("lines")
def test_what_is_drawn(batches: Batches, grounder: Grounder, one: Path) -> None:
    """Overlay, thumbnail and heat maps of an image are those of its answer."""
    task = batches[0][0]
    answer = grounder.ground(task.sample.image, task.sample.captions[0])
    with Image.open(one / f"overlays/{task.sample.name}.jpg") as overlay:
        expected = np.asarray(draw(decode(task.sample.image), [answer])).astype(int)
        assert np.abs(expected - np.asarray(overlay)).mean() < 3  # it is a JPEG
    with Image.open(one / f"report/thumbnails/{task.sample.name}.jpg") as small, Image.open(task.sample.image) as photo:
        assert small.size == photo.size
        assert np.abs(np.asarray(small).astype(int) - np.asarray(photo)).mean() < 3
    heatmaps = np.load(one / f"heatmaps/{task.sample.name}.npz")
    assert heatmaps["phrase"].tolist() == [phrase.text for phrase in answer.phrases]
    np.testing.assert_allclose(heatmaps["heat"][0], answer.phrases[0].heatmap, atol=1e-3)


@pytest.mark.usefixtures("lines")
def test_every_good_image_has_its_pictures(one: Path, batches: Batches) -> None:
    good = {task.sample.name for batch in batches for task in batch} - {"green_circle_0.png"}
    wanted = {f"overlays/{name}.jpg" for name in good} | {f"report/thumbnails/{name}.jpg" for name in good}
    assert pictures(one).keys() == wanted | {f"heatmaps/{name}.npz" for name in good}


@pytest.mark.slow
def test_threads_change_no_bit(
    batches: Batches, grounder: Grounder, lines: list[list[Line]], overlays: dict[str, bytes], tmp_path: Path
) -> None:
    threads = torch.get_num_threads()
    assert [*annotate_batches(batches, grounder, options(tmp_path, workers=3))] == lines
    assert torch.get_num_threads() == threads
    assert pictures(tmp_path) == overlays


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.usefixtures("one_thread")
def test_the_way_of_a_gpu(
    batches: Batches,
    grounder: Grounder,
    lines: list[list[Line]],
    overlays: dict[str, bytes],
    tmp_path: Path,
    workers: int,
) -> None:
    assert [*beside_gpu(batches, grounder, options(tmp_path, workers=workers))] == lines
    assert pictures(tmp_path) == overlays


@pytest.mark.usefixtures("one_thread")
def test_where_memory_is_short_batches_are_halved(
    batches: Batches, grounder: Grounder, lines: list[list[Line]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encode, tried = grounder.encode_pixels, []

    def short(pixels: Sequence[np.ndarray], sizes: Sequence[tuple[int, int]]) -> list[EncodedImage]:
        tried.append(len(pixels))
        if len(pixels) > 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return encode(pixels, sizes)

    monkeypatch.setattr(grounder, "encode_pixels", short)
    assert [*beside_gpu(batches[-3:], grounder, options(tmp_path, overlays=False, workers=0))] == lines[-3:]
    assert tried == [3, 1, 2, 1, 1, 3, 1, 2, 1, 1, 1]


def test_where_memory_is_too_short_for_one_it_says_so(
    batches: Batches, grounder: Grounder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none(pixels: Sequence[np.ndarray], sizes: Sequence[tuple[int, int]]) -> list[EncodedImage]:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(grounder, "encode_pixels", none)
    with pytest.raises(GroundcliError, match="single image; try --device cpu"):
        [*beside_gpu(batches, grounder, options(tmp_path, workers=0))]


@pytest.mark.slow
def test_an_image_that_goes_before_it_is_drawn(
    batches: Batches, grounder: Grounder, lines: list[list[Line]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = tmp_path / "gone.png"
    gone.write_bytes(batches[0][0].sample.image.read_bytes())
    encode = grounder.encode_pixels

    def and_gone(pixels: Sequence[np.ndarray], sizes: Sequence[tuple[int, int]]) -> list[EncodedImage]:
        gone.unlink()
        return encode(pixels, sizes)

    monkeypatch.setattr(grounder, "encode_pixels", and_gone)
    task = batches[0][0]._replace(sample=replace(batches[0][0].sample, image=gone))
    ((line, second),) = beside_gpu([[task, batches[0][1]]], grounder, options(tmp_path / "out", workers=0))
    assert opened(line.text.encode()) == {
        "file_name": task.sample.name, "key": task.key, "error": f"{gone}: no such file"
    }  # fmt: skip
    assert line.failed
    assert not second.failed
    assert [*pictures(tmp_path / "out")] == [f"overlays/{second.name}.jpg"]


@pytest.mark.parametrize("way", [annotate_batches, beside_gpu])
def test_an_error_that_nobody_foresaw_is_one_images_failure(
    batches: Batches, grounder: Grounder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: Any
) -> None:
    """A thread, or a worker, meets it: here where overlays are drawn."""
    first, second = batches[0][:2]

    def odd(image: Image.Image, answers: Sequence[Any], *how: Any) -> Image.Image:
        if answers[0].caption == first.sample.captions[0].text and image.size == (240, 180):
            raise LookupError("a strange picture")
        return draw(image, answers, *how)

    monkeypatch.setattr("groundcli.annotation.work.draw", odd)
    other = second._replace(sample=replace(second.sample, captions=batches[-1][0].sample.captions))
    ((failed, fine),) = way([[first, other]], grounder, options(tmp_path, workers=0))
    assert (failed.failed, fine.failed) == (True, False)
    reason = f"an error that was not foreseen (LookupError: a strange picture); see {TRACEBACKS}"
    assert (opened(failed.text.encode()) or {})["error"] == reason
    text = (tmp_path / TRACEBACKS).read_text()
    assert text.startswith(f"{first.sample.name}\nTraceback (most recent call last):")
    assert 'raise LookupError("a strange picture")' in text


def test_cores_are_shared_by_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    threads, cores = len(os.sched_getaffinity(0)), os.cpu_count() or 1
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert default_workers(1000, True) == threads
    assert default_workers(1000, True, threads) == 1
    assert default_workers(1000, True, 10 * threads) == 1
    assert default_workers(1000, False) == min(8, cores)
    assert default_workers(1000, False, cores) == 1
    assert default_workers(99, False) == 0
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    assert default_workers(1000, True) == 7


# --- Many captions, and bad ones


def retold(task: Task, *texts: str) -> Task:
    """The task with other captions."""
    return task._replace(sample=replace(task.sample, captions=tuple(map(parse, texts))))


@pytest.mark.slow
@pytest.mark.parametrize("way", [annotate_batches, beside_gpu])
def test_captions_go_through_in_parts(
    batches: Batches, grounder: Grounder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: Any
) -> None:
    """As one part they give the same but for the last digits."""
    batch = [retold(batches[0][0], *(f"[a red circle] beside [a dog] number {i}" for i in range(30)))]
    ((whole,),) = way([batch], grounder, options(tmp_path, overlays=False, workers=0))
    sizes: list[int] = []
    heat = grounder.phrase_heat

    def noted(cells: EncodedImage, captions: Sequence[Caption], encoded: Any = None) -> PhraseHeat:
        sizes.append(len(captions))
        return heat(cells, captions, encoded)

    monkeypatch.setattr(grounder, "phrase_heat", noted)
    monkeypatch.setattr("groundcli.annotation.work.PART", 200)
    monkeypatch.setattr("groundcli.annotation.work.TOGETHER", 200)
    ((parted,),) = way([batch], grounder, options(tmp_path, overlays=False, workers=0))
    assert sum(sizes) == 30
    assert max(sizes) < 7
    for a, b in zip(phrases_in(whole), phrases_in(parted), strict=True):
        assert (a["phrase"], a["span"], a["level"]) == (b["phrase"], b["span"], b["level"])
        assert a["score"] == pytest.approx(b["score"], abs=1e-4)
        assert a["keypoints"] == pytest.approx(b["keypoints"], abs=1)


def phrases_in(line: Line) -> list[dict[str, Any]]:
    record = opened(line.text.encode()) or {}
    return [phrase for caption in record["captions"] for phrase in caption["phrases"]]


@pytest.mark.parametrize("way", [annotate_batches, beside_gpu])
def test_a_caption_of_too_many_phrases_is_one_images_failure(
    batches: Batches, grounder: Grounder, tmp_path: Path, way: Any
) -> None:
    first, second = batches[0][:2]
    ((failed, fine),) = way([[retold(first, "[a dog] " * 1001), second]], grounder, options(tmp_path, workers=0))
    assert (failed.failed, fine.failed) == (True, False)
    reason = "a caption has 1,001 phrases, 'a dog a dog a dog a '...; at most 1,000 are looked for: split it"
    assert (opened(failed.text.encode()) or {})["error"] == reason


@pytest.mark.slow
@pytest.mark.parametrize("way", [annotate_batches, beside_gpu])
@pytest.mark.parametrize("error", [LookupError("odd"), MemoryError()])
def test_a_caption_that_cannot_be_encoded_spoils_no_other(
    batches: Batches,
    grounder: Grounder,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    way: Any,
    error: Exception,
) -> None:
    encode = grounder.encode_captions

    def odd(captions: Sequence[Caption]) -> Any:
        if any("zebra" in caption.text for caption in captions):
            raise error
        return encode(captions)

    monkeypatch.setattr(grounder, "encode_captions", odd)
    first, second = batches[0][:2]
    ((failed, fine),) = way(
        [[retold(first, "a zebra"), second]], grounder, options(tmp_path, overlays=False, workers=0)
    )
    assert (failed.failed, fine.failed) == (True, False)
    assert (failed.key == "") == isinstance(error, MemoryError)  # the next run tries it again


@pytest.mark.usefixtures("lines")
def test_asked_to_stop_it_stops_between_images(batches: Batches, grounder: Grounder, tmp_path: Path) -> None:
    """Of one large batch, of which no line is there yet."""
    batch = [task for batch in batches for task in batch]
    begun: list[str] = []
    encode = grounder.encode_pictures

    def encoded(images: Sequence[Image.Image]) -> list[EncodedImage]:
        begun.append("one")
        if len(begun) == 3:
            os.kill(os.getpid(), signal.SIGTERM)
        return encode(images)

    with pytest.MonkeyPatch.context() as patch, interruptible() as stopped:
        patch.setattr(grounder, "encode_pictures", encoded)
        with pytest.raises(Interrupted):
            [*annotate_batches([batch], grounder, options(tmp_path, workers=1))]
        assert stopped()
    assert len(begun) < 6
