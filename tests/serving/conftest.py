"""A toy base, a bank, and a model that answers at once with what its adapter holds."""

import pathlib
import sys
import threading

import numpy as np
import pytest
from flax import traverse_util

from tfew_jax import checkpoint, experiment, serving
from tfew_jax.experiment import mixed

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "experiment"))
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))

import bank_of_tasks
import http_client


@pytest.fixture(scope="session")
def base(base_directory):
    return experiment.load_base(base_directory)


@pytest.fixture(scope="session")
def mark(base):
    """Makes an adapter that holds nothing but one number."""

    def make(number, task="films"):
        adapter = bank_of_tasks.make_adapter(base, 0, bank_of_tasks.TASKS[task])
        for path, leaf in traverse_util.flatten_dict(adapter.params).items():
            parent = adapter.params
            for part in path[:-1]:
                parent = parent[part]
            parent[path[-1]] = np.full_like(leaf, number)
        return adapter

    return make


@pytest.fixture(scope="session")
def marked(mark):
    """Three adapters, marked 2, 3 and 4, and a free slot."""
    adapters = {"a": mark(2), "b": mark(3, "yes"), "c": mark(4)}
    return checkpoint.Bank(adapters=adapters, capacity=4)


class QuickModel:
    """Stands in for the forward pass; the first score is the mark of the slot.

    Attributes:
        gate: No batch is answered while it is not set.
        entered: Set when a batch has come to the gate.
        sizes: Rows of the batches that were answered.
        bad: Inputs that make a batch fail, and those that get NaN.
    """

    def __init__(self):
        self.gate, self.entered = threading.Event(), threading.Event()
        self.gate.set()
        self.sizes, self.fails, self.is_nan = [], None, None

    def score(self, model, params, rows, index, shape):
        self.entered.set()
        assert self.gate.wait(60)
        assert len(rows) <= shape.rows
        self.sizes.append(len(rows))
        if any(self.fails == len(row.inputs) for row in rows):
            raise RuntimeError("no forward pass")
        flat = traverse_util.flatten_dict(params)
        leaf = next(leaf for path, leaf in flat.items() if "ia3" in "/".join(path))
        marks = np.asarray(leaf).reshape(-1, *leaf.shape[-2:])[0, :, 0]
        found = [
            np.array([marks[slot], *[0.0] * (len(row.targets) - 1)], np.float32)
            for row, slot in zip(rows, index, strict=True)
        ]
        for row, scores in zip(rows, found, strict=True):
            if self.is_nan == len(row.inputs):
                scores[0] = np.nan
        return found


@pytest.fixture
def quick(monkeypatch):
    model = QuickModel()
    monkeypatch.setattr(mixed, "score", model.score)
    yield model
    model.gate.set()  # so that no server waits for ever


@pytest.fixture
def server(base, marked, quick):
    with serving.Server(
        base, marked, max_batch_size=4, max_wait=0.0, max_queue=8, own_templates=False
    ) as server:
        yield server


@pytest.fixture
def start(server, quick):
    """Serves with these settings; all is stopped when the test ends."""
    from tfew_jax.serving import http_app, http_run  # the extra serve

    stops = []

    def begin(token=None, **settings):
        service = http_app.Service(server, token=token, **settings)
        running = http_run.running(service.app(), http_run.bind("127.0.0.1", 0))
        client = http_client.Client(running.__enter__(), token)
        stops.append(running)
        return client

    yield begin
    quick.gate.set()
    for running in stops:
        running.__exit__(None, None, None)


@pytest.fixture
def directory(marked, mark, tmp_path):
    for name, adapter in marked.items():
        adapter.save(tmp_path / "adapters" / name)
    mark(9).save(tmp_path / "adapters" / "new")
    mark(8).save(tmp_path / "outside")
    (tmp_path / "adapters" / "link").symlink_to(tmp_path / "outside")
    return tmp_path / "adapters"
