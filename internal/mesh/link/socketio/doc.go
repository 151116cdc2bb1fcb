// Package socketio is the door of the mesh for JavaScript peers: link.Link over
// Engine.IO 4 and Socket.IO 5, WebSocket only, every message one sealed string.
//
// The serving side is the socket.io/v2 library with everything that a stranger
// sends kept away from it: admission.go bounds connections, upgrade.go lets nothing
// but proper handshakes through, guard.go parses packets itself and takes events
// past the library's dispatcher, gate.go rations key derivations. The dialling side
// (dial.go, client.go) uses the WebSocket library alone. Both ends are a session,
// which has the queues, seals and opens, and ends the link.
//
// # Ends of a link
//
// Close writes what is queued, then, for a reason that is a *wire.Error of code
// denied or replaced, a Socket.IO disconnect (after which a JavaScript client stays
// away, while after a plain close it dials again), then a WebSocket close frame that
// carries the reason's code to meshctl peers. That code is not authenticated: whoever
// can write it could as well cut the connection.
package socketio
