"""ReferIt (RefClef; Kazemzadeh et al., EMNLP 2014) in the layout of Licheng Yu's `refer`, where it is published."""

import io
import pickle
import pickletools
from collections import defaultdict
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

from groundcli.data import Box, Caption, Sample
from groundcli.data.published import Lazy, locate, parse_json, reading, scale_of, scaled, size_of
from groundcli.errors import GroundcliError, first_line

SOURCE = "https://github.com/lichengunc/refer"
LISTS = ("berkeley", "unc")


def load(root: Path, split: str) -> Sequence[Sample]:
    """The images of a split with their referring expressions, each a phrase and a caption of its own.

    Equal expressions for one thing count once, as in the paper's code; for two things they count twice, each with its
    own box. The things' labels are the phrases' categories.

    Samples are named "images/saiapr_tc-12/NN/images/ID.jpg", and made as they are asked for. Boxes are in pixels of the
    image as it lies on the disk, whose header is read then: where `instances.json` states another size, they are
    scaled. Raises GroundcliError where files or the split are missing or can't be read, or the pickle holds more than
    plain data.

    Args:
        root: holds `refclef/refs(berkeley).p` or `refclef/refs(unc).p`, `refclef/instances.json` and
            `images/saiapr_tc-12/NN/images/ID.jpg`; `refclef/` and `images/` may be left out.
        split: "train", "val", "test", or as "berkeley/test" and "unc/testA" with whose it is. Without, it is that of
            `refs(berkeley).p`, on which ReferIt is reported, or of `refs(unc).p` where only that is there. As in
            `refer`, "test" is all tests, "testA" every one with an A.
    """
    whose, _, name = split.rpartition("/")
    lists = [whose] if whose else LISTS
    refs_path, instances_path, images = locate(
        root,
        [
            [f"{folder}refs({owner}).p" for owner in lists for folder in ("refclef/", "")],
            ["refclef/instances.json", "instances.json"],
            ["images/saiapr_tc-12/", "saiapr_tc-12/"],
        ],
        SOURCE,
    )
    refs = load_pickle(refs_path)
    with reading(instances_path, "RefClef's instances"):
        content = parse_json(instances_path.read_bytes())
        files = {i["id"]: (images / i["file_name"], size_of(i)) for i in content["images"]}
        things = {a["id"]: tuple(map(float, a["bbox"])) for a in content["annotations"]}
        labels = {c["id"]: c["name"] for c in content["categories"]}
    expressions: dict[Any, list[tuple[str, str, Box]]] = defaultdict(list)
    with reading(refs_path, "RefClef's expressions"):
        for ref in (ref for ref in refs if _is_in(name, ref["split"])):
            texts = dict.fromkeys(sentence["sent"].strip() for sentence in ref["sentences"])
            label, (x, y, width, height) = labels[ref["category_id"]], things[ref["ann_id"]]
            expressions[ref["image_id"]] += [(text, label, (x, y, width, height)) for text in texts if text]
        keys = [(*files[image], said) for image, said in expressions.items()]
    if not keys:
        known = ", ".join(sorted({ref["split"] for ref in refs}))
        raise GroundcliError(f"{refs_path}: no expressions of the split {name}; it has the splits {known}")
    return Lazy(keys, partial(_sample, root))


def _is_in(name: str, split: str) -> bool:
    """Whether a split's name, such as "testAB", belongs to one asked for."""
    if name in ("test", "testA", "testB", "testC"):
        return split.startswith("test") and name[len("test") :] in split[len("test") :]
    return split == name


def _sample(root: Path, image: tuple[Path, tuple[float, float], list[tuple[str, str, Box]]]) -> Sample:
    path, size, expressions = image
    scale = scale_of(path, size)
    captions = tuple(Caption.of_phrase(text, label, (scaled(box, scale),)) for text, label, box in expressions)
    return Sample(path.relative_to(root).as_posix(), path, captions)


# --- Pickles of plain data from people we don't know: nothing in them is ever run


# Opcodes of dicts, lists, tuples, text, numbers, None and of keeping what was read; none imports, calls or builds.
PLAIN = frozenset(
    {"PROTO", "FRAME", "STOP", "MARK", "POP", "NONE", "NEWTRUE", "NEWFALSE"}
    | {"INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"}
    | {"STRING", "BINSTRING", "SHORT_BINSTRING", "UNICODE", "SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8"}
    | {"EMPTY_LIST", "LIST", "APPEND", "APPENDS", "EMPTY_DICT", "DICT", "SETITEM", "SETITEMS"}
    | {"EMPTY_TUPLE", "TUPLE", "TUPLE1", "TUPLE2", "TUPLE3"}
    | {"GET", "BINGET", "LONG_BINGET", "PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"}
)
MEMO = frozenset({"PUT", "LONG_BINPUT"})


class _PlainUnpickler(pickle.Unpickler):
    """Imports nothing, should an opcode ever slip through."""

    def find_class(self, module: str, name: str) -> NoReturn:
        raise pickle.UnpicklingError(f"it asks for {module}.{name}")


def load_pickle(path: Path) -> Any:
    """What a pickle holds: dict, list, tuple, str, int, float, bool and None.

    Text that Python 2 wrote is read as Latin-1. The opcodes are looked through before anything is built, so a file
    can't run code, nor take more memory than in proportion to its own size. (One whose keys are tuples nested without
    end can still stall or crash Python, as it could anywhere.) Raises GroundcliError where it can't be read, is
    damaged, or holds anything but plain data.
    """
    try:
        data = path.read_bytes()
        for opcode, argument, _ in pickletools.genops(data):
            if opcode.name not in PLAIN:
                raise pickle.UnpicklingError(f"it holds more than plain data, {opcode.name}")
            # A memo's index is the size of a table; no honest pickle keeps more things than it has bytes.
            if opcode.name in MEMO and int(argument or 0) > len(data):
                raise pickle.UnpicklingError(f"it keeps its {argument}th thing in {len(data)} bytes")
        return _PlainUnpickler(io.BytesIO(data), encoding="latin1").load()
    except OSError as error:
        raise GroundcliError(f"{path}: can't be read ({error.strerror}); check its permissions") from None
    except Exception as error:  # a broken pickle makes Python raise nearly anything
        raise GroundcliError(f"{path}: refused ({first_line(error)}); fetch it from where it is published") from None
