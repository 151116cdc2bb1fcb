//go:build !linux

package meshtest

import (
	"net"
	"testing"
)

// ReservePort gives a port of 127.0.0.1 that is free. How to keep it so is not known here: while nobody listens
// somebody else may take it.
func ReservePort(t testing.TB) (port int) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatalf("reserve a port: %v", err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}
