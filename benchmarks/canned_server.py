"""A server that answers every request with the same secret, as HashiCorp Vault's KV version 2 would.

`python -m benchmarks.canned_server VALUE` prints its port. It costs its client less than any real server.
"""

from __future__ import annotations

import json
import socket
import sys


def main() -> None:
    body = json.dumps({"data": {"data": {"value": sys.argv[1]}, "metadata": {"version": 1}}}).encode()
    head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    answer = head.encode() + body
    with socket.create_server(("127.0.0.1", 0)) as listener:
        print(listener.getsockname()[1], flush=True)
        while True:
            connection, _ = listener.accept()
            with connection:
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                while request := connection.recv(65_536):
                    assert request.endswith(b"\r\n\r\n")
                    connection.sendall(answer)


if __name__ == "__main__":
    main()
