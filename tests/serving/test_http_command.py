"""`tfew serve`: its settings, its warm-up, its mistakes and its end."""

import os
import re
import signal
import subprocess
import sys
import threading

import pytest

pytest.importorskip("uvicorn", reason="needs the extra serve")
pytest.importorskip("starlette", reason="needs the extra serve")

from http_client import Client
from one_line import message_of

from tfew_jax import serving
from tfew_jax.cli import main
from tfew_jax.serving import command, http_app, http_run


@pytest.mark.parametrize(
    ("text", "token"), [("abc\n", "abc"), ("", None), ("a b", None), ("ä", None)]
)
def test_a_token_is_one_word(tmp_path, monkeypatch, text, token):
    monkeypatch.delenv(command.TOKEN_VARIABLE, raising=False)
    assert command.read_token(None) is None
    (tmp_path / "token").write_text(text)
    monkeypatch.setenv(command.TOKEN_VARIABLE, text)
    for file in (tmp_path / "token", None):
        if token is None:
            with pytest.raises(ValueError, match="must hold one token"):
                command.read_token(file)
        else:
            assert command.read_token(file) == token
    with pytest.raises(ValueError, match="cannot be read"):
        command.read_token(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("body_bytes", 0), ("rows", -1), ("body_seconds", float("nan"))),
        *(("seconds", 0.0), ("seconds", float("inf")), ("seconds", float("nan"))),
    ],
)
def test_limits_are_positive_and_finite(name, value):
    message = message_of(http_app.Limits, **{name: value})
    assert message == f"the limit {name} is {value}; expected a number more than 0"


def test_a_request_may_not_have_more_rows_than_may_wait(base, directory):
    message = message_of(
        command.serve, base=base, bank=directory, port=0, max_rows=9, max_queue=8
    )
    assert message.startswith("max_rows=9, but max_queue=8: requests of so many rows")


def test_a_warm_up_ends_with_the_server(base, directory, monkeypatch, quick):
    opening = threading.Timer(0.3, quick.gate.set)

    def run(app, sock):
        assert quick.entered.wait(60)
        opening.start()  # when the server has been closed

    monkeypatch.setattr(http_run, "run", run)
    quick.gate.clear()
    command.serve(
        base=base, bank=directory, port=0, warm_up=[16, 32, 64], say=lambda line: None
    )
    assert quick.sizes == [1]  # of many
    names = [thread.name for thread in threading.enumerate()]
    assert "tfew_jax warm-up" not in names


def test_who_can_be_reached_by_others_is_warned(base, directory, monkeypatch, quick):
    monkeypatch.delenv(command.TOKEN_VARIABLE, raising=False)
    monkeypatch.setattr(http_run, "run", lambda app, sock: None)
    lines = []
    for host in ("127.0.0.1", "0.0.0.0"):
        command.serve(base=base, bank=directory, host=host, port=0, say=lines.append)
    assert len(lines) == 3
    assert lines[1].startswith("warning: 0.0.0.0 is reached by others, and there is no")
    assert re.fullmatch(r"serving 5 adapters on http://127\.0\.0\.1:\d+", lines[0])


def run_error(capsys, *words):
    assert main.main([str(word) for word in words]) == 2
    [line] = capsys.readouterr().err.splitlines()
    return line


def test_mistakes_of_the_command_are_one_line(directory, base_directory, capsys):
    assert "--adapters is missing" in run_error(capsys, "serve")
    given = ["serve", "--adapters", directory, "--base", base_directory]
    assert "port 70000 is not between" in run_error(capsys, *given, "--port", "70000")
    assert "cannot be read" in run_error(capsys, *given, "--token-file", "nowhere")
    with http_run.bind("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        assert "cannot listen on" in run_error(capsys, *given, "--port", port)


def test_the_command_says_which_extra_is_missing(
    directory, base_directory, capsys, monkeypatch
):
    monkeypatch.setitem(sys.modules, "starlette.applications", None)
    monkeypatch.delitem(sys.modules, "tfew_jax.serving.http_app")
    monkeypatch.delattr(serving, "http_app")
    line = run_error(capsys, "serve", "--adapters", directory, "--base", base_directory)
    assert "install tfew-jax[serve]" in line


@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)]
)
def test_signals_end_the_command(directory, base_directory, number, status):
    words = ["serve", "--adapters", directory, "--base", base_directory, "--port", "0"]
    process = subprocess.Popen(
        [sys.executable, "-m", "tfew_jax.cli.main", *map(str, words)],
        stderr=subprocess.PIPE,
        text=True,
        env={k: v for k, v in os.environ.items() if k != command.TOKEN_VARIABLE},
    )
    try:
        url = process.stderr.readline().split()[-1]
        client = Client(url)
        assert client("GET", "/readyz")[0] == 200
        process.send_signal(number)
        assert process.wait(60) == status
    finally:
        process.kill()
        process.communicate()
