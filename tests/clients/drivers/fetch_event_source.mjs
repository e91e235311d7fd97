// @microsoft/fetch-event-source, with an application that parses the data of every event.

// Runs in node with: @microsoft/fetch-event-source@2.0.1

import { fetchEventSource } from "@microsoft/fetch-event-source";
import { ErrorEvent, MESSAGES, checked, main, row } from "./rows.mjs";

// It was written for browsers.
globalThis.window = globalThis;
globalThis.document = { addEventListener() {}, removeEventListener() {} };

row("chat", "openai-chat", async function* (url) {
  const events = new ReadableStream({
    start(queue) {
      fetchEventSource(`${url}/v1/chat/completions`, {
        method: "POST",
        headers: { "Content-Type": "application/json" },
        body: JSON.stringify({ model: "tiny", messages: MESSAGES, stream: true }),
        openWhenHidden: true,
        onopen: checked,
        onmessage({ data }) {
          if (data === "[DONE]") return;
          const chunk = JSON.parse(data);
          if (chunk.error) throw new ErrorEvent(chunk.error.message);
          queue.enqueue(chunk.choices[0].delta.content);
        },
        onerror(error) {
          throw error; // else it asks again
        },
      }).then(
        () => queue.close(),
        (error) => queue.error(error),
      );
    },
  });
  yield* events;
});

await main();
