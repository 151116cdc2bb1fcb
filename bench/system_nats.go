package main

import (
	"context"
	"crypto/tls"
	"errors"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
)

const natsSubject = "bench.echo"

func serveNATS(secure bool) func(context.Context) (endpoint, func(), error) {
	return func(context.Context) (endpoint, func(), error) {
		var e endpoint
		options := &server.Options{Host: "127.0.0.1", Port: server.RANDOM_PORT, NoLog: true, NoSigs: true}
		if secure {
			cfg, ca, err := selfSigned()
			if err != nil {
				return e, nil, err
			}
			e.CA, options.TLSConfig = ca, cfg
		}
		s, err := server.NewServer(options)
		if err != nil {
			return e, nil, err
		}
		go s.Start()
		if !s.ReadyForConnections(10 * time.Second) {
			return e, nil, errors.New("the NATS server did not start")
		}
		e.Addr = s.Addr().String()
		c, err := connectNATS(e)
		if err != nil {
			return e, nil, err
		}
		if _, err := c.Subscribe(natsSubject, func(m *nats.Msg) { _ = m.Respond(m.Data) }); err != nil {
			return e, nil, err
		}
		return e, func() { c.Close(); s.Shutdown() }, c.Flush()
	}
}

func connectNATS(e endpoint) (*nats.Conn, error) {
	var options []nats.Option
	if e.CA != nil {
		var cfg *tls.Config
		cfg, err := trusting(e.CA)
		if err != nil {
			return nil, err
		}
		options = append(options, nats.Secure(cfg))
	}
	return nats.Connect("nats://"+e.Addr, options...)
}

func dialNATS(_ context.Context, e endpoint) (client, error) {
	c, err := connectNATS(e)
	if err != nil {
		return client{}, err
	}
	call := func(ctx context.Context, payload []byte) ([]byte, error) {
		ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
		defer cancel()
		m, err := c.RequestWithContext(ctx, natsSubject, payload)
		if err != nil {
			return nil, err
		}
		return m.Data, nil
	}
	return client{call, c.Close}, nil
}
