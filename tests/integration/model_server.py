"""What the proxy starts in the tests: a server that takes a moment to load, and streams for as long as a file is not there.

Run by a bare interpreter: ``python -I -S model_server.py PORT FOLDER NAME MODE SECONDS``. It writes its pid to ``FOLDER/NAME.pid`` and
prints a line. In mode ``serve`` it listens after so many seconds, and not before there is no file ``FOLDER/NAME.hold``; it answers every
request with an event stream: ``data: hello NAME``, and when there is a file ``FOLDER/NAME.go``, ``data: [DONE]``. In mode ``exit`` it
complains and exits with status 3 instead.
"""

from __future__ import annotations

import os
import socket
import sys
import threading
import time
from pathlib import Path


def main(port: int, folder: Path, name: str, mode: str, seconds: float) -> None:
    (folder / f"{name}.pid").write_text(str(os.getpid()))
    print(f"{name} loads weights", flush=True)
    time.sleep(seconds)
    while (folder / f"{name}.hold").exists():
        time.sleep(0.01)
    if mode == "exit":
        print("CUDA out of memory", file=sys.stderr, flush=True)
        sys.exit(3)
    listener = socket.create_server(("127.0.0.1", port))
    while True:
        connection, _ = listener.accept()
        threading.Thread(target=answer, args=(connection, folder, name), daemon=True).start()


def answer(connection: socket.socket, folder: Path, name: str) -> None:
    with connection:
        try:
            if not connection.recv(65536):
                return  # a look of the proxy's
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n")
            connection.sendall(f"data: hello {name}\n\n".encode())
            while not (folder / f"{name}.go").exists():
                time.sleep(0.01)
            connection.sendall(b"data: [DONE]\n\n")
        except OSError:
            pass


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], sys.argv[4], float(sys.argv[5]))
