import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
import timm
import torch
import torchvision
from safetensors.torch import load_file, save_file
from torch import Tensor

from groundcli import checkpoint
from groundcli.errors import GroundcliError, UsageError
from groundcli.model.elmo import Elmo
from groundcli.weights.elmo import load_elmo, save_elmo
from groundcli.weights.imports import import_weights, match_backbone
from groundcli.weights.inventory import verify
from groundcli.weights.load import load_word_pieces
from groundcli.weights.store import PUBLISHED, find, weights_in
from tests.weights.test_store import TINY

pytestmark = pytest.mark.usefixtures("store")
LITE = "tf_efficientnet_lite2"


@pytest.fixture(scope="module")
def state() -> dict[str, Tensor]:
    return timm.create_model(LITE).state_dict()


@pytest.fixture
def words(tmp_path: Path) -> Path:
    folder = tmp_path / "words"
    folder.mkdir()
    (folder / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "dog"]) + "\n")
    save_file({"embeddings.word_embeddings.weight": torch.rand(6, 4) + 5}, folder / "model.safetensors")
    return folder


def counted(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor for name, tensor in state.items() if not name.endswith("num_batches_tracked")}


FORMS: dict[str, Callable[[dict[str, Tensor], Path], object]] = {
    "bare": torch.save,
    "old": lambda state, path: torch.save(state, path, _use_new_zipfile_serialization=False),
    "state_dict": lambda state, path: torch.save({"epoch": 3, "state_dict": state}, path),
    "model": lambda state, path: torch.save({"model": {f"module.{k}": t for k, t in state.items()}}, path),
    "renamed": lambda state, path: torch.save({f"_{k}": t for k, t in state.items()}, path),
    "counted": lambda state, path: torch.save(counted(state), path),
    "safetensors": save_file,
}


@pytest.mark.slow
@pytest.mark.parametrize("form", FORMS)
def test_a_backbone_is_told_by_its_tensors(state: dict[str, Tensor], tmp_path: Path, form: str) -> None:
    FORMS[form](state, tmp_path / "file.pth")
    imported = import_weights(tmp_path / "file.pth", "mine")
    assert f"backbone {LITE}" in str(imported)
    tensors = load_file(imported.path)
    assert tensors.keys() == counted(state).keys()
    assert all(torch.equal(t, state[k]) for k, t in tensors.items())


@pytest.mark.parametrize("name", ["vgg16", "pnasnet5large", "dinov2_s14", "siglip_b16"])
def test_large_backbones_are_known(name: str) -> None:
    with torch.device("meta"):
        network = torchvision.models.vgg16() if name == "vgg16" else timm.create_model(PUBLISHED[name].backbone or "")
    part, tensors = match_backbone(network.state_dict(), Path("file.pth"))
    assert part.name == name
    assert tensors.keys() == counted(network.state_dict()).keys()


def test_the_background_class_of_tensorflow_is_left_out() -> None:
    with torch.device("meta"):
        network = timm.create_model("pnasnet5large", num_classes=1001)
    _, tensors = match_backbone(network.state_dict(), Path("file.pth"))
    assert len(tensors["last_linear.weight"]) == len(tensors["last_linear.bias"]) == 1000


def test_another_backbone_is_refused_with_what_was_expected() -> None:
    with torch.device("meta"):
        tensors = timm.create_model("tf_efficientnet_lite0").state_dict()
    with pytest.raises(GroundcliError) as error:
        match_backbone(tensors, Path("lite0.pth"))
    assert str(error.value).startswith(
        "lite0.pth: its 247 tensors fit none of the backbones vgg16, pnasnet5large, tf_eff"
    )
    assert "nearest is tf_efficientnet_lite2, of which blocks.1.2.conv_pw.weight is missing" in str(error.value)


def test_a_pickle_of_code_is_refused(tmp_path: Path) -> None:
    torch.save({"weights": Path("x")}, tmp_path / "evil.pth")
    with pytest.raises(GroundcliError, match=r"evil.pth: not a whole PyTorch file of plain tensors"):
        import_weights(tmp_path / "evil.pth")


@pytest.mark.parametrize("ending", [".pth", ".safetensors", ".hdf5"])
def test_a_cut_off_file_is_refused_and_the_store_stays(tmp_path: Path, store: Path, ending: str) -> None:
    path = tmp_path / f"whole{ending}"
    if ending == ".hdf5":
        save_elmo(Elmo(TINY), tmp_path)
        shutil.copy(tmp_path / "lm_weights.hdf5", path)
    else:
        (save_file if ending == ".safetensors" else torch.save)({"a": torch.zeros(1000)}, path)
    cut = tmp_path / f"cut{ending}"
    cut.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(GroundcliError, match=r"cut.*: (not a whole|can't be read as HDF5)"):
        import_weights(cut, "mine")
    assert not weights_in(store)


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"", r"file.pth: the file is empty \(0 bytes\)"), (b"<html>not found</html>", "file.pth: not weights: neither")],
)
def test_files_of_something_else_are_refused(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "file.pth").write_bytes(content)
    with pytest.raises(GroundcliError, match=message):
        import_weights(tmp_path / "file.pth")


def test_numbers_without_names_are_refused(tmp_path: Path) -> None:
    torch.save([torch.zeros(3)], tmp_path / "list.pth")
    with pytest.raises(GroundcliError, match=r"list.pth: .*holds no named tensors"):
        import_weights(tmp_path / "list.pth")


def test_a_published_file_of_another_hash_is_damaged(state: dict[str, Tensor], tmp_path: Path) -> None:
    torch.save(state, tmp_path / "vgg16-397923af.pth")
    with pytest.raises(GroundcliError, match=r"vgg16-397923af.pth: damaged: its SHA-256 is .* begins with 397923af"):
        import_weights(tmp_path / "vgg16-397923af.pth", "mine")


@pytest.mark.slow
def test_files_of_the_hub_are_all_called_alike(tmp_path: Path) -> None:
    file = tmp_path / "model.safetensors"
    state = timm.create_model("vit_small_patch14_dinov2").state_dict()
    save_file(state | {"mask_token": torch.zeros(1, 384)}, file)  # DINOv2's authors have one more
    for name in ("", "dinov2_s14"):  # it would be called as the published one
        with pytest.raises(GroundcliError, match=r"model.safetensors: damaged: its SHA-256 is .* begins with 04d27f34"):
            import_weights(file, name)
    imported = import_weights(file, "mine")
    assert "mine: backbone vit_small_patch14_dinov2, 174 tensors, 88.2 MB" in str(imported)
    checks = list(verify("mine"))
    assert [check.what for check in checks] == ["file", "SHA-256", "content", "forward pass"]
    assert checks[-1].result == "finite 1 x 384 x 32 x 32, 1 x 384 x 32 x 32"


def test_word_pieces_are_centred(words: Path) -> None:
    imported = import_weights(words, "my_words")
    assert "table of 6 word pieces" in str(imported)
    table = load_file(imported.path)["table"]
    assert table.float().mean().abs() < 1e-2
    torch.testing.assert_close(load_word_pieces(imported.path)(["Dog"])[0], table[5].float())


def test_word_pieces_must_be_as_many_as_vectors(words: Path) -> None:
    (words / "vocab.txt").write_text("[UNK]\ndog\n")
    with pytest.raises(GroundcliError, match=r"vocab.txt has 2 pieces, the table 6 vectors"):
        import_weights(words, "my_words")


@pytest.mark.parametrize(
    ("prefix", "name"), [("elmo_2x4096", "elmo_original"), ("elmo_2x4096_5.5B", "elmo_original_5.5b")]
)
def test_an_elmo_is_told_by_its_sizes_and_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, prefix: str, name: str
) -> None:
    for large in ("elmo_original", "elmo_original_5.5b"):
        monkeypatch.setitem(PUBLISHED, large, replace(PUBLISHED[large], elmo=TINY))
    elmo = Elmo(TINY)
    save_elmo(elmo, tmp_path)
    (tmp_path / "options.json").rename(tmp_path / f"{prefix}_options.json")
    (tmp_path / "lm_weights.hdf5").rename(tmp_path / f"{prefix}_weights.hdf5")
    (tmp_path / "elmo_other_options.json").write_text("{}")
    imported = import_weights(tmp_path / f"{prefix}_weights.hdf5")
    assert imported.name == name
    assert torch.equal(load_elmo(find(name)).lstm[1].kernel, elmo.lstm[1].kernel)


def test_an_elmo_of_own_sizes_needs_a_name(tmp_path: Path) -> None:
    save_elmo(Elmo(TINY), tmp_path / "run")
    (tmp_path / "run" / "checkpoint.safetensors").touch()
    with pytest.raises(UsageError, match=r"lm_weights.hdf5: an ELMo of other sizes .*--name"):
        import_weights(tmp_path / "run")
    assert import_weights(tmp_path / "run", "elmo_mine").path == find("elmo_mine")


def test_an_elmo_needs_its_options(tmp_path: Path) -> None:
    save_elmo(Elmo(TINY), tmp_path)
    (tmp_path / "options.json").unlink()
    with pytest.raises(GroundcliError, match=r"lm_weights.hdf5: an ELMo needs its options"):
        import_weights(tmp_path / "lm_weights.hdf5")


@pytest.mark.slow
def test_a_cache_of_hugging_face_is_searched(state: dict[str, Tensor], tmp_path: Path) -> None:
    cache = tmp_path / "models--timm--tf_efficientnet_lite2.in1k"
    (cache / "blobs").mkdir(parents=True)
    save_file(state, cache / "blobs" / "0a1b2c")
    for revision in ("1f3e", "2a4d"):
        (cache / "snapshots" / revision).mkdir(parents=True)
        (cache / "snapshots" / revision / "model.safetensors").symlink_to("../../blobs/0a1b2c")
    assert f"backbone {LITE}" in str(import_weights(cache, "mine"))


def test_of_several_weights_in_a_folder_one_must_be_named(words: Path, tmp_path: Path) -> None:
    torch.save({}, tmp_path / "a.pth")
    with pytest.raises(GroundcliError, match=r"holds several weights: .*a.pth, .*words; name one"):
        import_weights(tmp_path)


def test_a_folder_without_weights_is_refused(tmp_path: Path) -> None:
    with pytest.raises(GroundcliError, match="holds no file of weights"):
        import_weights(tmp_path)


def test_a_trained_model_is_copied_as_it_is(tmp_path: Path) -> None:
    shutil.copy(find("lite"), tmp_path / "mine.safetensors")
    imported = import_weights(tmp_path / "mine.safetensors")
    assert imported.path == find("mine")
    assert imported.path.read_bytes() == find("lite").read_bytes()
    assert not imported.needs


def test_a_trained_model_names_the_parts_that_are_not_here(tmp_path: Path) -> None:
    tensors, metadata = checkpoint.load(find("lite"))
    metadata["frozen"]["vgg16"] = "0" * 64
    checkpoint.save(tmp_path / "mine.safetensors", tensors, metadata)
    assert import_weights(tmp_path / "mine.safetensors").needs[0].startswith("vgg16: not here; run `groundcli")


def test_a_checkpoint_without_a_recipe_is_refused(tmp_path: Path) -> None:
    checkpoint.save(tmp_path / "language.safetensors", {"model/a": torch.zeros(1)}, {"epoch": 1})
    with pytest.raises(GroundcliError, match=r"language.safetensors: written by groundcli, but not a trained model"):
        import_weights(tmp_path / "language.safetensors")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("a/b", "expected a plain name"),
        ("..", "expected a plain name"),
        ("lite", "lite: ships with groundcli and would hide"),
        ("vgg16", "is the name of torchvision, IMAGENET1K_V1"),
    ],
)
def test_names_that_would_confuse_are_refused(words: Path, store: Path, name: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        import_weights(words, name)
    assert not store.exists()


def test_what_ships_is_made_by_the_same_command(words: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("groundcli.weights.imports.SHIPPED", words.parent / "store")
    monkeypatch.setattr("groundcli.weights.store.SHIPPED", words.parent / "store")
    for _ in range(2):
        assert import_weights(words).path == words.parent / "store" / "minilm_words.safetensors"


@pytest.mark.parametrize("values", ["nan", "bytes"])
def test_an_elmo_of_what_are_no_numbers_is_refused(tmp_path: Path, store: Path, values: str) -> None:
    save_elmo(Elmo(TINY), tmp_path)
    with h5py.File(tmp_path / "lm_weights.hdf5", "a") as file:
        shape = file["CNN_proj/b_proj"].shape
        del file["CNN_proj/b_proj"]
        array = np.full(shape, np.nan) if values == "nan" else np.full(shape, b"weight")
        file.create_dataset("CNN_proj/b_proj", data=array)
    with pytest.raises(GroundcliError, match=r"hdf5: CNN_proj/b_proj has values that are no finite numbers"):
        import_weights(tmp_path / "lm_weights.hdf5", "mine")
    assert not store.exists()


def test_a_backbone_and_words_that_are_not_finite_are_refused(
    state: dict[str, Tensor], words: Path, tmp_path: Path, store: Path
) -> None:
    torch.save({**state, "conv_stem.weight": state["conv_stem.weight"] * torch.nan}, tmp_path / "file.pth")
    with pytest.raises(GroundcliError, match=r"file.pth: conv_stem.weight has values that are not finite"):
        import_weights(tmp_path / "file.pth")
    save_file({"word_embeddings.weight": torch.full((6, 4), torch.inf)}, words / "model.safetensors")
    with pytest.raises(GroundcliError, match=r"model.safetensors: word_embeddings.weight has values that are not fin"):
        import_weights(words)
    assert not store.exists()


def test_what_is_in_the_store_is_not_lost_to_another_of_its_name(words: Path, tmp_path: Path, store: Path) -> None:
    save_elmo(Elmo(TINY), tmp_path / "elmo")
    for source, other in ((words, tmp_path / "elmo"), (tmp_path / "elmo", words)):
        path = import_weights(source, "mine").path
        assert import_weights(source, "mine").path == path
        with pytest.raises(UsageError, match=rf"^--name mine: holds something else, {path}; choose another, or remove"):
            import_weights(other, "mine")
        assert [file.name for file in store.iterdir()] == [path.name]
        shutil.rmtree(store)


def test_a_store_that_cannot_be_written_is_named(words: Path, store: Path) -> None:
    store.write_text("a file")
    with pytest.raises(GroundcliError, match=rf"^{store}: can't be written \(File exists\)$"):
        import_weights(words, "mine")


def test_a_damaged_published_part_is_imported_anew(words: Path, store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("groundcli.weights.imports.SHIPPED", store)  # else the name is of what ships
    path = import_weights(words).path
    whole = path.read_bytes()
    path.write_bytes(whole[:100])
    assert import_weights(words).path.read_bytes() == whole
