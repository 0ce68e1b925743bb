"""The HTTP interface, over real sockets on loopback."""

import re
import threading

import pytest

pytest.importorskip("uvicorn", reason="needs the extra serve")
pytest.importorskip("starlette", reason="needs the extra serve")

from http_client import ROW, TOKEN, Client

from tfew_jax.serving import http_app, http_run


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


def test_other_paths_and_methods_are_refused_in_json(start):
    client = start()
    assert client("GET", "/v1/nothing")[:2] == (404, {"error": "Not Found"})
    assert client("GET", "/v1/predict")[:2] == (405, {"error": "Method Not Allowed"})


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
