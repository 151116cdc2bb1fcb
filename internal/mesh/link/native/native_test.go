package native

import (
	"context"
	"crypto/tls"
	"log/slog"
	"net"
	"net/http"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/meshctl/meshctl/internal/mesh/link"
	"github.com/meshctl/meshctl/internal/mesh/link/linktest"
	"github.com/meshctl/meshctl/internal/mesh/seal"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// testKey is derived once for all tests.
var testKey = newKey("test private key")

func newKey(private string) *seal.Key {
	k, err := seal.NewKey(seal.Keys{Public: "test public key", Private: private})
	if err != nil {
		panic(err)
	}
	return k
}

// idOf is what names a key in the first message.
func idOf(k *seal.Key) []byte {
	_, id, err := k.Native()
	if err != nil {
		panic(err)
	}
	return id[:]
}

var testLog = slog.New(slog.DiscardHandler)

// serve runs a server on a free port and hands out the links that it accepts.
func serve(t testing.TB, cfg Config) (addr string, accepted <-chan link.Link) {
	t.Helper()
	return serveTLS(t, cfg, nil)
}

// serveTLS is serve with TLS, or without where secure is nil.
func serveTLS(t testing.TB, cfg Config, secure *tls.Config) (addr string, accepted <-chan link.Link) {
	t.Helper()
	links := make(chan link.Link)
	ended := make(chan struct{})
	s, err := NewServer(cfg, func(_ context.Context, l link.Link) {
		select {
		case links <- l:
			<-l.Done()
		case <-ended:
		}
	}, func(context.Context) {})
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr = listener.Addr().String()
	if secure != nil {
		listener = tls.NewListener(listener, secure)
	}
	hs := &http.Server{Handler: s, ErrorLog: slog.NewLogLogger(testLog.Handler(), slog.LevelDebug)}
	done := make(chan struct{})
	go func() { defer close(done); _ = hs.Serve(listener) }()
	t.Cleanup(func() {
		close(ended)
		s.Close()
		_ = hs.Close()
		<-done
	})
	return addr, links
}

func pair(t *testing.T, cfg Config) (dialed, accepted link.Link) {
	t.Helper()
	addr, links := serve(t, cfg)
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
}

func TestLinkContract(t *testing.T) {
	linktest.Run(t, func(t *testing.T) (link.Link, link.Link) {
		return pair(t, Config{Key: testKey, MaxPayload: linktest.MaxBody})
	})
}
