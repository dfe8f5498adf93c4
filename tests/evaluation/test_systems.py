from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from groundcli import Grounder
from groundcli.data import Caption, Phrase
from groundcli.data.images import resize
from groundcli.evaluation.metrics import Truth, stacked
from groundcli.evaluation.systems import (
    ABLATIONS,
    ABSENT,
    ALONE,
    BASELINES,
    BEST,
    BOX_METHODS,
    CENTER,
    EVALUATED,
    SENTENCE,
    SENTENCE_REGION,
    WHOLE_IMAGE,
    GrounderSystem,
    baselines,
    fusions,
    largest_region,
    random_hit_probability,
    variant,
)
from groundcli.heat.boxes import METHODS
from tests.evaluation.fixtures import LEFT, SAMPLE
from tests.shapes import draw_shape


def test_the_centre_and_the_whole_image() -> None:
    found = baselines(Truth.of(SAMPLE, (500, 375), "default"), 0)
    points = found[BASELINES, CENTER].points
    assert points is not None
    assert points.tolist() == [[250, 187.5]] * 2  # of the two phrases with boxes
    assert found[BASELINES, WHOLE_IMAGE].boxes == [[(0, 0, 500, 375)]] * 2


@pytest.mark.parametrize(
    ("boxes", "tolerance", "probability"),
    [
        ([(0, 0, 50, 100)], 0, 0.5),
        ([(0, 0, 50, 100), (25, 0, 50, 100)], 0, 0.75),
        ([(40, 40, 20, 20)], 10, 0.16),  # 40 x 40
        ([(0, 0, 20, 20)], 10, 0.09),  # it grows inside the image only
        ([(0, 0, 100, 100)], 10, 1),
    ],
)
def test_random_hit_probability(boxes: list, tolerance: float, probability: float) -> None:
    assert random_hit_probability(stacked([boxes]), (100, 100), tolerance) == pytest.approx(probability)


def test_largest_region() -> None:
    heat = np.zeros((4, 4))
    heat[0, 0] = 1  # hottest, but alone
    heat[2:, 2] = 0.6, 0.7
    heat[3, 3] = 0.4  # under half of the highest
    assert largest_region(heat, (40, 80)) == ((25, 70), (20, 40, 10, 40))
    assert largest_region(np.zeros((4, 4)), (40, 80)) == ((20, 40), (0, 0, 40, 80))


@pytest.fixture(scope="module")
def grounder() -> Grounder:
    return Grounder.load("lite", runtime="torch")  # ablations need it


@pytest.mark.slow
def test_what_is_measured_beside_a_model(grounder: Grounder) -> None:
    picture = np.asarray(draw_shape("red", "circle", (150, 20)))
    caption = Caption("a red ball,  ", (Phrase("a red ball", (0, 10), "", (LEFT,)), Phrase(" ", (12, 13), "", (LEFT,))))
    truth = Truth.of(replace(SAMPLE, captions=(caption,)), (240, 180), "default")
    system = GrounderSystem(grounder, "lite", ablations=True)
    (found,) = system([resize(Image.fromarray(picture), system.side)], [truth])
    levels = [f"{level} alone" for level in system.levels]
    assert [*found] == [
        (EVALUATED, "lite"),
        *((ABLATIONS, name) for name in (*levels, BEST, "levels averaged", "levels averaged, weighted")),
        *((BOX_METHODS, name) for name in METHODS),
        (BASELINES, SENTENCE_REGION),
        *((ABLATIONS, name) for name in (SENTENCE, ALONE)),
    ]
    answer = grounder.ground(picture, caption, "marked")
    ours = found[EVALUATED, "lite"]
    assert ours.points is not None
    assert ours.scores is not None
    assert ours.heat is not None
    assert ours.boxes is not None
    ball, nothing = answer.phrases
    assert ours.points[0] == pytest.approx(ball.point)
    np.testing.assert_allclose(ours.boxes[0], ball.boxes, atol=0.01)
    assert ours.boxes[1] == []
    np.testing.assert_allclose(ours.heat[0], ball.heatmap, atol=1e-5)
    assert nothing.point is None  # neither found, so neither has heat
    assert np.isnan(ours.points[1]).all()
    assert (ours.scores[1], ours.heat[1].max()) == (0, 0)
    for method, boxes in METHODS.items():
        theirs = found[BOX_METHODS, method].boxes
        assert theirs is not None
        assert theirs[0] == (ours.boxes[0] if method == "extents" else boxes(ours.heat[:1], (240, 180))[0][0])
    for i, level in enumerate(levels):
        chosen = found[ABLATIONS, level].levels
        assert chosen is not None
        assert chosen[0] == i
    (alone,) = GrounderSystem(grounder, "lite", alone=True)([resize(Image.fromarray(picture), system.side)], [truth])
    assert [*alone] == [(EVALUATED, "lite")]
    (asked,) = GrounderSystem(grounder, "lite", alone=True)(
        [resize(Image.fromarray(picture), system.side)], [replace(truth, absent=(Caption.of_phrase("an elephant"),))]
    )
    assert [*asked] == [(EVALUATED, "lite"), (ABSENT, "lite")]
    absent = asked[ABSENT, "lite"]
    assert absent.scores is not None
    assert absent.scores[0] < asked[EVALUATED, "lite"].scores[0]


def test_a_variant_shares_weights_and_leaves_its_origin_as_it_is(grounder: Grounder) -> None:
    config = grounder.config
    for name, other in fusions(grounder).items():
        assert other.runtime is not grounder.runtime
        assert other.runtime.model.backbone is grounder.runtime.model.backbone
        assert other.config.fusion == other.runtime.model.config.fusion == ("best" if name == BEST else "average")
    assert variant(grounder, calibration=()).config.calibration == ()
    assert grounder.config is grounder.runtime.model.config is config
