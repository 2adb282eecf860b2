"""What the head is made of, each against an oracle: scikit-learn, SciPy, torch, or doing it the long way."""

import gc
import weakref
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, softmax, stdtrit
from scipy.stats import binomtest
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.neighbors import NearestNeighbors

from headstart.artifacts.features import open_features
from headstart.base.errors import DataError, TrainingError
from headstart.linear import logistic
from headstart.linear.calibration import calibrate, log_losses
from headstart.linear.designs import Designs, Machine
from headstart.linear.folds import make_folds
from headstart.linear.gpu import GpuRows
from headstart.linear.logistic import fit_logistic
from headstart.linear.moments import Linear
from headstart.linear.rows import Block, Rows
from headstart.linear.selection import ridge_errors, strongest_tie
from headstart.linear.sums import Sums, sums_of
from headstart.linear.targets import Targets
from headstart.tables.intervals import wilson_interval
from stages.head.learning_curve import doubling_gain, learning_curve
from stages.head.neighbours import knn_accuracies, near_duplicates
from stages.head.params import SgdParams
from stages.head.sgd import Optimizer, fit_sgd
from tests.support.head_data import digests_of, write_features

FOLDS = 3
MACHINE = Machine(num_threads=2, device="cpu")


def clusters(num: int, dim: int, num_classes: int, seed: int = 0) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Return overlapping clusters with columns of many scales: one constant, one huge, one tiny, one nearly zero."""
    random = np.random.default_rng(seed)
    classes = random.permutation(np.arange(num) % num_classes)
    x = random.normal(size=(num_classes, dim))[classes] + random.normal(size=(num, dim))
    x = x * np.geomspace(0.1, 10, dim) + 3
    x[:, 0] = 7
    x[:, 1] = x[:, 1] * 1e3 + 1e6
    x[:, 2] *= 1e-6
    x[:, 3] = np.where(random.random(num) < 0.02, x[:, 3], 0)
    return x.astype(np.float32), classes


class DesignsOf:
    """Writes rows to features files, which stay open until the test ends, and makes designs of them."""

    def __init__(self, folder: Path, files: ExitStack) -> None:
        self._folder, self._files, self._num = folder, files, 0

    def __call__(
        self, x: NDArray[np.float32], targets: Targets, memory: int = 2**30, num_folds: int = FOLDS
    ) -> Designs:
        """Return the designs of some rows (N, dim)."""
        self._num += 1
        digests, path = digests_of(len(x)), self._folder / f"{self._num}.h5"
        write_features(path, digests, {"last": x})
        folds = make_folds([str(number) for number in targets.classes], digests, num_folds, 0, "head.folds")
        features = self._files.enter_context(open_features(path))
        return Designs(Rows(features, "last", digests, folds, memory), targets, num_folds, MACHINE)


@pytest.fixture
def designs_of(tmp_path: Path) -> Iterator[DesignsOf]:
    """Make designs of rows."""
    with ExitStack() as files:
        yield DesignsOf(tmp_path, files)


def standardised(x: NDArray[np.float64], weights: NDArray[np.float64]) -> tuple[Any, Any]:
    """Return mean and scale of columns, the long way."""
    mean = np.average(x, axis=0, weights=weights)
    variance = np.average((x - mean) ** 2, axis=0, weights=weights)
    variance[np.ptp(x, axis=0) == 0] = 0
    return mean, np.sqrt(variance + np.median(variance[variance > 0]))


@pytest.mark.parametrize(("num", "dim"), [(90, 12), (40, 100)], ids=["many rows", "few rows"])
@pytest.mark.parametrize("weighted", [False, True])
def test_the_scores_of_the_folds_equal_brute_force_refits(
    designs_of: DesignsOf, num: int, dim: int, weighted: bool
) -> None:
    """From moments alone, every fold and strength gets the error of scikit-learn's Ridge on standardised rows."""
    x, classes = clusters(num, dim, 3)
    weights = np.array([1.0, 0.5, 2.5])[classes] if weighted else np.ones(num)
    designs = designs_of(x, Targets(classes, weights, 3))
    strengths = [1e-4, 1e-2, 1.0, 100.0]
    errors, fits = ridge_errors(designs, strengths)
    one_hot, wide = np.eye(3)[classes], x.astype(np.float64)
    for fold in range(FOLDS):
        held = designs.rows.folds == fold
        mean, scale = standardised(wide[~held], weights[~held])
        for number, c in enumerate(strengths):
            oracle = Ridge(alpha=1 / c, solver="svd").fit((wide[~held] - mean) / scale, one_hot[~held], weights[~held])
            predicted = oracle.predict((wide[held] - mean) / scale)
            expected = np.average(((predicted - one_hot[held]) ** 2).sum(axis=1), weights=weights[held])
            fit = fits[fold][number]

            assert errors[fold, number] == pytest.approx(expected, rel=1e-8, abs=1e-8)
            assert np.allclose(wide[held] @ fit.weight.T + fit.bias, predicted, atol=1e-6)


@pytest.mark.parametrize("num_classes", [2, 3, 5])
@pytest.mark.parametrize(("num", "dim"), [(90, 12), (40, 100)], ids=["many rows", "few rows"])
@pytest.mark.parametrize("c", [0.01, 1.0])
@pytest.mark.slow
def test_the_logistic_solution_equals_scikit_learns(
    designs_of: DesignsOf, num: int, dim: int, num_classes: int, c: float
) -> None:
    """On standardised rows, weighted by class, probabilities agree to 1e-4, from whatever start."""
    x, classes = clusters(num, dim, num_classes)
    weights = np.linspace(0.5, 2, num_classes)[classes]
    designs = designs_of(x, Targets(classes, weights, num_classes))
    design = designs.without(None)
    mean, scale = standardised(x.astype(np.float64), weights)
    oracle = LogisticRegression(C=c, max_iter=10_000, tol=1e-10).fit((x - mean) / scale, classes, weights)
    near = design.ridge.fit(c)
    for start in (near, design.ridge.fit(100 * c), Linear(near.weight * 50, near.bias * 50)):
        done = fit_logistic(design, designs.targets, c, start, 1000, tol=1e-7, machine=MACHINE)
        fit = design.on_embeddings(done.fit)
        probabilities = softmax(x.astype(np.float64) @ fit.weight.T + fit.bias, axis=1)

        assert done.converged
        assert np.abs(probabilities - oracle.predict_proba((x - mean) / scale)).max() < 1e-4


@pytest.mark.parametrize("exact", [False, True])
def test_a_gpu_sums_what_the_cpu_sums(exact: bool) -> None:
    """The code for a GPU, run by torch on the CPU, gives the sums over the rows that NumPy gives."""
    random = np.random.default_rng(0)
    x, classes = random.normal(size=(50, 7)).astype(np.float32), random.integers(0, 4, 50)
    weights, on_rows = random.random(50), Linear(random.normal(size=(4, 7)), random.normal(size=4))
    block = Block(np.arange(50), x)
    mine = GpuRows(block, classes, weights, device="cpu", exact=exact).sums(on_rows)
    theirs = sums_of(x.astype(np.float64) if exact else x, classes, weights, on_rows)
    for one, other in zip(mine, theirs, strict=True):
        tolerance = 1e-12 if exact else 1e-4
        assert np.allclose(np.asarray(one, float), np.asarray(other, float), rtol=tolerance, atol=tolerance)


def test_a_fit_on_a_gpu_is_the_same(designs_of: DesignsOf, monkeypatch: pytest.MonkeyPatch) -> None:
    """Through the code for a GPU the solution is that of the CPU."""
    monkeypatch.setattr("headstart.linear.gpu.torch.Tensor.to", _to_cpu)
    x, classes = clusters(90, 12, 3)
    designs = designs_of(x, Targets(classes, np.ones(90), 3))
    design = designs.without(None)
    start = design.ridge.fit(0.1)
    mine, theirs = (
        fit_logistic(design, designs.targets, 0.1, start, 1000, tol=1e-7, machine=Machine(2, device)).fit
        for device in ("cuda:0", "cpu")
    )

    assert np.allclose(mine.weight, theirs.weight, rtol=1e-5, atol=1e-8)


def _to_cpu(tensor: torch.Tensor, *given: Any) -> torch.Tensor:
    dtypes = [one.dtype if isinstance(one, torch.Tensor) else one for one in given]
    return tensor.type(next((one for one in dtypes if isinstance(one, torch.dtype)), tensor.dtype))


def test_a_fit_that_does_not_converge_is_told(designs_of: DesignsOf) -> None:
    """Too few iterations are noticed, not passed over."""
    x, classes = clusters(90, 12, 3)
    designs = designs_of(x, Targets(classes, np.ones(90), 3))
    design = designs.without(None)

    assert not fit_logistic(design, designs.targets, 1.0, design.ridge.fit(1.0), 2, tol=1e-7, machine=MACHINE).converged


@pytest.mark.parametrize("present", [1, 2])
def test_a_class_without_rows_is_there_and_improbable(designs_of: DesignsOf, present: int) -> None:
    """It gets finite logits, and for no row more probability than 1 / (N + 1)."""
    x, classes = clusters(60, 12, present)
    designs = designs_of(x, Targets(classes, np.ones(60), 4))
    design = designs.without(None)
    fit = design.on_embeddings(
        fit_logistic(design, designs.targets, 1.0, design.ridge.fit(1.0), 1000, tol=1e-7, machine=MACHINE).fit
    )
    probabilities = softmax(x @ fit.weight.T + fit.bias, axis=1)

    assert np.isfinite(fit.weight).all()
    assert (probabilities[:, present:].mean(axis=0) > 0).all()
    assert (probabilities[:, present:] < 1.01 / 61).all()


def test_what_a_fold_holds_out_reaches_none_of_its_fits(designs_of: DesignsOf) -> None:
    """With the rows of a fold made into something else, the fits without it are the same."""
    x, classes = clusters(90, 12, 3)
    fits = []
    for _ in range(2):
        designs = designs_of(x, Targets(classes, np.ones(90), 3))
        design = designs.without(1)
        fits.append(
            [
                design.on_embeddings(design.ridge.fit(0.1)),
                design.on_embeddings(
                    fit_logistic(
                        design, designs.targets, 0.1, design.ridge.fit(0.1), 100, tol=1e-7, machine=MACHINE
                    ).fit
                ),
            ]
        )
        x = np.where((designs.rows.folds == 1)[:, None], np.float32(5), x)
    for one, other in zip(*fits, strict=True):
        assert np.allclose(one.weight, other.weight, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("hidden", [1, 2], ids=["held out", "inner validation"])
def test_sgd_trains_on_no_row_that_it_is_to_be_judged_by(designs_of: DesignsOf, hidden: int) -> None:
    """With the rows of the held-out fold, or of the inner validation, made into something else, the weights stay."""
    spec = SgdParams(optimizer="sgd", learning_rate=0.01, momentum=0.9, step_epochs=7, gamma=0.1, batch=16, epochs=1)
    x, classes = clusters(90, 12, 3)
    fits = []
    for _ in range(2):
        designs = designs_of(x, Targets(classes, np.ones(90), 3))
        fits.append(fit_sgd(designs.rows, designs.targets, 1, spec, 0))
        x = np.where((designs.rows.folds == hidden)[:, None], np.float32(5), x)

    assert np.allclose(fits[0].weight, fits[1].weight, rtol=1e-6, atol=1e-9)
    assert np.ptp(fits[0].weight) > 0


def test_the_length_of_the_start_costs_no_passes(designs_of: DesignsOf, monkeypatch: pytest.MonkeyPatch) -> None:
    """Starts that differ by a factor alone need the same number of passes through the rows."""
    x, classes = clusters(300, 12, 5)
    designs = designs_of(x, Targets(classes, np.ones(300), 5))
    design = designs.without(None)
    passes: list[Sums] = []

    def counted(*given: Any) -> Sums:
        passes.append(sums_of(*given))
        return passes[-1]

    monkeypatch.setattr(logistic, "sums_of", counted)
    start, counts = design.ridge.fit(0.1), []
    for factor in (1.0, 30.0):
        longer = Linear(start.weight * factor, start.bias * factor)
        fit_logistic(design, designs.targets, 0.1, longer, 1000, tol=1e-2, machine=MACHINE)
        counts.append(len(passes))

    assert counts[1] == 2 * counts[0]


def test_a_fit_leaves_no_matrices_behind(designs_of: DesignsOf, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a fit worked with goes when it ends, not when Python next looks for cycles: many fits, one fit's memory."""
    problems: list[weakref.ref[Any]] = []

    class Watched(logistic._Problem):
        def __init__(self, *given: Any, **named: Any) -> None:
            super().__init__(*given, **named)
            problems.append(weakref.ref(self))

    monkeypatch.setattr(logistic, "_Problem", Watched)
    x, classes = clusters(90, 12, 3)
    designs = designs_of(x, Targets(classes, np.ones(90), 3))
    design = designs.without(None)
    gc.disable()
    try:
        fit_logistic(design, designs.targets, 0.1, design.ridge.fit(0.1), 100, tol=1e-7, machine=MACHINE)

        assert [problem() for problem in problems] == [None]
    finally:
        gc.enable()


@pytest.mark.parametrize("memory", [0, 2**30], ids=["read again", "kept"])
def test_every_block_is_of_one_fold(designs_of: DesignsOf, monkeypatch: pytest.MonkeyPatch, memory: int) -> None:
    """In any number of passes, and after the memory was given back, each row is there once, among rows of its fold."""
    monkeypatch.setattr("headstart.linear.rows.STRETCH_BYTES", 12 * 4 * 20)
    x, classes = clusters(90, 12, 3)
    rows = designs_of(x, Targets(classes, np.ones(90), 3), memory).rows
    for _ in range(2):
        for chosen in (None, rows.folds != 1):
            blocks = list(rows.blocks(chosen))
            positions = np.concatenate([block.positions for block in blocks])

            assert sorted(positions) == list(range(90) if chosen is None else np.flatnonzero(chosen))
            assert all(len(set(rows.folds[block.positions])) == 1 for block in blocks)
            assert all(np.array_equal(block.x, x[block.positions]) for block in blocks)
        first = weakref.ref(next(rows.blocks()).x)
        del blocks
        rows.forget()

        assert first() is None
        rows.keep()


def test_rows_beyond_the_memory_give_the_same(designs_of: DesignsOf, monkeypatch: pytest.MonkeyPatch) -> None:
    """Read again from the file for every pass, in many pieces, the rows give the bits that they give from memory."""
    monkeypatch.setattr("headstart.linear.rows.STRETCH_BYTES", 12 * 4 * 20)
    x, classes = clusters(90, 12, 3)
    fits = []
    for memory in (0, 2**30):
        designs = designs_of(x, Targets(classes, np.ones(90), 3), memory)
        design = designs.without(0)
        start = design.ridge.fit(0.1)
        fits.append(fit_logistic(design, designs.targets, 0.1, start, 100, tol=1e-7, machine=MACHINE).fit)

    assert np.array_equal(fits[0].weight, fits[1].weight)
    assert np.array_equal(fits[0].bias, fits[1].bias)


@pytest.mark.parametrize("offset", [0, 90])
def test_many_rows_in_float32_give_nearly_the_same(
    offset: float, designs_of: DesignsOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where rows are so many that they are multiplied in float32, the folds' errors agree, also far from zero."""
    x, classes = clusters(90, 12, 3)
    x = x[:, 3:] / x[:, 3:].std(axis=0) + np.float32(offset)
    targets = Targets(classes, np.ones(90), 3)
    strengths = [0.01, 1.0, 1e4]
    exact, _ = ridge_errors(designs_of(x, targets), strengths)
    monkeypatch.setattr("headstart.linear.designs._MANY", 0)
    designs = designs_of(x, targets)
    nearly, _ = ridge_errors(designs, strengths)

    assert designs.dtype == np.float32
    assert np.allclose(exact, nearly, rtol=2e-6)
    assert not np.array_equal(exact, nearly)


def test_too_weak_a_regularisation_for_float32_is_told(designs_of: DesignsOf, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where rounding hides the columns' variance, an error names the settings in place of a stack trace."""
    monkeypatch.setattr("headstart.linear.designs._MANY", 0)
    x, classes = clusters(90, 4, 3)
    monkeypatch.setattr("headstart.linear.rows._FAR", 1e9)
    designs = designs_of(x + np.float32(5000), Targets(classes, np.ones(90), 3))

    with pytest.raises(TrainingError, match=r"strength c 1e\+09 .*smaller c \(head\.c"):
        designs.without(0).ridge.fit(1e9)


@given(st.integers(0, 1000), st.integers(2, 6), st.integers(2, 5))
def test_folds_share_every_class_evenly(seed: int, num_classes: int, num_folds: int) -> None:
    """Without groups no two folds differ by more than one row of any class, whatever the classes are called."""
    random = np.random.default_rng(seed)
    labels = random.integers(0, num_classes, 80).astype(str).tolist()
    groups = [str(number) for number in range(80)]
    folds = make_folds(labels, groups, num_folds, seed, "head.folds")
    for label in set(labels):
        counts = [sum(1 for one, fold in zip(labels, folds, strict=True) if one == label and fold == number)
                  for number in range(num_folds)]  # fmt: skip
        assert max(counts) - min(counts) <= 1
    renamed = [f"class {9 - int(label)}" for label in labels]
    assert make_folds(renamed, groups, num_folds, seed, "head.folds").tolist() == folds.tolist()


@given(st.integers(0, 1000))
def test_groups_stay_whole(seed: int) -> None:
    """All images of a group are held out together, and no fold is without rows."""
    random = np.random.default_rng(seed)
    groups = random.integers(0, 25, 90).astype(str).tolist()
    labels = random.integers(0, 3, 90).astype(str).tolist()
    folds = make_folds(labels, groups, FOLDS, seed, "head.folds")

    assert all(len({fold for group, fold in zip(groups, folds, strict=True) if group == one}) == 1 for one in groups)
    assert set(folds) == set(range(FOLDS))


def test_too_few_groups_for_the_folds_are_refused() -> None:
    """The message says what was asked for and what there is."""
    with pytest.raises(DataError, match=r"head\.folds: found 3, but no class has more than 2 training images"):
        make_folds(["a", "a", "a", "b"], ["1", "1", "2", "3"], 3, 0, "head.folds")


@given(st.floats(0.05, 20), st.integers(0, 100))
def test_the_temperature_is_the_best_one(scale: float, seed: int) -> None:
    """It is what a plain search finds, and logits twice as large get one twice as large."""
    random = np.random.default_rng(seed)
    classes = random.integers(0, 4, 200)
    logits = (np.eye(4)[classes] * 2 + random.normal(size=(200, 4)) * 2) * scale

    def loss(log_temperature: float) -> float:
        losses = -log_softmax(logits / np.exp(log_temperature), axis=1)
        return float((201 / 202 * losses[np.arange(200), classes] + losses.mean(axis=1) / 202).mean())

    found = calibrate(logits, classes)
    best = minimize_scalar(loss, bounds=(-7, 7), method="bounded", options={"xatol": 1e-9})

    assert found == pytest.approx(np.exp(best.x), rel=1e-3)
    assert calibrate(2 * logits, classes) == pytest.approx(2 * found, rel=1e-4)
    assert loss(np.log(found)) == pytest.approx(best.fun, abs=1e-7)


def test_rows_that_are_all_right_make_no_certainties() -> None:
    """Where every row is right, probabilities stay as far from one as so many rows can tell."""
    classes = np.arange(30) % 3
    probabilities = softmax(np.eye(3)[classes] / calibrate(np.eye(3)[classes], classes), axis=1)

    assert probabilities.max() == pytest.approx(1 - 2 / 3 / 32, abs=1e-6)
    assert log_losses(np.eye(3)[classes], classes, 1.0).mean() == pytest.approx(-log_softmax([1, 0, 0])[0])


def test_ties_go_to_the_stronger_regularisation() -> None:
    """The strongest strength within one standard error of the best, by the folds' paired differences, is taken."""
    noise = np.array([0.0, 0.3, -0.2, 0.1, -0.1])[:, None]  # of the folds, the same for every strength
    clear = np.array([[0.5, 0.2, 0.1, 0.2]]) + noise
    wobble = np.array([[0.0, 0.001], [0.0, -0.002], [0.0, 0.002], [0.0, -0.001], [0.0, -0.0005]])

    assert strongest_tie(clear) == 2
    assert strongest_tie(np.concatenate([clear[:, :1], clear[:, 2:3] + wobble], axis=1)) == 1
    assert strongest_tie(np.zeros((5, 3))) == 0


@pytest.mark.parametrize("optimizer", ["sgd", "rmsprop"])
def test_the_optimizers_are_torchs(optimizer: str) -> None:
    """Twenty steps with momentum end where torch.optim ends."""
    params = SgdParams.model_validate(
        {"optimizer": optimizer, "learning_rate": 0.1, "momentum": 0.9, "step_epochs": 1, "gamma": 1.0, "epochs": 1,
         "batch": 1}
    )  # fmt: skip
    start = np.random.default_rng(0).normal(size=(3, 4))
    mine = Optimizer(params, start.copy())
    values = torch.nn.Parameter(torch.tensor(start))
    kind = torch.optim.SGD if optimizer == "sgd" else torch.optim.RMSprop
    theirs = kind([values], lr=0.1, momentum=0.9)
    for _ in range(20):
        mine.step(mine.values**3 - 1, 0.1)
        values.grad = values.detach() ** 3 - 1
        theirs.step()

    assert np.allclose(mine.values, values.detach().numpy(), rtol=1e-10)


def test_neighbours_are_those_of_scikit_learn(designs_of: DesignsOf) -> None:
    """With one neighbour, a row gets the class of the most similar row of the other folds."""
    x, classes = clusters(90, 12, 3)
    designs = designs_of(x, Targets(classes, np.ones(90), 3))
    folds, right = designs.rows.folds, 0
    for fold in range(FOLDS):
        search = NearestNeighbors(n_neighbors=1, metric="cosine").fit(x[folds != fold])
        nearest = search.kneighbors(x[folds == fold], return_distance=False)[:, 0]
        right += int((classes[folds != fold][nearest] == classes[folds == fold]).sum())
    accuracies = knn_accuracies(designs, seed=0)

    assert accuracies[1] == pytest.approx(right / 90)
    assert list(accuracies) == [1, 5, 20]


def test_near_duplicates_are_found_across_splits(designs_of: DesignsOf) -> None:
    """A test row that is a training row times 1.001 is listed with that row, and other test rows are not listed."""
    x, classes = clusters(90, 12, 3)
    x[:, 1] = 0  # the huge column would make all of them alike
    designs = designs_of(x, Targets(classes, np.ones(90), 3))
    random = np.random.default_rng(1)
    other = random.normal(size=(2, 12)).astype(np.float32)
    test = np.concatenate([other, x[17:18] * np.float32(1.001)])
    (pair,) = near_duplicates([(["p", "q", "r"], test)], designs.rows, digests_of(90), 0.9999, num_threads=2)

    assert (pair.test, pair.training) == ("r", digests_of(90)[17])
    assert pair.similarity == pytest.approx(1, abs=1e-5)


def test_the_learning_curve_rises_with_its_sizes(designs_of: DesignsOf) -> None:
    """The curve has at least six sizes, up to all training rows. Each is scored on held-out rows, with an interval."""
    random = np.random.default_rng(0)
    classes = np.arange(300) % 3
    x = (np.eye(3)[classes] @ random.normal(size=(3, 12)) + random.normal(size=(300, 12)) * 0.8).astype(np.float32)
    designs = designs_of(x, Targets(classes, np.ones(300), 3), num_folds=5)
    whole = learning_curve(designs, 0.1, seed=0)
    curve = whole.points
    guesses = Targets(random.permutation(classes), np.ones(300), 3)
    noise = learning_curve(designs_of(x, guesses, num_folds=5), 0.1, seed=0).points

    assert len(curve) >= 6
    assert curve[-1].num_images == 240
    assert curve[0].accuracy < curve[-1].accuracy
    assert all(0 <= point.accuracy_low <= point.accuracy <= point.accuracy_high <= 1 for point in curve)
    assert whole.doubling_gain_low < whole.doubling_gain < whole.doubling_gain_high
    assert noise[-1].accuracy == pytest.approx(1 / 3, abs=0.12)


@given(st.floats(0.1, 0.6), st.floats(0.05, 1.5))
def test_the_gain_of_doubling_follows_the_curves_power_law(error: float, power: float) -> None:
    """If the errors are exactly a power of the number of images, the gain is what this law gives for twice as many."""
    sizes = [20, 40, 80, 160, 320, 640]
    errors = error * (np.array(sizes) / 20) ** -power
    gain, margin = doubling_gain(sizes, np.tile(1 - errors, (5, 1)), num_images=10**9)
    at_all = errors[-1] * (10**9 / 640) ** -power

    assert gain == pytest.approx(at_all * (1 - 2**-power), rel=1e-6)
    assert margin == pytest.approx(0, abs=1e-9)


def test_the_interval_of_the_gain_holds_the_truth_so_often_as_it_says() -> None:
    """On curves with noisy folds, 95 % intervals by the standard error hold the truth in about 95 % of the draws."""
    sizes, random = [20, 40, 80, 160], np.random.default_rng(0)
    accuracies = 1 - 0.4 * (np.array(sizes) / 20) ** -0.4
    truth, _ = doubling_gain(sizes, np.tile(accuracies, (5, 1)), num_images=200)
    drawn = [doubling_gain(sizes, accuracies + random.normal(0, 0.02, (5, 4)), num_images=200) for _ in range(400)]
    gains, errors = np.array(drawn).T

    assert np.mean(np.abs(gains - truth) < stdtrit(4, 0.975) * errors) == pytest.approx(0.95, abs=0.03)


def test_images_that_are_all_right_are_no_proof_that_more_would_not_help(designs_of: DesignsOf) -> None:
    """If all of a few images are right, the upper end of the gain is the error that the accuracy's interval allows."""
    classes = np.arange(24) % 3
    designs = designs_of((np.eye(3)[classes] * 9).astype(np.float32), Targets(classes, np.ones(24), 3))
    curve = learning_curve(designs, 1.0, seed=0)

    assert curve.points[-1].accuracy == 1
    assert curve.doubling_gain == pytest.approx(0, abs=0.02)
    assert curve.doubling_gain_low == 0
    assert curve.doubling_gain_high == pytest.approx(1 - wilson_interval(1.0, 24)[0])


def test_a_curve_that_falls_promises_no_loss() -> None:
    """If noise makes more images look worse, the gain is zero."""
    assert doubling_gain([10, 20, 40], np.tile([0.9, 0.8, 0.7], (5, 1)), num_images=50) == (0, 0)


def test_a_curve_that_cannot_rise_promises_nothing() -> None:
    """A curve without any error, or with a single size, gives no gain."""
    assert np.allclose(doubling_gain([20, 40, 80, 160], np.ones((5, 4)), num_images=100), 0)
    assert doubling_gain([3], np.full((5, 1), 0.5), num_images=100) == (0, 0)


@given(st.integers(0, 50), st.integers(50, 90))
def test_intervals_are_wilsons(hits: int, num: int) -> None:
    """They equal SciPy's."""
    expected = binomtest(hits, num).proportion_ci(0.95, method="wilson")

    assert wilson_interval(hits / num, num) == pytest.approx((expected.low, expected.high), abs=1e-9)


def test_a_fit_is_the_same_map_in_all_columns(designs_of: DesignsOf) -> None:
    """What was fitted on projected columns gives the same logits on embeddings, and goes back to the same weights."""
    x, classes = clusters(40, 100, 3)
    design = designs_of(x, Targets(classes, np.ones(40), 3)).without(0)
    fit = design.ridge.fit(0.1)
    back = design.from_embeddings(design.on_embeddings(fit))

    assert design.basis is not None
    assert fit.weight.shape[1] < 40
    assert np.allclose(back.weight, fit.weight, rtol=1e-6, atol=1e-9)
    assert np.allclose(back.bias, fit.bias)
    assert isinstance(fit, Linear)
    assert Counter(classes.tolist()) == {0: 14, 1: 13, 2: 13}
