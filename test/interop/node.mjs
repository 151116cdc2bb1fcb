// A JavaScript node.
import { randomUUID } from 'node:crypto'
import { allows, calls, carrier, command, library, open, plainIP, publicKey, report, seal, serverOptions } from './mesh.mjs'

const discoveryTimeout = 2000
const reconnection = { reconnectionDelay: 200, reconnectionDelayMax: 500 }

/**
 * startNode joins a mesh. Options: sio (3 or 4), schema, worker, variant (may be
 * null or missing), hostname, meshPort (0: free), masterHost, masterPort
 * (missing: discovery at discoveryPort), handlers ({NAME: 'echo' | 'throw' |
 * {slow: MS} | {wrap: KEY} | {ask: TARGET}}), requestTimeout (ms; 3000 as in the
 * original), survive (a handler that throws ends only its request; the original
 * dies of it), tls (see carrier).
 */
export async function startNode (options) {
  const { schema, worker, masterHost = '127.0.0.1', requestTimeout = 3000 } = options
  const { Server, connect } = library(options.sio)
  const { scheme, module, options: secure } = carrier(options.tls)
  let variant = options.variant
  const peers = new Map() // "worker/variant" -> {worker, variant, ip, port, dialed, accepted: Set}
  const pending = new Map() // uid -> {settle, timer}
  const turns = new Map() // "worker.command" -> count of calls

  const nameOf = (p) => `${p.worker}/${p.variant}`
  const send = (socket, event, value) => socket.emit(event, seal(value))

  function peerOf (who) {
    const name = nameOf(who)
    if (!peers.has(name)) peers.set(name, { worker: who.worker, variant: who.variant, dialed: null, accepted: new Set() })
    return peers.get(name)
  }

  function forget (peer) {
    if (!peer.dialed && peer.accepted.size === 0) peers.delete(nameOf(peer))
  }

  /** linkTo chooses one open link to a peer, whichever side opened it. */
  function linkTo (peer) {
    if (peer.dialed?.connected) return peer.dialed
    return [...peer.accepted].find((socket) => socket.connected)
  }

  function announce (event, peer, dialed, more = {}) {
    const { worker, variant, ip, port } = peer
    report(event, { worker, variant, ip, port, dialed, ...more })
  }

  // What arrives over a link, in either direction.

  async function handle (handler, message) {
    if (handler === 'echo') return { variant, got: message }
    if (handler === 'throw') throw new Error('handler failed')
    if (handler.slow !== undefined) {
      await new Promise((resolve) => setTimeout(resolve, handler.slow))
      return { variant, got: message }
    }
    if (handler.wrap !== undefined) return { [handler.wrap]: message }
    if (handler.ask !== undefined) return { variant, answer: await call({ target: handler.ask, payload: message }) }
    throw new Error(`unknown handler ${JSON.stringify(handler)}`)
  }

  function serve (socket, caller) {
    socket.on('command', async (text) => {
      const { uid, ...message } = open(text)
      const [name] = Object.keys(message)
      const from = caller()
      report('command', { name, uid, message, from })
      if (!from || !Object.hasOwn(options.handlers ?? {}, name)) return
      let result
      try {
        result = await handle(options.handlers[name], message)
      } catch (error) {
        if (!options.survive) throw error // an unhandled rejection: the process ends
        report('handler-error', { name, message: error.message })
        return
      }
      if (uid !== undefined) send(socket, 'response', { uid, [name]: result })
    })
    socket.on('response', (text) => {
      const { uid, ...result } = open(text)
      const request = pending.get(uid)
      if (!request) return report('late-response', { uid })
      pending.delete(uid)
      clearTimeout(request.timer)
      request.settle(result)
    })
  }

  // Links that this node opens.

  function dial ({ worker: w, variant: v, ip, port }) {
    if (w === worker && v === variant) return
    const peer = peerOf({ worker: w, variant: v })
    if (peer.dialed) {
      if (peer.ip === ip && peer.port === port) return
      peer.dialed.disconnect()
    }
    Object.assign(peer, { ip, port })
    const socket = connect(`${scheme}://${ip}:${port}`, { ...secure, ...serverOptions, ...reconnection, forceNew: true })
    peer.dialed = socket
    serve(socket, () => nameOf(peer))
    socket.on('connect', () => {
      send(socket, 'declare', { worker, variant })
      announce('connection', peer, true)
    })
    socket.on('disconnect', (reason) => announce('disconnection', peer, true, { reason }))
  }

  // The original closes the links of both directions (conversation.jsonl, 10804 ms).
  function remove ({ worker, variant }) {
    report('removenode', { worker, variant })
    const peer = peers.get(`${worker}/${variant}`)
    if (!peer) return
    for (const socket of peer.accepted) socket.disconnect()
    peer.dialed?.disconnect()
    peer.dialed = null
    forget(peer)
  }

  // Links that others open.

  function accept (socket) {
    let peer = null
    const leave = (reason) => {
      if (!peer) return
      peer.accepted.delete(socket)
      announce('disconnection', peer, false, { reason })
      forget(peer)
    }
    serve(socket, () => peer && nameOf(peer))
    socket.on('declare', (text) => {
      const said = open(text)
      const self = said.worker === worker && said.variant === variant
      if (self || !allows(schema, worker, said.worker)) {
        report('denied', { worker: said.worker, variant: said.variant, self })
        return socket.disconnect()
      }
      const declared = peerOf(said)
      if (declared === peer) return report('declared-again', { worker: said.worker, variant: said.variant })
      leave('declared as another')
      peer = declared
      peer.ip ??= plainIP(socket.handshake.address)
      peer.accepted.add(socket)
      announce('connection', peer, false)
    })
    socket.on('disconnect', leave)
  }

  // Calls.

  function request (peer, name, payload, responds) {
    const socket = linkTo(peer)
    if (!responds) {
      send(socket, 'command', { [name]: payload })
      return null
    }
    const uid = randomUUID()
    return new Promise((settle, fail) => {
      const timer = setTimeout(() => {
        pending.delete(uid)
        fail(new Error('Request timed out'))
      }, requestTimeout)
      pending.set(uid, { settle, timer })
      send(socket, 'command', { uid, [name]: payload })
    })
  }

  async function call ({ target, payload = null, only, exclude }) {
    const [to, name] = target.split('.')
    const found = command(schema, to, name)
    if (!found) throw new Error(`unknown command ${target}`)
    if (!calls(schema, worker, to)) throw new Error(`${worker} may not call ${to}`)
    const named = (list, peer) => list.some((p) => nameOf(p) === nameOf(peer))
    const reached = [...peers.values()].filter((p) => p.worker === to && linkTo(p) &&
      (!only || named(only, p)) && !(exclude && named(exclude, p)))
    if (reached.length === 0) throw new Error(`no variant of ${to}`)
    if (found.broadcast) {
      const results = reached.map((peer) => request(peer, name, payload, found.responds))
      return found.responds ? Promise.all(results) : null
    }
    const turn = turns.get(target) ?? 0
    turns.set(target, turn + 1)
    return request(reached[turn % reached.length], name, payload, found.responds)
  }

  // The mesh server, then the master.

  const server = module.createServer(secure)
  const io = new Server(server, serverOptions)
  io.on('connection', accept)
  await new Promise((resolve) => server.listen(options.meshPort ?? 0, '127.0.0.1', resolve))
  const meshPort = server.address().port
  report('listening', { port: meshPort })

  const masterPort = options.masterPort ?? await discover(carrier(options.tls), masterHost, options.discoveryPort)
  const master = connect(`${scheme}://${masterHost}:${masterPort}`, { ...secure, ...serverOptions, ...reconnection, forceNew: true })
  function declare () {
    send(master, 'declare', { worker, port: meshPort, variant: options.variant, hostname: options.hostname })
  }
  master.on('connect', declare)
  master.on('disconnect', (reason) => report('master-lost', { reason }))
  master.on('declared', (text) => {
    const said = open(text)
    variant = said.variant
    report('declared', said)
  })
  master.on('addnode', (text) => {
    const nodes = open(text)
    report('addnode', { nodes })
    nodes.forEach(dial)
  })
  master.on('removenode', (text) => remove(open(text)))
  master.on('error', (text) => report('error', open(text)))

  return {
    call,
    peers: () => [...peers.values()].filter(linkTo).map((p) => ({
      worker: p.worker,
      variant: p.variant,
      ip: p.ip,
      port: p.port,
      dialed: p.dialed?.connected === true,
      accepted: [...p.accepted].filter((s) => s.connected).length
    })),
    'declare-again': ({ to = 'master' }) => {
      if (to === 'master') declare()
      if (to !== 'links') return
      for (const { dialed } of peers.values()) {
        if (dialed?.connected) send(dialed, 'declare', { worker, variant })
      }
    },
    'disconnect-master': () => { master.disconnect() },
    'reconnect-master': () => { master.connect() },
    stop: () => process.exit(0)
  }
}

/** discover asks the master's discovery server for the port of the mesh until it answers. */
async function discover (by, host, port = 8765) {
  for (;;) {
    try {
      const { port: found } = open(await get(by, host, port))
      report('discovered', { port: found })
      return found
    } catch (error) {
      report('not-discovered', { message: error.message })
      await new Promise((resolve) => setTimeout(resolve, 200))
    }
  }
}

function get ({ module, options }, host, port) {
  return new Promise((resolve, reject) => {
    const request = module.get({ ...options, host, port, path: '/', timeout: discoveryTimeout, headers: { discovery_key: publicKey } }, (response) => {
      let body = ''
      response.setEncoding('utf8')
      response.on('data', (part) => { body += part })
      response.on('end', () => response.statusCode === 200 ? resolve(body) : reject(new Error(`status ${response.statusCode}`)))
    })
    request.on('timeout', () => request.destroy(new Error('time-out')))
    request.on('error', reject)
  })
}
