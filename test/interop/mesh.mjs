// What master and node share: keys, sealing, access rules, the choice of the
// socket.io line and the control channel (JSON lines on stdin and stdout).
// Written from the facts in docs/protocol.md alone.
import { readFileSync } from 'node:fs'
import http from 'node:http'
import https from 'node:https'
import { createRequire } from 'node:module'
import { createInterface } from 'node:readline'

const require = createRequire(import.meta.url)
const Cryptr = require('cryptr')

export const publicKey = process.env.MESH_PUBLIC_KEY
export const privateKey = process.env.MESH_PRIVATE_KEY
if (!publicKey || !privateKey) throw new Error('set MESH_PUBLIC_KEY and MESH_PRIVATE_KEY')

// cryptr draws a salt for every message, and so pays a whole PBKDF2 for each.
const cryptr = new Cryptr(privateKey)
export const seal = (value) => cryptr.encrypt(JSON.stringify(value))
export const open = (text) => JSON.parse(cryptr.decrypt(text))

/** library returns the server class and the client function of one socket.io line. */
export function library (major) {
  return {
    Server: require(`socket.io-${major}`).Server,
    connect: require(`socket.io-client-${major}`).io
  }
}

export const serverOptions = { transports: ['websocket'] }

/**
 * carrier returns what peers speak: {scheme, module, options}. tls: undefined, or the
 * files {cert, key, ca}, with which both ends of a connection show certificates.
 */
export function carrier (tls) {
  if (!tls) return { scheme: 'http', module: http, options: {} }
  const { cert, key, ca } = tls
  const options = { cert: readFileSync(cert), key: readFileSync(key), ca: readFileSync(ca) }
  return { scheme: 'https', module: https, options: { ...options, requestCert: true, rejectUnauthorized: true } }
}

const has = (rule, worker) => rule === 'anyNode' || (Array.isArray(rule) && rule.includes(worker))
const known = (schema, worker) => Object.hasOwn(schema, worker)

/** connects says whether a node of worker a connects to one of worker b. */
export function connects (schema, a, b) {
  return known(schema, a) && known(schema, b) &&
    has(schema[a]._connect, b) && has(schema[b]._allow, a)
}

/** calls says whether a may call the commands of b, over whichever link there is. */
export function calls (schema, a, b) {
  return known(schema, a) && known(schema, b) &&
    (has(schema[a]._connect, b) || has(schema[a]._allow, b))
}

export const allows = (schema, b, a) => known(schema, a) && has(schema[b]._allow, a)

/** command finds a command: {broadcast, responds}, or null. */
export function command (schema, worker, name) {
  const groups = schema[worker]?._commands ?? {}
  for (const group of ['_balanced', '_broadcast']) {
    if (Object.hasOwn(groups[group] ?? {}, name)) {
      return { broadcast: group === '_broadcast', responds: groups[group][name]?.responds === true }
    }
  }
  return null
}

export const plainIP = (address) => address.replace(/^::ffff:/, '')

export function report (event, fields = {}) {
  process.stdout.write(JSON.stringify({ event, ...fields }) + '\n')
}

/** control serves the operations of peer() that the test writes, and stops with its stdin. */
export function control (peer) {
  const lines = createInterface({ input: process.stdin })
  lines.on('line', async (line) => {
    const { id, op, ...args } = JSON.parse(line)
    try {
      const operations = peer()
      if (!Object.hasOwn(operations, op)) throw new Error(`unknown operation ${op}`)
      report('result', { id, result: (await operations[op](args)) ?? null })
    } catch (error) {
      report('result', { id, error: error.message })
    }
  })
  lines.on('close', () => process.exit(0))
}
