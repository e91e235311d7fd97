// OpenAI's own client for JavaScript.

// Runs in node with: openai@6.49.0

import assert from "node:assert";
import OpenAI from "openai";
import { MESSAGES, main, row } from "./rows.mjs";

const ASK = { model: "tiny", messages: MESSAGES };

const client = (url) => new OpenAI({ baseURL: `${url}/v1`, apiKey: "k" });

row("chat", "openai-chat", async function* (url) {
  for await (const chunk of await client(url).chat.completions.create({ ...ASK, stream: true })) yield chunk.choices[0].delta.content;
});

row("chat-stream-helper", "openai-chat", async function* (url) {
  const stream = client(url).chat.completions.stream(ASK);
  let text = "";
  for await (const chunk of stream) {
    const piece = chunk.choices[0].delta.content ?? "";
    text += piece;
    yield piece;
  }
  assert.equal(await stream.finalContent(), text);
});

row("completions", "openai-completions", async function* (url) {
  for await (const chunk of await client(url).completions.create({ model: "tiny", prompt: "Hi", stream: true })) yield chunk.choices[0].text;
});

row("responses", "openai-responses", async function* (url) {
  for await (const event of await client(url).responses.create({ model: "tiny", input: "Hi", stream: true }))
    if (event.type === "response.output_text.delta") yield event.delta;
});

row("responses-stream-helper", "openai-responses", async function* (url) {
  const stream = client(url).responses.stream({ model: "tiny", input: "Hi" });
  let text = "";
  for await (const event of stream)
    if (event.type === "response.output_text.delta") {
      text += event.delta;
      yield event.delta;
    }
  assert.equal((await stream.finalResponse()).output_text, text);
});

await main();
