import hashlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps
from rich.console import Console

from groundcli.data import Sample
from groundcli.errors import GroundcliError, Interrupted
from groundcli.files import partial_of
from groundcli.model.visual import Backbone, resize
from groundcli.recipe import VisualConfig
from groundcli.training import features
from groundcli.training.features import CachedFeatures, LiveFeatures, Preparation
from groundcli.training.gradient import Ranks
from tests.shapes import draw_shape

CONFIG = VisualConfig("tf_efficientnet_lite0", "", ("blocks.2", "blocks.3"), 64, 4, (8,))
BATCHES = [[5, 0, 1], [2], [3, 4]]
HOW = Preparation(64, 4)


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    return Backbone(CONFIG)


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> list[Sample]:
    folder = tmp_path_factory.mktemp("images")
    for i in range(6):
        draw_shape("red", "circle", (10 * i, 5 * i)).save(folder / f"{i}.png")
    (folder / "2.png").write_bytes(b"no picture")
    (folder / "4.png").write_bytes((folder / "4.png").read_bytes()[:200])
    return [Sample(f"{i}.png", folder / f"{i}.png") for i in range(6)]


def cached(samples: list[Sample], backbone: Backbone, folder: Path) -> CachedFeatures:
    found = CachedFeatures(samples, backbone, HOW, "hash", folder)
    found.complete(Ranks(), lambda: False, Console(quiet=True))
    return found


def test_both_sources_give_the_same_maps(samples: list[Sample], backbone: Backbone, tmp_path: Path) -> None:
    live = list(LiveFeatures(samples, backbone, HOW).read(BATCHES))
    kept = list(cached(samples, backbone, tmp_path).read(BATCHES))
    assert [batch.indices for batch in live] == [batch.indices for batch in kept] == [[5, 0, 1], [], [3]]
    for a, b in zip(live, kept, strict=True):
        assert a.sizes == b.sizes == [(240, 180)] * len(a.indices)
        for ours, theirs in zip(a.maps, b.maps, strict=True):
            torch.testing.assert_close(resize(ours, 4), theirs, atol=1e-2, rtol=1e-2)  # kept in float16


@pytest.mark.slow
def test_batches_are_taken_as_they_are_worked_on(samples: list[Sample], backbone: Backbone) -> None:
    taken: list[int] = []
    batches = ([taken.append(index) or index % 6] for index in range(40))  # type: ignore[func-returns-value]
    for done, _ in enumerate(LiveFeatures(samples, backbone, HOW).read(batches), start=1):
        assert len(taken) <= done + 3  # a progress bar over them tells the truth
    assert len(taken) == done == 40
    assert list(LiveFeatures(samples, backbone, HOW).read([])) == []


def test_mirrored_images_have_the_maps_of_their_mirror_image(
    samples: list[Sample], backbone: Backbone, tmp_path: Path
) -> None:
    with Image.open(samples[3].image) as picture:
        ImageOps.mirror(picture).save(tmp_path / "mirror.png")
    live = LiveFeatures([samples[3], Sample("m", tmp_path / "mirror.png"), samples[3]], backbone, HOW)
    (batch,) = live.read([[0, 1, 2]], mirrored={2})
    for level in batch.maps:
        assert torch.equal(level[1], level[2])
        assert not torch.allclose(level[0], level[2])
    with pytest.raises(ValueError, match="aren't kept mirrored"):
        next(cached(samples, backbone, tmp_path).read(BATCHES, mirrored={3}))


@pytest.mark.slow
def test_images_that_cannot_be_decoded_are_named_once(
    samples: list[Sample], backbone: Backbone, tmp_path: Path
) -> None:
    live = LiveFeatures(samples, backbone, HOW)
    assert not live.failures  # nothing was read yet
    for _ in range(2):
        list(live.read(BATCHES))
    kept = cached(samples, backbone, tmp_path)
    assert list(kept.indices) == [0, 1, 3, 5]
    assert kept.failures == live.failures
    assert [name for name, _ in live.failures] == ["2.png", "4.png"]


def test_a_cache_is_read_and_not_made_again(samples: list[Sample], backbone: Backbone, tmp_path: Path) -> None:
    cached(samples, backbone, tmp_path)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    calls: list[int] = []
    handle = backbone.register_forward_hook(lambda *_: calls.append(1))
    list(cached(samples, backbone, tmp_path).read(BATCHES))
    handle.remove()
    assert not calls
    assert before == {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}


def test_a_cache_knows_images_by_their_content(samples: list[Sample], backbone: Backbone, tmp_path: Path) -> None:
    cached(samples, backbone, tmp_path)
    copy = tmp_path / "elsewhere" / "copy.png"
    copy.parent.mkdir()
    copy.write_bytes(samples[3].image.read_bytes())
    known = CachedFeatures([Sample("copy.png", copy)], backbone, HOW, "hash", tmp_path)
    assert list(known.indices) == [0]
    for other in ((HOW, "other"), (Preparation(96, 4), "hash"), (Preparation(64, 2), "hash")):
        assert CachedFeatures([Sample("copy.png", copy)], backbone, *other, tmp_path).missing == [0]


def test_a_file_for_each_image_by_its_hash(samples: list[Sample], backbone: Backbone, tmp_path: Path) -> None:
    cached(samples, backbone, tmp_path)
    (kind,) = tmp_path.iterdir()
    hashes = [hashlib.sha256(samples[index].image.read_bytes()).hexdigest() for index in (0, 1, 3, 5)]
    expected = {kind / "kind.json", *(kind / digest[:2] / f"{digest}.npy" for digest in hashes)}
    assert {path for path in kind.rglob("*") if path.is_file()} == expected
    (live,) = LiveFeatures(samples, backbone, HOW).read([[0]])
    record = np.load(kind / hashes[0][:2] / f"{hashes[0]}.npy")  # any program can read it
    assert record["size"].tolist() == [240, 180]
    for level, maps in zip(backbone.levels, live.maps, strict=True):
        kept = torch.from_numpy(record[level]).float().permute(2, 0, 1)
        torch.testing.assert_close(kept, resize(maps, 4)[0], atol=1e-2, rtol=1e-2)  # kept in float16


def damage(file: Path, how: str) -> None:
    content = bytearray(file.read_bytes())
    if how == "gone":
        file.unlink()
        return
    if how == "cut":
        content = content[: len(content) // 2]
    elif how == "empty":
        content = bytearray()
    elif how == "header":
        content[20] ^= 1
    else:
        content[-5] ^= 1
    file.write_bytes(content)


@pytest.mark.parametrize("how", ["cut", "empty", "header", "changed", "gone"])
def test_a_damaged_file_is_computed_again(samples: list[Sample], backbone: Backbone, tmp_path: Path, how: str) -> None:
    kept = cached(samples, backbone, tmp_path)
    whole = list(kept.read(BATCHES))
    file = kept.files[0]
    before = file.read_bytes()
    damage(file, how)
    again = list(kept.read(BATCHES))
    for first, second in zip(whole, again, strict=True):
        assert (first.indices, first.sizes) == (second.indices, second.sizes)
        # another batch of images, so the last bit of float16 may differ
        assert all(torch.allclose(a, b, atol=1e-2) for a, b in zip(first.maps, second.maps, strict=True))
    assert len(file.read_bytes()) == len(before)
    calls: list[int] = []
    handle = backbone.register_forward_hook(lambda *_: calls.append(1))
    list(kept.read(BATCHES))
    handle.remove()
    assert not calls  # it is whole again


def test_a_damaged_file_of_an_image_that_is_damaged_too(
    samples: list[Sample], backbone: Backbone, tmp_path: Path
) -> None:
    image = tmp_path / "a.png"
    image.write_bytes(samples[0].image.read_bytes())
    kept = cached([Sample("a.png", image), samples[1]], backbone, tmp_path / "cache")
    damage(kept.files[0], "cut")
    image.write_bytes(b"no picture")
    (batch,) = kept.read([[0, 1]])
    assert batch.indices == [1]
    assert [name for name, _ in kept.failures] == ["a.png"]


@pytest.mark.slow
def test_writers_at_once_leave_one_good_cache(samples: list[Sample], backbone: Backbone, tmp_path: Path) -> None:
    both = [CachedFeatures(samples, backbone, HOW, "hash", tmp_path) for _ in range(2)]
    for one in both:  # neither knew of the other's images as it began
        one.complete(Ranks(), lambda: False, Console(quiet=True))
    assert len(list(tmp_path.glob("*/*/*.npy"))) == 4
    partial = partial_of(both[0].files[2], "killed")
    partial.parent.mkdir()
    partial.write_bytes(b"half a file")
    batches = [
        list(CachedFeatures(samples, backbone, HOW, "hash", tmp_path).read(BATCHES)),
        *(list(one.read(BATCHES)) for one in both),
    ]
    for first, *others in zip(*batches, strict=True):
        for other in others:
            assert first.indices == other.indices
            assert all(torch.equal(a, b) for a, b in zip(first.maps, other.maps, strict=True))


def test_what_was_computed_before_a_stop_is_kept(samples: list[Sample], backbone: Backbone, tmp_path: Path) -> None:
    many = CachedFeatures(samples, backbone, HOW, "hash", tmp_path)
    with pytest.raises(Interrupted, match="features computed so far are kept"):
        many.complete(Ranks(), lambda: True, Console(quiet=True))
    assert list(CachedFeatures(samples, backbone, HOW, "hash", tmp_path).indices) == [0, 1, 3, 5]


def test_a_disk_that_is_too_small_is_refused(
    samples: list[Sample], backbone: Backbone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = cached(samples, backbone, tmp_path / "other")
    found = CachedFeatures(samples, backbone, HOW, "hash", tmp_path)
    assert found.missing_bytes == 6 * len(kept.files[0].read_bytes())
    assert found.missing_bytes > 6 * 2 * 16 * sum(backbone.channels)
    monkeypatch.setattr(features, "RESERVE", 1 << 60)
    with pytest.raises(GroundcliError, match="GB of features don't fit"):
        found.complete(Ranks(), lambda: False, Console(quiet=True))
    assert not list(found.folder.rglob("*.npy"))


@pytest.mark.slow
def test_maps_of_mirrored_images_are_kept_beside(samples: list[Sample], backbone: Backbone, tmp_path: Path) -> None:
    found = CachedFeatures(samples, backbone, HOW, "hash", tmp_path, mirrored=True)
    found.complete(Ranks(), lambda: False, Console(quiet=True))
    assert found.indices == [0, 1, 3, 5]
    assert {name for name, _ in found.failures} == {"2.png", "4.png"}
    live = LiveFeatures(samples, backbone, HOW)
    for mirrored in ((), (0, 5)):
        (kept,), (new,) = (list(source.read([[5, 0, 3]], mirrored)) for source in (found, live))
        assert kept.indices == new.indices == [5, 0, 3]
        for ours, theirs in zip(new.maps, kept.maps, strict=True):
            torch.testing.assert_close(resize(ours, 4), theirs, atol=1e-2, rtol=1e-2)
    with pytest.raises(ValueError, match="aren't kept mirrored"):
        list(cached(samples, backbone, tmp_path / "plain").read([[0]], (0,)))
