"""What the HTTP interface bears: bodies, waits and clients without end."""

import asyncio
import http.client
import json
import pathlib
import threading
import time

import pytest

pytest.importorskip("uvicorn", reason="needs the extra serve")
pytest.importorskip("starlette", reason="needs the extra serve")

import anyio.to_thread
from http_client import ROW, TOKEN

from tfew_jax.serving import http_app, http_run


def test_more_rows_than_may_ever_wait_are_too_many(start):
    status, answer = start().predict([ROW] * 9, "a")
    assert status == 413 and "send several requests" in answer["error"]


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
