"""The parts of the report: which images it shows, and how it draws charts."""

from xml.etree import ElementTree as ET

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from headstart.tables.predictions import Predictions
from stages.report.charts import Axis, Series, line_chart
from stages.report.figures import confusion
from stages.report.gallery import Card, Guess, choose_cards

cards = st.lists(
    st.tuples(st.booleans(), st.floats(0.3, 1), st.booleans()).map(
        lambda drawn: Card("", "", "a", [
            Guess("head", "a" if drawn[0] else "b", drawn[1], drawn[0]),
            Guess("finetune", "a" if drawn[2] else "b", 0.9, drawn[2]),
        ])
    ),
    max_size=60,
)  # fmt: skip


@given(cards, st.integers(10, 40))
def test_the_gallery_is_full_and_shows_mistakes_first(drawn: list[Card], most: int) -> None:
    """As many cards as possible are shown, none twice; at most half are mistakes, the most confident ones first."""
    shown = choose_cards(drawn, most)
    wrong = [card for card in drawn if card.outcome == "wrong"]
    shown_wrong = [card for card in shown if card.outcome == "wrong"]
    others = len(drawn) - len(wrong)

    assert len(shown) == min(most, len(drawn))
    assert len({id(card) for card in shown}) == len(shown)
    assert len(shown_wrong) == min(len(wrong), max(most // 2, most - others))
    assert shown[: len(shown_wrong)] == shown_wrong
    confidences = [card.guesses[0].confidence for card in shown_wrong]
    assert confidences == sorted(confidences, reverse=True)
    assert confidences == sorted((card.guesses[0].confidence for card in wrong), reverse=True)[: len(confidences)]


def test_outcomes_are_of_the_track_to_ship() -> None:
    """The first guess decides the outcome; a right guess with a confidence below 0.8 is unsure."""
    sure, unsure = Guess("head", "a", 0.8, is_right=True), Guess("head", "a", 0.79, is_right=True)
    wrong = Guess("head", "b", 0.99, is_right=False)

    assert [Card("", "", "a", [one, wrong]).outcome for one in (sure, unsure, wrong)] == ["right", "unsure", "wrong"]
    assert Card("", "", "a", [sure, wrong]).is_disputed
    assert not Card("", "", "a", [sure, unsure]).is_disputed


@given(st.lists(st.tuples(st.floats(1, 1e6), st.floats(0, 1)), max_size=20), st.booleans())
def test_every_point_of_a_chart_lies_inside(points: list[tuple[float, float]], is_log: bool) -> None:
    """For any numbers, also none or equal ones, points and ticks lie inside the picture, and the table has them."""
    x, y = [one for one, _ in points], [one for _, one in points]
    chart = line_chart("t", Axis("x", is_log=is_log), Axis("y", high=1.0), [Series("head", x, y, y, y)])
    root = ET.fromstring(chart.svg)

    assert len(chart.rows) == len(points)
    for circle in root.iter("circle"):
        assert 56 <= float(circle.attrib["cx"]) <= 504
        assert 12 <= float(circle.attrib["cy"]) <= 260
    for line in root.iter("line"):
        assert 12 <= float(line.attrib["y1"]) <= 260.05


def test_higher_values_lie_higher_and_names_are_text() -> None:
    """The y axis points up and the x axis to the right, and names that are markup are escaped."""
    chart = line_chart("t", Axis("x", names=["<b>", "&"]), Axis("y"), [Series("head", [1, 2], [0.2, 0.9])])
    left, right = ET.fromstring(chart.svg).iter("circle")

    assert float(left.attrib["cx"]) < float(right.attrib["cx"])
    assert float(left.attrib["cy"]) > float(right.attrib["cy"])
    assert "<b>" not in chart.svg
    assert [row[1] for row in chart.rows] == ["<b>", "&"]
    assert {"<b>", "&"} <= {text.text for text in ET.fromstring(chart.svg).iter("text")}


def test_ticks_suit_the_axis() -> None:
    """Epochs have whole ticks, a short logarithmic axis has ticks too, and a single point has a mark."""
    epochs = line_chart("t", Axis("x", is_whole=True), Axis("y"), [Series("head", [0, 1, 2], [0.1, 0.2, 0.3])])
    narrow = line_chart("t", Axis("x", is_log=True), Axis("y"), [Series("head", [70, 100], [0.1, 0.2])])
    lone = line_chart("t", Axis("x"), Axis("y"), [Series("head", [1], [0.5], has_marks=False)])

    def ticks(svg: str) -> list[str]:
        texts = [text for text in ET.fromstring(svg).iter("text") if text.attrib["text-anchor"] == "middle"]
        return [text.text or "" for text in texts][:-2]

    assert ticks(epochs.svg) == ["0", "1", "2"]
    assert ticks(narrow.svg) == ["70", "80", "90", "100"]
    assert lone.svg.count("<circle") == 1


def test_long_names_of_layers_stay_inside_by_their_ends() -> None:
    """Long names are shortened to their ends, which differ between layers; the table has the whole names."""
    names = [f"encoder.layers.encoder_layer_{number}.mlp.dropout" for number in range(6)]
    chart = line_chart("t", Axis("x", names=names), Axis("y"), [Series("head", [1, 2, 3, 4, 5, 6], [0.5] * 6)])
    texts = [text for text in ET.fromstring(chart.svg).iter("text") if text.attrib.get("transform", "").count("-20")]

    assert [row[1] for row in chart.rows] == names
    for text, name in zip(texts, names, strict=True):
        assert text.text is not None
        assert name.endswith(text.text.removeprefix("…"))
        assert len(text.text) * 6 <= float(text.attrib["x"])


def test_a_band_joins_both_ends_of_the_intervals() -> None:
    """The band goes through the upper ends of the intervals and back through the lower ends."""
    line = Series("head", [1, 2], [0.5, 0.6], [0.4, 0.3], [0.7, 1.0])
    chart = ET.fromstring(line_chart("t", Axis("x"), Axis("y", low=0.0, high=1.0), [line]).svg)
    (polygon,) = chart.iter("polygon")
    heights = [float(place.split(",")[1]) for place in polygon.attrib["points"].split()]

    assert heights == [round(260 - 248 * value, 1) for value in (0.7, 1.0, 0.3, 0.4)]


def test_points_that_are_not_joined_have_bars() -> None:
    """Points of names in no order get a bar from low to high each, and no line joins them; places may lie beside."""
    line = Series("head", [0.9, 1.9], [0.5, 0.6], [0.4, 0.3], [0.7, 1.0], is_joined=False)
    chart = line_chart("t", Axis("x", names=["blur", "noise"]), Axis("y", low=0.0, high=1.0), [line])
    (_, group) = ET.fromstring(chart.svg).iter("g")
    heights = [(float(bar.attrib["y1"]), float(bar.attrib["y2"])) for bar in group.iter("line")]

    assert heights == [(round(260 - 248 * low, 1), round(260 - 248 * high, 1)) for low, high in ((0.4, 0.7), (0.3, 1))]
    assert not list(group.iter("polyline")) + list(group.iter("polygon"))
    assert [row[1] for row in chart.rows] == ["blur", "noise"]


def test_confusion_of_many_classes_is_a_list() -> None:
    """With many classes there is no table, only the list of the most frequent mistakes."""
    names = [f"{number:02}" for number in range(30)]
    logits = np.eye(30)[[1, 1, 2, 3]]
    found = Predictions(["a", "b", "c", "d"], ["a", "b", "c", "d"], ["00", "00", "00", "03"], names, logits)

    many, few = confusion(found, 20), confusion(found, 30)
    assert many.classes == []
    assert many.mistakes == few.mistakes == [("00", "01", 2), ("00", "02", 1)]
    assert few.counts[0][:4] == [0, 2, 1, 0]
    assert few.counts[3][3] == 1
