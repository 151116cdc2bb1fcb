// Package seal holds the keys of a mesh and seals what its peers write to each
// other, in the format of the JavaScript library cryptr 6 (docs/protocol.md). It
// does no I/O.
package seal
