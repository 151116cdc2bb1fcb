package registry_test

import (
	"sync/atomic"
	"testing"
	"time"

	"github.com/meshctl/meshctl/internal/mesh/meshtest"
	"github.com/meshctl/meshctl/internal/mesh/registry"
	"github.com/meshctl/meshctl/internal/redisdb/redistest"
)

// hooked is told of something before its Listener is.
type hooked struct {
	registry.Listener
	found   func(registry.Node)
	masters func([]registry.Master)
}

func (h hooked) Found(n registry.Node) {
	if h.found != nil {
		h.found(n)
	}
	h.Listener.Found(n)
}

func (h hooked) Masters(all []registry.Master) {
	if h.masters != nil {
		h.masters(all)
	}
	h.Listener.Masters(all)
}

func seldom(c *registry.SharedConfig) { c.Lease, c.Renew = time.Hour, time.Hour }

// A node that comes here while it is read that it was at another master is here.
func TestSharedComesWhileFound(t *testing.T) {
	server := redistest.Start(t)
	var m1 atomic.Pointer[member]
	var came atomic.Bool
	m1.Store(begin(t, server, "m1", seldom, func(c *registry.SharedConfig) {
		c.Listener = hooked{Listener: c.Listener, masters: func([]registry.Master) { // m1 meets m2 for the sake of the node
			if !came.Swap(true) {
				m1.Load().Put(declared(m1.Load(), "a", "c2", 2))
			}
		}}
	}))
	m2 := begin(t, server, "m2", seldom)
	m2.Put(declared(m2, "a", "c1", 1))
	m2.awaitView("w/a@m1:c2")
	if got := m1.Load().saw(); got != "" {
		t.Errorf("m1 was told of its own node: %s", got)
	}
}

// A node that another master has by now did not leave, when its link to this one ends.
func TestSharedEndsWhileFound(t *testing.T) {
	server := redistest.Start(t)
	var m1 atomic.Pointer[member]
	certain := make(chan bool, 1)
	m1.Store(begin(t, server, "m1", func(c *registry.SharedConfig) {
		c.Listener = hooked{Listener: c.Listener, found: func(registry.Node) {
			certain <- m1.Load().Remove(declared(m1.Load(), "a", "c1", 1))
		}}
	}))
	m2 := begin(t, server, "m2")
	m1.Load().Put(declared(m1.Load(), "a", "c1", 1))
	m2.awaitView("w/a@m1:c1")
	m2.Put(declared(m2, "a", "c2", 2))
	if meshtest.Await(t, certain, "the node to be found at m2") {
		t.Error("certain that it left")
	}
	m1.Load().awaitView("w/a@m2:c2")
}

// A node that has drained leaves its master for good, also while Redis is away. The others
// learn of it when Redis is back, or miss it and give it the grace.
func TestSharedOutageDrained(t *testing.T) {
	server := redistest.Start(t)
	short := func(c *registry.SharedConfig) { c.Grace = time.Second }
	m1, m2 := begin(t, server, "m1", short), begin(t, server, "m2", short)
	before, meanwhile := declared(m1, "before", "c1", 1), declared(m1, "meanwhile", "c2", 1)
	before.Draining = true
	m1.Put(before)
	m1.Put(meanwhile)
	m2.awaitView("w/before@m1:c1 drains, w/meanwhile@m1:c2")
	server.Kill()
	awaitErr(t, true, m1, m2)
	meanwhile.Draining = true
	m1.Put(meanwhile)
	for _, n := range []registry.Node{before, meanwhile} {
		if !m1.Remove(n) {
			t.Errorf("it is uncertain whether %s left", n.Name())
		}
	}
	server.Restart()
	m2.awaitView("")
	if gone := m1.wasGone(); len(gone) > 0 {
		t.Errorf("gone at m1, which knew: %v", gone)
	}
}
