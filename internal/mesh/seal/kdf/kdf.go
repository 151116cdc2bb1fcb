// Package kdf derives keys from the private key of a mesh, which takes tens of milliseconds
// on purpose. It has a room of its own since tests leave it, and the hash below it, without
// the race detector, under which a derivation takes four times as long: see .ci/gotest.
package kdf

import (
	"crypto/pbkdf2"
	"crypto/sha512"
)

const (
	// Rounds is how many rounds of PBKDF2 the npm package cryptr takes, and so everybody.
	Rounds = 100_000
	// Len is the length of a derived key in bytes, for AES-256.
	Len = 32
)

// Derive gives the key of Len bytes that PBKDF2 (RFC 8018) with HMAC-SHA-512 makes of a
// private key and a salt. It fails only where FIPS 140-only mode refuses a short key. It
// keeps a core busy, and is safe for concurrent use.
func Derive(private string, salt []byte, rounds int) ([]byte, error) {
	return pbkdf2.Key(sha512.New, private, salt, rounds, Len)
}
