"""The server that Python uses: batches of any mix, adapters that come and go."""

import concurrent.futures
import random
import threading

import bank_of_tasks
import numpy as np
import pytest
from one_line import message_of

import tfew_jax
from tfew_jax import evaluate, experiment, serving
from tfew_jax.experiment import mixed, row_tasks
from tfew_jax.serving import programs

ROW = {"text": "great plot"}


@pytest.fixture
def server(base, marked, quick):
    with tfew_jax.Server(
        base, marked, max_batch_size=4, max_wait=0.0, max_queue=8
    ) as server:
        yield server


def hold(server, quick):
    """Closes the gate behind a first row, so that all others wait in the queue."""
    quick.gate.clear()
    quick.entered.clear()
    future = server.submit(ROW, "a")
    assert quick.entered.wait(60)
    return future


def marks(futures):
    return [future.result(60).scores[0] for future in futures]


def test_a_mix_is_answered_as_each_adapter_alone_and_compiles_once(base):
    names = ["films", "yes", "yes", "films"]
    bank = bank_of_tasks.make_bank(base, names=("films", "yes"), capacity=3)
    rows = [bank_of_tasks.make_row(name, 3 * n) for n, name in enumerate(names)]
    alone = [
        experiment.predict(base, bank[name], [row])[0].scores[0]
        for name, row in zip(names[:2], rows[:2], strict=True)
    ]
    other = bank_of_tasks.make_adapter(base, 9, bank_of_tasks.TASKS["films"])
    with serving.Server(base, bank, max_batch_size=4, max_wait=60.0) as server:
        found = server.predict(rows, names)  # a full batch waits for nobody
        num_programs = evaluate._scores._cache_size()
        server.replace_adapter("films", other)
        server.remove_adapter("yes")
        server.add_adapter("no", bank["yes"])
        again = server.predict(rows, ["no" if n == "yes" else n for n in names])
        assert evaluate._scores._cache_size() == num_programs
        assert server.metrics()["compilations"] == 1
    for number, expected in enumerate(alone):
        assert found[number].scores[0] == pytest.approx(expected, rel=1e-5)
    np.testing.assert_allclose(again[1].scores, found[1].scores, rtol=1e-5)
    assert again[0].scores != found[0].scores
    assert [p.adapter for p in again] == ["films", "no", "no", "films"]
    assert [p.row for p in again] == [0, 1, 2, 3]


def test_rows_that_wait_become_batches_whatever_their_adapters(server, quick):
    first = hold(server, quick)
    futures = [server.submit(ROW, name) for name in ("b", "c", None, "a", "b")[:2]]
    futures += server.submit_rows([ROW] * 3, ["c", "a", "b"])
    quick.gate.set()
    assert marks([first, *futures]) == [2, 3, 4, 4, 2, 3]
    assert quick.sizes == [1, 4, 1]
    metrics = server.metrics()
    assert (metrics["accepted"], metrics["completed"], metrics["batches"]) == (6, 6, 3)
    assert metrics["adapters"] == {"a": 2, "b": 2, "c": 2}
    assert metrics["batch_rows"]["number"] == 3 and metrics["batch_rows"]["sum"] == 6
    assert metrics["latency_seconds"]["number"] == 6


def test_a_row_of_many_choices_is_scored_apart(server, quick):
    first = hold(server, quick)
    choices = " ||| ".join(f"no {number}" for number in range(40))
    large = {"text": "great", "template": "{{text}}", "choices": choices}
    futures = server.submit_rows([ROW, large, ROW, ROW], ["b", None, "c", "a"])
    quick.gate.set()
    assert marks([first, *futures]) == [2, 3, 1, 4, 2]
    assert quick.sizes == [1, 3, 1]


def test_a_batch_waits_for_others_until_it_is_full(base, marked, quick):
    with serving.Server(base, marked, max_batch_size=3, max_wait=60.0) as server:
        futures = [server.submit(ROW, name) for name in "abc"]
        assert marks(futures) == [2, 3, 4]
    assert quick.sizes == [3]


def test_the_frozen_model_brings_its_template_where_that_is_allowed(
    base, marked, quick, server
):
    own = {**ROW, "template": "{{text}}?", "choices": "yes ||| no"}
    assert server.predict([own], [None])[0].adapter == "__base__"
    assert server.predict([own])[0].scores[0] == 1.0
    with serving.Server(base, marked, own_templates=False) as strict:
        with pytest.raises(ValueError, match="rows may not bring theirs"):
            strict.submit(own)


def test_a_full_queue_refuses_all_rows_of_a_request(server, quick):
    first = hold(server, quick)
    futures = server.submit_rows([ROW] * 6, "b")
    with pytest.raises(serving.Busy, match="3 rows do not fit: 6 wait already, and 8"):
        server.submit_rows([ROW] * 3, "b")
    futures += server.submit_rows([ROW] * 2, "c")
    assert server.metrics()["queue_rows"] == 8
    quick.gate.set()
    assert marks([first, *futures]) == [2, *[3] * 6, 4, 4]
    metrics = server.metrics()
    assert (metrics["rejected"], metrics["queue_rows"]) == (3, 0)


def test_rows_that_may_never_fit_are_not_told_to_come_again(server):
    message = message_of(server.submit_rows, [ROW] * 9, "b", error=serving.TooManyRows)
    assert message.startswith("9 rows in one request, but no more than 8 may wait")
    assert server.metrics()["rejected"] == 0
    assert len(server.predict([ROW] * 8, "b")) == 8


@pytest.mark.parametrize("timeout", [0.0, -1.0, float("inf"), float("nan")])
def test_a_timeout_of_a_request_is_checked_as_that_of_the_server(server, timeout):
    expected = f"timeout={timeout}; expected seconds, more than 0"
    assert expected in message_of(server.submit, ROW, "a", timeout=timeout)
    assert expected in message_of(server.predict, [ROW], "a", timeout=timeout)
    assert server.metrics()["accepted"] == 0


def test_a_row_that_cannot_be_rendered_fails_alone(server, quick):
    first = hold(server, quick)
    other = server.submit(ROW, "b")
    with pytest.raises(ValueError, match="column 'text' is missing"):
        server.submit({"texts": "x"}, "b")
    with pytest.raises(serving.UnknownAdapter, match="row 1: unknown adapter 'z'; kno"):
        server.submit_rows([ROW, ROW], ["a", "z"])
    with pytest.raises(ValueError, match="1 names of adapters for 2 rows"):
        server.submit_rows([ROW, ROW], ["a"])
    with pytest.raises(ValueError, match="there are no rows"):
        server.submit_rows([], "a")
    quick.gate.set()
    assert marks([first, other]) == [2, 3]
    assert server.metrics()["accepted"] == 2


def test_a_row_that_the_model_cannot_score_fails_alone(server, quick):
    first = hold(server, quick)
    good, bad = {"text": "great"}, {"text": "great great great great"}
    futures = [server.submit(row, "a") for row in (good, bad, good, good)]
    quick.fails = max(len(f) for f in _inputs(server, [good, bad]))
    quick.gate.set()
    assert first.result(60).scores[0] == 2
    with pytest.raises(RuntimeError, match="no forward pass"):
        futures[1].result(60)
    assert marks([futures[0], *futures[2:]]) == [2, 2, 2]
    assert server.metrics()["failed"] == 1


def _inputs(server, rows):
    tasks = server._snapshot.tasks
    return [tasks.spell(row, adapter="a", place="").inputs for row in rows]


def test_scores_that_are_nan_fail_one_row(server, quick):
    first = hold(server, quick)
    good, bad = {"text": "great"}, {"text": "great great great great"}
    futures = [server.submit(row, "a") for row in (good, bad)]
    quick.is_nan = max(len(f) for f in _inputs(server, [good, bad]))
    quick.gate.set()
    first.result(60)
    assert futures[0].result(60).scores[0] == 2
    with pytest.raises(ValueError, match="the scores of adapter a hold NaN"):
        futures[1].result(60)


def test_cancelled_and_late_rows_are_not_computed(server, quick):
    first = hold(server, quick)
    cancelled = server.submit(ROW, "a")
    late = server.submit(ROW, "a", timeout=1e-9)
    last = server.submit(ROW, "b")
    assert cancelled.cancel()
    quick.gate.set()
    assert marks([first, last]) == [2, 3]
    with pytest.raises(TimeoutError, match="waited in the queue"):
        late.result(60)
    assert quick.sizes == [1, 1]
    metrics = server.metrics()
    assert (metrics["cancelled"], metrics["timed_out"]) == (1, 1)


def test_who_waits_for_too_long_gets_a_timeout_and_leaves_no_row(server, quick):
    first = hold(server, quick)
    with pytest.raises(TimeoutError):
        server.predict([ROW] * 2, "b", timeout=0.01)
    quick.gate.set()
    assert first.result(60).scores[0] == 2
    server.close()
    assert quick.sizes == [1]


def test_rows_are_answered_by_the_adapter_they_were_accepted_with(server, quick, mark):
    first = hold(server, quick)
    early = [server.submit(ROW, name) for name in "abc"]
    server.replace_adapter("a", mark(7))
    server.remove_adapter("b")
    server.rename_adapter("c", "d")
    server.add_adapter("b2", mark(8))
    server.remove_adapter("b2")
    late = [server.submit(ROW, name) for name in "ad"]
    with pytest.raises(serving.UnknownAdapter, match="unknown adapter 'b'; known: __b"):
        server.submit(ROW, "b")
    quick.gate.set()
    assert marks([first, *early, *late]) == [2, 2, 3, 4, 7, 4]
    assert server.bank.names == ("a", "d")
    assert server.metrics()["swaps"] == 5


def test_changes_that_cannot_be_leave_the_bank_as_it_is(server, base, mark, tmp_path):
    other = mark(2)
    del other.params["decoder"]
    bank = server.bank
    with pytest.raises(ValueError, match="has an adapter 'a'; remove it first"):
        server.add_adapter("a", mark(5))
    with pytest.raises(ValueError, match="adapter d"):
        server.add_adapter("d", other)
    with pytest.raises(ValueError, match="nowhere"):
        server.add_adapter("d", tmp_path / "nowhere")
    with pytest.raises(ValueError, match="has an adapter 'b' already"):
        server.rename_adapter("a", "b")
    for change in (server.remove_adapter, lambda n: server.rename_adapter(n, "x")):
        with pytest.raises(serving.UnknownAdapter, match="unknown adapter 'z'"):
            change("z")
    with pytest.raises(serving.UnknownAdapter, match="unknown adapter 'z'"):
        server.replace_adapter("z", mark(5))
    assert server.bank is bank
    server.remove_adapter("b")
    server.remove_adapter("a")
    with pytest.raises(ValueError, match="c is the last adapter"):
        server.remove_adapter("c")
    assert server.put_adapter("n", mark(6)) and not server.put_adapter("n", mark(7))
    assert marks([server.submit(ROW, "n")]) == [7]


def test_closing_answers_what_was_accepted(server, quick):
    futures = [hold(server, quick), *server.submit_rows([ROW] * 5, "b")]
    closing = threading.Thread(target=server.close)
    closing.start()
    quick.gate.set()
    closing.join()
    assert marks(futures) == [2, *[3] * 5]
    server.close()
    with pytest.raises(serving.Closed, match="takes no more requests"):
        server.submit(ROW, "a")
    with pytest.raises(serving.Closed, match="its adapters stay as they are"):
        server.remove_adapter("a")
    assert server.closed and server.metrics()["rejected"] == 1


def test_closing_without_draining_cancels_what_waits(server, quick):
    first = hold(server, quick)
    waiting = server.submit_rows([ROW] * 2, "b")
    errors = []

    def predict():
        try:
            server.predict([ROW], "c")
        except serving.Closed as error:
            errors.append(error)

    blocked = threading.Thread(target=predict)
    blocked.start()
    while server.metrics()["queue_rows"] < 3:
        pass
    closing = threading.Thread(target=server.close, kwargs={"drain": False})
    closing.start()
    blocked.join()
    quick.gate.set()
    closing.join()
    assert first.result(60).scores[0] == 2  # was at work
    for future in waiting:
        with pytest.raises(concurrent.futures.CancelledError):
            future.result(60)
    assert len(errors) == 1
    assert server.metrics()["cancelled"] == 3


def test_who_waits_for_several_rows_hears_that_they_were_dropped(base, marked, quick):
    with pytest.raises(ZeroDivisionError):
        with serving.Server(base, marked, max_batch_size=1, max_wait=0.0) as server:
            first = hold(server, quick)
            waiting = server.submit_rows([ROW] * 2, "b")
            opening = threading.Timer(0.2, quick.gate.set)
            opening.start()
            raise ZeroDivisionError
    done, not_done = concurrent.futures.wait([first, *waiting], timeout=10)
    assert len(done) == 3 and not not_done
    assert [future.cancelled() for future in (first, *waiting)] == [False, True, True]


def test_closing_ends_the_warm_up(server, quick):
    quick.gate.clear()
    counts = []
    warming = threading.Thread(
        target=lambda: counts.append(server.warm_up([16, 32, 64]))
    )
    warming.start()
    assert quick.entered.wait(60)
    server.close()
    quick.gate.set()
    warming.join()
    assert counts == [1]  # the one at work


def test_many_threads_get_the_answers_of_their_own_rows(base, marked, quick, mark):
    """Marks of b change all the time; those of the others never."""
    versions = [mark(number) for number in (10, 11, 12)]
    expected = {"a": {2}, "c": {4}, "b": {3, 10, 11, 12}}
    wrong, answered = [], []

    def ask(seed):
        generator = random.Random(seed)
        for number in range(40):
            names = generator.choices("abc", k=generator.randint(1, 3))
            texts = [f"{'great ' * generator.randint(1, 4)}{number}" for _ in names]
            try:
                found = server.predict([{"text": text} for text in texts], names)
            except serving.Busy:
                continue
            answered.append(len(names))
            for name, row in zip(names, found, strict=True):
                if row.scores[0] not in expected[name] or row.adapter != name:
                    wrong.append((name, row))

    def swap():
        for number in range(30):
            server.replace_adapter("b", versions[number % 3])
            if server.predict([ROW], "b")[0].scores[0] != 10 + number % 3:
                wrong.append(("b", number))
            server.put_adapter("d", versions[0])
            server.remove_adapter("d")

    with serving.Server(
        base, marked, max_batch_size=8, max_wait=0.0, max_queue=64
    ) as server:
        threads = [threading.Thread(target=ask, args=(seed,)) for seed in range(16)]
        threads.append(threading.Thread(target=swap))
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        metrics = server.metrics()
    assert wrong == []
    assert metrics["completed"] == metrics["accepted"] == sum(answered) + 30
    assert metrics["failed"] == metrics["cancelled"] == 0
    assert metrics["swaps"] == 90


def test_a_warm_up_compiles_the_program_that_rows_use(base):
    bank = bank_of_tasks.make_bank(base, names=("films", "yes"), capacity=5)
    row = bank_of_tasks.make_row("films", 0)
    with serving.Server(base, bank, max_batch_size=1, max_wait=0.0) as server:
        spelled = server._snapshot.tasks.spell(row, adapter="films", place="")
        before = evaluate._scores._cache_size()
        server.warm_up([len(spelled.inputs)])
        compiled = evaluate._scores._cache_size()
        assert compiled > before
        server.predict([row], "films")
        assert evaluate._scores._cache_size() == compiled


def test_what_was_warmed_up_compiles_no_more(base, marked, quick):
    with serving.Server(base, marked, max_batch_size=4, max_wait=0.0) as server:
        rows = [{"text": "great"}, {"text": "great " * 8}]
        lengths = [16, *map(len, _inputs(server, rows))]  # the task of b cuts at 12
        count = server.warm_up(lengths)
        assert count == server.metrics()["compilations"] > 0
        assert server.warm_up(lengths) == 0
        for row in rows:
            server.predict([row] * 3, ["a", "b", "c"])
            server.predict([row], "b")
        assert server.metrics()["compilations"] == count
        with pytest.raises(ValueError, match="each is 1 or more"):
            server.warm_up([0])


def test_a_longer_bank_is_compiled_before_it_is_used(base, marked, quick, mark):
    with serving.Server(base, marked, max_wait=0.0) as server:
        server.predict([ROW], "a")
        server.add_adapter("d", mark(5))
        assert server.metrics()["compilations"] == 1  # there was a free slot
        server.add_adapter("e", mark(6))  # twice as many slots
        assert server.metrics()["compilations"] == 2
        assert server.predict([ROW], "e")[0].scores[0] == 6
        assert server.metrics()["compilations"] == 2


def test_a_server_of_a_full_bank_has_free_slots(base, marked, quick, mark):
    with serving.Server(base, marked.select("abc"), max_wait=0.0) as server:
        server.predict([ROW], "a")
        for name in "def":
            server.add_adapter(name, mark(5))
        assert server.predict([ROW], "f")[0].scores[0] == 5
        assert server.metrics()["compilations"] == 1


def test_warm_up_covers_what_the_tasks_of_the_bank_need(base):
    bank = bank_of_tasks.make_bank(base)
    tasks = row_tasks.RowTasks(bank, base.tokenizer)
    targets = tasks.fixed_targets()
    assert len(targets) == 3  # the choices of the fourth are those of its rows
    films = tasks.spell(ROW, adapter="films", place="")
    plots = tasks.spell({**ROW, "more": "x"}, adapter="plots", place="")
    lengths = [len(films.inputs), len(plots.inputs)]
    shapes = programs.warm_up_shapes(targets, lengths, 4)
    assert {
        mixed.shape_of([films], max_rows=4),
        mixed.shape_of([films, plots], max_rows=4),
    } <= set(shapes)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"max_batch_size": 0}, "max_batch_size=0"),
        ({"max_queue": 0}, "max_queue=0; each is 1 or more"),
        ({"max_wait": -1.0}, "max_wait=-1.0; expected seconds"),
        ({"timeout": 0.0}, "timeout=0.0; expected seconds, more than 0"),
    ],
)
def test_settings_out_of_range_are_refused(base, marked, settings, message):
    with pytest.raises(ValueError, match=message):
        serving.Server(base, marked, **settings)


def test_a_bank_of_another_model_is_refused(base_directory, marked):
    base = experiment.load_base()
    with pytest.raises(ValueError, match="adapter a, for the given base"):
        serving.Server(base, marked)
