package node_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/meshctl/meshctl/internal/mesh/handler"
	"github.com/meshctl/meshctl/internal/mesh/link"
	"github.com/meshctl/meshctl/internal/mesh/master"
	"github.com/meshctl/meshctl/internal/mesh/meshtest"
	"github.com/meshctl/meshctl/internal/mesh/meshtest/fault"
	"github.com/meshctl/meshctl/internal/mesh/node"
	"github.com/meshctl/meshctl/internal/mesh/wire"
	"github.com/meshctl/meshctl/internal/pause"
)

// slack is what a loaded machine may add to a time.
const slack = 4 * time.Second

// behindProxy gives a node that others reach only through a proxy: it binds a port of
// 127.0.0.1, and the proxy the same one of 127.0.0.2, which it advertises.
func behindProxy(t *testing.T) (*fault.Proxy, meshtest.Option) {
	t.Helper()
	if runtime.GOOS != "linux" {
		t.Skip("only Linux has all of 127.0.0.0/8")
	}
	for range 100 {
		port := meshtest.ReservePort(t)
		p, err := fault.Listen(fault.Config{
			Listen: fmt.Sprintf("127.0.0.2:%d", port), To: fmt.Sprintf("127.0.0.1:%d", port), Logger: meshtest.Log(t, "proxy"),
		})
		if err != nil {
			continue // that port is taken
		}
		t.Cleanup(p.Close)
		return p, func(c *node.Config) { c.Host, c.MeshPort, c.Advertise = "127.0.0.1", port, "127.0.0.2" }
	}
	t.Fatal("found no port that is free at two addresses")
	return nil, nil
}

// losses notes when a node lost its last link to another.
type losses struct {
	mu   sync.Mutex
	last time.Time
	n    int
}

func (l *losses) note(c *node.Config) {
	c.Hooks.OnDisconnection = func(wire.Peer) {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.last = time.Now()
		l.n++
	}
}

func (l *losses) count() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.n
}

func (l *losses) at(t *testing.T) time.Time {
	t.Helper()
	meshtest.WaitFor(t, func() bool { return l.count() > 0 }, func() string { return "a loss" })
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.last
}

// stalls is for how long at a time this process did not run.
type stalls struct {
	mu    sync.Mutex
	worst time.Duration
}

// stalled is for how long a process has not run at a time that proves nothing of heartbeats.
const stalled = 300 * time.Millisecond

func (s *stalls) any() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.worst > stalled
}

// watchStalls begins to look for times in which this process does not run, until the test ends.
func watchStalls(t *testing.T) *stalls {
	s := &stalls{}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		for last := time.Now(); pause.For(ctx, 20*time.Millisecond); {
			now := time.Now()
			s.mu.Lock()
			s.worst = max(s.worst, now.Sub(last))
			s.mu.Unlock()
			last = now
		}
	}()
	t.Cleanup(func() { cancel(); <-done })
	return s
}

// inTime fails the test when something took longer than it may. A process that did not run meanwhile gives its
// peers all of their time again, and proves nothing.
func (s *stalls) inTime(t *testing.T, took, limit time.Duration) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case took <= limit+slack:
	case s.worst > stalled:
		t.Logf("noticed after %s, but this process did not run for %s", took, s.worst)
	default:
		t.Errorf("noticed after %s", took)
	}
}

// TestSilentPeers has connections that are there and carry nothing, in all ways in which that can
// be: both ends notice in time, what waits fails with that, and the link is back after the heal.
func TestSilentPeers(t *testing.T) {
	dark := fault.Line{Blackhole: true}
	faults := map[string]fault.Faults{
		"blackhole":      fault.Both(dark),
		"blackhole up":   {Up: dark},
		"blackhole down": {Down: dark},
		"half-open":      {HalfOpen: true},
	}
	// Over Socket.IO it takes twice as long.
	for mode, heartbeat := range map[link.Mode]time.Duration{link.Auto: link.HeartbeatLAN, link.SocketIO: time.Second} {
		limit := heartbeat
		if mode == link.SocketIO {
			limit *= 2
		}
		for name, f := range faults {
			t.Run(string(mode)+"/"+name, func(t *testing.T) {
				t.Parallel()
				m := meshtest.New(t, shop)
				m.Link = mode
				m.Each = func(c *node.Config) { c.Heartbeat = heartbeat }
				proxy, reached := behindProxy(t)
				var there, here losses
				begun := make(chan struct{})
				m.Join("billing", "b1", reached, there.note, func(c *node.Config) {
					c.Handlers = map[string]handler.Handler{"slow": handler.Func(func(ctx context.Context, _ *handler.Request) (json.RawMessage, error) {
						close(begun)
						<-ctx.Done()
						return nil, ctx.Err()
					})}
				})
				s := m.Join("shop", "s1", here.note)
				meshtest.AwaitPeers(t, s, "billing/b1")
				failed := make(chan time.Time, 1)
				go func() {
					_, err := s.Call(context.Background(), "billing.slow", json.RawMessage(`1`), node.CallOptions{Timeout: time.Minute})
					if code := wire.CodeOf(err); code != wire.CodePeerLost {
						t.Errorf("a call under way ended with %v", err)
					}
					failed <- time.Now()
				}()
				meshtest.Await(t, begun, "the call")

				stalls, cut := watchStalls(t), time.Now()
				if err := proxy.Set(f); err != nil {
					t.Fatal(err)
				}
				ended := meshtest.Await(t, failed, "the call under way to fail")
				lostHere, lostThere := here.at(t), there.at(t)
				t.Logf("lost after %s by who dialled, after %s at the other end", lostHere.Sub(cut), lostThere.Sub(cut))
				for _, at := range []time.Time{lostHere, lostThere} {
					stalls.inTime(t, at.Sub(cut), limit)
				}
				if took := lostHere.Sub(ended).Abs(); took > slack {
					t.Errorf("the call ended %s from the loss", took)
				}

				healed := time.Now()
				if err := proxy.Set(fault.Faults{}); err != nil {
					t.Fatal(err)
				}
				meshtest.AwaitPeers(t, s, "billing/b1")
				t.Logf("linked again %s after the heal", time.Since(healed))
				if _, err := s.Call(context.Background(), "billing.echo", json.RawMessage(`1`), node.CallOptions{Timeout: 30 * time.Second}); err != nil {
					t.Error(err)
				}
			})
		}
	}
}

// TestSilentMaster: so does a node whose master is out of reach, and keeps its links.
func TestSilentMaster(t *testing.T) {
	dark := fault.Line{Blackhole: true}
	for name, f := range map[string]fault.Faults{"blackhole": fault.Both(dark), "blackhole up": {Up: dark}, "blackhole down": {Down: dark}, "half-open": {HalfOpen: true}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			const heartbeat = time.Second
			m := meshtest.New(t, shop, func(m *meshtest.Mesh) {
				m.EachMaster = func(c *master.Config) { c.Heartbeat = heartbeat }
			})
			m.Each = func(c *node.Config) { c.Heartbeat = heartbeat }
			proxy, err := fault.Listen(fault.Config{Listen: "127.0.0.1:0", To: m.Addr, Logger: meshtest.Log(t, "proxy")})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(proxy.Close)
			var here losses
			b := m.Join("billing", "b1", func(c *node.Config) { c.Master = proxy.Addr().String() })
			s := m.Join("shop", "s1", here.note)
			meshtest.AwaitPeers(t, s, "billing/b1")
			op := m.Operator()
			listed := func() int {
				nodes, err := op.Nodes(context.Background())
				switch {
				case wire.CodeOf(err) == wire.CodePeerLost: // its own link, on a busy machine
					return -1
				case err != nil:
					t.Fatal(err)
				}
				return len(nodes)
			}

			stalls, cut := watchStalls(t), time.Now()
			if err := proxy.Set(f); err != nil {
				t.Fatal(err)
			}
			meshtest.WaitFor(t, func() bool { return !b.Ready() }, func() string { return "the loss of the master" })
			noticed := time.Since(cut)
			meshtest.WaitFor(t, func() bool { return listed() == 1 }, func() string { return "the loss of the node" })
			t.Logf("the node noticed after %s, the master had by %s", noticed, time.Since(cut))
			stalls.inTime(t, time.Since(cut), heartbeat)
			if _, err := s.Call(context.Background(), "billing.echo", json.RawMessage(`1`), node.CallOptions{Timeout: 30 * time.Second}); err != nil && !stalls.any() {
				t.Error(err)
			}

			healed := time.Now()
			if err := proxy.Set(fault.Faults{}); err != nil {
				t.Fatal(err)
			}
			meshtest.WaitFor(t, func() bool { return b.Ready() && listed() == 2 }, func() string { return "the node to be declared again" })
			t.Logf("declared again %s after the heal", time.Since(healed))
			switch {
			case here.count() == 0:
			case stalls.any():
				t.Log("the link between the nodes was lost, but this process did not run for a while")
			default:
				t.Error("the link between the nodes was lost")
			}
		})
	}
}

// TestCorruptedLink flips bits between two nodes: the link ends and is opened again, and no
// answer is another one than was given.
func TestCorruptedLink(t *testing.T) {
	const rate = 1.0 / (64 << 10) // so that some calls get through in between
	for name, f := range map[string]fault.Faults{
		"up": {Up: fault.Line{Corrupt: rate}}, "down": {Down: fault.Line{Corrupt: rate}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := meshtest.New(t, shop)
			proxy, reached := behindProxy(t)
			m.Join("billing", "b1", reached)
			var lost losses
			s := m.Join("shop", "s1", lost.note)
			meshtest.AwaitPeers(t, s, "billing/b1")
			if err := proxy.Set(f); err != nil {
				t.Fatal(err)
			}

			ctx, stop := context.WithCancel(context.Background())
			defer stop()
			var right, failed atomic.Int64
			var wg sync.WaitGroup
			for i := range 4 {
				wg.Go(func() {
					for n := 0; ctx.Err() == nil; n++ {
						payload := fmt.Sprintf(`{"caller":%d,"n":%d,"fill":%q}`, i, n, strings.Repeat("x", n%5000))
						r, err := s.Call(context.Background(), "billing.echo", json.RawMessage(payload), node.CallOptions{Timeout: 10 * time.Second})
						var e *wire.Error
						switch {
						case err == nil && string(r.Replies[0].Result) == payload:
							right.Add(1)
						case err == nil:
							t.Errorf("%q was answered with %q", payload, r.Replies[0].Result)
						case !errors.As(err, &e) || e.Code != wire.CodePeerLost && e.Code != wire.CodeNoVariant && e.Code != wire.CodeTimeout:
							t.Errorf("call %d failed with %v", n, err)
						default:
							failed.Add(1)
							time.Sleep(time.Millisecond) // there may be no link at the moment
						}
					}
				})
			}
			meshtest.WaitFor(t, func() bool { return lost.count() >= 5 }, func() string {
				return fmt.Sprintf("the link to end five times; %d so far, %d calls", lost.count(), right.Load())
			})
			stop()
			wg.Wait()
			t.Logf("%d links ended, %d calls were answered, %d failed", lost.count(), right.Load(), failed.Load())
			if right.Load() == 0 {
				t.Error("no call was answered in between")
			}
			if err := proxy.Set(fault.Faults{}); err != nil {
				t.Fatal(err)
			}
			var err error // the last damage may have ended the link without having been noticed yet
			meshtest.WaitFor(t, func() bool {
				_, err = s.Call(context.Background(), "billing.echo", json.RawMessage(`1`), node.CallOptions{Timeout: 30 * time.Second})
				return err == nil
			}, func() string { return fmt.Sprint("a call over a link without damage: ", err) })
		})
	}
}
