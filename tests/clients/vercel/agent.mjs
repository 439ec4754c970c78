// One run of an agent of Vercel's AI SDK: `node agent.mjs BASE_URL RUN [ID...]` prints what it did as JSON.
import { createOpenAI } from "@ai-sdk/openai";
import { Output, generateText, stepCountIs, streamText, tool } from "ai";
import { z } from "zod";

const MODEL = "scripted/scripted-model";
const [url, run, ...ids] = process.argv.slice(2);
const [id] = ids;
const openai = createOpenAI({ baseURL: url, apiKey: "unused" });
const cities = [];

const getWeather = tool({
  description: "The weather in a city",
  inputSchema: z.object({ city: z.string() }),
  execute: async ({ city }) => {
    cities.push(city);
    return `sunny in ${city}`;
  },
});

const asked = {
  model: openai.responses(MODEL),
  system: "You know the weather.",
  prompt: "Weather in Rome?",
  tools: { get_weather: getWeather },
  stopWhen: stepCountIs(4),
  maxRetries: 0,
};

const options = (openai) => ({ providerOptions: { openai } });

const told = (result) => ({
  text: result.text,
  steps: result.steps.map((step) => step.content.map((part) => part.type)),
  ids: result.steps.map((step) => step.providerMetadata?.openai?.responseId ?? null),
});

async function streamed(settings) {
  const result = streamText(settings);
  const pieces = [];
  for await (const piece of result.textStream) pieces.push(piece);
  return { pieces, ...told({ text: await result.text, steps: await result.steps }) };
}

async function turns(settings) {
  const first = await generateText(settings);
  const messages = [
    { role: "user", content: settings.prompt },
    ...first.response.messages,
    { role: "user", content: "Thanks" },
  ];
  const { prompt, ...rest } = settings;
  const again = await generateText({ ...rest, messages });
  return { first: told(first), again: told(again) };
}

async function chained() {
  const first = await generateText(asked);
  const previousResponseId = told(first).ids.at(-1);
  const again = await generateText({ ...asked, system: undefined, prompt: "Thanks", ...options({ previousResponseId }) });
  return { first: told(first), again: told(again) };
}

async function searched() {
  const file_search = openai.tools.fileSearch({ vectorStoreIds: [id] });
  const settings = { ...asked, prompt: "How many wings?", tools: { file_search }, ...options({ include: ["file_search_call.results"] }) };
  const result = await generateText(settings);
  const found = result.toolResults.flatMap((each) => each.output.results ?? []).map((hit) => hit.filename);
  return { found, sources: result.sources.map((source) => source.filename), ...told(result) };
}

// Every side has a tool: the server two and an MCP server's, this program its own.
async function hosted() {
  const [vectorStoreId, serverUrl] = ids;
  const tools = {
    get_weather: getWeather,
    file_search: openai.tools.fileSearch({ vectorStoreIds: [vectorStoreId] }),
    web_search: openai.tools.webSearch({ searchContextSize: "low" }),
    lab: openai.tools.mcp({ serverLabel: "lab", serverUrl, requireApproval: "never" }),
  };
  const result = streamText({ ...asked, prompt: "Find out all of it.", tools });
  const pieces = [];
  for await (const piece of result.textStream) pieces.push(piece);
  const calls = (await result.steps).flatMap((step) => step.toolCalls.map((call) => call.toolName));
  const urls = (await result.sources).map((source) => source.url);
  return { pieces, calls, urls, ...told({ text: await result.text, steps: await result.steps }) };
}

// The MCP server's tool is run once the user has agreed; the second request brings the answer.
async function approved() {
  const lab = openai.tools.mcp({ serverLabel: "lab", serverUrl: id, requireApproval: "always" });
  const settings = { ...asked, system: undefined, tools: { lab }, prompt: undefined };
  const messages = [{ role: "user", content: "Boiling point?" }];
  const first = await generateText({ ...settings, messages });
  const requests = first.content.filter((part) => part.type === "tool-approval-request");
  const content = requests.map(({ approvalId }) => ({ type: "tool-approval-response", approvalId, approved: true, providerExecuted: true }));
  messages.push(...first.response.messages, { role: "tool", content });
  const again = await generateText({ ...settings, messages });
  return { requests: requests.length, ...told(again) };
}

async function structured() {
  const output = Output.object({ schema: z.object({ city: z.string(), degrees: z.number() }) });
  const result = await generateText({ ...asked, tools: undefined, output });
  return { output: result.output };
}

// With a conversation the SDK leaves out what it knows by id, and sends the rest again with every step: not here.
async function conversation() {
  const { system: instructions, ...rest } = asked;
  const prepareStep = ({ stepNumber, messages }) => (stepNumber ? { messages: messages.slice(-1) } : {});
  return told(await generateText({ ...rest, prepareStep, ...options({ conversation: id, instructions }) }));
}

const sealed = options({ store: false, include: ["reasoning.encrypted_content"] });

const RUNS = {
  responses: () => turns(asked),
  unstored: () => turns({ ...asked, ...sealed }),
  chat: () => turns({ ...asked, model: openai.chat(MODEL) }),
  streamed: () => streamed(asked),
  "streamed chat": () => streamed({ ...asked, model: openai.chat(MODEL) }),
  chained,
  conversation,
  searched,
  hosted,
  approved,
  structured,
};

console.log(JSON.stringify({ cities, ...(await RUNS[run]()) }));
