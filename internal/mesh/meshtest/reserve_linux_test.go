package meshtest

import (
	"fmt"
	"net"
	"testing"
)

func TestReserve(t *testing.T) {
	addr := fmt.Sprintf("127.0.0.1:%d", ReservePort(t))
	for range 3 {
		if c, err := net.Dial("tcp", addr); err == nil {
			c.Close()
			t.Fatal("somebody listens where nobody does")
		}
		l, err := net.Listen("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		c, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		c.Close()
		l.Close()
	}
}
