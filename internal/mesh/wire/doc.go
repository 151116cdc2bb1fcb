// Package wire says what peers write to each other: event names, message
// structs, their JSON codec, the limits they are held to and the codes by which
// requests fail. It does no I/O and knows nothing of sealing or sockets.
//
// Whatever a JavaScript socket-mesh node sends or expects is reproduced exactly
// (see docs/protocol.md). What only meshctl peers understand travels as one extra
// member named "meshctl", or as extra events; JavaScript peers ignore both.
package wire
