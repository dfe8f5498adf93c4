"""COCO (Lin et al., ECCV 2014) in the layouts of 2014 and 2017, and the user's own images in the same format.

Its JSON is read and grouped here: pycocotools' own reader prints, reads in the system's encoding, wants an id
of every annotation, and passes over lists that are missing.
"""

import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from groundcli.data import Box, Caption, Phrase, Sample
from groundcli.data.phrases import PhraseFinder, content_key, tokenize
from groundcli.data.published import as_id, locate, parse_json, reading
from groundcli.errors import GroundcliError, UsageError

SOURCE = "https://cocodataset.org/#download"
YEARS = ("2017", "2014")
SPLIT = re.compile(rf"(trainval|train|val)({'|'.join(YEARS)})?")
WHAT = "COCO annotations"
LISTS = ("images", "annotations", "categories")

Json = Mapping[str, Any]
Category = tuple[str, str]  # its name and that of its supercategory, which is its own where it has none
Shown = Mapping[str, Phrase]  # what one image shows: the name of each category as a phrase, with its boxes


def load(root: Path, split: str) -> list[Sample]:
    """Images with their captions; those of "val" with the noun phrases that name a category, and their boxes.

    A noun phrase that spaCy finds counts where it names a category (`named_category`) of which the image has a box;
    nobody linked COCO's captions to its boxes, so every instance of the category in the image is a true box. Captions
    of "train" and "trainval" are to learn from: they have no phrases, and `instances_*.json` isn't read.

    A phrase's `entity` is the category, its `category` the supercategory: twelve groups, each with enough phrases for
    a number of its own. Crowds (`iscrowd`) are no boxes: a point on one is a miss where other instances are marked,
    and a category that has nothing else in an image isn't asked for.

    Samples are named "val2017/000000000139.jpg". Boxes are in the sizes that the files have as published. Raises
    UsageError where there is no such split, GroundcliError where files are missing or can't be read.

    Args:
        root: holds `annotations/captions_val2017.json` and `val2017/` (or `images/val2017/`), and so on.
        split: "train", "val", or both as "trainval", which the paper learned from; of 2017 where that is there, or of
            the year that is named, as in "val2014".
    """
    kinds = ["captions", "instances"] if split.startswith("val") else ["captions"]
    samples: list[Sample] = []
    for captions, *instances, folder in _files(root, split, kinds):
        content = _read(captions, "images", "annotations")
        with reading(captions, WHAT):
            lines = _by_image(content["annotations"])
            said = {
                image["id"]: _sample(root, folder, image, [Caption(c["caption"].strip()) for c in lines[image["id"]]])
                for image in content["images"]
                if image["id"] in lines
            }
        for path in instances:
            said = _with_phrases(said, _instances(path)[1])
        samples += said.values()
    return samples


def load_categories(root: Path, split: str) -> list[Sample]:
    """Images with the names of the categories that they show, each a phrase and a caption of its own.

    The boxes of a phrase are all instances of its category in the image, crowds left out. Arguments, names, errors,
    `entity` and `category` are as of `load`; captions files aren't read.
    """
    samples: list[Sample] = []
    for instances, folder in _files(root, split, ["instances"]):
        images, shown = _instances(instances)
        with reading(instances, WHAT):
            for image in images:
                named = [Caption(phrase.text, (phrase,)) for phrase in shown[image["id"]].values()]
                samples += [_sample(root, folder, image, named)] if named else []
    return samples


def load_folder(root: Path, split: str) -> list[Sample]:
    """Images with the phrases that a COCO file of the same folder annotates, such as `annotate` writes.

    An annotation's `phrase` is a phrase of the caption that its `caption_id` names in the file's list `captions`, at
    its `span` or else where it first occurs; without such a caption it is a caption of its own, and without `phrase`
    it is its category's name. Annotations of one phrase of one caption share their boxes. The true box is `bbox`,
    whatever `boxes` and `keypoints` say; crowds have none. Supercategories are the phrases' categories.

    `root` is the folder that the file's `file_name`s are relative to, `split` the file's name without ".json". Samples
    are named by their `file_name`, or the path of its address, of images with annotations; boxes are in pixels of the
    upright image. Raises GroundcliError where the file is missing or can't be read, or none of its images exists.
    """
    path = root / f"{split}.json"
    if not path.is_file():
        known = ", ".join(sorted(f"--split {file.stem}" for file in root.glob("*.json")))
        hint = f"; this folder has {known}" if known else "; put COCO annotations there, beside the images"
        raise GroundcliError(f"{path}: no such file{hint}")
    content = _read(path, *LISTS)
    with reading(path, WHAT):
        named, annotations = _categories(content), _by_image(content["annotations"])
        said = {caption["id"]: caption["caption"] for caption in content.get("captions", ())}
        samples: list[Sample] = []
        for image in (image for image in content["images"] if image["id"] in annotations):
            name = image["file_name"]
            if "://" in name:  # an address, as Label Studio writes of what it didn't fetch
                name = unquote(urlsplit(name).path).lstrip("/")
            samples.append(Sample(name, root / name, _captions(annotations[image["id"]], said, named)))
    if samples and not any(sample.image.exists() for sample in samples):
        raise GroundcliError(f"{path}: none of its {len(samples)} images is in {root}; put it beside the images")
    return samples


# --- The published data set


def _files(root: Path, split: str, kinds: Sequence[str]) -> list[list[Path]]:
    """For each part of a split, its annotations of these kinds and the folder of its images."""
    match = SPLIT.fullmatch(split)
    if not match:
        raise UsageError(f"--split {split}: COCO has train, val and trainval, and with the year val2014 and so on")
    name, year = match.groups()
    parts = ["train", "val"] if name == "trainval" else [name]
    here = (y for y in YEARS if (root / f"annotations/{kinds[0]}_{parts[0]}{y}.json").exists())
    year = year or next(here, YEARS[0])
    wanted = []
    for part in parts:
        wanted += [[f"annotations/{kind}_{part}{year}.json"] for kind in kinds]
        wanted += [[f"{part}{year}/", f"images/{part}{year}/"]]
    paths, step = locate(root, wanted, SOURCE), len(kinds) + 1
    return [paths[start : start + step] for start in range(0, len(paths), step)]


def _instances(path: Path) -> tuple[list[Json], Mapping[int, Shown]]:
    """The images, and what those show that show anything, categories in order of their first annotations."""
    content = _read(path, *LISTS)
    shown: dict[Any, dict[str, Phrase]] = defaultdict(dict)
    with reading(path, WHAT):
        named = _categories(content)
        for annotation in content["annotations"]:
            if box := _box(annotation):
                here, (name, group) = shown[as_id(annotation["image_id"])], named[annotation["category_id"]]
                boxes = (*here[name].boxes, box) if name in here else (box,)
                here[name] = Phrase(name, (0, len(name)), group, boxes, name)
        return content["images"], shown


def _sample(root: Path, folder: Path, image: Json, captions: Sequence[Caption]) -> Sample:
    path = folder / image["file_name"]
    return Sample(path.relative_to(root).as_posix(), path, tuple(captions))


def _with_phrases(samples: Mapping[int, Sample], shown: Mapping[int, Shown]) -> dict[int, Sample]:
    """Samples by the ids of their images, with the phrases that name a category that the image shows."""
    noun = iter(PhraseFinder().find([caption for sample in samples.values() for caption in sample.captions], "noun"))
    return {
        image: replace(sample, captions=tuple(_boxed(next(noun), shown.get(image, {})) for _ in sample.captions))
        for image, sample in samples.items()
    }


def _boxed(caption: Caption, shown: Shown) -> Caption:
    named = ((phrase, shown.get(named_category(phrase.text))) for phrase in caption.phrases)
    boxed = tuple(replace(thing, text=phrase.text, span=phrase.span) for phrase, thing in named if thing)
    return replace(caption, phrases=boxed)


# --- A folder of the user's own


def _captions(
    annotations: Sequence[Json], said: Mapping[Any, str], named: Mapping[int, Category]
) -> tuple[Caption, ...]:
    """The captions of one image, in order of their first annotations."""
    captions: dict[str, dict[tuple[int, int, str], list[Box]]] = defaultdict(lambda: defaultdict(list))
    for annotation in annotations:
        name, group = named[annotation["category_id"]]
        phrase = annotation.get("phrase", name)
        text = said.get(annotation.get("caption_id"), phrase)
        start, end = annotation.get("span") or (0, 0)
        if text[start:end] != phrase:
            start = text.find(phrase)
        if start < 0:
            text, start = phrase, 0
        captions[text][start, start + len(phrase), group] += filter(None, [_box(annotation)])
    return tuple(
        Caption(text, tuple(Phrase(text[a:b], (a, b), group, tuple(boxes)) for (a, b, group), boxes in phrases.items()))
        for text, phrases in captions.items()
    )


# --- The format


def _read(path: Path, *lists: str) -> Json:
    """A COCO file, of which these lists are used. Raises GroundcliError: it can't be read, or a list is missing."""
    with reading(path, WHAT):
        content: Json = parse_json(path.read_bytes())
        for name in lists:
            if not isinstance(content[name], list):
                raise ValueError(f"{name} isn't a list")
        twice = [number for number, count in Counter(as_id(i["id"]) for i in content["images"]).items() if count > 1]
        if twice:
            raise ValueError(f"the id {twice[0]} is of several images")
        return content


def _categories(content: Json) -> dict[int, Category]:
    return {c["id"]: (c["name"], c.get("supercategory") or c["name"]) for c in content["categories"]}


def _by_image(annotations: Iterable[Json]) -> dict[Any, list[Json]]:
    """Annotations or captions by the ids of their images, in order."""
    groups: dict[Any, list[Json]] = defaultdict(list)
    for annotation in annotations:
        groups[as_id(annotation["image_id"])].append(annotation)
    return groups


def _box(annotation: Json) -> Box | None:
    """None for a crowd (`iscrowd`: 1), a region of many things that nobody told apart, and where there is no box."""
    if annotation.get("iscrowd") or not annotation.get("bbox"):
        return None
    x, y, width, height = map(float, annotation["bbox"])
    if not all(map(math.isfinite, (x, y, width, height))) or min(width, height) < 0:
        raise ValueError(f"annotation {annotation.get('id')}: bbox {annotation['bbox']} is no box")
    return x, y, width, height


# --- Which category a noun phrase names


# The 80 names in COCO's order, a supercategory per line, and the plain words by which captions call the same thing.
# Plurals need no entry unless they are irregular. Words that mean as many other things ("glass", "bat" but for sports)
# are left out.
NAMES = """
person: man, woman, boy, girl, people, child, kid, baby, toddler, lady, guy, player, rider, skier, surfer,\
 skateboarder, snowboarder, skater
bicycle: bike; car; motorcycle: motorbike; airplane: plane, aeroplane, jet, airliner; bus: buses; train; truck;\
 boat: sailboat
traffic light: stoplight; fire hydrant: hydrant; stop sign; parking meter; bench
bird; cat: kitten; dog: puppy; horse; sheep: lamb; cow: cattle; elephant; bear; zebra; giraffe
backpack; umbrella; handbag: purse; tie: necktie; suitcase: luggage
frisbee; skis: ski; snowboard; sports ball: ball, baseball, soccer ball, tennis ball; kite; baseball bat: bat;\
 baseball glove: baseball mitt; skateboard; surfboard; tennis racket: tennis racquet, racket, racquet
bottle; wine glass; cup: mug; fork; knife: knives; spoon; bowl
banana; apple; sandwich; orange; broccoli; carrot; hot dog: hotdog; pizza; donut: doughnut; cake
chair; couch: sofa; potted plant: plant; bed; dining table: table; toilet
tv: television, tvs; laptop: laptop computer; mouse: computer mouse, mice; remote: remote control; keyboard;\
 cell phone: cellphone, phone, smartphone
microwave: microwave oven; oven: stove; toaster; sink; refrigerator: fridge
book; clock; vase; scissors; teddy bear; hair drier: hair dryer; toothbrush
"""
SYNONYMS: Mapping[str, list[str]] = {
    name: synonyms.split(", ") if synonyms else []
    for line in NAMES.strip().splitlines()
    for name, _, synonyms in (entry.partition(": ") for entry in line.split("; "))
}


def named_category(phrase: str) -> str:
    """The category that a noun phrase names; "" where it names none.

    The phrase's last words decide, for an English noun phrase ends in what it is about: "a small brown dog" and "a
    picture of a dog" name "dog", "dog food" nothing. Two words go before one: "a hot dog" is no dog. Number and case
    don't matter.
    """
    keys = tuple(content_key(word.text) for word in tokenize(phrase))
    return _by_keys().get(keys[-2:]) or _by_keys().get(keys[-1:], "")


@cache
def _by_keys() -> Mapping[tuple[str, ...], str]:
    return {
        tuple(content_key(word) for word in words.split()): name
        for name, synonyms in SYNONYMS.items()
        for words in [name, *synonyms]
    }
