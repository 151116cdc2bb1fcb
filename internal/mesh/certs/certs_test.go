package certs_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/meshctl/meshctl/internal/mesh/certs"
	"github.com/meshctl/meshctl/internal/mesh/certs/certstest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// shake does a handshake between two configurations and one byte from the server, and
// gives the certificate that each end saw ("" for none) and the client's error.
func shake(t *testing.T, server, client *tls.Config) (byClient, byServer string, err error) {
	t.Helper()
	// A real connection: over a pipe a refusal could block.
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	seen := make(chan string, 1)
	go func() {
		defer close(seen)
		c, err := l.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		s := tls.Server(c, server)
		if s.Handshake() != nil {
			return
		}
		name := "nobody"
		if shown := s.ConnectionState().PeerCertificates; len(shown) > 0 {
			name = shown[0].Subject.CommonName
		}
		seen <- name
		_, _ = s.Write([]byte{1})
		_, _ = io.Copy(io.Discard, s)
	}()
	raw, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	c := tls.Client(raw, client)
	if err = c.Handshake(); err == nil {
		byClient = c.ConnectionState().PeerCertificates[0].Subject.CommonName
		_, err = c.Read(make([]byte, 1)) // in TLS 1.3 the server may still refuse
	}
	raw.Close()
	return byClient, <-seen, err
}

func TestNoFilesMeansPlain(t *testing.T) {
	if i, err := certs.Load(certs.Config{OptionalClients: true}); i != nil || err != nil {
		t.Errorf("got %v, %v", i, err)
	}
}

func TestLoadRefuses(t *testing.T) {
	ca := certstest.NewCA(t)
	cert, key := ca.Issue(t, "a", 2*time.Hour)
	_, other := ca.Issue(t, "b", 2*time.Hour)
	text := filepath.Join(t.TempDir(), "text")
	if err := os.WriteFile(text, []byte("no certificate"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, cfg := range map[string]certs.Config{
		"no key":       {Cert: cert},
		"no cert":      {Key: key, CA: ca.File},
		"other's key":  {Cert: cert, Key: other},
		"missing file": {Cert: cert, Key: key, CA: "/does/not/exist"},
		"no PEM":       {CA: text},
		"no PEM cert":  {Cert: text, Key: key},
	} {
		if _, err := certs.Load(cfg); err == nil {
			t.Errorf("%s: loaded", name)
		}
	}
}

func TestHandshakes(t *testing.T) {
	ours, foreign := certstest.NewCA(t), certstest.NewCA(t)
	cert, key := ours.Issue(t, "server", 2*time.Hour)
	mutual := certstest.Load(t, certs.Config{Cert: cert, Key: key, CA: ours.File})
	optional := certstest.Load(t, certs.Config{Cert: cert, Key: key, CA: ours.File, OptionalClients: true})
	plain := certstest.Load(t, certs.Config{Cert: cert, Key: key})
	oldCert, oldKey := ours.Issue(t, "old", time.Minute)
	expired := certstest.Load(t, certs.Config{Cert: oldCert, Key: oldKey, CA: ours.File})

	member, nameless := ours.Identity(t, "member"), certstest.Load(t, certs.Config{CA: ours.File})
	strangerCert, strangerKey := foreign.Issue(t, "stranger", 2*time.Hour)
	stranger := certstest.Load(t, certs.Config{Cert: strangerCert, Key: strangerKey, CA: ours.File})
	believer := certstest.Load(t, certs.Config{CA: foreign.File})

	for _, tc := range []struct {
		name           string
		server, client *certs.Identity
		host           string
		shown, message string // what the server saw; or the failure
	}{
		{"mutual", mutual, member, "127.0.0.1", "member", ""},
		{"mutual, none", mutual, nameless, "127.0.0.1", "", "refuses TLS with us"},
		{"mutual, foreign", mutual, stranger, "127.0.0.1", "", "refuses TLS with us"},
		{"mutual, expired", mutual, expired, "127.0.0.1", "", "refuses TLS with us"},
		{"optional, none", optional, nameless, "127.0.0.1", "nobody", ""},
		{"optional, member", optional, member, "127.0.0.1", "member", ""},
		{"optional, foreign", optional, stranger, "127.0.0.1", "", "refuses TLS with us"},
		{"one-sided", plain, nameless, "127.0.0.1", "nobody", ""},
		{"one-sided, foreign", plain, stranger, "127.0.0.1", "nobody", ""},
		{"zone", plain, nameless, "127.0.0.1%eth0", "nobody", ""},
		{"unknown CA", plain, believer, "127.0.0.1", "", "unknown signer"},
		{"other host", plain, nameless, "mesh.example", "", "for others"},
		{"other address", plain, nameless, "127.0.0.2", "", "for others"},
		{"expired server", expired, member, "127.0.0.1", "", "not valid"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			byClient, byServer, err := shake(t, tc.server.Server(), tc.client.Client(tc.host))
			if tc.message == "" {
				if err != nil || byClient != "server" || byServer != tc.shown {
					t.Errorf("the client saw %q, the server %q: %v", byClient, byServer, err)
				}
				return
			}
			failure := certs.Diagnose(err)
			if failure == nil || !strings.Contains(failure.Error(), tc.message) || failure.Hint == "" || byServer == tc.shown && tc.shown != "" {
				t.Errorf("failed with %v (%v)", failure, err)
			}
		})
	}
}

func TestOldProtocolsAreRefused(t *testing.T) {
	ca := certstest.NewCA(t)
	i := ca.Identity(t, "a")
	old := i.Client("127.0.0.1")
	old.MinVersion, old.MaxVersion = tls.VersionTLS10, tls.VersionTLS11
	if _, _, err := shake(t, i.Server(), old); err == nil {
		t.Error("TLS 1.1 was accepted")
	}
}

// New files are used by the same configurations, broken ones are not, and say so.
func TestReload(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ca := certstest.NewCA(t)
		cert, key := ca.Issue(t, "first", 48*time.Hour)
		var log bytes.Buffer
		i := certstest.Load(t, certs.Config{Cert: cert, Key: key, CA: ca.File, Logger: slog.New(slog.NewTextHandler(&log, nil))})
		server := i.Server()
		shown := func() string {
			t.Helper()
			cfg, err := server.GetConfigForClient(nil)
			if err != nil {
				t.Fatal(err)
			}
			asked, err := i.Client("x").GetClientCertificate(nil)
			if err != nil {
				t.Fatal(err)
			}
			if c := cfg.Certificates[0].Leaf.Subject; c.String() != asked.Leaf.Subject.String() {
				t.Errorf("serves as %s and dials as %s", c, asked.Leaf.Subject)
			}
			return cfg.Certificates[0].Leaf.Subject.CommonName
		}
		// The files of another name take the place of the first ones.
		replace := func(name string) {
			c, k := ca.Issue(t, name, 48*time.Hour)
			for from, to := range map[string]string{c: cert, k: key} {
				if err := os.Rename(from, to); err != nil {
					t.Fatal(err)
				}
			}
		}
		replace("second")
		if got := shown(); got != "first" {
			t.Errorf("looked at the files within the second: shows %s", got)
		}
		time.Sleep(time.Second)
		if got := shown(); got != "second" {
			t.Errorf("shows %s", got)
		}

		before := log.Len()
		if err := os.WriteFile(key, []byte("broken"), 0o600); err != nil {
			t.Fatal(err)
		}
		for range 3 {
			time.Sleep(time.Second)
			if got := shown(); got != "second" {
				t.Errorf("shows %s instead of what worked", got)
			}
		}
		if n := strings.Count(log.String()[before:], "level=ERROR"); n != 1 {
			t.Errorf("told %d times of the broken file: %s", n, log.String()[before:])
		}
		if err := os.Remove(cert); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		if got := shown(); got != "second" {
			t.Errorf("shows %s without a file", got)
		}
		replace("third")
		time.Sleep(time.Second)
		if got := shown(); got != "third" {
			t.Errorf("shows %s", got)
		}
	})
}

func TestReloadOfCA(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ca, next := certstest.NewCA(t), certstest.NewCA(t)
		i := ca.Identity(t, "a")
		was, err := i.Server().GetConfigForClient(nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(next.File, ca.File); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		is, err := i.Server().GetConfigForClient(nil)
		if err != nil {
			t.Fatal(err)
		}
		if was.ClientCAs.Equal(is.ClientCAs) || !is.ClientCAs.Equal(i.Client("x").RootCAs) {
			t.Error("the CA is still the old one")
		}
	})
}

func TestMismatchIsTold(t *testing.T) {
	ca := certstest.NewCA(t)
	i := ca.Identity(t, "a")
	answer := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusBadRequest) })
	serve := func(secure *tls.Config) string {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		addr := l.Addr().String()
		if secure != nil {
			l = tls.NewListener(l, secure)
		}
		s := &http.Server{Handler: answer, ErrorLog: slog.NewLogLogger(slog.DiscardHandler, 0)}
		done := make(chan struct{})
		go func() { defer close(done); _ = s.Serve(l) }()
		t.Cleanup(func() { _ = s.Close(); <-done })
		return addr
	}
	secure, plain := serve(i.Server()), serve(nil)
	get := func(url string) (*http.Response, error) {
		req, err := http.NewRequestWithContext(context.Background(), http.MethodGet, url, nil)
		if err != nil {
			t.Fatal(err)
		}
		c := http.Client{Transport: &http.Transport{DisableKeepAlives: true, TLSClientConfig: i.Client("127.0.0.1")}}
		resp, err := c.Do(req)
		if err == nil {
			t.Cleanup(func() { resp.Body.Close() })
		}
		return resp, err
	}
	resp, err := get("http://" + secure)
	if f := certs.WantsTLS(resp); err != nil || f == nil || f.Error() != "the peer wants TLS" {
		t.Errorf("plain to TLS: %v, %v", f, err)
	}
	resp, err = get("http://" + plain)
	if f := certs.WantsTLS(resp); err != nil || f != nil {
		t.Errorf("plain to plain: %v, %v", f, err)
	}
	if _, err := get("https://" + plain); certs.Diagnose(err) == nil || certs.Diagnose(err).Error() != "the peer does not speak TLS" {
		t.Errorf("TLS to plain: %v", err)
	}
	if c, err := tls.Dial("tcp", plain, i.Client("127.0.0.1")); err == nil {
		c.Close()
		t.Error("TLS to plain: no error")
	} else if f := certs.Diagnose(err); f == nil || f.Error() != "the peer does not speak TLS" {
		t.Errorf("TLS to plain: %v", err)
	}
	if f := certs.Diagnose(errors.New("x")); f != nil {
		t.Errorf("a Failure of nothing: %v", f)
	}
	if f := certs.Diagnose(nil); f != nil || certs.WantsTLS(nil) != nil {
		t.Error("a Failure of nil")
	}
}
