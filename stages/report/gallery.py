"""The gallery: the test images that the page shows, with their predictions."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from stages.report.content import Track

# A right prediction with less confidence is called unsure.
UNSURE = 0.8


@dataclass(frozen=True)
class Guess:
    """The prediction of one track for an image.

    Attributes:
        track: Name of the track.
        label: The predicted class.
        confidence: Probability of the predicted class.
        is_right: Whether it is the true class.
    """

    track: str
    label: str
    confidence: float
    is_right: bool


@dataclass(frozen=True)
class Card:
    """A test image and the predictions of both tracks.

    Attributes:
        digest: sha256 of the file.
        path: As in the index.
        label: True class.
        guesses: One for each track; the recommended track comes first.
    """

    digest: str
    path: str
    label: str
    guesses: Sequence[Guess]

    @property
    def outcome(self) -> str:
        """`wrong`, `unsure` or `right`: the outcome of the recommended track."""
        first = self.guesses[0]
        return "wrong" if not first.is_right else "unsure" if first.confidence < UNSURE else "right"

    @property
    def is_disputed(self) -> bool:
        """Whether the tracks predict different classes."""
        return len({guess.label for guess in self.guesses}) > 1


def make_cards(tracks: Sequence[Track]) -> list[Card]:
    """Return a card for every test image, by digest.

    Args:
        tracks: Both tracks; the recommended one comes first.
    """
    by_digest: dict[str, list[Guess]] = {}
    for track in tracks:
        predictions = track.predictions
        confidences = track.probabilities.max(axis=1)
        rows = zip(predictions.digests, predictions.labels, predictions.predicted, confidences, strict=True)
        for digest, label, predicted, confidence in rows:
            guess = Guess(track.name, predicted, float(confidence), predicted == label)
            by_digest.setdefault(digest, []).append(guess)
    first = tracks[0].predictions
    identity = zip(first.digests, first.paths, first.labels, strict=True)
    return sorted(
        (Card(digest, path, label, by_digest[digest]) for digest, path, label in identity), key=lambda card: card.digest
    )


def choose_cards(cards: Sequence[Card], most: int) -> list[Card]:
    """Return the cards to show: first wrong ones (most confident first), then disputed, unsure and other ones.

    Args:
        cards: Cards of all test images.
        most: Number of cards, if there are so many. At most half of them are wrong, if there are enough others.
    """
    wrong = sorted((card for card in cards if card.outcome == "wrong"), key=lambda card: -card.guesses[0].confidence)
    rest = [card for card in cards if card.outcome != "wrong"]
    doubtful = sorted(
        (card for card in rest if card.is_disputed or card.outcome == "unsure"),
        key=lambda card: (not card.is_disputed, card.guesses[0].confidence),
    )
    plain = [card for card in rest if not card.is_disputed and card.outcome == "right"]
    num_wrong = max(most // 2, most - len(rest))
    shown = wrong[:num_wrong]
    num_doubtful = max((most - len(shown)) // 2, most - len(shown) - len(plain))
    shown += doubtful[:num_doubtful]
    return shown + _evenly(plain, most - len(shown))


def _evenly(cards: Sequence[Card], most: int) -> list[Card]:
    if len(cards) <= most:
        return list(cards)
    return [cards[place] for place in np.linspace(0, len(cards) - 1, most).round().astype(int)]
