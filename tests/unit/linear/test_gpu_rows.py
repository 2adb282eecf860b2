"""Rows on a GPU, which is torch's CPU here: their sums and fits are those of NumPy, and how often they are copied."""

from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.special import softmax
from sklearn.linear_model import LogisticRegression
from torch.overrides import TorchFunctionMode

from headstart.artifacts.features import open_features
from headstart.linear import gpu_rows
from headstart.linear.design import DesignMatrices, DesignMatrix, Resources, rows_on_gpu, statistics_of_folds
from headstart.linear.folds import make_folds
from headstart.linear.gpu_rows import GpuPasses, GpuRows
from headstart.linear.layer_choice import LayerChooser, Layers
from headstart.linear.logistic import fit_logistic
from headstart.linear.model import LinearModel
from headstart.linear.on_gpu import OnGpu
from headstart.linear.passes import CpuPasses
from headstart.linear.selection import cross_validate_logistic, refit, ridge_fold_models
from headstart.linear.targets import Targets
from tests.support.head_data import (
    FOLDS,
    RESOURCES,
    DesignsOf,
    clusters,
    digests_of,
    equal_targets,
    standardisation,
    write_features,
)

GPU = Resources(num_threads=2, device="cpu:0")  # for torch the CPU, for the head a device that is not `cpu`
NUM, DIM, CLASSES = 90, 12, 3


@pytest.fixture
def pair(designs_of: DesignsOf) -> tuple[DesignMatrices, DesignMatrices]:
    """Return the design matrices of the same weighted rows, on the CPU and on the GPU."""
    x, classes = clusters(NUM, DIM, CLASSES)
    on_cpu = designs_of(x, Targets(classes, np.array([1.0, 0.5, 2.5])[classes], CLASSES))
    return on_cpu, DesignMatrices(on_cpu.rows, on_cpu.targets, FOLDS, GPU)


def masks() -> Iterator[NDArray[np.bool_]]:
    """Give masks of all rows, of rows that are spread over all folds, and of few rows."""
    yield np.ones(NUM, dtype=bool)
    yield np.random.default_rng(0).random(NUM) < 0.7
    yield np.arange(NUM) < 15


def as_array(sums: Any) -> NDArray[np.float64]:
    """Return all numbers of sums, float64."""
    values = sums if isinstance(sums, tuple) else vars(sums).values()
    return np.concatenate([np.ravel(value) for value in values])


@pytest.mark.parametrize("most_runs", [0, 32], ids=["gathered", "slices"])
def test_statistics_are_those_of_the_cpu(
    pair: tuple[DesignMatrices, DesignMatrices], monkeypatch: pytest.MonkeyPatch, most_runs: int
) -> None:
    """The statistics of each fold, of some columns and of any rows agree with those of NumPy in float64 to 1e-6."""
    monkeypatch.setattr("headstart.linear.gpu_rows._MOMENT_ROWS", 7)
    monkeypatch.setattr("headstart.linear.gpu_rows._MOST_RUNS", most_runs)
    on_cpu, on_gpu = pair
    rows, targets = on_cpu.rows, on_cpu.targets
    held = rows_on_gpu(rows, targets, GPU)
    exact = statistics_of_folds(rows, targets, FOLDS, RESOURCES, OnGpu())
    for of_fold, theirs in zip(statistics_of_folds(rows, targets, FOLDS, GPU, held), exact, strict=True):
        np.testing.assert_allclose(as_array(of_fold), as_array(theirs), rtol=1e-6, atol=1e-4)
    columns = np.array([1, 4, 7])
    mine = held.select(columns).compute(lambda rows: rows.statistics(on_cpu.rows.folds == 0))
    np.testing.assert_allclose(as_array(mine), as_array(exact[0].select(columns)), rtol=1e-6, atol=1e-4)
    for mask in masks():
        for one, other in zip(on_gpu.standardisation(mask), on_cpu.standardisation(mask), strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("exact", [False, True])
@pytest.mark.parametrize("most_runs", [0, 32], ids=["gathered", "slices"])
def test_passes_are_those_of_the_cpu(
    pair: tuple[DesignMatrices, DesignMatrices], monkeypatch: pytest.MonkeyPatch, exact: bool, most_runs: int
) -> None:
    """Loss, gradient and curvature of the rows of any fit agree with those of NumPy, whatever the size of a piece."""
    monkeypatch.setattr("headstart.linear.gpu_rows._MOST_RUNS", most_runs)
    on_cpu, _ = pair
    random, tolerance = np.random.default_rng(1), 1e-9 if exact else 1e-4
    rows = rows_on_gpu(on_cpu.rows, on_cpu.targets, GPU)
    for mask in (*masks(), on_cpu.without_fold(0), on_cpu.without_fold(1)):
        design, column = on_cpu.design(mask), np.arange(CLASSES)
        model = LinearModel(random.normal(size=(CLASSES, DIM)) / design.normal_equations.scale, random.normal(size=3))
        theirs = CpuPasses(design, on_cpu.targets, column, exact=exact, num_threads=1)
        for numbers in (2**24, 40):
            monkeypatch.setattr("headstart.linear.gpu_rows._PIECE_NUMBERS", numbers)

            def both(on_gpu: GpuRows, *, theirs: CpuPasses = theirs, model: LinearModel = model) -> bool:
                mine = GpuPasses(on_gpu, mask, column, exact=exact)  # noqa: B023 - called at once
                sums = as_array(theirs.loss_sums(model))
                limit = tolerance * np.abs(sums).max()
                np.testing.assert_allclose(as_array(mine.loss_sums(model)), sums, rtol=tolerance, atol=limit)
                curvature = as_array(theirs.curvature(model))
                np.testing.assert_allclose(as_array(mine.curvature(model)), curvature, rtol=1e-9, atol=1e-9)
                return True

            assert rows.compute(both)


@pytest.mark.parametrize(("num", "dim"), [(90, 12), (40, 100)], ids=["many rows", "few rows"])
@pytest.mark.parametrize("present", [2, 3])
def test_a_fit_is_that_of_scikit_learn(designs_of: DesignsOf, num: int, dim: int, present: int) -> None:
    """Probabilities agree with scikit-learn's to 1e-4, and with those of the CPU to 1e-6; a class may have no rows."""
    x, classes = clusters(num, dim, present)
    weights = np.linspace(0.5, 2, present)[classes]
    on_cpu = designs_of(x, Targets(classes, weights, CLASSES))
    designs = DesignMatrices(on_cpu.rows, on_cpu.targets, FOLDS, GPU)
    probabilities = []
    for each in (on_cpu, designs):
        mask = each.all_rows()
        design = each.design(mask)
        model = design.to_embedding_columns(fit(each, design, 0.1))
        probabilities.append(softmax(x.astype(np.float64) @ model.weight.T + model.bias, axis=1))
    mean, scale = standardisation(x.astype(np.float64), weights)
    oracle = LogisticRegression(C=0.1, max_iter=10_000, tol=1e-10).fit((x - mean) / scale, classes, weights)
    known = probabilities[1][:, :present] / probabilities[1][:, :present].sum(axis=1, keepdims=True)

    assert np.abs(probabilities[1] - probabilities[0]).max() < 1e-6
    assert np.abs(known - oracle.predict_proba((x - mean) / scale)).max() < 1e-4


def fit(designs: DesignMatrices, design: DesignMatrix, c: float, tol: float = 1e-7) -> LinearModel:
    """Fit logistic regression to the rows of a design matrix, from ridge regression."""
    start = design.normal_equations.solve(c)
    return fit_logistic(design, designs.targets, c, start, 1000, tol=tol, resources=designs.resources).model


def test_a_long_fit_makes_its_preconditioner_anew(designs_of: DesignsOf, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fit whose preconditioner is computed anew on the GPU ends where that of the CPU ends."""
    monkeypatch.setattr("headstart.linear.logistic._FIRST_ITERATIONS", 3)
    x, classes = clusters(NUM, DIM, CLASSES)
    on_cpu = designs_of(x, equal_targets(classes, CLASSES))
    on_gpu = DesignMatrices(on_cpu.rows, on_cpu.targets, FOLDS, GPU)
    theirs, mine = (fit(each, each.design(each.without_fold(0)), 1.0) for each in (on_cpu, on_gpu))

    np.testing.assert_allclose(mine.weight, theirs.weight, rtol=1e-4, atol=1e-7)


class Copies(TorchFunctionMode):
    """Counts copies to and from a device, and refuses all else that would wait for a GPU."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[str] = Counter()

    def __torch_function__(self, func: Any, _: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = getattr(func, "__name__", "")
        assert name not in {"item", "tolist", "__float__", "__int__", "__bool__", "nonzero"}, f"{name} waits"
        if name == "cpu" or (name == "to" and not isinstance(args[1], torch.dtype)):
            self.counts["down" if name == "cpu" else "up"] += 1
        return func(*args, **(kwargs or {}))


def test_a_pass_waits_twice(pair: tuple[DesignMatrices, DesignMatrices], monkeypatch: pytest.MonkeyPatch) -> None:
    """A pass of many pieces copies the model to the GPU once and the sums back once, statistics only the sums."""
    monkeypatch.setattr("headstart.linear.gpu_rows._PIECE_NUMBERS", 40)
    on_cpu, _ = pair
    model = LinearModel(np.ones((CLASSES, DIM)), np.ones(CLASSES))
    held, mask = rows_on_gpu(on_cpu.rows, on_cpu.targets, GPU), on_cpu.rows.folds == 1

    def count(rows: GpuRows) -> list[Counter[str]]:
        passes = rows.passes(on_cpu.without_fold(1), np.arange(CLASSES), exact=False)
        found = []
        for call in (
            partial(passes.loss_sums, model),
            partial(passes.curvature, model),
            partial(rows.statistics, mask),
        ):
            with Copies() as copies:
                call()
            found.append(copies.counts)
        return found

    assert held.compute(count) == [Counter(up=1, down=1), Counter(up=1, down=1), Counter(down=1)]


def fit_all(
    folder: Path, resources: Resources, layers: Layers
) -> tuple[tuple[str, ...], float, NDArray[np.floating[Any]]]:
    """Choose layers and a strength, and fit logistic regression. Return them, and the probabilities of all rows."""
    x, classes = clusters(150, 16, CLASSES)
    digests = digests_of(len(x))
    write_features(folder / "f.h5", digests, {"one": x[:, :7], "two": x[:, 7:]})
    with open_features(folder / "f.h5") as features:
        chooser = LayerChooser(
            features,
            digests,
            equal_targets(classes, CLASSES),
            make_folds([str(number) for number in classes], digests, FOLDS, 0, "head.folds"),
            c_grid=[0.001, 0.1, 10.0],
            max_bytes=0,
            resources_for=lambda _, __: resources,
        )
        choice = chooser.choose(layers, "head.layers")
        designs, c = choice.designs, choice.score.c
        assert c is not None
        validated = cross_validate_logistic(designs, c, ridge_fold_models(designs, c), 1000, 1e-7)
        model, _ = refit(designs, validated, 1000, 1e-7)
    columns = np.concatenate([{"one": x[:, :7], "two": x[:, 7:]}[layer] for layer in choice.layers], axis=1)
    return choice.layers, c, softmax(columns @ model.weight.T + model.bias, axis=1)


@pytest.mark.parametrize("layers", ["auto", ["two"]])
def test_rows_go_up_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, layers: Layers) -> None:
    """The search for layers, the fits without each fold and the fit of all rows use one copy of the rows.

    Second moments are summed once for each fold. Layers, strength and probabilities are those of the CPU.
    """
    calls: Counter[str] = Counter()

    def counted(name: str) -> Any:
        original = getattr(GpuRows, name)

        def call(*given: Any) -> Any:
            calls[name] += 1
            return original(*given)

        return call

    theirs = fit_all(tmp_path, RESOURCES, layers)
    for name in ("upload", "statistics"):
        monkeypatch.setattr(GpuRows, name, counted(name))
    mine = fit_all(tmp_path, GPU, layers)

    assert calls == Counter(upload=1, statistics=FOLDS)
    assert mine[:2] == theirs[:2]
    assert np.abs(mine[2] - theirs[2]).max() < 1e-4


@pytest.mark.parametrize("place", ["_empty", "GpuRows.statistics"])
@pytest.mark.parametrize("layers", ["auto", ["two"]])
def test_a_lack_of_memory_is_said_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], place: str, layers: Layers
) -> None:
    """If the search for layers finds that the memory is too small, the rest is computed on the CPU, with its bits."""

    def fail(*_: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(f"headstart.linear.gpu_rows.{place}", fail)
    mine, theirs = (fit_all(tmp_path, resources, layers) for resources in (GPU, RESOURCES))

    assert mine[:2] == theirs[:2]
    assert np.array_equal(mine[2], theirs[2])
    assert capsys.readouterr().out.count("continuing on the CPU") == 1


@pytest.mark.parametrize(
    "error", [torch.OutOfMemoryError("CUDA out of memory"), RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED")]
)
@pytest.mark.parametrize("place", ["_empty", "GpuPasses", "_Moments", "GpuPasses.loss_sums", "GpuRows.select"])
def test_without_memory_the_cpu_goes_on(
    designs_of: DesignsOf,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    error: RuntimeError,
    place: str,
) -> None:
    """Where the memory of the GPU is too small, one line says so, and the model has the bits of the CPU."""

    def fail(*_: Any, **__: Any) -> None:
        raise error

    x, classes = clusters(NUM, DIM, CLASSES)
    on_cpu = designs_of(x, equal_targets(classes, CLASSES))
    monkeypatch.setattr(f"headstart.linear.gpu_rows.{place}", fail)
    # A selection of all columns copies nothing.
    columns = np.arange(DIM - (place == "GpuRows.select"))
    held = rows_on_gpu(on_cpu.rows, on_cpu.targets, GPU).select(columns)
    statistics = statistics_of_folds(on_cpu.rows, on_cpu.targets, FOLDS, RESOURCES, OnGpu())
    on_gpu = DesignMatrices(on_cpu.rows, on_cpu.targets, FOLDS, GPU, statistics, on_gpu=held)
    models = [[fit(each, each.design(each.without_fold(fold)), 0.1) for fold in (0, 1)] for each in (on_cpu, on_gpu)]
    curves = [each.ridge(np.arange(NUM) % 3 > 0, 0.1) for each in (on_cpu, on_gpu)]
    failed_late = place == "_Moments"  # the fits were over by then

    for mine, theirs in zip(*models, strict=True):
        assert failed_late or np.array_equal(mine.weight, theirs.weight)
    assert np.array_equal(curves[0].weight, curves[1].weight)
    assert capsys.readouterr().out.count("continuing on the CPU\n") == 1


def test_rows_larger_than_the_free_memory_stay_on_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before rows are copied, the free memory is asked for, and a part of it is left for what is computed."""
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (2**30 + 10**6, 2**40))
    made: list[Any] = []
    monkeypatch.setattr(torch, "empty", lambda *given, **named: made.append((given, named)))
    gpu_rows._empty(1000, 250, torch.device("cuda:0"))
    with pytest.raises(torch.OutOfMemoryError, match="1001 x 250"):
        gpu_rows._empty(1001, 250, torch.device("cuda:0"))

    assert len(made) == 1


def test_other_errors_of_a_gpu_end_the_run() -> None:
    """An error that is no lack of memory is raised."""

    def fail(_: GpuRows) -> None:
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    rows = GpuRows(torch.empty(0), torch.empty(0), torch.empty(0), np.empty(0, int), equal_targets(np.empty(0, int), 1))
    with pytest.raises(RuntimeError, match="illegal memory access"):
        OnGpu(rows).compute(fail)
