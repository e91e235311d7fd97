// The eventsource package: the browser's EventSource for Node. It reconnects after any end, so that the application closes it.

// Runs in node with: eventsource@4.1.1

import { EventSource } from "eventsource";
import { ErrorEvent, main, row, textOf } from "./rows.mjs";

row("events", "sse", async function* (url) {
  const source = new EventSource(`${url}/events`);
  const events = new ReadableStream({
    start(queue) {
      source.onmessage = (event) => (event.data === "[DONE]" ? queue.close() : queue.enqueue(event.data));
      // An event named error comes to listeners only, not to onerror, which is for the connection's errors.
      source.addEventListener("error", (event) => queue.error(event.data ? new ErrorEvent(event.data) : new Error(event.message)));
    },
  });
  try {
    for await (const data of events) yield textOf(data);
  } finally {
    source.close();
  }
});

await main();
