package cli

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"
)

// health answers /healthz (the process runs), /readyz (it does its work) and /metrics.
type health struct {
	listener net.Listener
	server   *http.Server
}

// listenHealth opens the port. ready is called for every request of /readyz, from
// many goroutines at once; its second result is the body, in JSON.
func listenHealth(address string, ready func() (bool, any), metrics http.Handler, log *slog.Logger) (*health, error) {
	l, err := net.Listen("tcp", address)
	if err != nil {
		return nil, &hinted{fmt.Errorf("serve health: %w", err), "give another --http address"}
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, http.StatusOK, map[string]string{"status": "ok"})
	})
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		ok, body := ready()
		if !ok {
			answer(w, http.StatusServiceUnavailable, body)
			return
		}
		answer(w, http.StatusOK, body)
	})
	mux.Handle("GET /metrics", metrics)
	const patience = 5 * time.Second
	return &health{l, &http.Server{
		Handler:           mux,
		ReadHeaderTimeout: patience,
		ReadTimeout:       patience,
		WriteTimeout:      patience,
		IdleTimeout:       time.Minute,
		MaxHeaderBytes:    8 << 10,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelWarn),
	}}, nil
}

func answer(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	// A client that went away is no concern of ours.
	_ = writeJSON(w, body, false)
}

func (h *health) addr() net.Addr { return h.listener.Addr() }

// run serves until ctx ends.
func (h *health) run(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() { _ = h.server.Close() })
	defer stop()
	if err := h.server.Serve(h.listener); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve health: %w", err)
	}
	return nil
}
