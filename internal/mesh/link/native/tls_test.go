package native

import (
	"context"
	"crypto/tls"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/meshctl/meshctl/internal/mesh/certs"
	"github.com/meshctl/meshctl/internal/mesh/certs/certstest"
	"github.com/meshctl/meshctl/internal/mesh/link"
	"github.com/meshctl/meshctl/internal/mesh/link/linktest"
)

func TestLinkContractTLS(t *testing.T) {
	member := certstest.NewCA(t).Identity(t, "member")
	linktest.Run(t, func(t *testing.T) (link.Link, link.Link) {
		cfg := Config{Key: testKey, MaxPayload: linktest.MaxBody}
		addr, links := serveTLS(t, cfg, member.Server())
		cfg.TLS = member.Client("127.0.0.1")
		d, err := Dial(t.Context(), addr, cfg)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { d.Close(nil) })
		select {
		case a := <-links:
			return d, a
		case <-time.After(20 * time.Second):
			t.Fatal("no link was accepted")
			return nil, nil
		}
	})
}

// Where TLS is why, Dial says so, and not that native links are not served: whoever
// hears that goes on to something else.
func TestDialTellsOfTLS(t *testing.T) {
	ca := certstest.NewCA(t)
	member := ca.Identity(t, "member")
	cfg := Config{Key: testKey}
	secure, _ := serveTLS(t, cfg, member.Server())
	plain, _ := serve(t, cfg)
	for _, tc := range []struct {
		name, addr string
		client     *tls.Config
		message    string
	}{
		{"plain to TLS", secure, nil, "wants TLS"},
		{"TLS to plain", plain, member.Client("127.0.0.1"), "does not speak TLS"},
		{"unknown signer", secure, certstest.NewCA(t).Identity(t, "x").Client("127.0.0.1"), "unknown signer"},
		{"other host", secure, member.Client("other.example"), "for others"},
	} {
		cfg.TLS = tc.client
		l, err := Dial(t.Context(), tc.addr, cfg)
		if err == nil {
			l.Close(nil)
		}
		var failure *certs.Failure
		if errors.Is(err, ErrNotServed) || !errors.Is(err, link.ErrRefused) || !errors.As(err, &failure) || !strings.Contains(err.Error(), tc.message) {
			t.Errorf("%s: %v", tc.name, err)
		}
	}
}

func TestServedTLS(t *testing.T) {
	member := certstest.NewCA(t).Identity(t, "member")
	addr, _ := serveTLS(t, Config{Key: testKey}, member.Server())
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if served, err := Served(ctx, addr, Config{TLS: member.Client("127.0.0.1")}); err != nil || !served {
		t.Errorf("Served gives %v, %v", served, err)
	}
	if served, err := Served(ctx, addr, Config{}); err == nil && served {
		t.Error("a plain question was answered")
	}
}
