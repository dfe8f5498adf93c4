"""A user's own files are never replaced and never deleted."""

import os
import shutil
from pathlib import Path

import pytest

from tests.cli.conftest import Run
from tests.shapes import draw_shape

QUIET = ("--no-overlays", "--no-report")
ALWAYS = {
    *("annotations.json", "annotations.jsonl", "failures.jsonl", "not_found.jsonl", "positions.json"),
    *("results.json", "run.json"),
}


def contents(folder: Path) -> dict[str, bytes]:
    """Every file's bytes by its path."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def photograph(path: Path, caption: str = "a red circle") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    draw_shape("red", "circle", (20, 30)).save(path)
    path.with_suffix(".txt").write_text(f"{caption}\n")


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    for name in ("one.jpg", "two.jpg"):
        photograph(tmp_path / "photos" / name)
    return tmp_path / "photos"


@pytest.fixture(scope="module")
def finished(groundcli: Run, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Photographs, and the folder of a run on them."""
    folder = tmp_path_factory.mktemp("finished")
    for name in ("one.jpg", "two.jpg"):
        photograph(folder / "photos" / name)
    groundcli("annotate", folder / "photos", "--out", folder / "out")
    return folder / "photos", folder / "out"


@pytest.fixture
def again(finished: tuple[Path, Path], tmp_path: Path) -> tuple[Path, Path]:
    """The photographs, which no test may change, and a copy of the folder for this test alone."""
    photos, out = finished
    return photos, Path(shutil.copytree(out, tmp_path / "again" / out.name))


@pytest.mark.parametrize("mode", ["resume", "overwrite", "error"])
def test_photographs_in_the_folder_of_overlays(groundcli: Run, tmp_path: Path, mode: str) -> None:
    photograph(tmp_path / "anc" / "overlays" / "one.jpg")
    before = contents(tmp_path)
    done = groundcli("annotate", tmp_path / "anc/overlays", "--out", tmp_path / "anc", "--on-existing", mode, code=2)
    assert "holds files that groundcli did not write (overlays/one." in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert contents(tmp_path) == before


def test_a_project_with_labels_of_its_own(groundcli: Run, tmp_path: Path) -> None:
    photograph(tmp_path / "proj/images/one.jpg")
    for name in ("labels/one.txt", "data.yaml", "annotations.json"):
        (tmp_path / "proj" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "proj" / name).write_text("by hand\n")
    before = contents(tmp_path)
    command = ("annotate", tmp_path / "proj/images", "--out", tmp_path / "proj", "--format", "yolo")
    said = "holds files that groundcli did not write (annotations.json, data.yaml, labels/one.txt, ...)"
    for more in ((), ("--on-existing", "overwrite")):
        assert said in groundcli(*command, *more, code=2).stderr
        assert contents(tmp_path) == before


def test_files_that_were_put_beside_results(groundcli: Run, again: tuple[Path, Path]) -> None:
    photos, out = again
    (out / "labels").mkdir()
    (out / "labels/one.txt").write_text("by hand\n")
    before = contents(out)
    for more in ((), ("--on-existing", "overwrite", "--format", "yolo")):
        done = groundcli("annotate", photos, "--out", out, *more, code=2)
        assert "holds files that groundcli did not write (labels/one.txt)" in done.stderr
        assert contents(out) == before


def test_another_programs_run_json(groundcli: Run, photos: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out/run.json").write_text('{"version": 3, "arguments": {}}')
    before = contents(tmp_path)
    done = groundcli("annotate", photos, "--out", tmp_path / "out", "--on-existing", "overwrite", code=2)
    assert "holds files that groundcli did not write (run.json)" in done.stderr
    assert contents(tmp_path) == before


@pytest.mark.skipif(os.name == "nt", reason="links need rights there")
def test_a_link_to_photographs_is_not_written_through(groundcli: Run, photos: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out/overlays").symlink_to(photos)
    before = contents(photos)
    done = groundcli("annotate", photos, "--out", tmp_path / "out", code=2)
    assert "holds files that groundcli did not write (overlays)" in done.stderr
    assert contents(photos) == before


def test_results_as_input(groundcli: Run, again: tuple[Path, Path]) -> None:
    _, out = again
    before = contents(out)
    done = groundcli("annotate", out / "overlays", "--phrase", "a circle", "--out", out, code=2)
    assert f"--out {out}: holds {out / 'overlays'}, which is to be read" in done.stderr
    assert contents(out) == before


@pytest.mark.slow
def test_overwriting_deletes_what_the_run_wrote_and_nothing_else(groundcli: Run, photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    groundcli("annotate", photos, "--out", out, "--format", "yolo", "--save-heatmaps")
    assert (out / "labels/one.txt").exists()
    groundcli("annotate", photos / "one.jpg", "--out", out, "--on-existing", "overwrite", "--no-report")
    assert contents(out).keys() == ALWAYS | {"overlays/one.jpg"}
    assert sorted(path.name for path in out.iterdir() if path.is_dir()) == ["overlays"]


@pytest.mark.slow
def test_pictures_of_images_that_are_gone_go(groundcli: Run, photos: Path, tmp_path: Path) -> None:
    """And of those that can't be used any more, so that the folder is as if they had been so from the start."""
    out = tmp_path / "out"
    photograph(photos / "three.jpg")
    groundcli("annotate", photos, "--out", out, "--format", "yolo")
    (photos / "two.jpg").unlink()
    (photos / "two.txt").unlink()
    (photos / "three.jpg").write_bytes(b"no picture")
    groundcli("annotate", photos, "--out", out, "--format", "yolo", code=1)
    assert {name for name in contents(out) if "/" in name} == {
        *("images/one.jpg", "labels/one.txt", "overlays/one.jpg", "report/data-0001.js", "report/index.js"),
        "report/thumbnails/one.jpg.jpg",
    }


@pytest.mark.slow
def test_exports_follow_the_run(groundcli: Run, again: tuple[Path, Path], tmp_path: Path) -> None:
    photos = Path(shutil.copytree(again[0], tmp_path / "photos"))
    out = tmp_path / "out"
    groundcli("annotate", photos, "--out", out, *QUIET)
    groundcli("export", out, "--format", "csv", "--categories", "head")
    before = contents(out)
    (photos / "two.jpg").unlink()
    groundcli("annotate", photos, "--out", out, *QUIET)
    after = contents(out)
    assert after.keys() == before.keys() == ALWAYS | {"phrases.csv"}
    assert b"two.jpg" in before["phrases.csv"]
    assert b"two.jpg" not in after["phrases.csv"]
    groundcli("annotate", photos / "one.jpg", "--out", out, *QUIET, "--on-existing", "overwrite")
    assert contents(out).keys() == ALWAYS


def test_pictures_that_are_gone_or_empty_are_made_again(groundcli: Run, again: tuple[Path, Path]) -> None:
    photos, out = again
    before = contents(out)
    (out / "overlays/one.jpg").unlink()
    (out / "report/thumbnails/two.jpg.jpg").write_bytes(b"")
    done = groundcli("annotate", photos, "--out", out)
    assert "2 images found, 2 done, 0 resumed, 0 failed" in done.stdout
    after = contents(out)
    assert before.pop("run.json") != after.pop("run.json")
    assert after == before


@pytest.mark.parametrize("damage", [None, b"null", b'{"images": [1]}', b"[" * 100_000])
def test_the_list_of_images_is_lost_or_damaged(groundcli: Run, again: tuple[Path, Path], damage: bytes | None) -> None:
    """The journal knows whose pictures these are."""
    photos, out = again
    listed = (out / "positions.json").read_bytes()
    (out / "positions.json").unlink()
    if damage:
        (out / "positions.json").write_bytes(damage)
    done = groundcli("annotate", photos, "--out", out)
    assert done.stdout.splitlines()[-1] == f"{out}: 2 images found, 0 done, 2 resumed, 0 failed"
    assert (out / "positions.json").read_bytes() == listed


@pytest.mark.parametrize("left", [".0123456789abcdef.partial", "overlays/.0123456789abcdef.partial"])
def test_what_a_killed_run_left_goes(groundcli: Run, again: tuple[Path, Path], left: str) -> None:
    photos, out = again
    names = contents(out).keys()
    (out / left).write_bytes(b"half a fi")
    done = groundcli("annotate", photos, "--out", out)
    assert "2 images found, 0 done, 2 resumed, 0 failed" in done.stdout
    assert contents(out).keys() == names


def test_no_lock_is_left(groundcli: Run, again: tuple[Path, Path]) -> None:
    photos, out = again
    assert ".lock" not in contents(out)
    done = groundcli("annotate", photos, "--out", out, "--on-existing", "error", code=2)
    assert done.stderr.startswith(f"error: {out} holds a run already: add --on-existing overwrite or resume")
    assert ".lock" not in contents(out)


class TestMerge:
    @pytest.fixture
    def shards(self, groundcli: Run, photos: Path, tmp_path: Path) -> list[Path]:
        shards = [tmp_path / "1", tmp_path / "2"]
        for i, shard in enumerate(shards, start=1):
            groundcli("annotate", photos, "--out", shard, "--shard", f"{i}/2", "--batch-size", 1)
        return shards

    def test_a_later_run_of_a_shard_leaves_the_whole_alone(
        self, groundcli: Run, photos: Path, shards: list[Path], tmp_path: Path
    ) -> None:
        out = tmp_path / "whole"
        groundcli("merge", *shards, "--out", out)
        before = contents(out)
        assert before.keys() == ALWAYS | {
            *("overlays/one.jpg", "overlays/two.jpg", "report.html", "report/data-0001.js", "report/index.js"),
            *("report/thumbnails/one.jpg.jpg", "report/thumbnails/two.jpg.jpg"),
        }
        draw_shape("blue", "square", (90, 90)).save(photos / "one.jpg")
        groundcli("annotate", photos, "--out", shards[0], "--shard", "1/2", "--batch-size", 1)
        assert (shards[0] / "overlays/one.jpg").read_bytes() != before["overlays/one.jpg"]
        assert contents(out) == before

    def test_shards_of_other_images(self, groundcli: Run, photos: Path, shards: list[Path], tmp_path: Path) -> None:
        photograph(photos / "between.jpg")
        groundcli("annotate", photos, "--out", shards[1], "--shard", "2/2", "--batch-size", 1)
        done = groundcli("merge", *shards, "--out", tmp_path / "whole", code=2)
        assert f"{shards[1]} was run on other images than {shards[0]}" in done.stderr
        assert not (tmp_path / "whole").exists()

    def test_a_short_journal(self, groundcli: Run, shards: list[Path], tmp_path: Path) -> None:
        (shards[0] / "annotations.jsonl").write_text("")
        done = groundcli("merge", *shards, "--out", tmp_path / "whole", code=3)
        assert f"{shards[0]}: this shard is unfinished or damaged; run its command again" in done.stderr

    def test_a_folder_with_other_files(self, groundcli: Run, shards: list[Path], tmp_path: Path) -> None:
        photograph(tmp_path / "whole/overlays/one.jpg")
        before = contents(tmp_path / "whole")
        done = groundcli("merge", *shards, "--out", tmp_path / "whole", code=2)
        assert "holds files that groundcli did not write (overlays/one.jpg, overlays/one.txt)" in done.stderr
        assert contents(tmp_path / "whole") == before


class TestTraining:
    @pytest.mark.parametrize("left", ["previous.safetensors", "best.safetensors"])
    def test_only_an_older_state_is_left(self, groundcli: Run, photos: Path, tmp_path: Path, left: str) -> None:
        (tmp_path / "run").mkdir()
        (tmp_path / "run" / left).write_bytes(b"a night's work")
        done = groundcli("train", "--dataset", "folder", "--data", photos, "--out", tmp_path / "run", code=2)
        assert "holds a run already: add --resume" in done.stderr
        assert contents(tmp_path / "run") == {left: b"a night's work"}

    def test_a_folder_with_other_files(self, groundcli: Run, photos: Path) -> None:
        shutil.copy(photos / "one.jpg", photos / "curves.png")
        before = contents(photos)
        done = groundcli("train", "--dataset", "folder", "--data", photos, "--out", photos, code=2)
        assert "holds files that no training wrote (one.jpg, one.txt, two.jpg, ...)" in done.stderr
        assert contents(photos) == before

    def test_an_elmo_is_not_replaced(self, groundcli: Run, tmp_path: Path) -> None:
        (tmp_path / "elmo").mkdir()
        (tmp_path / "elmo/options.json").write_text("{}")
        (tmp_path / "captions.txt").write_text("a dog runs\n" * 4)
        done = groundcli("pretrain-elmo", tmp_path / "captions.txt", "--out", tmp_path / "elmo", code=2)
        assert "holds other files, such as options.json" in done.stderr
        assert contents(tmp_path / "elmo") == {"options.json": b"{}"}
