// Anthropic's own client for JavaScript.

// Runs in node with: @anthropic-ai/sdk@1.10.0

import assert from "node:assert";
import Anthropic from "@anthropic-ai/sdk";
import { MESSAGES, main, row } from "./rows.mjs";

const ASK = { model: "tiny", messages: MESSAGES, max_tokens: 100 };

const client = (url) => new Anthropic({ baseURL: url, apiKey: "k" });

const textOf = (event) => (event.type === "content_block_delta" && event.delta.type === "text_delta" ? event.delta.text : "");

row("messages", "anthropic", async function* (url) {
  for await (const event of await client(url).messages.create({ ...ASK, stream: true })) yield textOf(event);
});

row("stream-helper", "anthropic", async function* (url) {
  const stream = client(url).messages.stream(ASK);
  let text = "";
  for await (const event of stream) {
    text += textOf(event);
    yield textOf(event);
  }
  const blocks = (await stream.finalMessage()).content.filter((block) => block.type === "text");
  assert.equal(blocks.map((block) => block.text).join(""), text);
});

await main();
