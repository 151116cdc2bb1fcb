// An echo over socket.io, as a server or a client: node echo.mjs MODULES serve|call
// plain|cryptr [ENDPOINT]. It answers lines on stdin with lines of JSON, as child.go does.
import { createRequire } from 'node:module'
import { createInterface } from 'node:readline'
import http from 'node:http'
import { randomUUID } from 'node:crypto'

const [modules, role, kind, endpoint] = process.argv.slice(2)
const require = createRequire(modules + '/')
const reply = (value) => process.stdout.write(JSON.stringify(value) + '\n')
const used = () => {
  const { user, system } = process.cpuUsage()
  return { cpu_us: user + system, mallocs: 0 }
}
// cryptr draws a salt for every message, and so pays a whole PBKDF2 for each.
const Cryptr = require('cryptr')
const cryptr = new Cryptr('private key of the benchmark')
const seal = (value) => cryptr.encrypt(JSON.stringify(value))
const open = (text) => JSON.parse(cryptr.decrypt(text))
const options = { transports: ['websocket'], maxHttpBufferSize: 1e8 }

if (role === 'serve') {
  const server = http.createServer()
  const { Server } = require('socket.io-4')
  new Server(server, options).on('connection', (socket) => {
    socket.on('echo', (payload, answer) => answer(payload))
    socket.on('command', (text) => {
      const { uid, echo } = open(text)
      socket.emit('response', seal({ uid, echo }))
    })
  })
  server.listen(0, '127.0.0.1', () => reply({ addr: `127.0.0.1:${server.address().port}` }))
  createInterface({ input: process.stdin }).on('line', () => reply(used())).on('close', () => process.exit(0))
} else {
  const { io } = require('socket.io-client-4')
  const socket = io('http://' + JSON.parse(endpoint).addr, options)
  const pending = new Map()
  socket.on('response', (text) => {
    const { uid, echo } = open(text)
    pending.get(uid)(echo)
    pending.delete(uid)
  })
  const call = kind === 'plain'
    ? (payload) => new Promise((resolve) => socket.emit('echo', payload, resolve))
    : (payload) => new Promise((resolve) => {
        const uid = randomUUID()
        pending.set(uid, resolve)
        socket.emit('command', seal({ uid, echo: payload }))
      })
  socket.on('connect', () => reply({}))
  const now = () => Number(process.hrtime.bigint()) / 1e3
  createInterface({ input: process.stdin }).on('line', async (line) => {
    const load = JSON.parse(line)
    const head = { id: 12345, tags: ['alpha', 'beta'], nested: { a: 1.5, b: null, c: true }, text: '' }
    const payload = { ...head, text: 'x'.repeat(load.payload - JSON.stringify(head).length) }
    const took = []
    const before = used()
    const start = now()
    const end = start + load.duration_ms * 1000
    await Promise.all(Array.from({ length: load.in_flight }, async () => {
      for (let begun = now(); begun < end;) {
        await call(payload)
        const done = now()
        took.push(done - begun)
        begun = done
      }
    }))
    const seconds = (now() - start) / 1e6
    took.sort((a, b) => a - b)
    const quantile = (q) => took[Math.min(took.length - 1, Math.floor(took.length * q))]
    reply({ calls: took.length, seconds, p50_us: quantile(0.5), p99_us: quantile(0.99), cpu_us: used().cpu_us - before.cpu_us, mallocs: 0 })
  }).on('close', () => process.exit(0))
}
