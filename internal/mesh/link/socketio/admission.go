package socketio

import (
	"container/list"
	"context"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
)

// admission is a listener that bounds the connections it accepts. A connection is
// undeclared until its declare is called, and is closed when that takes too long.
type admission struct {
	net.Listener
	maxOpen, maxUndeclared, maxPerIP int
	timeout                          time.Duration // for a connection to be declared
	refused                          atomic.Uint64 // connections closed to keep a bound

	mu         sync.Mutex
	open       map[*conn]struct{}
	undeclared *list.List // of *conn, oldest first
	perIP      map[netip.Prefix]int
}

func newAdmission(l net.Listener, cfg *Config) *admission {
	return &admission{
		Listener:      l,
		maxOpen:       cfg.MaxLinks,
		maxUndeclared: cfg.MaxUndeclared,
		maxPerIP:      cfg.MaxUndeclaredPerIP,
		timeout:       cfg.DeclareTimeout,
		open:          make(map[*conn]struct{}),
		undeclared:    list.New(),
		perIP:         make(map[netip.Prefix]int),
	}
}

// Accept gives the next connection that the bounds allow.
func (a *admission) Accept() (net.Conn, error) {
	for {
		nc, err := a.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if c := a.admit(nc); c != nil {
			return c, nil
		}
		a.refused.Add(1)
		_ = nc.Close()
	}
}

// admit makes a conn of nc, or gives nil when a bound forbids it.
func (a *admission) admit(nc net.Conn) *conn {
	c := &conn{Conn: nc, admission: a, accepted: time.Now(), closed: make(chan struct{})}
	if ap, err := netip.ParseAddrPort(nc.RemoteAddr().String()); err == nil {
		c.ip = ap.Addr().Unmap().WithZone("")
	}
	c.site = siteOf(c.ip)

	a.mu.Lock()
	var evicted *conn
	// A newcomer may be the one that declares, so the oldest of its site yields.
	if a.perIP[c.site] >= a.maxPerIP {
		for e := a.undeclared.Front(); e != nil && evicted == nil; e = e.Next() {
			if old := e.Value.(*conn); old.site == c.site {
				evicted = old
				a.settle(old)
			}
		}
	}
	full := a.undeclared.Len() >= a.maxUndeclared || len(a.open) >= a.maxOpen
	if !full {
		a.open[c] = struct{}{}
		c.place = a.undeclared.PushBack(c)
		a.perIP[c.site]++
	}
	a.mu.Unlock()

	if evicted != nil {
		a.refused.Add(1)
		evicted.expire(errEvicted)
	}
	if full {
		return nil
	}
	return c
}

// settle takes c off the list of undeclared connections. a.mu is held.
func (a *admission) settle(c *conn) {
	if c.place == nil {
		return
	}
	a.undeclared.Remove(c.place)
	c.place = nil
	if a.perIP[c.site]--; a.perIP[c.site] == 0 {
		delete(a.perIP, c.site)
	}
}

func (a *admission) forget(c *conn) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.settle(c)
	delete(a.open, c)
}

// watch closes connections whose time to declare is over, until ctx ends.
func (a *admission) watch(ctx context.Context) {
	ticker := time.NewTicker(min(max(a.timeout/20, 5*time.Millisecond), 250*time.Millisecond))
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-ticker.C:
			for _, c := range a.overdue(now) {
				c.expire(errNotDeclared)
			}
		}
	}
}

func (a *admission) overdue(now time.Time) []*conn {
	a.mu.Lock()
	defer a.mu.Unlock()
	var late []*conn
	for e := a.undeclared.Front(); e != nil; e = e.Next() {
		c := e.Value.(*conn)
		if now.Sub(c.accepted) <= a.timeout {
			break // the rest is younger
		}
		if c.waiting.IsZero() && now.Sub(c.accepted)-c.waited > a.timeout {
			late = append(late, c)
		}
	}
	return late
}

// counts gives how many connections there are, and how many of them are undeclared.
func (a *admission) counts() (open, undeclared int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.open), a.undeclared.Len()
}

// closeAll closes every connection.
func (a *admission) closeAll() {
	a.mu.Lock()
	all := make([]*conn, 0, len(a.open))
	for c := range a.open {
		all = append(all, c)
	}
	a.mu.Unlock()
	for _, c := range all {
		_ = c.Close()
	}
}

// conn is an accepted connection.
type conn struct {
	net.Conn
	admission *admission
	ip        netip.Addr   // without zone or IPv4-mapped prefix; the zero Addr if unknown
	site      netip.Prefix // whom the bounds count it for
	accepted  time.Time
	upgraded  atomic.Pointer[upgradedConn] // once it is a WebSocket
	session   atomic.Pointer[session]      // once it is a link
	closed    chan struct{}
	closing   sync.Once

	// Guarded by admission.mu:
	place   *list.Element // among the undeclared; nil when declared or closed
	waiting time.Time     // since when it waits for a derivation of ours; zero if it does not
	waited  time.Duration // how long it did so before
}

// Close closes the connection and frees its place.
func (c *conn) Close() error {
	err := net.ErrClosed
	c.closing.Do(func() {
		close(c.closed)
		err = c.Conn.Close()
		c.admission.forget(c)
	})
	return err
}

// expire closes an undeclared connection for a reason.
func (c *conn) expire(reason error) {
	if s := c.session.Load(); s != nil {
		s.fail(reason)
		return
	}
	_ = c.Close()
}

// declare frees the connection from the bounds on undeclared ones.
func (c *conn) declare() {
	c.admission.mu.Lock()
	defer c.admission.mu.Unlock()
	c.admission.settle(c)
}

// wait stops the clock for declaring until the result is called.
func (c *conn) wait() (resume func()) {
	mu := &c.admission.mu
	mu.Lock()
	c.waiting = time.Now()
	mu.Unlock()
	return func() {
		mu.Lock()
		c.waited += time.Since(c.waiting)
		c.waiting = time.Time{}
		mu.Unlock()
	}
}

// siteOf is what bounds per address count by: an IPv4 address, or the /64 that one
// IPv6 host usually has for itself.
func siteOf(ip netip.Addr) netip.Prefix {
	bits := ip.BitLen()
	if ip.Is6() {
		bits = 64
	}
	p, _ := ip.Prefix(bits) // the zero Addr gives the zero Prefix
	return p
}
