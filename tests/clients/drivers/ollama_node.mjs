// Ollama's own client for JavaScript.

// Runs in node with: ollama@0.6.4

import { Ollama } from "ollama";
import { MESSAGES, main, row } from "./rows.mjs";

row("chat", "ollama", async function* (url) {
  for await (const part of await new Ollama({ host: url }).chat({ model: "tiny", messages: MESSAGES, stream: true })) yield part.message.content;
});

await main();
