// One JavaScript peer of a mesh, for tests: `node peer.mjs '{"role":"node", …}'`.
// Options: see startMaster and startNode. Keys come from the environment.
import { control } from './mesh.mjs'
import { startMaster } from './master.mjs'
import { startNode } from './node.mjs'

const options = JSON.parse(process.argv[2])
// A node that still discovers its master already takes orders to stop.
let peer = { stop: () => process.exit(0) }
control(() => peer)
peer = await (options.role === 'master' ? startMaster(options) : startNode(options))
