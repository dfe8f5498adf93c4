"""The ways through the model give the same lines; that of a GPU is run on a CPU here."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from groundcli import Grounder
from groundcli.annotation.cpu import annotate_on_cpu
from groundcli.annotation.gpu import annotate_on_gpu
from groundcli.annotation.journal import Line
from groundcli.annotation.local import default_workers
from groundcli.annotation.work import Job, Task, finish
from groundcli.data import folder
from groundcli.errors import GroundcliError
from groundcli.grounder import EncodedImage
from tests.shapes import write_shapes

Batches = list[list[Task]]


@pytest.fixture(scope="module")
def grounder() -> Grounder:
    return Grounder.load("lite")


@pytest.fixture(scope="module")
def batches(tmp_path_factory: pytest.TempPathFactory) -> Batches:
    photos = tmp_path_factory.mktemp("photos")
    write_shapes(photos, copies=2)
    next(photos.glob("green*.png")).write_bytes(b"no picture")
    tasks = [Task(sample, sample.name) for sample in folder.load([photos]).samples]
    return [tasks[i : i + 3] for i in range(0, len(tasks), 3)]


@pytest.fixture(scope="module")
def lines(batches: Batches, grounder: Grounder, tmp_path_factory: pytest.TempPathFactory) -> list[list[Line]]:
    out = tmp_path_factory.mktemp("one")
    return [*annotate_on_cpu(batches, grounder, Job(out, report=False), 1)]


@pytest.fixture
def one_thread() -> Iterator[None]:
    """As the images have on a CPU, so that sums are equal."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def test_one_bad_image_spoils_no_other(lines: list[list[Line]], batches: Batches) -> None:
    assert [len(own) for own in lines] == [len(batch) for batch in batches]
    assert sum(line.failed for own in lines for line in own) == 1
    assert {line.name: line.failed for own in lines for line in own} == {
        task.sample.name: "error" in json.loads(line.text)
        for batch, own in zip(batches, lines, strict=True)
        for task, line in zip(batch, own, strict=True)
    }


def test_threads_change_no_bit(batches: Batches, grounder: Grounder, lines: list[list[Line]], tmp_path: Path) -> None:
    threads = torch.get_num_threads()
    assert [*annotate_on_cpu(batches, grounder, Job(tmp_path, report=False), 3)] == lines
    assert torch.get_num_threads() == threads
    assert len([*(tmp_path / "overlays").iterdir()]) == sum(map(len, batches)) - 1


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.usefixtures("one_thread")
def test_the_way_of_a_gpu(
    batches: Batches, grounder: Grounder, lines: list[list[Line]], tmp_path: Path, workers: int
) -> None:
    found = [*annotate_on_gpu(batches, grounder, Job(tmp_path, report=False), workers)]
    assert found == lines
    assert len([*(tmp_path / "overlays").iterdir()]) == sum(map(len, batches)) - 1


@pytest.mark.usefixtures("one_thread")
def test_where_memory_is_short_batches_are_halved(
    batches: Batches, grounder: Grounder, lines: list[list[Line]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encode, sizes = grounder.encode_pixels, []

    def short(pixels: Sequence[np.ndarray], own: Sequence[tuple[int, int]]) -> list[EncodedImage]:
        if len(pixels) > 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
        sizes.append(len(pixels))
        return encode(pixels, own)

    monkeypatch.setattr(grounder, "encode_pixels", short)
    assert [*annotate_on_gpu(batches, grounder, Job(tmp_path, overlays=False, report=False), 0)] == lines
    assert len(sizes) == sum(map(len, batches)) - 1


def test_where_memory_is_too_short_for_one_it_says_so(
    batches: Batches, grounder: Grounder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none(pixels: Sequence[np.ndarray], own: Sequence[tuple[int, int]]) -> list[EncodedImage]:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(grounder, "encode_pixels", none)
    with pytest.raises(GroundcliError, match="single image; try --device cpu"):
        [*annotate_on_gpu(batches, grounder, Job(tmp_path), 0)]


def test_an_image_that_goes_before_it_is_drawn(batches: Batches, tmp_path: Path) -> None:
    task = batches[0][0]
    gone = task._replace(sample=replace(task.sample, image=tmp_path / "gone.png"))
    line = finish(gone, [], Job(tmp_path))
    assert line.failed
    assert "no such file" in line.text


def test_cores_are_shared_by_devices() -> None:
    threads = torch.get_num_threads()
    assert default_workers(1000, [torch.device("cpu")]) == threads
    assert default_workers(1000, [torch.device("cpu")] * threads) == 1
    assert default_workers(1000, [torch.device("cuda:0")]) >= 1
    assert default_workers(10, [torch.device("cuda:0")]) == 0
