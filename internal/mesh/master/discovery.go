package master

import (
	"context"
	"crypto/subtle"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/meshctl/meshctl/internal/mesh/seal"
	"github.com/meshctl/meshctl/internal/mesh/wire"
)

// serveDiscovery tells holders of the public key the master's port, sealed, until ctx
// ends: PROTOCOL section 5. The original compares md5(public+private) of both sides,
// which is equal exactly when the public keys are; no hash is needed for that.
func serveDiscovery(ctx context.Context, l net.Listener, ring *seal.Ring, port int, log *slog.Logger) error {
	answer, err := wire.Encode(struct {
		Port int `json:"port"`
	}{port})
	if err != nil {
		return err
	}
	server := &http.Server{
		ReadTimeout: 5 * time.Second, WriteTimeout: 5 * time.Second, IdleTimeout: 5 * time.Second,
		MaxHeaderBytes: 16 << 10,
		ErrorLog:       slog.NewLogLogger(log.Handler(), slog.LevelDebug),
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			key := admitted(ring, r.Header.Get("discovery_key"))
			if r.Method != http.MethodGet || r.URL.Path != "/" || key == nil {
				w.WriteHeader(http.StatusUnauthorized)
				return
			}
			sealed, err := key.Envelope().Seal(answer)
			if err != nil {
				log.Error("cannot seal the discovery answer", "error", err)
				w.WriteHeader(http.StatusInternalServerError)
				return
			}
			w.Header().Set("Content-Type", "application/json")
			_, _ = w.Write([]byte(sealed))
		}),
	}
	stop := context.AfterFunc(ctx, func() { server.Close() })
	defer stop()
	if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// admitted is the key whose public part was presented, nil if there is none.
func admitted(ring *seal.Ring, public string) (key *seal.Key) {
	for _, k := range ring.Keys() {
		if subtle.ConstantTimeCompare([]byte(public), []byte(k.Keys().Public)) == 1 && key == nil {
			key = k
		}
	}
	return key
}
