"""A client of the HTTP interface."""

import http.client
import json
import socket

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
