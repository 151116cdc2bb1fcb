package meshtest

import (
	"syscall"
	"testing"
)

// ReservePort gives a port of 127.0.0.1 that is this test's until it ends: who asks the system for a free one does not get
// it, while who names it may listen there, again and again. A master that is to come back to its port would
// find it taken now and then.
func ReservePort(t testing.TB) (port int) {
	t.Helper()
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatalf("reserve a port: %v", err)
	}
	t.Cleanup(func() { _ = syscall.Close(fd) })
	// Listeners have this option too. So both may be bound, as only one of them listens.
	if err := syscall.SetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_REUSEADDR, 1); err != nil {
		t.Fatalf("reserve a port: %v", err)
	}
	if err := syscall.Bind(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatalf("reserve a port: %v", err)
	}
	addr, err := syscall.Getsockname(fd)
	if err != nil {
		t.Fatalf("reserve a port: %v", err)
	}
	return addr.(*syscall.SockaddrInet4).Port
}
