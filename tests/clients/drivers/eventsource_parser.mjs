// eventsource-parser on top of fetch: what most SDKs for JavaScript are made of.

// Runs in node with: eventsource-parser@3.1.1

import { EventSourceParserStream } from "eventsource-parser/stream";
import { ErrorEvent, checked, main, row, textOf } from "./rows.mjs";

row("events", "sse", async function* (url) {
  const response = checked(await fetch(`${url}/events`, { headers: { Accept: "text/event-stream" } }));
  for await (const { event, data } of response.body.pipeThrough(new TextDecoderStream()).pipeThrough(new EventSourceParserStream())) {
    if (event === "error") throw new ErrorEvent(data);
    yield textOf(data);
  }
});

await main();
