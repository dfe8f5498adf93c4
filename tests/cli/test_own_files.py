"""A user's own files are never replaced and never deleted."""

import os
import shutil
from pathlib import Path

import pytest

from tests.cli.conftest import Run
from tests.shapes import draw_shape

QUIET = ("--no-overlays", "--no-report")


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
    for more in ((), ("--on-existing", "overwrite")):
        groundcli(*command, *more, code=2)
        assert contents(tmp_path) == before


def test_files_that_were_put_beside_results(groundcli: Run, photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    groundcli("annotate", photos, "--out", out)
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
    groundcli("annotate", photos, "--out", tmp_path / "out", "--on-existing", "overwrite", code=2)
    assert contents(tmp_path) == before


@pytest.mark.skipif(os.name == "nt", reason="links need rights there")
def test_a_link_to_photographs_is_not_written_through(groundcli: Run, photos: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out/overlays").symlink_to(photos)
    before = contents(photos)
    done = groundcli("annotate", photos, "--out", tmp_path / "out", code=2)
    assert "holds files that groundcli did not write (overlays)" in done.stderr
    assert contents(photos) == before


def test_results_as_input(groundcli: Run, photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    groundcli("annotate", photos, "--out", out)
    before = contents(out)
    done = groundcli("annotate", out / "overlays", "--phrase", "a circle", "--out", out, code=2)
    assert f"--out {out}: holds {out / 'overlays'}, which is to be read" in done.stderr
    assert contents(out) == before


def test_overwriting_deletes_what_the_run_wrote_and_nothing_else(groundcli: Run, photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    groundcli("annotate", photos, "--out", out, "--format", "yolo", "--save-heatmaps")
    assert (out / "labels/one.txt").exists()
    groundcli("annotate", photos / "one.jpg", "--out", out, "--on-existing", "overwrite", "--no-report")
    left = contents(out).keys()
    assert left == {
        "annotations.json", "annotations.jsonl", "failures.jsonl", "overlays/one.jpg", "positions.json",
        "results.json", "run.json",
    }  # fmt: skip
    assert not (out / "labels").exists()


def test_pictures_of_images_that_are_gone_go(groundcli: Run, photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    groundcli("annotate", photos, "--out", out)
    (photos / "two.jpg").unlink()
    (photos / "two.txt").unlink()
    groundcli("annotate", photos, "--out", out)
    assert [path.name for path in (out / "overlays").iterdir()] == ["one.jpg"]
    assert [path.name for path in (out / "report/thumbnails").iterdir()] == ["one.jpg.jpg"]


def test_no_lock_is_left(groundcli: Run, photos: Path, tmp_path: Path) -> None:
    groundcli("annotate", photos, "--out", tmp_path / "out", *QUIET)
    groundcli("annotate", photos, "--out", tmp_path / "out", "--on-existing", "error", *QUIET, code=2)
    assert not (tmp_path / "out/.lock").exists()


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
        assert {"overlays/one.jpg", "overlays/two.jpg", "positions.json"} <= before.keys()
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
        groundcli("merge", *shards, "--out", tmp_path / "whole", code=2)
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
