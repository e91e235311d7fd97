// What the drivers for Node share: rows.py tells the rules. A row is an asynchronous generator of text:
//
//     // Runs in node with: some-client@1.2.3
//     row("chat", "openai-chat", async function* (url) { yield* new SomeClient(url).read(); });
//     await main();

export const LIMIT = 120_000; // milliseconds
export const MESSAGES = [{ role: "user", content: "Hi" }];

const rows = new Map();
const print = console.log;
console.log = console.info = console.error; // clients print what they like

/** The stream said that it failed: for libraries that hand out events and leave their meaning to the application. */
export class ErrorEvent extends Error {}

/** The text in the data of an event of dialect sse. */
export const textOf = (data) => (data === "[DONE]" ? "" : JSON.parse(data).text);

/** A response that is an answer. */
export function checked(response) {
  if (!response.ok) throw new Error(`HTTP ${response.status}`);
  return response;
}

export function row(name, dialect, read) {
  rows.set(name, read);
}

/** `driver.mjs URL SCENARIO..`: every row in every scenario, all at once, a line of JSON for each. */
export async function main() {
  const [base, ...scenarios] = process.argv.slice(2);
  await Promise.all([...rows].flatMap(([name, read]) => scenarios.map((scenario) => run(base, name, read, scenario))));
  process.exit(0); // whatever a client keeps open
}

async function run(base, name, read, scenario) {
  let text = "";
  let error = null;
  const collect = async () => {
    for await (const piece of read(`${base}/${name}/${scenario}`)) text += piece ?? "";
  };
  const limit = new Promise((_, reject) => setTimeout(reject, LIMIT, new Error("no end")));
  try {
    await Promise.race([collect(), limit]);
  } catch (raised) {
    const kind = raised.name ?? "Error";
    error = { type: kind === "Error" ? raised.constructor.name : kind, message: raised.message ?? JSON.stringify(raised) };
  }
  print(JSON.stringify({ row: name, scenario, text, error }));
}
