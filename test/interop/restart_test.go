package interop

import (
	"fmt"
	"io"
	"net"
	"sync"
	"testing"

	"github.com/meshctl/meshctl/internal/mesh/meshtest"
	"github.com/meshctl/meshctl/internal/mesh/node"
	"github.com/meshctl/meshctl/internal/redisdb/redistest"
)

// TestMasterKilled ends masters of both kinds with SIGKILL: links and calls between a
// JavaScript node and a meshctl node go on, and both come back to its successor.
func TestMasterKilled(t *testing.T) {
	type restartable struct {
		kill, start func()
		port        int
	}
	masters := map[string]func(*testing.T, keys, options) restartable{
		"js": func(t *testing.T, k keys, schema options) restartable {
			m := jsMaster(t, 4, k, schema, nil)
			return restartable{m.kill, func() { m.again(k, options{"port": m.port}) }, m.port}
		},
		"meshctl": func(t *testing.T, k keys, schema options) restartable {
			m := serveMaster(t, k, schema, freePort(t))
			return restartable{m.kill, func() { serveMaster(t, k, schema, m.port) }, m.port}
		},
	}
	for name, start := range masters {
		t.Run(name, func(t *testing.T) {
			requireJS(t)
			t.Parallel()
			k, schema := newKeys(), pair(dials{left: true, right: true})
			master := start(t, k, schema)
			left := jsNode(t, 3, k, schema, master.port, "left", "l1", nil)
			right := startNode(t, k, schema, master.port, "right", "r1")
			left.await("connection", link("right", "r1", true))
			left.await("connection", link("right", "r1", false))
			right.await("connection", of("left", "l1"))

			master.kill()
			left.await("master-lost")
			bothWays(t, left, right)
			master.start()
			left.await("declared")
			right.await("declared")
			bothWays(t, left, right)
			if left.count("disconnection")+right.count("disconnection") > 0 {
				t.Error("the master's restart cost a link")
			}

			t.Log("a node that comes later is announced to both")
			jsNode(t, 4, k, schema, master.port, "left", "l2", nil)
			right.await("connection", of("left", "l2"))
		})
	}
}

// TestSeveralMasters has JavaScript nodes at different masters that share a registry. Each
// knows one master: its restart costs no link, and nobody is told that the nodes of it left.
func TestSeveralMasters(t *testing.T) {
	requireJS(t)
	t.Parallel()
	k, schema := newKeys(), pair(dials{left: true, right: true})
	redis := redistest.Start(t).URL()
	m1 := serveMaster(t, k, schema, freePort(t), "--redis", redis)
	m2 := serveMaster(t, k, schema, freePort(t), "--redis", redis)
	left := jsNode(t, 3, k, schema, m1.port, "left", "l1", nil)
	right := startNode(t, k, schema, m2.port, "right", "r1", func(c *node.Config) {
		c.Master = fmt.Sprintf("127.0.0.1:%d,127.0.0.1:%d", m1.port, m2.port)
	})
	other := jsNode(t, 4, k, schema, m2.port, "right", "r2", nil)
	for _, variant := range []string{"r1", "r2"} {
		left.await("connection", link("right", variant, true))
		left.await("connection", link("right", variant, false))
	}
	right.await("connection", of("left", "l1"))
	bothWays(t, left, right)

	m2.kill()
	other.await("master-lost")
	bothWays(t, left, right)
	m2 = serveMaster(t, k, schema, m2.port, "--redis", redis)
	other.await("declared")
	if _, err := left.call("right.echo", 1, nil); err != nil {
		t.Errorf("after the restart: %v", err)
	}
	m1.kill()
	left.await("master-lost")
	bothWays(t, left, right)
	serveMaster(t, k, schema, m1.port, "--redis", redis)
	left.await("declared")
	bothWays(t, left, right)
	if n := left.count("disconnection") + right.count("disconnection") + other.count("disconnection") + left.count("removenode") + other.count("removenode"); n > 0 {
		t.Errorf("%d times somebody was lost", n)
	}

	t.Log("who leaves and who comes is told across masters")
	other.kill()
	left.await("removenode", of("right", "r2"))
	jsNode(t, 4, k, schema, m2.port, "right", "r3", nil)
	left.await("connection", link("right", "r3", true))
	if _, err := left.call("right.echo", 1, nil); err != nil {
		t.Error(err)
	}
}

// bothWays has each node call the other.
func bothWays(t *testing.T, left *peer, right *goNode) {
	t.Helper()
	if _, err := left.call("right.echo", 1, nil); err != nil {
		t.Errorf("JavaScript calls meshctl: %v", err)
	}
	replies, err := right.ask("left.echo", 1, node.CallOptions{Only: []string{"l1"}})
	if err != nil {
		t.Fatalf("meshctl calls JavaScript: %v", err)
	}
	repliers(t, "echo", "1", replies)
}

// TestNodeKilled ends a JavaScript node with SIGKILL and starts it again, whoever dials.
func TestNodeKilled(t *testing.T) {
	for i, d := range []dials{{left: true}, {right: true}} {
		sio := lines[i]
		t.Run(fmt.Sprintf("socket.io %d/js dials %v", sio, d.left), func(t *testing.T) {
			requireJS(t)
			t.Parallel()
			k, left, right := linked(t, sio, d)

			left.kill()
			right.await("disconnection", of("left", "l1"))
			left = left.again(k, nil)
			right.await("connection", of("left", "l1"))
			left.await("connection", link("right", "r1", d.left))
			bothWays(t, left, right)
		})
	}
}

// TestMeshctlNodeKilled ends a meshctl node with SIGKILL and starts it again, whoever
// dials and whatever the master.
func TestMeshctlNodeKilled(t *testing.T) {
	for _, jsMastered := range []bool{false, true} {
		for i, d := range []dials{{left: true}, {right: true}} {
			sio := lines[i]
			t.Run(fmt.Sprintf("js master %v/socket.io %d/js dials %v", jsMastered, sio, d.left), func(t *testing.T) {
				requireJS(t)
				t.Parallel()
				k, schema := newKeys(), pair(d)
				port := 0
				if jsMastered {
					port = jsMaster(t, sio, k, schema, nil).port
				} else {
					port = startMaster(t, k, schema).port
				}
				left := jsNode(t, sio, k, schema, port, "left", "l1", nil)
				right := join(t, k, schema, port, "right", "r1")
				left.await("connection", link("right", "r1", d.left))
				echo(t, left)

				right.kill()
				left.await("disconnection", of("right", "r1"))
				if d.left {
					left.await("removenode", of("right", "r1"))
				}
				join(t, k, schema, port, "right", "r1")
				left.await("connection", link("right", "r1", d.left))
				echo(t, left)
			})
		}
	}
}

// echo has left call the built-in echo of right.
func echo(t *testing.T, left *peer) {
	t.Helper()
	got, err := left.call("right.echo", options{"n": 1})
	if err != nil {
		t.Fatal(err)
	}
	wantJSON(t, got, `{"echo":{"n":1}}`)
}

// TestSentBeforeLeaving has a meshctl node send over a link that it opened, and leave
// at once. socket.io drops what a client has sent when a disconnect packet ("41") is
// read together with it.
func TestSentBeforeLeaving(t *testing.T) {
	for _, sio := range lines {
		t.Run(fmt.Sprint("socket.io ", sio), func(t *testing.T) {
			requireJS(t)
			k, schema := newKeys(), pair(dials{right: true})
			master := startMaster(t, k, schema)
			left := jsNode(t, sio, k, schema, master.port, "left", "l1", nil)
			right := startNode(t, k, schema, master.port, "right", "r1")
			right.await("connection", of("left", "l1"))
			left.await("connection", link("right", "r1", false))
			for i := range 3 {
				if _, err := right.ask("left.work", i, node.CallOptions{}); err != nil {
					t.Fatal(err)
				}
			}
			right.stop()
			left.await("disconnection", of("right", "r1"))
			if n := left.count("command", command("work")); n != 3 {
				t.Errorf("%d of 3 requests arrived", n)
			}
		})
	}
}

// TestMasterLost cuts a meshctl node's connection to its master, who goes on. A
// JavaScript node that is told of it gives up all links to the node; they come back.
func TestMasterLost(t *testing.T) {
	for _, jsMastered := range []bool{false, true} {
		for i, d := range []dials{{left: true}, {left: true, right: true}} {
			sio := lines[i]
			t.Run(fmt.Sprintf("js master %v/socket.io %d/meshctl dials %v", jsMastered, sio, d.right), func(t *testing.T) {
				requireJS(t)
				t.Parallel()
				k, schema := newKeys(), pair(d)
				master := eitherMaster(t, jsMastered, sio, k, schema)
				cable := newCable(t, master)
				left := jsNode(t, sio, k, schema, master, "left", "l1", nil)
				right := startNode(t, k, schema, cable.port, "right", "r1")
				linked := func() {
					left.await("connection", link("right", "r1", true))
					if d.right {
						left.await("connection", link("right", "r1", false))
					}
				}
				linked()
				right.await("connection", of("left", "l1"))

				cable.cut()
				left.await("removenode", of("right", "r1"))
				right.await("declared")
				linked()
				meshtest.AwaitPeers(t, right, "left/l1")
				bothWays(t, left, right)
			})
		}
	}
}

// cable carries TCP connections to a port of this machine until they are cut.
type cable struct {
	port  int
	mu    sync.Mutex
	conns []net.Conn
}

func newCable(t testing.TB, to int) *cable {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c := &cable{port: l.Addr().(*net.TCPAddr).Port}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			near, err := l.Accept()
			if err != nil {
				return // closed at the end of the test
			}
			far, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", to))
			if err != nil {
				near.Close()
				continue
			}
			c.mu.Lock()
			c.conns = append(c.conns, near, far)
			c.mu.Unlock()
			for _, ends := range [][2]net.Conn{{near, far}, {far, near}} {
				wg.Go(func() {
					_, _ = io.Copy(ends[0], ends[1]) // either end may close
					ends[0].Close()
				})
			}
		}
	})
	t.Cleanup(func() { l.Close(); c.cut(); wg.Wait() })
	return c
}

// cut closes all connections; new ones can be made.
func (c *cable) cut() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, conn := range c.conns {
		conn.Close()
	}
	c.conns = nil
}
