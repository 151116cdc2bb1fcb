// Package native carries links between meshctl peers: a WebSocket on the port of the
// Socket.IO door under a path of its own, in it a Noise session, and in that frames of
// many messages each.
//
// docs/protocol.md specifies it. In short: the handshake is Noise NNpsk0 with a key that
// is derived from the mesh's private key, once per process; afterwards each binary
// WebSocket message is one sealed frame, numbered by the nonce, so that a frame that is
// replayed, reflected, reordered, changed or missing ends the link.
package native

// Path is where the native link is served.
const Path = "/meshctl/native/1"

// Transport is what link.Info.Transport says.
const Transport = "native"
