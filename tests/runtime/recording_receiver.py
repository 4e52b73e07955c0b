"""A receiver that keeps what it was sent and answers as told."""

import http.server
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field


@dataclass
class Post:
    """One request: when (monotonic seconds), its path, headers and body, and the status it was answered with."""

    at_seconds: float
    path: str
    headers: dict[str, str]
    body: bytes
    status: int


@dataclass
class RecordingReceiver:
    """``answers``: status and headers of the next answers; when there are none left, 204.

    ``text`` is the body of all but 204.
    Status 0 hangs up without an answer, status 1 says nothing until the sender is gone.
    """

    port: int = 0
    text: bytes = b""
    posts: list[Post] = field(default_factory=list)
    answers: list[tuple[int, dict[str, str]]] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/api/v1/write"

    def taken(self) -> list[Post]:
        """Requests that were answered with 2xx, in order of arrival."""
        return [post for post in self.posts if 200 <= post.status < 300]


@contextmanager
def recording_receiver() -> Iterator[RecordingReceiver]:
    """Listen on a free port until the block ends."""
    recording = RecordingReceiver()

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            with recording.lock:
                status, headers = recording.answers.pop(0) if recording.answers else (204, {})
                recording.posts.append(Post(time.monotonic(), self.path, dict(self.headers), body, status))
            if status == 1:
                self.rfile.read(1)
            if status in (0, 1):
                self.close_connection = True
                return
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            if status != 204:
                self.send_header("Content-Length", str(len(recording.text)))
            self.end_headers()
            if status != 204:
                self.wfile.write(recording.text)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the library's name
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    recording.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield recording
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
