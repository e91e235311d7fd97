// The AI SDK with its provider for OpenAI-compatible servers.

// Runs in node with: ai@6.0.326 @ai-sdk/openai-compatible@2.0.87

import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { streamText } from "ai";
import { main, row } from "./rows.mjs";

const ask = (url) => {
  const provider = createOpenAICompatible({ name: "txsse", baseURL: `${url}/v1`, apiKey: "k" });
  return streamText({ model: provider.chatModel("tiny"), prompt: "Hi" });
};

row("fullStream", "openai-chat", async function* (url) {
  for await (const part of ask(url).fullStream) {
    if (part.type === "error") throw part.error;
    if (part.type === "text-delta") yield part.text;
  }
});

row("textStream", "openai-chat", async function* (url) {
  yield* ask(url).textStream;
});

await main();
