import io
import re

from tfew_jax.experiment import progress


class Terminal(io.StringIO):
    def isatty(self):
        return True


def report(stream, **kwargs):
    shown = progress.Progress(stream=stream, **kwargs)
    shown.plan(20)
    with shown.run("seed-0", first_step=0, num_steps=20):
        for step in range(1, 21):
            shown.step(step, {"loss": 1 / step})
    return shown


def test_away_from_a_terminal_every_tenth_part_is_a_plain_line():
    stream = io.StringIO()
    report(stream)
    lines = stream.getvalue().splitlines()
    assert lines[0] == "seed-0: steps 0 to 20; the first ones compile"
    assert len(lines) == 1 + 10
    assert lines[-1].startswith("seed-0: step 20/20  loss 0.0500  ")
    assert "steps/s" in lines[-1] and "left" in lines[-1]
    assert "\x1b" not in stream.getvalue()


def test_tokens_a_second_are_told_where_a_step_has_a_number_of_them(monkeypatch):
    monkeypatch.setattr(progress._Speed, "rate", lambda self: 2.0)
    stream = io.StringIO()
    report(stream, tokens_per_step=1500.4)
    assert "2.0 steps/s  3,001 tokens/s  " in stream.getvalue()


def test_a_terminal_shows_a_bar_with_loss_and_the_log_plain_lines(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    stream, log = Terminal(), io.StringIO()
    report(stream, log_file=log)
    assert "\x1b" in stream.getvalue() and "loss" in stream.getvalue()
    assert "\x1b" not in log.getvalue()
    assert len(log.getvalue().splitlines()) == 1 + 10


def test_quiet_shows_nothing_and_still_logs():
    stream, log = io.StringIO(), io.StringIO()
    shown = report(stream, log_file=log, quiet=True)
    shown.say("[bold]as it is[/bold]")
    assert stream.getvalue() == ""
    assert "[bold]as it is[/bold]" in log.getvalue()


def test_steps_that_compile_hardly_count_for_the_speed(monkeypatch):
    # Steps take 0.5 s; one compiles for 60 s; a second run begins at 300 s.
    times = iter([100.0, 100.5, 160.5, 161.0, 161.5, 300.0, 300.5])
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(times))
    speed = progress._Speed()
    for _ in range(3):
        speed.count()
    assert speed.rate() is None  # it would be that of a compilation
    for _ in range(2):
        speed.count()
    speed.restart()
    for _ in range(2):
        speed.count()
    assert speed.rate() == 2.0


def left(stream):
    """The minutes that each line with a step says are left."""
    return [int(m) for m in re.findall(r"(\d+) min 00 s left", stream.getvalue())]


def test_the_time_left_does_not_count_what_was_done_before(monkeypatch):
    monkeypatch.setattr(progress._Speed, "rate", lambda self: 1 / 60)
    stream = io.StringIO()
    shown = progress.Progress(stream=stream)
    shown.plan(20)
    with shown.run("seed-0", first_step=6, num_steps=10):
        for step in range(7, 11):
            shown.step(step, {"loss": 1.0})
    with shown.run("seed-1", first_step=0, num_steps=10):
        shown.step(1, {"loss": 1.0})
    assert left(stream) == [13, 12, 11, 10, 9]


def test_a_run_that_ends_early_leaves_no_time_to_the_next_one(monkeypatch):
    monkeypatch.setattr(progress._Speed, "rate", lambda self: 1 / 60)
    stream = io.StringIO()
    shown = progress.Progress(stream=stream)
    shown.plan(20)
    for name in ("seed-0", "seed-1"):
        with shown.run(name, first_step=0, num_steps=10):
            shown.step(1, {"loss": 1.0})
    assert left(stream) == [19, 9]


def test_durations_are_written_for_people():
    assert progress._duration(59.6) == "1 min 00 s"
    assert progress._duration(7.0) == "7 s"
    assert progress._duration(3 * 3600 + 61.0) == "3 h 01 min"
