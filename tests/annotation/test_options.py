from typing import Any

import pytest

from groundcli.annotation import AnnotateOptions, ExportOptions, MergeOptions, parse_shard
from groundcli.errors import UsageError
from groundcli.options import ModelOptions


def annotate(**values: Any) -> AnnotateOptions:
    return AnnotateOptions.make(images="photos", out="out", **values)


@pytest.mark.parametrize(("text", "expected"), [("1/1", (1, 1)), ("2/8", (2, 8)), (" 10/10 ", (10, 10)), (None, None)])
def test_parse_shard(text: str | None, expected: tuple[int, int] | None) -> None:
    assert parse_shard(text) == parse_shard(annotate(shard=text).shard) == expected


def test_a_shard_has_one_name() -> None:
    assert annotate(shard=" 01/2").shard == "1/2"


@pytest.mark.parametrize(
    "text", ["", "2", "0/8", "9/8", "-1/8", "1/0", "a/b", "1/2/3", "1.5/2", "1 / 2", "9" * 5_000 + "/1"]
)
def test_shards_that_make_no_sense(text: str) -> None:
    with pytest.raises(UsageError, match="expected I/N"):
        parse_shard(text)
    with pytest.raises(UsageError, match=r"^--shard .*: expected I/N"):
        annotate(shard=text)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"phrase": ["a dog", " "]}, "--phrase: the phrase is blank"),
        ({"devices": ["cpu,cpu"], "engine": "ray"}, "--devices: of this machine; with --engine ray"),
        ({"limit": 0}, "--limit 0: expected 1 or more"),
        ({"limit": 10**20}, f"--limit {10**20}: expected 1 to 2,147,483,647"),
        ({"batch_size": 0}, "--batch-size 0: expected 1 to 65,536"),
        ({"workers": -1}, "--workers -1: expected 0 to 1,024"),
        ({"phrases": "nouns"}, "--phrases nouns: expected auto, marked, noun, words, caption"),
        ({"on_existing": "skip"}, "--on-existing skip: expected resume, overwrite, error"),
        ({"precision": "int8", "runtime": "torch"}, "--precision int8 is computed by ONNX Runtime; leave --r"),
        ({"overlay": False}, "overlay: no such option; did you mean overlays?"),
    ],
)
def test_what_annotate_refuses(values: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError) as refused:
        annotate(**values)
    assert str(refused.value).startswith(message)


def test_devices_by_commas() -> None:
    assert annotate(devices=["cuda:0, cuda:1", "cpu"]).devices == ("cuda:0", "cuda:1", "cpu")
    assert annotate().devices == ()


def test_what_decides_over_results() -> None:
    """A run with another value of one of these is not resumed."""
    assert {*ModelOptions.deciding(), "captions", "phrases", "shard", "boxes"} < {*AnnotateOptions.deciding()}
    never = {"out", "device", "weights", "on_existing", "dry_run", "batch_size", "workers", "devices", "engine"}
    assert not never & {*AnnotateOptions.deciding()}
    assert MergeOptions.make(shards=["a", "b"], out="c").arguments() == {"shards": ["a", "b"], "out": "c"}


def test_what_is_of_one_format() -> None:
    with pytest.raises(UsageError, match=r"^--copy-images: goes with --format yolo$"):
        ExportOptions.make(out="a", format=["csv", "labelstudio"], image_prefix="b", copy_images=True)
    with pytest.raises(UsageError, match=r"^--image-prefix: goes with --format labelstudio$"):
        ExportOptions.make(out="a", format=["csv", "yolo"], image_prefix="b", copy_images=True)
