"""A small RTSP camera: MPEG-TS over RTP, interleaved in the RTSP connection (RFC 2326 10.12, RFC 2250)."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

_PACKET_BYTES, _PACKETS_PER_RTP = 188, 7
_RTP_HZ, _MP2T = 90_000, 33
_SDP = "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=camera\r\nt=0 0\r\nm=video 0 RTP/AVP 33\r\na=control:track\r\n"


class RtspCamera:
    """Serves one client after the other, each with the next clip, in real time or faster. A context manager.

    After the last clip it takes no more connections.
    """

    def __init__(
        self, clips: Sequence[Path], *, clip_s: float, answers: bool = True, hangs_up: bool = True
    ) -> None:
        """
        Args:
            clips: MPEG-TS files, one for each connection.
            clip_s: how long sending one takes.
            answers: False: connections are taken, and nothing is ever said.
            hangs_up: the connection is cut at the end of a clip; False: it is silent until the client goes.
        """
        self._clips, self._clip_s = clips, clip_s
        self._answers, self._hangs_up = answers, hangs_up
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"rtsp://127.0.0.1:{self._listener.getsockname()[1]}/camera"
        self._ended = threading.Event()
        self.served = 0
        """Connections that have played their clip."""
        self._thread = threading.Thread(target=self._serve)

    def __enter__(self) -> RtspCamera:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()

    def _serve(self) -> None:
        for clip in self._clips:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            with client, contextlib.suppress(OSError):
                if self._answers:
                    self._converse(client)
                    self._play(client, clip.read_bytes())
                    self.served += 1
                    while not self._hangs_up and client.recv(1024):
                        pass
                else:
                    self._ended.wait()
        self._listener.close()

    def _converse(self, client: socket.socket) -> None:
        """Answer until PLAY has been asked for."""
        with client.makefile("rb") as requests:
            method = ""
            while method != "PLAY":
                method = requests.readline().decode().partition(" ")[0]
                if not method:
                    raise ConnectionError("the client has gone")
                headers = {}
                while line := requests.readline().decode().strip():
                    name, _, value = line.partition(":")
                    headers[name.lower()] = value.strip()
                client.sendall(self._answer(method, headers["cseq"]))

    def _answer(self, method: str, sequence: str) -> bytes:
        body, extra = "", ""
        if method == "DESCRIBE":
            body = _SDP
            extra = f"Content-Type: application/sdp\r\nContent-Base: {self.url}/\r\n"
        elif method == "SETUP":
            extra = "Transport: RTP/AVP/TCP;unicast;interleaved=0-1\r\nSession: 1\r\n"
        elif method == "OPTIONS":
            extra = "Public: OPTIONS, DESCRIBE, SETUP, PLAY, TEARDOWN\r\n"
        head = f"RTSP/1.0 200 OK\r\nCSeq: {sequence}\r\n{extra}Content-Length: {len(body)}\r\n\r\n"
        return (head + body).encode()

    def _play(self, client: socket.socket, stream: bytes) -> None:
        step = _PACKET_BYTES * _PACKETS_PER_RTP
        began_s = time.monotonic()
        for number, start in enumerate(range(0, len(stream), step)):
            due_s = began_s + self._clip_s * start / len(stream)
            if self._ended.wait(max(0.0, due_s - time.monotonic())):
                return
            stamp = int(self._clip_s * _RTP_HZ * start / len(stream))
            payload = stream[start : start + step]
            header = struct.pack(">BBHII", 0x80, _MP2T, number & 0xFFFF, stamp, 7)
            client.sendall(struct.pack(">cBH", b"$", 0, len(header) + len(payload)) + header + payload)
