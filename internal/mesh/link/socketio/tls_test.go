package socketio

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/meshctl/meshctl/internal/mesh/certs"
	"github.com/meshctl/meshctl/internal/mesh/certs/certstest"
	"github.com/meshctl/meshctl/internal/mesh/link"
	"github.com/meshctl/meshctl/internal/mesh/link/linktest"
	"github.com/meshctl/meshctl/internal/mesh/wire"
)

// serveTLS is serve with TLS, in which clients need a certificate.
func serveTLS(t *testing.T, identity *certs.Identity, change func(*Config)) *testServer {
	t.Helper()
	return serve(t, func(c *Config) {
		c.TLS = identity.Server()
		if change != nil {
			change(c)
		}
	})
}

func (ts *testServer) dialTLS(cfg *tls.Config) (link.Link, error) {
	d, err := Dial(context.Background(), ts.addr, DialConfig{
		Envelope: ts.cfg.Envelope, MaxPayload: ts.cfg.MaxPayload, Queues: ts.cfg.Queues, TLS: cfg,
	})
	if err == nil {
		ts.t.Cleanup(func() { d.Close(nil) })
	}
	return d, err
}

func TestLinkContractTLS(t *testing.T) {
	member := certstest.NewCA(t).Identity(t, "member")
	linktest.Run(t, func(t *testing.T) (link.Link, link.Link) {
		ts := serveTLS(t, member, func(c *Config) {
			c.MaxPayload = linktest.MaxBody
			c.Queues = QueueLimits{OutBytes: 1 << 20, InBytes: 1 << 19}
		})
		d, err := ts.dialTLS(member.Client("127.0.0.1"))
		if err != nil {
			t.Fatal(err)
		}
		return d, ts.accepted()
	})
}

// TestSlowTLSHandshake: who does not finish the handshake is closed as who does not
// declare, and holds nobody up meanwhile.
func TestSlowTLSHandshake(t *testing.T) {
	member := certstest.NewCA(t).Identity(t, "member")
	ts := serveTLS(t, member, func(c *Config) { c.DeclareTimeout = 4 * time.Second })
	start := time.Now()
	var slow []net.Conn
	for _, said := range []string{"", "\x16\x03\x01\x01\x00\x01"} { // the start of a ClientHello
		c, err := net.Dial("tcp", ts.addr)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if _, err := io.WriteString(c, said); err != nil {
			t.Fatal(err)
		}
		slow = append(slow, c)
	}
	d, err := ts.dialTLS(member.Client("127.0.0.1"))
	if err != nil {
		t.Fatal(err)
	}
	a := ts.accepted()
	a.Trust()
	for _, c := range slow {
		_ = c.SetReadDeadline(time.Now().Add(patience))
		if n, err := io.Copy(io.Discard, c); n > 0 || errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("got %d bytes, then %v", n, err)
		}
	}
	if took := time.Since(start); took < 3900*time.Millisecond {
		t.Errorf("closed after %s", took)
	}
	alive(t, d, a)
	waitFor(t, "the slow ones to be forgotten", func() bool {
		st := ts.Stats()
		return st.Open == 1 && st.Undeclared == 0
	})
}

// TestTLSBounds: bounds count connections that have not even begun the handshake.
func TestTLSBounds(t *testing.T) {
	member := certstest.NewCA(t).Identity(t, "member")
	ts := serveTLS(t, member, func(c *Config) { c.MaxUndeclaredPerIP = 2 })
	first, err := net.Dial("tcp", ts.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer first.Close()
	for range 2 {
		if _, err := ts.dialTLS(member.Client("127.0.0.1")); err != nil {
			t.Fatal(err)
		}
	}
	_ = first.SetReadDeadline(time.Now().Add(patience))
	if _, err := first.Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("the oldest did not yield: %v", err)
	}
	if st := ts.Stats(); st.Refused != 1 || st.Undeclared != 2 {
		t.Errorf("stats: %+v", st)
	}
}

// TestTrustBehindTLS: a request to the Fallback finds its connection below TLS.
func TestTrustBehindTLS(t *testing.T) {
	member := certstest.NewCA(t).Identity(t, "member")
	ts := serveTLS(t, member, func(c *Config) {
		c.Fallback = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { Trust(r.Context()) })
	})
	transport := &http.Transport{TLSClientConfig: member.Client("127.0.0.1")}
	defer transport.CloseIdleConnections()
	resp, err := (&http.Client{Transport: transport}).Get("https://" + ts.addr + "/")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if st := ts.Stats(); st.Open != 1 || st.Undeclared != 0 {
		t.Errorf("stats: %+v", st)
	}
}

func TestDialTellsOfTLS(t *testing.T) {
	ca := certstest.NewCA(t)
	member, nameless := ca.Identity(t, "member"), certstest.Load(t, certs.Config{CA: ca.File})
	secure, plain := serveTLS(t, member, nil), serve(t, nil)
	for _, tc := range []struct {
		name    string
		server  *testServer
		client  *tls.Config
		message string
	}{
		{"plain to TLS", secure, nil, "wants TLS"},
		{"TLS to plain", plain, member.Client("127.0.0.1"), "does not speak TLS"},
		{"no certificate", secure, nameless.Client("127.0.0.1"), "TLS"},
		{"unknown signer", secure, certstest.NewCA(t).Identity(t, "x").Client("127.0.0.1"), "unknown signer"},
		{"other host", secure, member.Client("other.example"), "for others"},
	} {
		_, err := tc.server.dialTLS(tc.client)
		var failure *certs.Failure
		if !errors.Is(err, link.ErrRefused) || !errors.As(err, &failure) || failure.Hint == "" || !strings.Contains(err.Error(), tc.message) {
			t.Errorf("%s: %v", tc.name, err)
		}
	}
	select {
	case l := <-secure.links:
		t.Errorf("accepted %+v", l.Info())
	default:
	}
}

// TestCloseOfStalledTLS: the farewell of TLS holds the end of a link up no longer than
// that of the link may.
func TestCloseOfStalledTLS(t *testing.T) {
	member := certstest.NewCA(t).Identity(t, "member")
	ts := serveTLS(t, member, func(c *Config) { c.Queues = QueueLimits{OutBytes: 1 << 20, InBytes: 1 << 18} })
	took := func(side string) time.Duration {
		d, err := ts.dialTLS(member.Client("127.0.0.1"))
		if err != nil {
			t.Fatal(err)
		}
		a := ts.accepted()
		a.Trust()
		fill(t, a) // nobody receives: what is sent piles up
		fill(t, d)
		first := d
		if side == "accepted" {
			first = a
		}
		start := time.Now()
		first.Close(nil)
		return time.Since(start)
	}
	for _, side := range []string{"dialed", "accepted"} {
		best := took(side)
		for try := 1; try < 5 && best > 3*time.Second; try++ { // this process may have stood still meanwhile
			best = min(best, took(side))
		}
		if best > 3*time.Second {
			t.Errorf("Close of the %s end took %s", side, best)
		}
	}
}

// fill sends until the network takes no more.
func fill(t *testing.T, l link.Link) {
	t.Helper()
	body := make([]byte, 64<<10)
	for refused := 0; refused < 20; {
		switch err := l.Send(wire.Message{Event: wire.EventCommand, Body: body}); {
		case err == nil:
			refused = 0
		case errors.Is(err, link.ErrFull):
			refused++
			time.Sleep(10 * time.Millisecond) // that nothing happens is no event to wait for
		default:
			t.Fatal(err)
		}
	}
}
