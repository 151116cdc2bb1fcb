package node

import (
	"testing"

	"github.com/meshctl/meshctl/internal/mesh/seal"
	"github.com/meshctl/meshctl/internal/mesh/wire"
)

// What a master still says while a node ends begins nothing that nobody waits for.
func TestNothingIsDialledAfterTheEnd(t *testing.T) {
	c, err := newCore(Config{Keys: seal.Keys{Public: "p", Private: "k"}, Worker: "left"})
	if err != nil {
		t.Fatal(err)
	}
	defer c.stop()
	d := dialers{core: c, byName: make(map[peerName]*dialer)}
	d.add(c.work, wire.Peer{Worker: "right", Variant: "r1", IP: "127.0.0.1", Port: 1})
	c.stop()
	d.end()
	d.add(c.work, wire.Peer{Worker: "right", Variant: "r2", IP: "127.0.0.1", Port: 1})
	if len(d.byName) > 0 {
		t.Errorf("dialled after the end: %v", d.byName)
	}
}
