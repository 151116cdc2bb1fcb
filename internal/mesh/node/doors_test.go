package node_test

import (
	"context"
	"encoding/json"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/meshctl/meshctl/internal/mesh/link"
	"github.com/meshctl/meshctl/internal/mesh/meshtest"
	"github.com/meshctl/meshctl/internal/mesh/node"
	"github.com/meshctl/meshctl/internal/mesh/wire"
)

// What a link is shows in the list of nodes.
func TestListTellsLinks(t *testing.T) {
	m := meshtest.New(t, shop)
	m.Join("billing", "n", billing("n"))
	m.Join("billing", "s", billing("s"), func(c *node.Config) { c.Link = link.SocketIO })
	m.Dial(m.Addr).Say(wire.EventDeclare, `{"worker":"shop","variant":"js","port":1}`)
	op := m.Operator()
	var got string
	meshtest.WaitFor(t, func() bool {
		nodes, err := op.Nodes(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		got = ""
		for _, n := range nodes {
			got += n.Variant + " " + n.Kind + " " + n.Link + "; "
		}
		return got == "n meshctl native; s meshctl socketio; js javascript socketio; "
	}, func() string { return "the list, have " + got })
}

// blockNative is a proxy that lets everything but native links through.
func blockNative(t *testing.T, to string) (addr string) {
	t.Helper()
	return accepting(t, func(c net.Conn) {
		head := make([]byte, 512)
		n, err := c.Read(head)
		if err != nil || strings.Contains(string(head[:n]), "/meshctl/") {
			_, _ = io.WriteString(c, "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
			return
		}
		up, err := net.Dial("tcp", to)
		if err != nil {
			return
		}
		defer up.Close()
		_, _ = up.Write(head[:n])
		back := make(chan struct{})
		go func() {
			defer close(back)
			_, _ = io.Copy(up, c)
			up.Close()
		}()
		_, _ = io.Copy(c, up)
		c.Close()
		<-back
	})
}

// Whoever keeps native links from a master that serves them brings nobody to use
// something else unless told to.
func TestDowngradeIsNoticed(t *testing.T) {
	m := meshtest.New(t, shop)
	m.Join("billing", "b1", billing("b1"))
	proxy := blockNative(t, m.Addr)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	cfg := node.Config{Keys: meshtest.Keys, Master: proxy, Ring: m.Ring}
	if op, err := node.Connect(ctx, cfg); err == nil {
		op.Close()
		t.Error("connected without the native link")
	} else if !strings.Contains(err.Error(), "native") {
		t.Error(err)
	}
	cfg.Link = link.SocketIO
	op, err := node.Connect(ctx, cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer op.Close()
	if _, err := op.Call(ctx, "billing.who", json.RawMessage(`{}`), node.CallOptions{}); err != nil {
		t.Error(err)
	}
}
