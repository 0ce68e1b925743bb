"""The HTTP interface, over real sockets on loopback."""

import asyncio
import http.client
import json
import os
import pathlib
import re
import signal
import socket
import subprocess
import sys
import threading
import time

import pytest

pytest.importorskip("uvicorn", reason="needs the extra serve")
pytest.importorskip("starlette", reason="needs the extra serve")

import anyio.to_thread
from one_line import message_of

from tfew_jax import serving
from tfew_jax.cli import main
from tfew_jax.serving import command, http_app, http_run

TOKEN = "s3cret"
ROW = {"text": "great plot"}


class Client:
    """Requests to one address."""

    def __init__(self, url, token=None):
        self.host, port = url.removeprefix("http://").split(":")
        self.port = int(port)
        self.headers = {} if token is None else {"Authorization": f"Bearer {token}"}

    def __call__(self, method, path, body=None, headers=None):
        connection = http.client.HTTPConnection(self.host, self.port, timeout=60)
        if body is not None and not isinstance(body, bytes):
            body = json.dumps(body).encode()
        connection.request(method, path, body, self.headers | (headers or {}))
        response = connection.getresponse()
        text = response.read()
        connection.close()
        is_json = response.getheader("content-type") == "application/json"
        return response.status, json.loads(text) if is_json else text, response

    def predict(self, rows, adapter=None, **more):
        body = {"rows": rows, **more}
        body |= {} if adapter is None else {"adapter": adapter}
        return self("POST", "/v1/predict", body)[:2]

    def raw(self, data):
        connection = socket.create_connection((self.host, self.port), timeout=60)
        connection.sendall(data)
        return connection


@pytest.fixture
def server(base, marked, quick):
    with serving.Server(
        base, marked, max_batch_size=4, max_wait=0.0, max_queue=8, own_templates=False
    ) as server:
        yield server


@pytest.fixture
def start(server, quick):
    """Serves with these settings; all is stopped when the test ends."""
    stops = []

    def begin(token=None, **settings):
        service = http_app.Service(server, token=token, **settings)
        running = http_run.running(service.app(), http_run.bind("127.0.0.1", 0))
        client = Client(running.__enter__(), token)
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


def test_rows_are_answered_each_by_its_adapter(start):
    client = start()
    status, answer = client.predict([ROW, ROW], "a")
    assert status == 200
    [first, second] = answer["predictions"]
    assert first == {
        "row": 0,
        "adapter": "a",
        "prediction": "bad",
        "label": 0,
        "scores": {"bad": 2.0, "good": 0.0},
    }
    assert second == first | {"row": 1}
    mixed = [{**ROW, "adapter": name} for name in "cba"]
    status, answer = client.predict(mixed)
    found = [next(iter(p["scores"].values())) for p in answer["predictions"]]
    assert (status, found) == (200, [4.0, 3.0, 2.0])


def test_adapters_health_and_metrics_can_be_read(start, server):
    client = start()
    client.predict([ROW] * 3, "b")
    client.predict([ROW], "nobody")
    found = client("GET", "/v1/adapters")[1]["adapters"]
    assert [a["name"] for a in found] == ["a", "b", "c"]
    assert found[0]["method"] == "ia3"
    assert client("GET", "/healthz")[:2] == (200, {"status": "alive"})
    assert client("GET", "/readyz")[:2] == (200, {"status": "ready"})
    _, text, response = client("GET", "/metrics")
    assert response.getheader("content-type").startswith("text/plain; version=0.0.4")
    lines = text.decode().splitlines()
    assert 'tfew_adapter_completed_total{adapter="b"} 3' in lines
    assert 'tfew_http_responses_total{status="404"} 1' in lines
    assert 'tfew_latency_seconds_bucket{le="+Inf"} 3' in lines
    assert "tfew_accepted_total 3" in lines and "tfew_bank_adapters 3" in lines
    values = [line for line in lines if not line.startswith("#")]
    assert all(re.fullmatch(r'tfew_\w+(\{\w+="[^"]*"\})? [\d.e+-]+', v) for v in values)
    server.close()
    assert client("GET", "/readyz")[0] == 503
    assert client.predict([ROW], "a")[0] == 503


def test_readiness_waits_for_the_warm_up(start):
    warmed = threading.Event()
    client = start(is_ready=warmed.is_set)
    status, answer, response = client("GET", "/readyz")
    assert (status, answer) == (503, {"error": "the server warms up"})
    assert response.getheader("retry-after") == "1"
    warmed.set()
    assert client("GET", "/readyz")[0] == 200


@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        (b"", 400, "not JSON"),
        (b"{", 400, "not JSON in UTF-8: Expecting property name"),
        (b"\xff", 400, "not JSON in UTF-8"),
        (b"[" * 100_000, 400, "not JSON"),
        (b"[]", 400, "the body must be a JSON object, found list"),
        ({}, 400, "rows must be a list of one object or more"),
        ({"rows": []}, 400, "rows must be a list of one object or more"),
        ({"rows": {}}, 400, "rows must be a list of one object or more"),
        ({"rows": [1], "adapter": "a"}, 400, "row 0: expected an object, found int"),
        ({"rows": [ROW]}, 400, "row 0: names no adapter"),
        ({"rows": [{**ROW, "adapter": 1}]}, 400, "row 0: names no adapter"),
        ({"rows": [ROW], "adapter": 1}, 400, "adapter must be the name"),
        (
            {"rows": [{**ROW, "adapter": "nobody"}], "adapter": "a"},
            400,
            "row 0: names the adapter 'nobody', but the request 'a'",
        ),
        ({"rows": [ROW], "adapters": "a"}, 400, "unknown 'adapters'"),
        ({"rows": [ROW] * 6, "adapter": "a"}, 413, "6 rows; a request may have 5"),
        ({"rows": [ROW], "adapter": "z"}, 404, "row 0: unknown adapter 'z'; known: __"),
        ({"rows": [{}], "adapter": "a"}, 422, "row 0: template 'Review: "),
        ({"rows": [ROW], "adapter": "\ud800"}, 404, r"unknown adapter '\ud800'"),
        ({"rows": [ROW], "adapter": "__base__"}, 422, "rows may not bring theirs"),
        (
            {"rows": [ROW, {"text": "a \ud800"}], "adapter": "a"},
            422,
            r"row 1: \ud800 is half of a surrogate pair",
        ),
        ({"rows": [{"\ud800": "x"}], "adapter": "a"}, 422, r"columns are '\ud800'"),
        ({"rows": [{"text": "x" * 900}], "adapter": "a"}, 413, "than 800 bytes"),
    ],
)
def test_a_bad_request_is_one_clear_line(start, server, body, status, message):
    limit = 200_000 if isinstance(body, bytes) else 800
    client = start(limits=http_app.Limits(rows=5, body_bytes=limit))
    found, answer, _ = client("POST", "/v1/predict", body)
    assert found == status
    assert message in answer["error"] and "\n" not in answer["error"]
    assert set(answer) == {"error"}
    assert server.metrics()["accepted"] == 0


def test_a_row_may_repeat_the_adapter_of_the_request(start):
    client = start()
    status, answer = client.predict([{**ROW, "adapter": "b"}, ROW], "b")
    assert status == 200
    assert [found["adapter"] for found in answer["predictions"]] == ["b", "b"]


@pytest.mark.parametrize("depth", [600, 990, 5000])
def test_deep_nesting_is_never_a_failure_of_the_server(start, depth):
    client = start()
    nested = b"[" * depth + b"]" * depth
    body = b'{"rows": [{"text": "x", "more": ' + nested + b'}], "adapter": "a"}'
    status, answer, _ = client("POST", "/v1/predict", body)
    assert status in (200, 400, 422)  # as deep as this Python goes
    assert status == 200 or "\n" not in answer["error"]


def test_more_rows_than_may_ever_wait_are_too_many(start):
    status, answer = start().predict([ROW] * 9, "a")
    assert status == 413 and "send several requests" in answer["error"]


def test_other_paths_and_methods_are_refused_in_json(start):
    client = start()
    assert client("GET", "/v1/nothing")[:2] == (404, {"error": "Not Found"})
    assert client("GET", "/v1/predict")[:2] == (405, {"error": "Method Not Allowed"})


def test_a_body_that_grows_too_large_or_comes_too_slowly_is_refused(start):
    limits = http_app.Limits(body_bytes=100, body_seconds=0.2)
    client = start(limits=limits)
    head = b"POST /v1/predict HTTP/1.1\r\nHost: x\r\n"
    with client.raw(head + b"Transfer-Encoding: chunked\r\n\r\n") as connection:
        connection.sendall(b"c8\r\n" + b"x" * 200 + b"\r\n")
        assert b" 413 " in connection.recv(100)
    with client.raw(head + b"Content-Length: 50\r\n\r\n{") as connection:
        assert b" 408 " in connection.recv(100)
    assert client("GET", "/healthz")[0] == 200


@pytest.mark.parametrize("head", [{}, {"Content-Length": None}])
def test_a_client_hears_that_its_body_is_many_times_too_large(start, head):
    client = start(limits=http_app.Limits(body_bytes=1000))
    connection = http.client.HTTPConnection(client.host, client.port, timeout=60)
    body = b" " * 6_000_000
    if head:  # as chunks, whose length nobody knows before
        connection.request("POST", "/v1/predict", iter([body]), encode_chunked=True)
    else:
        connection.request("POST", "/v1/predict", body)
    response = connection.getresponse()
    assert response.status == 413
    assert "larger than 1,000 bytes" in json.loads(response.read())["error"]
    connection.close()


def test_a_body_beyond_all_measure_is_refused_before_it_comes(start):
    head = b"POST /v1/predict HTTP/1.1\r\nHost: x\r\nContent-Length: 999999999\r\n\r\n"
    with start().raw(head) as connection:
        connection.settimeout(5)  # half of what a body may take
        assert b" 413 " in connection.recv(100)


def test_a_body_that_nobody_reads_does_not_keep_a_connection(start, monkeypatch):
    monkeypatch.setattr(http_run, "_HEADER_SECONDS", 0.2)
    head = b"GET /healthz HTTP/1.1\r\nHost: x\r\nContent-Length: 9999\r\n\r\n"
    with start().raw(head) as connection:
        assert b" 200 " in connection.recv(4000)
        with pytest.raises(OSError):  # the other side is closed
            for _ in range(500):
                connection.sendall(b"x")
                time.sleep(0.02)


def test_a_body_that_comes_after_its_answer_does_no_harm(start):
    head = b"GET /healthz HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n"
    with start().raw(head % 10) as connection:
        assert b" 200 " in connection.recv(4000)
        connection.sendall(b"x" * 10)
        connection.sendall(head % 0)
        assert b" 200 " in connection.recv(4000)


def test_a_head_that_comes_too_slowly_ends_the_connection(start, monkeypatch):
    monkeypatch.setattr(http_run, "_HEADER_SECONDS", 0.2)
    client = start()
    for data in (b"", b"POST /v1/pre"):
        with client.raw(data) as connection:
            assert connection.recv(100) == b""


def test_a_client_that_goes_away_leaves_no_row(start, server, quick):
    client = start()
    quick.gate.clear()
    first = server.submit(ROW, "a")
    body = json.dumps({"rows": [ROW] * 2, "adapter": "b"}).encode()
    head = (
        f"POST /v1/predict HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    with client.raw(head.encode() + body):
        while server.metrics()["accepted"] < 3:
            pass
    while server.metrics()["responses"].get(400, 0) < 1:
        pass  # nobody reads it
    quick.gate.set()
    assert first.result(60).scores[0] == 2
    server.close()
    assert server.metrics()["cancelled"] == 2
    assert quick.sizes == [1]


def test_a_full_queue_says_when_to_come_again(start, server, quick):
    client = start()
    quick.gate.clear()
    first = server.submit(ROW, "a")
    assert quick.entered.wait(60)
    waiting = server.submit_rows([ROW] * 8, "a")
    body = {"rows": [ROW], "adapter": "a"}
    status, answer, response = client("POST", "/v1/predict", body)
    assert (status, response.getheader("retry-after")) == (503, "1")
    assert "1 rows do not fit: 8 wait already" in answer["error"]
    quick.gate.set()
    assert {f.result(60).scores[0] for f in [first, *waiting]} == {2.0}


def test_a_request_that_takes_too_long_is_given_up(start, quick):
    client = start(limits=http_app.Limits(seconds=0.2))
    quick.gate.clear()
    assert client.predict([ROW], "a") == (
        504,
        {"error": "no answer within 0.2 seconds; try again"},
    )


def test_changes_of_adapters_leave_threads_for_rows(start, server, monkeypatch):
    entered, finish = threading.Event(), threading.Event()

    def put(name, path):
        entered.set()
        assert finish.wait(60)
        return True

    monkeypatch.setattr(server, "put_adapter", put)
    client = start(token=TOKEN, directory=pathlib.Path(__file__).parent)
    head = (
        "PUT /v1/adapters/conftest.py HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n"
        f"Authorization: Bearer {TOKEN}\r\n\r\n"
    )
    changing = [client.raw(head.encode()) for _ in range(45)]  # more than threads
    assert entered.wait(60)
    time.sleep(0.2)  # until all have come
    try:
        assert client.predict([ROW], "a")[0] == 200
    finally:
        finish.set()
    for connection in changing:
        assert b" 201 " in connection.recv(100)
        connection.close()


def test_the_wait_for_a_thread_counts_as_part_of_the_timeout(server):
    app = http_app.Service(server, limits=http_app.Limits(seconds=0.2)).app()
    body = json.dumps({"rows": [ROW], "adapter": "a"}).encode()
    scope = {
        **{"type": "http", "method": "POST", "path": "/v1/predict", "root_path": ""},
        **{"headers": [], "query_string": b"", "http_version": "1.1"},
    }
    free, sent = threading.Event(), []

    async def receive():
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message):
        sent.append(message)

    async def ask():
        limiter = anyio.to_thread.current_default_thread_limiter()
        limiter.total_tokens = 1
        busy = asyncio.create_task(anyio.to_thread.run_sync(free.wait, 60))
        while not limiter.borrowed_tokens:
            await asyncio.sleep(0.01)
        await app(scope, receive, send)
        free.set()
        await busy

    asyncio.run(ask())
    assert sent[0]["status"] == 504
    assert server.metrics()["accepted"] == 0


def test_a_failure_of_the_model_is_no_secret_and_no_end(start, quick, server):
    client = start()
    [tokens] = [server._snapshot.tasks.spell(ROW, adapter="a", place="").inputs]
    quick.fails = len(tokens)
    assert client.predict([ROW], "a")[0] == 500
    quick.fails, quick.is_nan = None, len(tokens)
    status, answer = client.predict([ROW], "a")
    assert status == 500 and "adapter a hold NaN" in answer["error"]
    quick.is_nan = None
    assert client.predict([ROW], "a")[0] == 200


def test_a_token_is_needed_where_there_is_one(start):
    client = start(token=TOKEN)
    assert client.predict([ROW], "a")[0] == 200
    for headers in (
        {},
        {"Authorization": f"Bearer {TOKEN}x"},
        {"Authorization": TOKEN},
    ):
        client.headers = headers
        status, answer, response = client("POST", "/v1/predict", {"rows": [ROW]})
        assert status == 401 and "a token is needed" in answer["error"]
        assert response.getheader("www-authenticate") == "Bearer"
        assert client("GET", "/metrics")[0] == client("GET", "/v1/adapters")[0] == 401
        assert client("GET", "/healthz")[0] == client("GET", "/readyz")[0] == 200


def test_adapters_are_loaded_replaced_and_taken_away(start, directory, server):
    client = start(token=TOKEN, directory=directory)
    assert client("PUT", "/v1/adapters/new")[:2] == (201, {"name": "new"})
    assert client.predict([ROW], "new")[1]["predictions"][0]["scores"]["bad"] == 9
    body = {"directory": "c"}
    assert client("PUT", "/v1/adapters/new", body)[0] == 200
    assert client.predict([ROW], "new")[1]["predictions"][0]["scores"]["bad"] == 4
    assert client("DELETE", "/v1/adapters/new")[0] == 204
    assert client("DELETE", "/v1/adapters/new")[0] == 404
    assert client.predict([ROW], "new")[0] == 404
    for name in "ab":
        assert client("DELETE", f"/v1/adapters/{name}")[0] == 204
    status, answer, _ = client("DELETE", "/v1/adapters/c")
    assert status == 409 and "c is the last adapter" in answer["error"]


@pytest.mark.parametrize(
    ("name", "body", "status", "message"),
    [
        ("x", None, 404, "there is no 'x' below the directory"),
        ("x", {"directory": "../outside"}, 422, "does not lie below"),
        ("x", {"directory": "a/../../outside"}, 422, "does not lie below"),
        ("x", {"directory": "/etc"}, 422, "does not lie below"),
        ("x", {"directory": "."}, 422, "does not lie below"),
        ("x", {"directory": "a\0"}, 422, "does not lie below"),
        ("x", {"directory": "link"}, 422, "does not lie below"),
        ("link", None, 422, "does not lie below"),
        ("x", {"directory": "y" * 300}, 422, "cannot be the path of a directory"),
        ("x", {"directory": "\ud800"}, 422, "cannot be the path of a directory"),
        ("x", {"directory": 3}, 400, "'directory' alone"),
        ("x", {"path": "a"}, 400, "'directory' alone"),
        ("__base__", None, 422, "cannot name an adapter"),
        ("..%2Foutside", None, 404, "Not Found"),
        ("a%20b", {"directory": "a"}, 422, "cannot name an adapter"),
    ],
)
def test_nothing_but_adapters_of_the_directory_is_loaded(
    start, directory, server, name, body, status, message
):
    client = start(token=TOKEN, directory=directory)
    found, answer, _ = client("PUT", f"/v1/adapters/{name}", body)
    assert found == status and message in answer["error"]
    assert server.bank.names == ("a", "b", "c")


def test_an_adapter_that_cannot_be_read_is_refused(start, directory, server):
    client = start(token=TOKEN, directory=directory)
    (directory / "new" / "adapter.safetensors").write_bytes(b"cut off")
    status, answer, _ = client("PUT", "/v1/adapters/new")
    assert status == 422 and "adapter.safetensors" in answer["error"]


def test_adapters_stay_as_they_are_where_there_is_no_token(start, directory):
    client = start(directory=directory)
    for method in ("PUT", "DELETE"):
        status, answer, _ = client(method, "/v1/adapters/a")
        assert status == 403 and "--token-file" in answer["error"]


def test_stopping_finishes_what_was_accepted(server, quick):
    app = http_app.Service(server).app()
    answers = []
    with http_run.running(app, http_run.bind("127.0.0.1", 0)) as url:
        quick.gate.clear()
        ask = threading.Thread(
            target=lambda: answers.append(Client(url).predict([ROW], "c"))
        )
        ask.start()
        assert quick.entered.wait(60)
        opening = threading.Timer(0.3, quick.gate.set)
        opening.start()
    ask.join()
    assert answers[0][0] == 200
    with pytest.raises(ConnectionRefusedError):
        Client(url)("GET", "/healthz")


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


@pytest.mark.parametrize("value", [0.0, float("inf"), float("nan")])
def test_limits_are_positive_and_finite(value):
    message = message_of(http_app.Limits, seconds=value)
    assert message == f"the limit seconds is {value}; expected a number more than 0"


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
