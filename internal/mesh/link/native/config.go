package native

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"time"

	"github.com/meshctl/meshctl/internal/mesh/link"
	"github.com/meshctl/meshctl/internal/mesh/seal"
	"github.com/meshctl/meshctl/internal/mesh/wire"
)

// Config is what both ends of native links need. The zero value of a limit stands for
// its default.
type Config struct {
	// Key is what links are dialled with. Required.
	Key *seal.Key
	// Find gives the key that a peer's first message names, or nil, and may derive keys; if
	// it is nil itself, only Key is accepted.
	Find   func(seal.KeyID) *seal.Key
	Hello  Hello // what this end says of itself
	Logger *slog.Logger
	TLS    *tls.Config // of the end that dials: speak TLS like this; nil: plain TCP
	// Connect opens the connection that Dial and Served use; nil: net.Dialer.DialContext.
	Connect func(ctx context.Context, network, addr string) (net.Conn, error)

	MaxPayload   int           // bytes of one message's payload, either way; default 1 MiB
	OutMessages  int           // that may wait to be sent; default 65536
	OutBytes     int           // that may wait to be sent; default 32 MiB
	WriteTimeout time.Duration // for one frame; default 10 s
	Heartbeat    time.Duration // silence after which the peer is lost; default link.HeartbeatLAN
	Handshake    time.Duration // for all of it; default 5 s
}

func (c *Config) setDefaults() error {
	if c.Key == nil {
		return errors.New("native links need a key")
	}
	if c.Find == nil {
		c.Find = func(id seal.KeyID) *seal.Key {
			if _, own, err := c.Key.Native(); err != nil || own != id {
				return nil
			}
			return c.Key
		}
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Connect == nil {
		c.Connect = new(net.Dialer).DialContext
	}
	c.Hello.Protocol = 1
	c.MaxPayload = cmp.Or(c.MaxPayload, wire.DefaultMaxPayload)
	c.OutMessages = cmp.Or(c.OutMessages, 1<<16)
	c.OutBytes = cmp.Or(c.OutBytes, 32<<20)
	c.WriteTimeout = cmp.Or(c.WriteTimeout, 10*time.Second)
	c.Heartbeat = cmp.Or(c.Heartbeat, link.HeartbeatLAN)
	c.Handshake = cmp.Or(c.Handshake, 5*time.Second)
	return nil
}

// Accept serves a link; when it returns the link is closed. If it panics, only its
// link ends.
type Accept func(ctx context.Context, l link.Link)
