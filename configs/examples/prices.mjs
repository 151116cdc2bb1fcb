#!/usr/bin/env node
// A worker of a mesh in JavaScript, without packages: knows prices.
//
// meshctl starts it once (method: { stdio: [node, prices.mjs] }) and speaks
// JSON-RPC 2.0 with it, one message a line, on stdin and stdout. stderr is logged.
// wordcount.py shows the messages.

import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';

const INVALID_PARAMS = -32602;
const UNKNOWN_METHOD = -32601;
const FAILED = -32000;

// Failure is a JSON-RPC error, of this program's or as the answer to a call.
class Failure extends Error {
  constructor(code, message, data) {
    super(message);
    this.code = code;
    this.data = data;
  }
}

const running = new Map(); // id of a request -> AbortController
const calls = new Map(); // id of a call of our own -> { resolve, reject }
let lastCall = 0;

function write(message) {
  process.stdout.write(JSON.stringify({ jsonrpc: '2.0', ...message }) + '\n');
}

// call asks "worker.command" for the given request and gives its result; rejects with a
// Failure. It has as much time as the request, and ends with it, wherever it runs.
function call(request, target, payload) {
  const id = `c${++lastCall}`;
  return new Promise((resolve, reject) => {
    calls.set(id, { resolve, reject });
    write({ id, method: 'call', params: { target, payload, for: request.id } });
  });
}

const prices = new Map([['translation', 12], ['apple', 35], ['pear', 42]]); // cents

// The commands. request.signal aborts when nobody waits for the result any more.
const commands = {
  async quote(payload) {
    const { item, quantity = 1 } = payload ?? {};
    if (!prices.has(item)) throw new Failure(INVALID_PARAMS, `item must be one of ${[...prices.keys()].join(', ')}`);
    if (!Number.isInteger(quantity) || quantity < 0) throw new Failure(INVALID_PARAMS, 'quantity must be a whole number');
    return { item, quantity, total: (prices.get(item) * quantity) / 100 };
  },

  // haggle takes ten seconds, and stops when nobody waits any more.
  async haggle(payload, request) {
    await sleep(10_000, undefined, { signal: request.signal });
    return { discount: 0 };
  },

  // invoice has the worker text count the words of all texts at once.
  async invoice(payload, request) {
    const texts = payload?.texts;
    if (!Array.isArray(texts)) throw new Failure(INVALID_PARAMS, 'the payload must be {"texts": ["…"]}');
    const counts = await Promise.all(texts.map((text) => call(request, 'text.count', { text })));
    const words = counts.reduce((sum, c) => sum + c.words, 0);
    return { texts: texts.length, words, total: (prices.get('translation') * words) / 100 };
  },
};

async function handle({ id, method, params }) {
  const canceled = new AbortController();
  running.set(id, canceled);
  try {
    if (!Object.hasOwn(commands, method)) throw new Failure(UNKNOWN_METHOD, `prices has no ${method}`);
    const result = await commands[method](params.payload, { id, signal: canceled.signal });
    if (!canceled.signal.aborted) write({ id, result });
  } catch (e) {
    if (canceled.signal.aborted) console.error(`${method} was canceled`);
    else write({ id, error: { code: e instanceof Failure ? e.code : FAILED, message: e.message, data: e.data } });
  } finally {
    running.delete(id);
  }
}

function answered({ id, result, error }) {
  const waiting = calls.get(id);
  calls.delete(id);
  if (error) waiting?.reject(new Failure(error.code, error.message, error.data));
  else waiting?.resolve(result);
}

createInterface({ input: process.stdin })
  .on('line', (line) => {
    const message = JSON.parse(line);
    if (message.method === undefined) answered(message);
    else if (message.method === 'cancel' && message.id === undefined) running.get(message.params.id)?.abort();
    else if (message.id !== undefined) handle(message);
  })
  .on('close', () => process.exit(0)); // meshctl wants us to end
