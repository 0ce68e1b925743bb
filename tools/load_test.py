r"""Many clients, good, slow and broken, at a server whose adapters change under them.

    python tools/load_test.py --adapters 16 --clients 200 --seconds 30

Serves the embedded base (or --base) on loopback with untrained (IA)^3 adapters that all
differ, and asks it from as many connections as there are clients: rows of mixed
adapters, some of which dribble their body, cut the connection, or send what is no JSON
or too large. Meanwhile one name is given two adapters in turn, and another, "guest",
is added and taken away over HTTP. Every answer is compared with what the adapters say
alone that had the name while the request was under way: a change that was complete
before is seen by it. Prints one JSON line:

    requests     answered or refused, by good clients
    wrong        scores that differ by more than 1e-4 of the largest, or an odd status
    lost         no answer at all
    absent       refused with 404, since a name had no adapter then
    rejected     refused with 503, to be sent again
    throughput   rows a second; latency_s: p50, p95, p99 of the requests answered

The exit status is 1 where an answer was wrong or lost, or no row was answered.
"""

import argparse
import asyncio
import collections
import http.client
import json
import math
import pathlib
import random
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

TASK = {"templates": ["Review: {{text}} Good?"], "choices": ["bad ||| good"]}
WORDS = "a the film plot was lovely dull great awful and very not".split()
TOLERANCE = 1e-4  # of the largest score
GUEST = "guest"
TOKEN = "load-test"
_BROKEN = ("cut", "no json", "too large")
Scores = Sequence[Sequence[float]]  # of each text


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--base", help="model directory; default the embedded base")
    parser.add_argument("--adapters", type=int, default=16)
    parser.add_argument("--clients", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=30.0, help="of asking")
    parser.add_argument("--rows", type=int, default=24, help="different rows")
    parser.add_argument("--batch", type=int, default=32, help="most rows of a batch")
    parser.add_argument("--queue", type=int, default=256, help="most rows that wait")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args(arguments)


def make_adapters(base: Any, count: int) -> dict[str, Any]:
    """Untrained (IA)^3 adapters, each with other numbers."""
    import numpy as np

    from tfew_jax import checkpoint
    from tfew_jax.checkpoint import layout
    from tfew_jax.peft import ia3

    method, found = ia3.IA3(), {}
    for number in range(count):
        generator = np.random.default_rng(number)
        arrays = {
            path: generator.uniform(0.5, 1.5, shape).astype(np.float32)
            for path, shape in layout.adapter_shapes(base.config, method).items()
        }
        found[f"adapter-{number}"] = checkpoint.Adapter(
            method=method,
            params=layout.unflatten(arrays),
            config=base.config,
            task=TASK,
        )
    return found


def make_texts(count: int, seed: int) -> list[str]:
    """Texts of one to twelve words."""
    generator = random.Random(seed)
    return [
        " ".join(generator.choices(WORDS, k=generator.randint(1, 12)))
        for _ in range(count)
    ]


class History:
    """What a name stood for, and when; None is for no adapter."""

    def __init__(self, scores: Scores | None) -> None:
        """Begins with scores that the name has had all the time."""
        self._spans: list[tuple[Scores | None, float]] = [(scores, math.inf)]

    async def change(
        self, scores: Scores | None, do: Callable[..., Any], *args: Any
    ) -> Any:
        """Notes a change that `do` makes in a thread; meanwhile both are right."""
        before, _ = self._spans[-1]
        self._spans.append((scores, math.inf))
        done = await asyncio.to_thread(do, *args)
        self._spans[-2] = before, time.monotonic()
        return done

    def since(self, moment: float) -> list[Scores | None]:
        """What the name has stood for since a moment, however short."""
        return [scores for scores, end in self._spans if end >= moment]


class Load:
    """The clients, and what became of their requests."""

    def __init__(
        self,
        port: int,
        expected: Mapping[str, History],
        texts: Sequence[str],
        seconds: float,
    ) -> None:
        """Takes what is right: of each name what it stands for."""
        self.port = port
        self.expected = expected
        self.texts = texts
        self.until = time.monotonic() + seconds
        self.counts: collections.Counter[str] = collections.Counter()
        self.latencies: list[float] = []

    async def ask(self, client: int) -> None:
        """One client; of ten, one is slow and one broken."""
        generator = random.Random(client)
        while time.monotonic() < self.until:
            numbers = generator.choices(
                range(len(self.texts)), k=generator.choice((1, 1, 1, 4))
            )
            names = generator.choices(sorted(self.expected), k=len(numbers))
            rows = [
                {"text": self.texts[number], "adapter": name}
                for number, name in zip(numbers, names, strict=True)
            ]
            body = json.dumps({"rows": rows}).encode()
            if client % 10 == 1:
                await self._break(generator.choice(_BROKEN), body)
                await asyncio.sleep(0.05)
                continue
            started = time.monotonic()
            try:
                status, answer = await self._request(body, slow=client % 10 == 0)
            except (OSError, asyncio.IncompleteReadError, ValueError, TimeoutError):
                self.counts["lost"] += 1
                continue
            self.counts["requests"] += 1
            if status == 503:
                self.counts["rejected"] += 1
                await asyncio.sleep(0.1 + generator.random() / 5)
                continue
            self.latencies.append(time.monotonic() - started)
            self.check(status, answer, numbers, names, started)

    def check(
        self,
        status: int,
        answer: Any,
        numbers: Sequence[int],
        names: Sequence[str],
        started: float,
    ) -> None:
        """Counts the answer to a request for these texts and names."""
        known = {name: self.expected[name].since(started) for name in names}
        if status == 404 and any(None in found for found in known.values()):
            self.counts["absent"] += 1
            return
        if status != 200:
            self.counts["wrong"] += 1
            return
        for number, name, found in zip(
            numbers, names, answer["predictions"], strict=True
        ):
            scores = list(found["scores"].values())
            self.counts["rows"] += 1
            if found["adapter"] != name or not any(
                right is not None and close(scores, right[number])
                for right in known[name]
            ):
                self.counts["wrong"] += 1

    async def _request(self, body: bytes, *, slow: bool) -> tuple[int, Any]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            async with asyncio.timeout(60):
                writer.write(head(len(body)))
                pieces = [body[i : i + 16] for i in range(0, len(body), 16)]
                for piece in pieces if slow else [body]:
                    writer.write(piece)
                    await writer.drain()
                    if slow:
                        await asyncio.sleep(0.01)
                status = int((await reader.readline()).split()[1])
                length = 0
                while line := (await reader.readline()).strip().lower():
                    if line.startswith(b"content-length:"):
                        length = int(line.split(b":")[1])
                return status, json.loads(await reader.readexactly(length))
        finally:
            writer.close()

    async def _break(self, kind: str, body: bytes) -> None:
        """What a server must bear; whether it answers does not matter."""
        self.counts["broken"] += 1
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", self.port)
            if kind == "cut":
                writer.write(head(len(body)) + body[: len(body) // 2])
            elif kind == "no json":
                writer.write(head(9) + b"{'rows': ")
            else:
                writer.write(head(1 << 30) + b" " * 1000)
            await writer.drain()
            writer.close()
        except OSError:
            pass


def head(length: int) -> bytes:
    """The head of a request for predictions."""
    return (
        "POST /v1/predict HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
        f"Authorization: Bearer {TOKEN}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n"
    ).encode()


def close(scores: Sequence[float], right: Sequence[float]) -> bool:
    """Whether scores are those that are right, up to rounding."""
    largest = max(map(abs, right))
    pairs = zip(scores, right, strict=True)
    return max(abs(a - b) for a, b in pairs) <= TOLERANCE * largest


def administer(port: int, method: str, body: Mapping[str, str] | None) -> int:
    """The status that the server answers to a change of the guest."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        text = None if body is None else json.dumps(body).encode()
        headers = {"Authorization": f"Bearer {TOKEN}"}
        connection.request(method, f"/v1/adapters/{GUEST}", text, headers)
        return connection.getresponse().status
    finally:
        connection.close()


async def swap(
    server: Any, adapters: Mapping[str, Any], right: Mapping[str, Scores], load: Load
) -> None:
    """Gives one name two adapters in turn, and lets the guest come and go."""
    names = sorted(adapters)
    swapped, guest = load.expected[names[0]], load.expected[GUEST]
    coming = {"directory": names[-1]}
    pauses = random.Random(0)
    while time.monotonic() < load.until:
        for other in (names[1], names[0]):
            await swapped.change(
                right[other], server.replace_adapter, names[0], adapters[other]
            )
            await asyncio.sleep(pauses.choice((0.0, 0.05, 0.5)))
        for scores, *request, status in (
            (right[names[-1]], "PUT", coming, 201),
            (None, "DELETE", None, 204),
        ):
            found = await guest.change(scores, administer, load.port, *request)
            load.counts["wrong"] += found != status
            await asyncio.sleep(pauses.choice((0.0, 0.05, 0.5)))


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Serves, asks, and returns what is printed."""
    import tfew_jax
    from tfew_jax import checkpoint, serving
    from tfew_jax.serving import http_app, http_run

    base = tfew_jax.load_base(options.base)
    adapters = make_adapters(base, options.adapters)
    bank = checkpoint.Bank(adapters=adapters, capacity=options.adapters + 1)
    texts = make_texts(options.rows, options.seed)
    rows = [{"text": text} for text in texts]
    right = {
        name: [p.scores for p in tfew_jax.predict(base, adapter, rows)]
        for name, adapter in adapters.items()
    }
    expected = {name: History(scores) for name, scores in right.items()}
    expected[GUEST] = History(None)
    with (
        tempfile.TemporaryDirectory() as folder,
        serving.Server(
            base, bank, max_batch_size=options.batch, max_queue=options.queue
        ) as server,
    ):
        directory = pathlib.Path(folder)
        for name, adapter in adapters.items():
            adapter.save(directory / name)
        inputs = (f"Review: {text} Good?" for text in texts)
        server.warm_up([len(base.tokenizer.encode(text)) for text in inputs])
        app = http_app.Service(server, directory=directory, token=TOKEN).app()
        with http_run.bind("127.0.0.1", 0) as sock, http_run.running(app, sock):
            port = sock.getsockname()[1]
            load = Load(port, expected, texts, options.seconds)
            started = time.monotonic()
            asyncio.run(_all(load, server, adapters, right, options.clients))
            seconds = time.monotonic() - started
        numbers = server.metrics()
    return _summary(load, numbers, seconds)


async def _all(
    load: Load,
    server: Any,
    adapters: Mapping[str, Any],
    right: Mapping[str, Scores],
    clients: int,
) -> None:
    asking = [load.ask(client) for client in range(clients)]
    await asyncio.gather(swap(server, adapters, right, load), *asking)


def _summary(load: Load, numbers: Mapping[str, Any], seconds: float) -> dict[str, Any]:
    ordered = sorted(load.latencies) or [0.0]

    def share(part: float) -> float:
        return round(ordered[min(len(ordered) - 1, int(part * len(ordered)))], 4)

    names = ("requests", "rows", "wrong", "lost", "absent", "rejected", "broken")
    batches = numbers["batch_rows"]
    return {
        **{name: load.counts[name] for name in names},
        "swaps": numbers["swaps"],
        "compilations": numbers["compilations"],
        "rows_a_batch": round(batches["sum"] / max(batches["number"], 1), 2),
        "seconds": round(seconds, 2),
        "throughput": round(load.counts["rows"] / seconds, 1),
        "latency_s": {"p50": share(0.5), "p95": share(0.95), "p99": share(0.99)},
    }


def main(arguments: list[str] | None = None) -> int:
    """Runs the test and prints its line."""
    sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
    found = run(parse_arguments(arguments))
    print(json.dumps(found))
    return 0 if found["rows"] and not found["wrong"] and not found["lost"] else 1


if __name__ == "__main__":
    sys.exit(main())
