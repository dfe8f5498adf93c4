import pytest
from groundcli.evaluation.protocol import Protocol, counted_boxes, scored_phrases, skip_reason

from groundcli.data.sample import Box, Caption, Phrase


@pytest.mark.parametrize(
    ("category", "boxes", "default", "authors"),
    [
        ("people", [(0, 0, 50, 50)], "", ""),
        ("people", [], "no_box", "no_box"),
        ("notvisual", [], "no_box", "notvisual"),
        ("notvisual", [(0, 0, 50, 50)], "", "notvisual"),
        ("people", [(0, 0, 10, 49)], "", "small_box"),  # 4.9 %
        ("people", [(0, 0, 10, 50)], "", ""),  # 5 %
        ("people", [(0, 0, 5, 5), (45, 45, 5, 5)], "", ""),  # small boxes, but 25 % around both
    ],
)
def test_skip_reason(category: str, boxes: list[Box], default: str, authors: str) -> None:
    phrase = Phrase("it", (0, 2), category, tuple(boxes))
    assert skip_reason(phrase, (100, 100), "default") == default
    assert skip_reason(phrase, (100, 100), "authors") == authors


def test_scored_phrases_keep_their_order() -> None:
    big, small, none = (Phrase("x", (i, i + 1), boxes=b) for i, b in enumerate([((0, 0, 9, 9),), ((0, 0, 1, 1),), ()]))
    caption = Caption("xxx", (small, none, big))
    assert scored_phrases(caption, (10, 10), "default") == (small, big)
    assert scored_phrases(caption, (10, 10), "authors") == (big,)


@pytest.mark.parametrize(
    ("protocol", "kept"), [("default", [(0, 0, 95, 99), (0, 0, 50, 50)]), ("authors", [(0, 0, 50, 50)])]
)
def test_boxes_around_nearly_everything(protocol: Protocol, kept: list[Box]) -> None:
    assert counted_boxes([(0, 0, 95, 99), (0, 0, 50, 50)], (100, 100), protocol) == kept
