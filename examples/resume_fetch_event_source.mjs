// Read a streamed answer with Microsoft's fetch-event-source, over as many connections as it takes.
//
// Needs `npm install @microsoft/fetch-event-source` and a proxy whose route has resume.mode, as in resume.toml. Run it as:
//
//     node examples/resume_fetch_event_source.mjs http://127.0.0.1:8787/v1 "Good morning?"
//
// The library sends the same POST again when the connection breaks, with the id of the last event. For the proxy that is the rest of the
// stream, not a new question.

import { fetchEventSource } from "@microsoft/fetch-event-source";

if (typeof window === "undefined") {
  // Not a browser, for which it was written.
  globalThis.window = globalThis;
  globalThis.document = { addEventListener() {}, removeEventListener() {} };
}

class Failed extends Error {}

export async function read(baseURL, question, show) {
  let last = "";
  const done = new AbortController();
  await fetchEventSource(`${baseURL}/chat/completions`, {
    method: "POST",
    headers: {
      "Content-Type": "application/json",
      Authorization: "Bearer sk-1",
      "X-Txsse-Resume": "1", // it can use ids
      "Idempotency-Key": crypto.randomUUID(), // a connection that broke before the first id: the model is not asked again
    },
    body: JSON.stringify({ model: "demo", stream: true, messages: [{ role: "user", content: question }] }),
    signal: done.signal,
    openWhenHidden: true,
    fetch(url, init) {
      // The library takes an id for that of the last event as soon as it has read the line: of an event that was cut in two the rest would
      // be lost. So the cursor is ours.
      const { "last-event-id": theirs, ...headers } = init.headers;
      return fetch(url, { ...init, headers: last ? { ...headers, "Last-Event-ID": last } : headers });
    },
    async onopen(response) {
      if (response.status === 204) return done.abort(); // there is nothing left
      if (!response.ok) throw new Failed(`${response.status}: ${await response.text()}`);
      if (response.headers.has("X-Stream-Gap")) throw new Failed("a part of the stream is not kept any more");
    },
    onmessage({ id, data }) {
      if (id) last = id;
      if (data === "[DONE]") return done.abort();
      if (!data) return; // a comment with a blank line after it
      const chunk = JSON.parse(data);
      if (chunk.error) throw new Failed(chunk.error.message);
      for (const choice of chunk.choices) show(choice.delta.content ?? "");
    },
    onclose() {
      throw new Failed("the stream ended before the answer did");
    },
    onerror(error) {
      if (error instanceof Failed) throw error; // else it asks again, after a second or what the stream's `retry:` said
    },
  });
}

const [baseURL = "http://127.0.0.1:8787/v1", question = "Good morning?"] = process.argv.slice(2);
try {
  await read(baseURL, question, (text) => process.stdout.write(text));
  process.stdout.write("\n");
} catch (error) {
  console.error(`\nfailed: ${error.message}`);
  process.exitCode = 1;
}
