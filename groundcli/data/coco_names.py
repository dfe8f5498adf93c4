"""Which COCO category a noun phrase names."""

from collections.abc import Mapping

from groundcli.data.words import content_key, tokenize

# The 80 names, and the plain words by which captions call the same thing. Plurals need no entry unless they are
# irregular. Words that mean as many other things ("glass", "bat" but for sports) are left out.
WORDS: Mapping[str, str] = {
    "person": "man, woman, boy, girl, people, child, kid, baby, toddler, lady, guy, player, rider, skier, surfer, "
    "skateboarder, snowboarder, skater",
    "bicycle": "bike",
    "car": "",
    "motorcycle": "motorbike",
    "airplane": "plane, aeroplane, jet, airliner",
    "bus": "buses",
    "train": "",
    "truck": "",
    "boat": "sailboat",
    "traffic light": "stoplight",
    "fire hydrant": "hydrant",
    "stop sign": "",
    "parking meter": "",
    "bench": "",
    "bird": "",
    "cat": "kitten",
    "dog": "puppy",
    "horse": "",
    "sheep": "lamb",
    "cow": "cattle",
    "elephant": "",
    "bear": "",
    "zebra": "",
    "giraffe": "",
    "backpack": "",
    "umbrella": "",
    "handbag": "purse",
    "tie": "necktie",
    "suitcase": "luggage",
    "frisbee": "",
    "skis": "ski",
    "snowboard": "",
    "sports ball": "ball, baseball, soccer ball, tennis ball",
    "kite": "",
    "baseball bat": "bat",
    "baseball glove": "baseball mitt",
    "skateboard": "",
    "surfboard": "",
    "tennis racket": "tennis racquet, racket, racquet",
    "bottle": "",
    "wine glass": "",
    "cup": "mug",
    "fork": "",
    "knife": "knives",
    "spoon": "",
    "bowl": "",
    "banana": "",
    "apple": "",
    "sandwich": "",
    "orange": "",
    "broccoli": "",
    "carrot": "",
    "hot dog": "hotdog",
    "pizza": "",
    "donut": "doughnut",
    "cake": "",
    "chair": "",
    "couch": "sofa",
    "potted plant": "plant",
    "bed": "",
    "dining table": "table",
    "toilet": "",
    "tv": "television, tvs",
    "laptop": "laptop computer",
    "mouse": "computer mouse, mice",
    "remote": "remote control",
    "keyboard": "",
    "cell phone": "cellphone, phone, smartphone",
    "microwave": "microwave oven",
    "oven": "stove",
    "toaster": "",
    "sink": "",
    "refrigerator": "fridge",
    "book": "",
    "clock": "",
    "vase": "",
    "scissors": "",
    "teddy bear": "",
    "hair drier": "hair dryer",
    "toothbrush": "",
}
LONGEST = 2  # words


def named_category(phrase: str) -> str:
    """The category that a noun phrase names; "" where it names none.

    The phrase's last words decide, for an English noun phrase ends in what it is about: "a small brown dog" and "a
    picture of a dog" name "dog", "dog food" nothing. Two words go before one: "a hot dog" is no dog. Number and case
    don't matter.
    """
    keys = [content_key(word.text) for word in tokenize(phrase)]
    for count in range(LONGEST, 0, -1):
        if (name := _BY_KEYS.get(tuple(keys[-count:]))) is not None:
            return name
    return ""


_BY_KEYS = {
    tuple(content_key(word) for word in words.split()): name
    for name, synonyms in WORDS.items()
    for words in [name, *filter(None, synonyms.split(", "))]
}
