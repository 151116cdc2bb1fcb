// A JavaScript master.
import { createHash } from 'node:crypto'
import { carrier, connects, library, open, plainIP, privateKey, publicKey, report, seal, serverOptions } from './mesh.mjs'

/**
 * startMaster serves a mesh. Options: sio (3 or 4), schema, host, port (0: free),
 * discoveryPort (0: none), selfAddress (tell a new node its own address too, as
 * masters of the 1.1.0 line do), survive (ignore what cannot be opened; the
 * original dies of it), tls (see carrier).
 */
export function startMaster (options) {
  const { schema, host = '127.0.0.1', port = 0, discoveryPort = 0 } = options
  const nodes = new Map() // socket -> {worker, variant, ip, port}
  const { Server } = library(options.sio)
  const { module, options: secure } = carrier(options.tls)
  const server = module.createServer(secure)
  const io = new Server(server, serverOptions)
  const send = (socket, event, value) => socket.emit(event, seal(value))

  function declare (socket, said) {
    const { worker, port, hostname } = said
    if (!Object.hasOwn(schema, worker)) {
      report('refused', { worker })
      send(socket, 'error', { message: `worker ${worker} is not in the schema` })
      return
    }
    const clientId = socket.client.id
    const variant = said.variant ?? clientId
    const node = { worker, variant, ip: hostname ?? plainIP(socket.handshake.address), port }
    for (const [other, { worker: w, variant: v }] of nodes) {
      if (other !== socket && w === worker && v === variant) nodes.delete(other)
    }
    const again = nodes.has(socket)
    nodes.set(socket, node)
    report('declared', { ...node, again, hostname, extra: said.meshctl !== undefined })
    send(socket, 'declared', { worker, variant, clientId, port, ip: node.ip })

    const reachable = [...nodes].filter(([other, n]) =>
      (other !== socket || options.selfAddress) && connects(schema, worker, n.worker))
    send(socket, 'addnode', reachable.map(([, n]) => n))
    for (const [other, n] of nodes) {
      if (other !== socket && connects(schema, n.worker, worker)) send(other, 'addnode', [node])
    }
  }

  io.on('connection', (socket) => {
    socket.on('declare', (text) => {
      let said
      try {
        said = open(text)
      } catch (error) {
        report('unreadable', { message: error.message })
        if (options.survive) return
        throw error
      }
      declare(socket, said)
    })
    socket.on('disconnect', (reason) => {
      const node = nodes.get(socket)
      if (!node) return
      nodes.delete(socket)
      report('removed', { worker: node.worker, variant: node.variant, reason })
      for (const other of nodes.keys()) send(other, 'removenode', { worker: node.worker, variant: node.variant })
    })
  })

  server.listen(port, host, () => {
    const { port } = server.address()
    if (!discoveryPort) return report('listening', { port })
    discovery(carrier(options.tls), port).listen(discoveryPort, host, () => report('listening', { port, discoveryPort }))
  })

  return { peers: () => [...nodes.values()], stop: () => process.exit(0) }
}

/** discovery answers holders of the public key with the sealed port of the mesh. */
function discovery ({ module, options: secure }, port) {
  const digest = (key) => createHash('md5').update(key + privateKey).digest('hex')
  return module.createServer(secure, (request, response) => {
    const asked = request.headers.discovery_key
    const valid = request.method === 'GET' && request.url === '/' && asked !== undefined && digest(asked) === digest(publicKey)
    report('discovery', { valid })
    if (!valid) return response.writeHead(401).end()
    response.writeHead(200, { 'content-type': 'application/json' }).end(seal({ port }))
  })
}
