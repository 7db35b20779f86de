"""A relay between a client and a server, whatever they speak, until it is told to do otherwise."""

from __future__ import annotations

import socket
import struct
import threading
import time
from contextlib import suppress
from typing import Self

_CHUNK = 65_536


class TcpRelay:
    """The relay, which listens on a port of its own from the beginning of a `with` block to its end.

    Args:
        port: Of the server, on this machine.

    Attributes:
        port: Where the relay listens.
    """

    def __init__(self, port: int) -> None:
        """Hand everything on."""
        self._server_port = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._lock = threading.Lock()
        self._open = list[socket.socket]()
        self._is_cut_off = self._is_silent = False
        self._cut_at: bytes | None = None
        self._delay_s = 0.0

    def __enter__(self) -> Self:
        """Begin to listen."""
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_exc: object) -> None:
        """Break everything off."""
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._break_off()

    def cut_off(self) -> None:
        """Break off each connection, those that there are too."""
        self._is_cut_off = True
        self._break_off()

    def be_silent(self) -> None:
        """Take each further connection, and what is sent over it, and hand nothing on."""
        self._is_silent = True

    def cut_after(self, words: bytes) -> None:
        """Hand on what the client sends up to these words, and drop the answer with the connection; once."""
        self._cut_at = words

    def delay(self, delay_s: float) -> None:
        """Hand each piece on so much later, in both directions."""
        self._delay_s = delay_s

    def restore(self) -> None:
        """Hand everything on again."""
        self._is_cut_off = self._is_silent = False
        self._delay_s = 0.0
        self._cut_at = None

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:  # the end of the block
                return
            with self._lock:
                self._open.append(client)
            if self._is_cut_off:
                self._break_off()
            elif not self._is_silent:
                server = socket.create_connection(("127.0.0.1", self._server_port))
                with self._lock:
                    self._open.append(server)
                threading.Thread(target=self._pump, args=(client, server, True), daemon=True).start()
                threading.Thread(target=self._pump, args=(server, client, False), daemon=True).start()

    def _pump(self, source: socket.socket, target: socket.socket, is_client: bool) -> None:
        with suppress(OSError):
            while data := source.recv(_CHUNK):
                time.sleep(self._delay_s)
                if is_client and self._cut_at is not None and self._cut_at in data:
                    self._cut_at = None
                    # The client is gone first, so that no answer can reach it.
                    _reset(source)
                    target.sendall(data)
                    continue
                target.sendall(data)
        with suppress(OSError):
            target.shutdown(socket.SHUT_WR)

    def _break_off(self) -> None:
        with self._lock:
            for each in self._open:
                _reset(each)
            self._open.clear()


def _reset(connection: socket.socket) -> None:
    # Without lingering the peer gets a reset instead of an orderly end.
    with suppress(OSError):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.shutdown(socket.SHUT_RDWR)
    connection.close()
