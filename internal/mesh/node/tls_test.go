package node_test

import (
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/meshctl/meshctl/internal/mesh/certs"
	"github.com/meshctl/meshctl/internal/mesh/certs/certstest"
	"github.com/meshctl/meshctl/internal/mesh/link"
	"github.com/meshctl/meshctl/internal/mesh/master"
	"github.com/meshctl/meshctl/internal/mesh/meshtest"
	"github.com/meshctl/meshctl/internal/mesh/node"
	"github.com/meshctl/meshctl/internal/mesh/wire"
)

// secured starts a mesh whose members have certificates of the CA, and have to.
func secured(t *testing.T, ca *certstest.CA, change ...func(*meshtest.Mesh)) *meshtest.Mesh {
	t.Helper()
	return meshtest.New(t, shop, append(change, func(m *meshtest.Mesh) { m.TLS = ca.Identity(t, "member") })...)
}

// echo checks that calls get through.
func echo(t *testing.T, n interface {
	Call(context.Context, string, json.RawMessage, node.CallOptions) (*node.Result, error)
}, payload string) {
	t.Helper()
	r, err := call(t, n, "billing.echo", payload, node.CallOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if got := string(r.Replies[0].Result); got != payload {
		t.Errorf("the echo of %s is %s", payload, got)
	}
}

func withTLS(i *certs.Identity) meshtest.Option { return func(c *node.Config) { c.TLS = i } }

// tlsRecord is whether the connection begins with a TLS record, as seen in between.
func tlsRecord(t *testing.T, to string) (addr string, all func() bool) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	var mu sync.Mutex
	seen, other := 0, 0
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				defer c.Close()
				head := make([]byte, 1)
				if _, err := c.Read(head); err != nil {
					return
				}
				mu.Lock()
				seen++
				if head[0] != 22 { // a handshake record
					other++
				}
				mu.Unlock()
				up, err := net.Dial("tcp", to)
				if err != nil {
					return
				}
				defer up.Close()
				_, _ = up.Write(head)
				wg.Go(func() { copyUntilClosed(up, c); up.Close() })
				copyUntilClosed(c, up)
			})
		}
	})
	t.Cleanup(func() { l.Close(); wg.Wait() })
	return l.Addr().String(), func() bool {
		mu.Lock()
		defer mu.Unlock()
		return seen > 0 && other == 0
	}
}

func copyUntilClosed(to, from net.Conn) {
	buf := make([]byte, 4096)
	for {
		n, err := from.Read(buf)
		if _, werr := to.Write(buf[:n]); err != nil || werr != nil {
			return
		}
	}
}

// A whole mesh speaks TLS, over both doors.
func TestMeshOverTLS(t *testing.T) {
	for _, mode := range []link.Mode{link.Auto, link.SocketIO} {
		t.Run(string(mode), func(t *testing.T) {
			m := secured(t, certstest.NewCA(t), func(m *meshtest.Mesh) { m.Link = mode })
			var all func() bool
			m.Addr, all = tlsRecord(t, m.Addr)
			m.Join("billing", "b1", billing("b1"))
			s := m.Join("shop", "s1")
			meshtest.AwaitPeers(t, s, "billing/b1")
			echo(t, s, `{"n":1}`)
			op := m.Operator()
			echo(t, op, `{"n":2}`)
			nodes, err := op.Nodes(t.Context())
			if err != nil || len(nodes) != 2 || (nodes[0].Link == "native") != (mode == link.Auto) {
				t.Errorf("the master lists %+v: %v", nodes, err)
			}
			if !all() {
				t.Error("something else than TLS went to the master")
			}
		})
	}
}

func TestDiscoveryOverTLS(t *testing.T) {
	ca := certstest.NewCA(t)
	port := meshtest.ReservePort(t)
	m := secured(t, ca)
	mm, err := master.New(master.Config{Keys: meshtest.Keys, Schema: m.Schema, Host: "127.0.0.1", DiscoveryPort: port, Ring: m.Ring, TLS: m.TLS})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- mm.Run(ctx) }()
	defer func() { cancel(); <-done }()
	meshtest.Await(t, mm.Ready(), "the master")
	discovering := func(c *node.Config) { c.Master, c.DiscoveryPort = "127.0.0.1", port }
	m.Join("billing", "b1", billing("b1"), discovering)

	for name, identity := range map[string]*certs.Identity{
		"the peer wants TLS": nil,
		"unknown signer":     certstest.NewCA(t).Identity(t, "x"),
	} {
		if _, err := connect(t, m, discovering, withTLS(identity)); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// connect is Mesh.Operator, which may fail.
func connect(t *testing.T, m *meshtest.Mesh, options ...meshtest.Option) (*node.Operator, error) {
	t.Helper()
	cfg := node.Config{Keys: meshtest.Keys, Master: m.Addr, Ring: m.Ring, Link: m.Link, TLS: m.TLS, Timeout: 20 * time.Second}
	for _, o := range options {
		o(&cfg)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	op, err := node.Connect(ctx, cfg)
	if err == nil {
		t.Cleanup(op.Close)
	}
	return op, err
}

// Who has no certificate, or one of somebody else's CA, gets nowhere; and who speaks
// TLS where others do not, or the reverse, hears of it.
func TestTLSRefusals(t *testing.T) {
	ca, foreign := certstest.NewCA(t), certstest.NewCA(t)
	cert, key := foreign.Issue(t, "stranger", 2*time.Hour)
	nameless := certstest.Load(t, certs.Config{CA: ca.File})
	for _, mode := range []link.Mode{link.Auto, link.SocketIO} {
		mutual := secured(t, ca, func(m *meshtest.Mesh) { m.Link = mode })
		b := mutual.Join("billing", "b1", billing("b1"))
		plain := meshtest.New(t, shop, func(m *meshtest.Mesh) { m.Link = mode })
		for _, tc := range []struct {
			name     string
			mesh     *meshtest.Mesh
			addr     string
			identity *certs.Identity
			message  string
		}{
			{"no certificate", mutual, mutual.Addr, nameless, "TLS"},
			{"foreign certificate", mutual, mutual.Addr, certstest.Load(t, certs.Config{Cert: cert, Key: key, CA: ca.File}), "TLS"},
			{"no certificate, mesh server", mutual, b.Addr().String(), nameless, "TLS"},
			{"foreign CA", mutual, mutual.Addr, foreign.Identity(t, "x"), "unknown signer"},
			{"plain", mutual, mutual.Addr, nil, "wants TLS"},
			{"TLS to plain", plain, plain.Addr, ca.Identity(t, "y"), "does not speak TLS"},
		} {
			_, err := connect(t, tc.mesh, withTLS(tc.identity), func(c *node.Config) { c.Master = tc.addr })
			if err == nil || wire.CodeOf(err) != wire.CodeUnreachable || !strings.Contains(err.Error(), tc.message) || !strings.Contains(hintIn(err), "--tls-") {
				t.Errorf("%s, %s: %v (hint: %s)", mode, tc.name, err, hintIn(err))
			}
		}
		if _, err := connect(t, mutual); err != nil {
			t.Errorf("a member is refused: %v", err)
		}
	}
}

func hintIn(err error) string {
	if e, ok := err.(*wire.Error); ok {
		return e.Hint
	}
	return ""
}

// With optional client certificates a server shows its own and asks for none.
func TestTLSOptionalClients(t *testing.T) {
	ca := certstest.NewCA(t)
	cert, key := ca.Issue(t, "server", 2*time.Hour)
	m := meshtest.New(t, shop, func(m *meshtest.Mesh) {
		m.TLS = certstest.Load(t, certs.Config{Cert: cert, Key: key, CA: ca.File, OptionalClients: true})
	})
	m.Join("billing", "b1", billing("b1"))
	op, err := connect(t, m, withTLS(certstest.Load(t, certs.Config{CA: ca.File})))
	if err != nil {
		t.Fatal(err)
	}
	echo(t, op, `1`)
}

func TestServersNeedCertificates(t *testing.T) {
	nameless := certstest.Load(t, certs.Config{CA: certstest.NewCA(t).File})
	s := meshtest.Parse(t, shop)
	if _, err := node.New(node.Config{Keys: meshtest.Keys, Worker: "shop", Schema: s, TLS: nameless}); wire.CodeOf(err) != wire.CodeBadRequest {
		t.Errorf("node: %v", err)
	}
	if _, err := master.New(master.Config{Keys: meshtest.Keys, Schema: s, TLS: nameless}); err == nil {
		t.Error("a master without a certificate")
	}
}

// Nodes are dialled by what they advertise, and their certificates have to be for that.
func TestAdvertisedNameIsVerified(t *testing.T) {
	ca := certstest.NewCA(t)
	m := secured(t, ca)
	identity := func(name, host string) *certs.Identity {
		cert, key := ca.Issue(t, name, 2*time.Hour, host)
		return certstest.Load(t, certs.Config{Cert: cert, Key: key, CA: ca.File})
	}
	advertise := func(host string) meshtest.Option { return func(c *node.Config) { c.Advertise = host } }
	// Made for localhost only: right by name, wrong by the address that the master sees.
	m.Join("billing", "good", billing("good"), withTLS(identity("good", "localhost")), advertise("localhost"))
	m.Join("billing", "bad", billing("bad"), withTLS(identity("bad", "localhost")))
	log := &lockedBuffer{}
	s := m.Join("shop", "s1", func(c *node.Config) { c.Logger = slog.New(slog.NewTextHandler(log, nil)) })
	meshtest.AwaitPeers(t, s, "billing/good")
	meshtest.WaitFor(t, func() bool {
		return strings.Contains(log.String(), "for others") && strings.Contains(log.String(), "--advertise")
	}, func() string {
		return "the certificate to be reported in " + log.String()
	})
	meshtest.AwaitPeers(t, s, "billing/good")
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// A mesh changes to another CA while it runs: first all believe both, then all get new
// certificates, then none believes the old one any more. No link ends.
func TestCARotation(t *testing.T) {
	old, next := certstest.NewCA(t), certstest.NewCA(t)
	cert, key := old.Issue(t, "member", 2*time.Hour)
	dir := t.TempDir()
	bundle, both := filepath.Join(dir, "bundle.pem"), filepath.Join(dir, "both.pem")
	believe := func(bundle string, cas ...*certstest.CA) {
		var text []byte
		for _, ca := range cas {
			pem, err := os.ReadFile(ca.File)
			if err != nil {
				t.Fatal(err)
			}
			text = append(text, pem...)
		}
		if err := os.WriteFile(bundle+".tmp", text, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(bundle+".tmp", bundle); err != nil {
			t.Fatal(err)
		}
	}
	believe(bundle, old)
	believe(both, old, next)
	m := meshtest.New(t, shop, func(m *meshtest.Mesh) {
		m.TLS = certstest.Load(t, certs.Config{Cert: cert, Key: key, CA: bundle})
	})
	m.Join("billing", "b1", billing("b1"))
	s := m.Join("shop", "s1")
	meshtest.AwaitPeers(t, s, "billing/b1")

	believe(bundle, old, next)
	c, k := next.Issue(t, "member", 2*time.Hour)
	for from, to := range map[string]string{c: cert, k: key} {
		if err := os.Rename(from, to); err != nil {
			t.Fatal(err)
		}
	}
	believe(bundle, next)
	cert, key = old.Issue(t, "outsider", 2*time.Hour)
	outsider := certstest.Load(t, certs.Config{Cert: cert, Key: key, CA: both})
	// Files are looked at once a second.
	meshtest.WaitFor(t, func() bool {
		_, err := connect(t, m, withTLS(outsider))
		return err != nil
	}, func() string { return "the old CA to be forgotten" })
	newcomer := next.Identity(t, "newcomer")
	op, err := connect(t, m, withTLS(newcomer))
	if err != nil {
		t.Fatal(err)
	}
	echo(t, op, `1`)
	echo(t, s, `2`)
}
