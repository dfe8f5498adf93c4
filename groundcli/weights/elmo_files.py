"""ELMo's file format, as AllenNLP published it: `options.json` for the sizes, HDF5 for the weights."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import h5py
import numpy as np
import torch

from groundcli.errors import GroundcliError, first_line
from groundcli.model.elmo import ACTIVATIONS, Elmo, ElmoConfig

OPTIONS, WEIGHTS = "options.json", "lm_weights.hdf5"


def load_options(path: Path) -> ElmoConfig:
    """Reads `options.json`. Raises GroundcliError where it isn't one."""
    try:
        options = json.loads(path.read_text("utf-8"))
        lstm, cnn = options["lstm"], options["char_cnn"]
        if lstm["cell_clip"] != lstm["proj_clip"] or not lstm["use_skip_connections"]:
            raise ValueError("needs skip connections and one bound for cells and projections")
        if cnn["activation"] not in ACTIVATIONS:
            raise ValueError(f"activation is {' or '.join(ACTIVATIONS)}")
        return ElmoConfig(
            filters=tuple((int(k), int(n)) for k, n in cnn["filters"]),
            character_dim=cnn["embedding"]["dim"],
            highways=cnn["n_highway"],
            activation=cnn["activation"],
            hidden=lstm["dim"],
            projection=lstm["projection_dim"],
            layers=lstm["n_layers"],
            clip=float(lstm["cell_clip"]),
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise GroundcliError(
            f"{path}: not the options of an ELMo ({error}); expected AllenNLP's options.json"
        ) from None


def save_options(config: ElmoConfig, path: Path) -> None:
    """Writes `options.json`."""
    options = {
        "lstm": {
            "cell_clip": config.clip,
            "use_skip_connections": True,
            "n_layers": config.layers,
            "proj_clip": config.clip,
            "projection_dim": config.projection,
            "dim": config.hidden,
        },
        "char_cnn": {
            "embedding": {"dim": config.character_dim},
            "filters": [list(f) for f in config.filters],
            "n_highway": config.highways,
            "n_characters": 262,
            "max_characters_per_token": 50,
            "activation": config.activation,
        },
    }
    path.write_text(json.dumps(options, indent=2) + "\n", "utf-8")


def file_views(elmo: Elmo) -> dict[str, torch.Tensor]:
    """The file's name of each array -> a view of our tensor that holds it, in the file's layout."""
    cnn = elmo.character_cnn
    views = {"char_embed": cnn.embedding.weight[1:]}
    for i, convolution in enumerate(cnn.convolutions):
        views[f"CNN/W_cnn_{i}"] = convolution.get_parameter("weight").permute(2, 1, 0).unsqueeze(0)
        views[f"CNN/b_cnn_{i}"] = convolution.get_parameter("bias")
    linear: list[tuple[str, str, torch.nn.Module]] = [("CNN_proj", "proj", cnn.projection)]
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


def elmo_paths(folder: Path) -> tuple[Path, Path]:
    """The options and the weights of a folder, by the names that we write or that they were published under.

    Raises:
        GroundcliError: it holds none or several of either.
    """
    return options_path(folder), _the_one(folder, "weights", WEIGHTS, "weights.hdf5", "*_weights.hdf5")


def options_path(folder: Path) -> Path:
    """The options of a folder. Raises GroundcliError where it holds none or several."""
    return _the_one(folder, "options", OPTIONS, "*_options.json")


def _the_one(folder: Path, what: str, *names: str) -> Path:
    found = sorted({path for name in names for path in folder.glob(name)})
    if len(found) != 1:
        there = ", ".join(path.name for path in found) or "none"
        expected = f"needs one file with an ELMo's {what}, {' or '.join(names)}"
        raise GroundcliError(f"{folder}: {expected}; has {there}")
    return found[0]


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


def check_elmo(options: Path, weights: Path) -> ElmoConfig:
    """The sizes of an ELMo, if the weights have all their arrays.

    Raises:
        GroundcliError: naming the file and the first array that is missing or has another shape.
    """
    config = load_options(options)
    with torch.device("meta"):
        shapes = {name: tuple(view.shape) for name, view in file_views(Elmo(config)).items()}
    with _opened(weights) as file:
        for name, shape in shapes.items():
            found = getattr(file.get(name), "shape", None)
            if found is None:
                raise GroundcliError(f"{weights}: has no array {name}; it doesn't belong to {options}")
            if found != shape:
                raise GroundcliError(f"{weights}: {name} has shape {found}, {options.name} says {shape}")
    return config


@torch.no_grad()
def load_elmo(folder: Path) -> Elmo:
    """Reads an ELMo's folder. Raises GroundcliError where its files are no ELMo's or don't belong together."""
    options, weights = elmo_paths(folder)
    elmo = Elmo(check_elmo(options, weights))
    with _opened(weights) as file:
        for name, view in file_views(elmo).items():
            view.copy_(torch.from_numpy(np.asarray(file[name])))
    return elmo


@torch.no_grad()
def save_elmo(elmo: Elmo, folder: Path) -> None:
    """Writes `options.json` and `lm_weights.hdf5` into a folder, which is made if need be."""
    folder.mkdir(parents=True, exist_ok=True)
    with h5py.File(folder / WEIGHTS, "w") as file:
        for name, view in file_views(elmo).items():
            file.create_dataset(name, data=view.float().cpu().numpy())
    save_options(elmo.config, folder / OPTIONS)
