"""A server that answers as AWS Secrets Manager does for secrets whose value is their name, after a pause.

`python -m benchmarks.canned_aws PAUSE_S COUNT` prints its port; so many secrets are listed, and all are there that
somebody asks for. `GET /calls` returns how many requests there were.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar

from benchmarks.vaults import path_of

VERSION = "11111111-1111-1111-1111-111111111111"
CREATED = 1_700_000_000.0
PAGE = 100


class Answers(BaseHTTPRequestHandler):
    """Answers the three requests that clients make to read."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = 65_536  # headers and body leave together
    pause_s: ClassVar = 0.0
    names: ClassVar[list[str]] = []
    calls: ClassVar = 0
    lock: ClassVar = threading.Lock()

    def do_GET(self) -> None:
        self._send({"calls": Answers.calls})

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with Answers.lock:
            Answers.calls += 1
        time.sleep(Answers.pause_s)
        operation = self.headers["X-Amz-Target"].rpartition(".")[2]
        if operation == "DescribeSecret":
            self._send({"Name": asked["SecretId"], "VersionIdsToStages": {VERSION: ["AWSCURRENT"]}})
        elif operation == "ListSecrets":
            start = int(asked.get("NextToken", "0"))
            listed = [{"Name": name, "ARN": _arn(name)} for name in Answers.names[start : start + PAGE]]
            following = {"NextToken": str(start + PAGE)} if start + PAGE < len(Answers.names) else {}
            self._send({"SecretList": listed, **following})
        elif operation == "BatchGetSecretValue":
            self._send({"SecretValues": [_value(name) for name in asked["SecretIdList"]], "Errors": []})
        else:
            self._send(_value(asked["SecretId"]))

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def _send(self, answer: dict[str, Any]) -> None:
        body = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/x-amz-json-1.1")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def _value(name: str) -> dict[str, Any]:
    stages = ["AWSCURRENT"]
    return {
        "ARN": _arn(name),
        "Name": name,
        "VersionId": VERSION,
        "SecretString": name,
        "VersionStages": stages,
        "CreatedDate": CREATED,
    }


def _arn(name: str) -> str:
    return f"arn:aws:secretsmanager:eu-west-1:123456789012:secret:{name}-AbCdEf"


def main() -> None:
    Answers.pause_s = float(sys.argv[1])
    Answers.names = [path_of(number) for number in range(int(sys.argv[2]))]
    with ThreadingHTTPServer(("127.0.0.1", 0), Answers) as server:
        print(server.server_address[1], flush=True)
        server.serve_forever()


if __name__ == "__main__":
    main()
