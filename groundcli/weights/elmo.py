"""ELMo's files, as AllenNLP published them: `options.json` for the sizes, HDF5 for the weights.

They are run by `groundcli.model.elmo`, or by AllenNLP's own code, as the authors ran it. AllenNLP is no longer
maintained and asks for versions of torch that Python 3.11 can't install; its ELMo runs on today's torch all the same
once it is installed without its dependencies.
"""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import reduce
from operator import getitem
from pathlib import Path
from threading import Lock
from typing import Any, get_type_hints

import h5py
import numpy as np
import torch
from torch import Tensor, nn

from groundcli.errors import GroundcliError, UsageError, first_line
from groundcli.model.elmo import Elmo, without_boundaries
from groundcli.recipe import ElmoConfig, typed
from groundcli.weights.store import OPTIONS, WEIGHTS, elmo_paths

# Where `options.json` has each size.
PLACES = {
    "filters": ("char_cnn", "filters"),
    "character_dim": ("char_cnn", "embedding", "dim"),
    "highways": ("char_cnn", "n_highway"),
    "activation": ("char_cnn", "activation"),
    "hidden": ("lstm", "dim"),
    "projection": ("lstm", "projection_dim"),
    "layers": ("lstm", "n_layers"),
    "clip": ("lstm", "cell_clip"),
}
INSTALL = "pip install 'groundcli[allennlp]' && pip install --no-deps allennlp==2.10.1"


def load_options(path: Path) -> ElmoConfig:
    """Reads `options.json`. Raises GroundcliError where it isn't one, or a size is out of its range."""
    try:
        options = json.loads(path.read_text("utf-8"))
        if options["lstm"]["cell_clip"] != options["lstm"]["proj_clip"] or not options["lstm"]["use_skip_connections"]:
            raise ValueError("needs skip connections and one bound for cells and projections")
        hints = get_type_hints(ElmoConfig, include_extras=True)
        sizes: dict[str, Any] = {
            size: typed(hints[size], reduce(getitem, place, options), OPTIONS, ".".join(place))
            for size, place in PLACES.items()
        }
        return ElmoConfig(**sizes)
    except (OSError, ValueError, KeyError, TypeError, RecursionError, UsageError) as error:
        reason = first_line(error).removeprefix(f"{OPTIONS}: ")
        raise GroundcliError(f"{path}: not the options of an ELMo ({reason}); expected AllenNLP's {OPTIONS}") from None


def save_options(config: ElmoConfig, path: Path) -> None:
    """Writes `options.json`."""
    options: dict[str, Any] = {
        "lstm": {"use_skip_connections": True, "proj_clip": config.clip},
        "char_cnn": {"embedding": {}, "n_characters": 262, "max_characters_per_token": 50},
    }
    for size, (*groups, key) in PLACES.items():
        reduce(getitem, groups, options)[key] = getattr(config, size)
    path.write_text(json.dumps(options, indent=2) + "\n", "utf-8")


def file_views(elmo: Elmo) -> dict[str, Tensor]:
    """The file's name of each array -> a view of our tensor that holds it, in the file's layout."""
    cnn = elmo.character_cnn
    views = {"char_embed": cnn.embedding.weight[1:]}
    for i, convolution in enumerate(cnn.convolutions):
        views[f"CNN/W_cnn_{i}"] = convolution.get_parameter("weight").permute(2, 1, 0).unsqueeze(0)
        views[f"CNN/b_cnn_{i}"] = convolution.get_parameter("bias")
    linear: list[tuple[str, str, nn.Module]] = [("CNN_proj", "proj", cnn.projection)]
    for i, (transform, carry) in enumerate(zip(cnn.transforms, cnn.carries, strict=True)):
        linear += [(f"CNN_high_{i}", "transform", transform), (f"CNN_high_{i}", "carry", carry)]
    for group, name, layer in linear:
        views[f"{group}/W_{name}"] = layer.get_parameter("weight").T
        views[f"{group}/b_{name}"] = layer.get_parameter("bias")
    for i, lstm in enumerate(elmo.lstm):
        for direction in (0, 1):
            cell = f"RNN_{direction}/RNN/MultiRNNCell/Cell{i}/LSTMCell"
            views[f"{cell}/W_0"] = lstm.get_parameter("kernel")[direction]
            views[f"{cell}/B"] = lstm.get_parameter("bias")[direction, 0]
            views[f"{cell}/W_P_0"] = lstm.get_parameter("projection")[direction]
    return views


def check_elmo(options: Path, weights: Path) -> ElmoConfig:
    """The sizes of an ELMo, if the weights have all their arrays; their values aren't read.

    Raises GroundcliError, which names the file and the first array that is missing or has another shape.
    """
    config = load_options(options)
    with torch.device("meta"):
        shapes = {name: tuple(view.shape) for name, view in file_views(Elmo(config)).items()}
    with _opened(weights) as file:
        for name, shape in shapes.items():
            given = getattr(file.get(name), "shape", None)
            if given is None:
                raise GroundcliError(f"{weights}: has no array {name}; it doesn't belong to {options}")
            if given != shape:
                raise GroundcliError(f"{weights}: {name} has shape {given}, {options.name} says {shape}")
    return config


@torch.no_grad()
def read_elmo(options: Path, weights: Path) -> Elmo:
    """Reads an ELMo. Raises GroundcliError as `check_elmo`, and where an array holds what isn't a finite number."""
    elmo = Elmo(check_elmo(options, weights))
    with _opened(weights) as file:
        for name, view in file_views(elmo).items():
            array = np.asarray(file[name])
            if array.dtype.kind != "f" or not np.isfinite(array).all():
                raise GroundcliError(f"{weights}: {name} has values that are no finite numbers")
            view.copy_(torch.from_numpy(array))
    return elmo


def load_elmo(folder: Path) -> Elmo:
    """Reads an ELMo's folder. Raises GroundcliError where its files are no ELMo's or don't belong together."""
    return read_elmo(*elmo_paths(folder))


@torch.no_grad()
def save_elmo(elmo: Elmo, folder: Path) -> None:
    """Writes `options.json` and `lm_weights.hdf5` into a folder, which is made if need be."""
    folder.mkdir(parents=True, exist_ok=True)
    with h5py.File(folder / WEIGHTS, "w") as file:
        for name, view in file_views(elmo).items():
            file.create_dataset(name, data=view.float().cpu().numpy())
    save_options(elmo.config, folder / OPTIONS)


@contextmanager
def _opened(weights: Path) -> Iterator[h5py.File]:
    """A weights file. A damaged one makes HDF5 raise nearly anything, as late as when an array is read."""
    try:
        with h5py.File(weights) as file:
            yield file
    except GroundcliError:
        raise
    except Exception as error:
        raise GroundcliError(f"{weights}: can't be read as HDF5 ({first_line(error)})") from None


# --- AllenNLP's code


class AllenNlpElmo(nn.Module):
    """Tokenised captions -> the layers of each word, and each LSTM layer's sentence vector; frozen.

    `width` is that of every layer, twice the projection.
    """

    def __init__(self, folder: Path):
        """Reads an ELMo's folder. Raises GroundcliError where AllenNLP isn't installed or the files are no ELMo's."""
        super().__init__()
        try:
            import allennlp.modules.elmo as allennlp
        except ImportError as error:
            raise GroundcliError(f"AllenNLP can't be imported ({first_line(error)}); install it: {INSTALL}") from None
        options, weights = elmo_paths(folder)
        self.config = check_elmo(options, weights)
        self.width = 2 * self.config.projection
        self.batch_to_ids = allennlp.batch_to_ids
        self.bilm = allennlp._ElmoBiLm(str(options), str(weights))
        self._alone = Lock()  # for calls of several threads, as it keeps a state
        self.eval().requires_grad_(False)

    def _ids(self, captions: Sequence[Sequence[str]]) -> Tensor:
        """Character ids (C, T, 50)."""
        return self.batch_to_ids([list(c) for c in captions]).to(next(self.parameters()).device)

    def word_vectors(self, words: Sequence[str]) -> Tensor:
        """Words out of context -> (U, P)."""
        return self.bilm._token_embedder(self._ids([words]))["token_embedding"][0, 1:-1]

    def forward(self, captions: Sequence[Sequence[str]]) -> tuple[list[Tensor], list[Tensor]]:
        """Layers of words (W, 2 P) and of sentences (C, 2 P), without boundaries, as those of Elmo."""
        with self._alone:
            self.bilm._elmo_lstm.reset_states()  # else this call would begin where the one before ended
            out = self.bilm(self._ids(captions))
        return without_boundaries(out["activations"], out["mask"])
