// Package certs holds the certificates of one member of a mesh that speaks TLS: it
// reads them from files, follows changes of those, and makes TLS configurations of
// them. It knows nothing of links.
package certs

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/meshctl/meshctl/internal/bounded"
)

const (
	// maxFile bounds a file of certificates; the bundles of operating systems have 250 kB.
	maxFile = 4 << 20
	// recheckEvery is how often the files are looked at, at most.
	recheckEvery = time.Second
)

// Config names the files, all in PEM. Without any there is no TLS.
type Config struct {
	// Cert has this member's certificate and those between it and its CA, Key the
	// private key of it. Both or neither: a member that only dials may do without.
	Cert, Key string
	// CA has the certificates that sign those of others; "": dialled peers are checked
	// against the system's, and those that dial need none.
	CA string
	// OptionalClients lets peers without a certificate dial in although there is a CA.
	// A certificate that they do present has to be valid.
	OptionalClients bool
	// Logger hears of changed files; nil: nothing is logged.
	Logger *slog.Logger
}

// Identity is what a member shows of itself and whom it believes. It is safe for
// concurrent use. Its files are looked at again when connections are made, at most once
// a second; new ones that cannot be used are logged, and the old stay in use.
type Identity struct {
	cfg     Config
	log     *slog.Logger
	recheck time.Duration
	now     atomic.Pointer[material]

	checking sync.Mutex
	checked  time.Time
	seen     [3]os.FileInfo // of the files as they were last looked at
}

// material is what the files had in them.
type material struct {
	pair *tls.Certificate // nil without Config.Cert
	pool *x509.CertPool   // nil without Config.CA
}

// Load reads the files. It gives nil, which stands for plain TCP, when cfg names none.
func Load(cfg Config) (*Identity, error) {
	switch {
	case cfg.Cert == "" && cfg.Key == "" && cfg.CA == "":
		return nil, nil
	case (cfg.Cert == "") != (cfg.Key == ""):
		return nil, errors.New("a TLS certificate and its key belong together, and one of the files is missing")
	}
	i := &Identity{cfg: cfg, log: cfg.Logger, recheck: recheckEvery}
	if i.log == nil {
		i.log = slog.New(slog.DiscardHandler)
	}
	i.checked = time.Now()
	i.seen = i.look()
	m, err := cfg.read()
	if err != nil {
		return nil, err
	}
	i.use(m)
	return i, nil
}

// Serves tells whether there is a certificate to serve with.
func (i *Identity) Serves() bool { return i.cfg.Cert != "" }

// Server is how connections are accepted. It is for Identities that serve.
func (i *Identity) Server() *tls.Config {
	cfg := i.server(i.current())
	cfg.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) { return i.server(i.current()), nil }
	return cfg
}

func (i *Identity) server(m *material) *tls.Config {
	cfg := base()
	// Links live long, and a resumed session would not be checked against a new CA.
	cfg.SessionTicketsDisabled = true
	if m.pair != nil {
		cfg.Certificates = []tls.Certificate{*m.pair}
	}
	switch {
	case m.pool == nil:
	case i.cfg.OptionalClients:
		cfg.ClientCAs, cfg.ClientAuth = m.pool, tls.VerifyClientCertIfGiven
	default:
		cfg.ClientCAs, cfg.ClientAuth = m.pool, tls.RequireAndVerifyClientCert
	}
	return cfg
}

// Client is how one connection to a host, a name or an IP address, is opened: the
// other end's certificate has to be valid for it.
func (i *Identity) Client(host string) *tls.Config {
	m := i.current()
	cfg := base()
	cfg.ServerName, _, _ = strings.Cut(host, "%") // no certificate has a zone
	cfg.RootCAs = m.pool
	if m.pair != nil {
		// Shown to whoever asks, signed by whomever it prefers: its refusal tells more than
		// that there was none.
		cfg.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return m.pair, nil }
	}
	return cfg
}

func base() *tls.Config {
	return &tls.Config{MinVersion: tls.VersionTLS12, NextProtos: []string{"http/1.1"}}
}

// current gives what to use, after a look at the files if it is time for one. Whoever
// comes while somebody else looks does not wait.
func (i *Identity) current() *material {
	if i.checking.TryLock() {
		defer i.checking.Unlock()
		if time.Since(i.checked) >= i.recheck {
			i.reload()
			i.checked = time.Now()
		}
	}
	return i.now.Load()
}

// reload reads the files if one of them has changed. checking is held.
func (i *Identity) reload() {
	seen := i.look()
	changed := false
	for n := range seen {
		changed = changed || !same(seen[n], i.seen[n])
	}
	if !changed {
		return
	}
	i.seen = seen
	m, err := i.cfg.read()
	if err != nil {
		i.log.Error("cannot use the changed TLS files; the old ones stay in use", "error", err)
		return
	}
	i.use(m)
}

func (i *Identity) use(m *material) {
	i.now.Store(m)
	if m.pair == nil || m.pair.Leaf == nil {
		i.log.Info("TLS files are in use", "ca", i.cfg.CA)
		return
	}
	attrs := []any{"certificate", m.pair.Leaf.Subject.String(), "not_after", m.pair.Leaf.NotAfter}
	if time.Now().After(m.pair.Leaf.NotAfter) {
		i.log.Warn("the TLS certificate has expired: nobody will accept it", attrs...)
		return
	}
	i.log.Info("TLS files are in use", attrs...)
}

// look gives what the files are at present; nil for one that is not there.
func (i *Identity) look() (seen [3]os.FileInfo) {
	for n, name := range []string{i.cfg.Cert, i.cfg.Key, i.cfg.CA} {
		if name != "" {
			seen[n], _ = os.Stat(name) // reading it will say why it fails
		}
	}
	return seen
}

func same(a, b os.FileInfo) bool {
	if a == nil || b == nil {
		return a == nil && b == nil
	}
	return os.SameFile(a, b) && a.ModTime().Equal(b.ModTime()) && a.Size() == b.Size()
}

func (c *Config) read() (*material, error) {
	m := &material{}
	if c.Cert != "" {
		cert, err := bounded.ReadFile(c.Cert, maxFile)
		if err != nil {
			return nil, fmt.Errorf("read the TLS certificate: %w", err)
		}
		key, err := bounded.ReadFile(c.Key, maxFile)
		if err != nil {
			return nil, fmt.Errorf("read the key of the TLS certificate: %w", err)
		}
		pair, err := tls.X509KeyPair(cert, key)
		if err != nil {
			return nil, fmt.Errorf("use the TLS certificate %s with the key %s: %w", c.Cert, c.Key, err)
		}
		m.pair = &pair
	}
	if c.CA != "" {
		ca, err := bounded.ReadFile(c.CA, maxFile)
		if err != nil {
			return nil, fmt.Errorf("read the CA of TLS: %w", err)
		}
		m.pool = x509.NewCertPool()
		if !m.pool.AppendCertsFromPEM(ca) {
			return nil, fmt.Errorf("use the CA of TLS: %s has no certificate in PEM", c.CA)
		}
	}
	return m, nil
}
