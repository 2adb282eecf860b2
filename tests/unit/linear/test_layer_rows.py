"""The rows of a layer: their blocks, in memory and from the file."""

import weakref

import numpy as np
import pytest

from headstart.linear.logistic import fit_logistic
from tests.support.head_data import RESOURCES, DesignsOf, clusters, equal_targets

CHUNK_OF_20_ROWS = 12 * 4 * 20


@pytest.mark.parametrize("max_bytes", [0, 2**30], ids=["from the file", "in memory"])
def test_every_block_is_of_one_fold(designs_of: DesignsOf, monkeypatch: pytest.MonkeyPatch, max_bytes: int) -> None:
    """Every pass gives each row once, in blocks of one fold. `release` frees the memory, and passes still work."""
    monkeypatch.setattr("headstart.linear.layer_rows.CHUNK_BYTES", CHUNK_OF_20_ROWS)
    x, classes = clusters(90, 12, 3)
    rows = designs_of(x, equal_targets(classes, 3), max_bytes).rows
    for _ in range(2):
        for mask in (None, rows.folds != 1):
            blocks = list(rows.blocks(mask))
            positions = np.concatenate([block.positions for block in blocks])

            assert sorted(positions) == list(range(90) if mask is None else np.flatnonzero(mask))
            assert all(len(set(rows.folds[block.positions])) == 1 for block in blocks)
            assert all(np.array_equal(block.x, x[block.positions]) for block in blocks)
        first = weakref.ref(next(rows.blocks()).x)
        del blocks
        rows.release()

        assert first() is None
        rows.load()


def test_rows_from_the_file_give_the_bits_of_rows_in_memory(
    designs_of: DesignsOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A fit whose rows are read from the file in every pass, in many chunks, equals a fit on rows in memory exactly."""
    monkeypatch.setattr("headstart.linear.layer_rows.CHUNK_BYTES", CHUNK_OF_20_ROWS)
    x, classes = clusters(90, 12, 3)
    models = []
    for max_bytes in (0, 2**30):
        designs = designs_of(x, equal_targets(classes, 3), max_bytes)
        design = designs.design(designs.without_fold(0))
        start = design.normal_equations.solve(0.1)
        models.append(fit_logistic(design, designs.targets, 0.1, start, 100, tol=1e-7, resources=RESOURCES).model)

    assert np.array_equal(models[0].weight, models[1].weight)
    assert np.array_equal(models[0].bias, models[1].bias)


def test_a_few_rows_far_away_do_not_move_the_shift(designs_of: DesignsOf) -> None:
    """Shift and divisor protect columns far from zero; three rows with huge values hardly change them."""
    x, classes = clusters(90, 12, 3)
    clean = designs_of(x, equal_targets(classes, 3)).rows
    x[:3] = 1e30
    rows = designs_of(x, equal_targets(classes, 3)).rows
    is_far = clean.shift != 0

    assert is_far.any()
    assert not is_far.all()
    assert np.array_equal(rows.shift != 0, is_far)
    assert np.all(np.abs(rows.shift - clean.shift)[is_far] < clean.divisor[is_far])
    assert np.allclose(rows.divisor, clean.divisor, rtol=0.5)
