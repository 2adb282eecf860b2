"""Label noise: the share of wrong labels, estimated from images that were drawn at random."""

from headstart.review.fixes import ACCEPTED, Fixes, says
from headstart.review.queues import RANDOM, UNLABELLED, Queue
from headstart.tables.intervals import wilson_interval


def label_noise(random: Queue, suspects: Queue, fixes: Fixes) -> dict[str, int | float | None]:
    """Return how many labels are wrong, as far as people have looked.

    The sample is the beginning of the random order, up to the last image that was decided in that queue. All images
    there count that have a decision, wherever it was made: to leave out those that were mended as suspects would make
    the share too low. Where most images before it have no decision, an image does not count, because a long beginning
    that holds little but mended suspects would make the share too high.

    Args:
        random: The queue of random images.
        suspects: The queue of label suspects.
        fixes: All fixes.

    Returns:
        `num_images` in the data set, of which `num_decided` are in the sample and `num_wrong` of these are wrong;
        `share` with its 95 % interval (Wilson) from `low` to `high`, None before the first decision; `num_skipped`
        images of the sample without a decision; `num_mended` wrong labels that people found in all queues; and
        `num_suspects_decided`, of which `num_suspects_wrong` were wrong.
    """
    latest = fixes.latest()
    places = {digest: random.places[digest] for digest in latest if digest in random.places}
    in_order = enumerate(sorted((place, digest) for digest, place in places.items()), start=1)
    ends = (place + 1 for num, (place, digest) in in_order if says(latest[digest], RANDOM) and 2 * num > place)
    num_seen = max(ends, default=0)
    decided = [latest[digest] for digest, place in places.items() if place < num_seen]
    num_wrong = sum(not says(fix, ACCEPTED) for fix in decided)
    share = num_wrong / len(decided) if decided else None
    low, high = wilson_interval(share, len(decided)) if share is not None else (None, None)
    mended = {digest for digest, fix in latest.items() if not says(fix, ACCEPTED) and not says(fix, UNLABELLED)}
    of_suspects = {digest for digest, fix in latest.items() if digest in suspects.places or says(fix, suspects.name)}
    return {
        "num_images": len(random.images),
        "num_decided": len(decided),
        "num_wrong": num_wrong,
        "num_skipped": num_seen - len(decided),
        "share": share,
        "low": low,
        "high": high,
        "num_mended": len(mended & random.places.keys()),
        "num_suspects_decided": len(of_suspects),
        "num_suspects_wrong": len(of_suspects & mended),
    }
