"""A real browser: Chromium without a screen, its EventSource and its fetch, from a page of another origin."""

# Runs in .venv with: chromium

from __future__ import annotations

import http.server
import os
import signal
import subprocess
import sys
import tempfile
import threading
from typing import Final
from urllib.parse import urlencode

LIMIT: Final = 350.0
# As root, without a network, and without asking anybody for updates.
OPTIONS: Final = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run", "--no-proxy-server", "--disable-quic"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-extensions"),
)

PAGE: Final = """<!doctype html>
<meta charset="utf-8">
<title>txsse</title>
<script type="module">
const AT_ONCE = 5; // a browser opens six connections to a host
const LIMIT = 60000;
const CHAT = { model: "tiny", messages: [{ role: "user", content: "Hi" }], stream: true };
const asked = new URLSearchParams(location.search);
const rows = new Map();
const row = (name, dialect, read) => rows.set(name, read);

row("eventsource", "sse", async function* (url) {
  const source = new EventSource(`${url}/events`);
  const events = new ReadableStream({
    start(queue) {
      source.onmessage = (event) => (event.data === "[DONE]" ? queue.close() : queue.enqueue(event.data));
      source.addEventListener("error", (event) => {
        const error = new Error(event.data ?? "");
        error.name = event.constructor.name; // a MessageEvent is the stream's, an Event the connection's
        queue.error(error);
      });
    },
  });
  try {
    for await (const data of events) yield JSON.parse(data).text;
  } finally {
    source.close();
  }
});

row("fetch", "openai-chat", async function* (url) {
  const headers = { "Content-Type": "application/json" };
  const response = await fetch(`${url}/v1/chat/completions`, { method: "POST", headers, body: JSON.stringify(CHAT) });
  if (!response.ok) throw new Error(`HTTP ${response.status}: ${await response.text()}`);
  let rest = "";
  for await (const piece of response.body.pipeThrough(new TextDecoderStream())) {
    const lines = (rest + piece).split("\\n");
    rest = lines.pop();
    for (const line of lines) {
      if (!line.startsWith("data: ") || line === "data: [DONE]") continue;
      const chunk = JSON.parse(line.slice(6));
      if (chunk.error) throw new Error(chunk.error.message);
      yield chunk.choices[0].delta.content ?? "";
    }
  }
});

async function run([name, scenario]) {
  const result = { row: name, scenario, text: "", error: null };
  const collect = async () => {
    for await (const piece of rows.get(name)(`${asked.get("base")}/${name}/${scenario}`)) result.text += piece;
  };
  try {
    await Promise.race([collect(), new Promise((_, reject) => setTimeout(reject, LIMIT, new Error("no end")))]);
  } catch (raised) {
    result.error = { type: raised.name, message: raised.message };
  }
  await fetch("/result", { method: "POST", body: JSON.stringify(result) });
}

const cells = [...rows.keys()].flatMap((name) => asked.getAll("scenario").map((scenario) => [name, scenario]));
const work = async () => { while (cells.length) await run(cells.shift()); };
await Promise.all(Array.from({ length: AT_ONCE }, work));
await fetch("/result", { method: "POST", body: "" });
</script>
"""


class Site(http.server.BaseHTTPRequestHandler):
    """Serves the page and prints the results that it sends; an empty one is the last."""

    def do_GET(self) -> None:
        self._answer(PAGE)

    def do_POST(self) -> None:
        result = self.rfile.read(int(self.headers["Content-Length"])).decode()
        self._answer("")
        if result:
            print(result, flush=True)
        else:
            self.server.shutdown()

    def _answer(self, text: str) -> None:
        body = text.encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Standard output is for results."""


def main() -> None:
    """``chromium.py URL SCENARIO..``"""
    base, *scenarios = sys.argv[1:]
    with (
        http.server.ThreadingHTTPServer(("127.0.0.1", 0), Site) as site,
        tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile,
    ):
        query = urlencode({"base": base, "scenario": scenarios}, doseq=True)
        command = ["chromium", *OPTIONS, f"--user-data-dir={profile}", f"http://127.0.0.1:{site.server_port}/?{query}"]
        quiet = subprocess.DEVNULL
        with subprocess.Popen(command, stdin=quiet, stdout=quiet, stderr=quiet, start_new_session=True) as browser:
            limit = threading.Timer(LIMIT, site.shutdown)
            limit.start()
            site.serve_forever(poll_interval=0.05)
            limit.cancel()
            os.killpg(browser.pid, signal.SIGKILL)


if __name__ == "__main__":
    main()
