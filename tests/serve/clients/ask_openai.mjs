// openai for Node: base64, its default, and float; its own exceptions.
// VECTILE_CLIENTS is the directory in which npm installed the packages.
import { createRequire } from "node:module";

const require = createRequire(`${process.env.VECTILE_CLIENTS}/`);
const { OpenAI } = require("openai");
const [address, model, list] = process.argv.slice(2);
const texts = JSON.parse(list);
const open = (apiKey) => new OpenAI({ baseURL: `${address}/v1`, apiKey, maxRetries: 0 });
const client = open("secret");

async function vectors(options) {
  const answer = await client.embeddings.create({ model, input: texts, ...options });
  return answer.data.map((one) => [...one.embedding]);
}

async function caught(call) {
  try {
    await call();
  } catch (error) {
    return { class: error.constructor.name, says: error.message, status: error.status };
  }
  return null;
}

const models = [];
for await (const one of client.models.list()) models.push(one.id);
console.log(JSON.stringify({
  vectors: { base64: await vectors({}), float: await vectors({ encoding_format: "float" }) },
  models,
  errors: {
    "unknown model": await caught(() => client.embeddings.create({ model: "no-such-model", input: texts })),
    "empty list": await caught(() => client.embeddings.create({ model, input: [] })),
    "wrong key": await caught(() => open("wrong").embeddings.create({ model, input: texts })),
  },
}));
