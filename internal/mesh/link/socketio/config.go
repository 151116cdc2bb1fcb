package socketio

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"runtime"
	"time"

	"github.com/meshctl/meshctl/internal/mesh/link"
	"github.com/meshctl/meshctl/internal/mesh/seal"
	"github.com/meshctl/meshctl/internal/mesh/wire"
)

// Defaults of Config and DialConfig that are not in wire.
const (
	DefaultMaxLinks           = 16384
	DefaultMaxUndeclared      = 1024
	DefaultMaxUndeclaredPerIP = 128
	DefaultDeclareTimeout     = 5 * time.Second
	DefaultWriteTimeout       = 10 * time.Second
	DefaultDialTimeout        = 10 * time.Second
)

const (
	// undeclaredMessages bounds the inbox of an undeclared peer.
	undeclaredMessages = 4
	// undeclaredBytes is how much is read from an undeclared peer. A declaration takes
	// one or two kilobytes; what a peer sends behind it waits in the network.
	undeclaredBytes = 64 << 10
	// frameSlack is added to the largest sealed message for what surrounds it.
	frameSlack = 1024
)

// QueueLimits bound a link's queues, in messages and in bytes: plaintext on the way
// out, sealed on the way in. An empty queue takes one message of any size.
type QueueLimits struct {
	OutMessages, OutBytes int // default 1024, 16 MiB
	InMessages, InBytes   int // default 256, 8 MiB
}

func (q *QueueLimits) setDefaults() {
	q.OutMessages = cmp.Or(q.OutMessages, 1024)
	q.OutBytes = cmp.Or(q.OutBytes, 16<<20)
	q.InMessages = cmp.Or(q.InMessages, 256)
	q.InBytes = cmp.Or(q.InBytes, 8<<20)
}

// Config is what a Server is made of. The zero value of a limit stands for its default.
type Config struct {
	// Ring has the keys that are accepted: the first message of a link decides under which
	// of them it lives.
	Ring *seal.Ring
	// Envelope, where there is no Ring, seals and opens the messages of all links.
	Envelope Envelope
	// Accept serves a link; when it returns the link is closed. It runs on a goroutine
	// of its own and ends soon after its context or the link has. If it panics, only
	// its link ends. Required.
	Accept func(ctx context.Context, l link.Link)
	// Fallback answers HTTP requests for other paths; nil: not found. Its connections
	// count as undeclared: they are closed DeclareTimeout after they were opened, unless
	// it calls Trust. If it has a method Close, that is called when Serve ends.
	Fallback http.Handler
	// TLS makes the server speak TLS only; nil: plain TCP.
	TLS *tls.Config
	// Logger gets what may interest an operator; nil: nothing is logged.
	Logger *slog.Logger

	MaxPayload int // plaintext bytes of one message, either way; default 1 MiB

	MaxLinks           int           // connections open at once
	MaxUndeclared      int           // … that did not declare yet; more are refused
	MaxUndeclaredPerIP int           // … of one IPv4 address or IPv6 /64; the oldest yields
	DeclareTimeout     time.Duration // from accept to Trust
	MaxDerivations     int           // key derivations at once for undeclared peers; default half the CPUs

	Queues       QueueLimits
	WriteTimeout time.Duration // for one message to be written
	Heartbeat    time.Duration // a peer is lost after twice as much silence; default link.HeartbeatLAN
	PingInterval time.Duration // default half of Heartbeat
	PingTimeout  time.Duration // longer than PingInterval; default 1.4 times Heartbeat
}

func (c *Config) setDefaults() error {
	if c.Ring == nil && c.Envelope == nil {
		return errors.New("socketio: no keys configured")
	}
	if c.Accept == nil {
		return errors.New("socketio: nothing configured to accept links")
	}
	if c.Fallback == nil {
		c.Fallback = http.NotFoundHandler()
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	c.MaxPayload = cmp.Or(c.MaxPayload, wire.DefaultMaxPayload)
	c.MaxLinks = cmp.Or(c.MaxLinks, DefaultMaxLinks)
	c.MaxUndeclared = cmp.Or(c.MaxUndeclared, DefaultMaxUndeclared)
	c.MaxUndeclaredPerIP = cmp.Or(c.MaxUndeclaredPerIP, DefaultMaxUndeclaredPerIP)
	c.DeclareTimeout = cmp.Or(c.DeclareTimeout, DefaultDeclareTimeout)
	c.MaxDerivations = cmp.Or(c.MaxDerivations, max(1, runtime.NumCPU()/2))
	c.WriteTimeout = cmp.Or(c.WriteTimeout, DefaultWriteTimeout)
	c.Heartbeat = cmp.Or(c.Heartbeat, link.HeartbeatLAN)
	// The library clears the time-out of a heartbeat when the answer comes, and
	// misses that if the answer is faster than its own bookkeeping. With a time-out
	// longer than the interval the next heartbeat makes up for it. Clients are told both, and
	// give up a server that is silent for as long as the two make.
	c.PingInterval = cmp.Or(c.PingInterval, c.Heartbeat/2)
	c.PingTimeout = cmp.Or(c.PingTimeout, c.Heartbeat*14/10)
	c.Queues.setDefaults()
	for _, n := range []int{
		c.MaxPayload, c.MaxLinks, c.MaxUndeclared, c.MaxUndeclaredPerIP, c.MaxDerivations,
		int(c.DeclareTimeout), int(c.WriteTimeout), int(c.Heartbeat), int(c.PingInterval), int(c.PingTimeout),
		c.Queues.InMessages, c.Queues.InBytes, c.Queues.OutMessages, c.Queues.OutBytes,
	} {
		if n < 0 {
			return fmt.Errorf("socketio: a limit is negative: %d", n)
		}
	}
	return nil
}

// DialConfig is what Dial needs. The zero value of a limit stands for its default.
type DialConfig struct {
	Key        *seal.Key    // seals and opens
	Envelope   Envelope     // where there is no Key, seals and opens
	Logger     *slog.Logger // nil: nothing is logged
	MaxPayload int          // plaintext bytes of one message, either way; default 1 MiB
	TLS        *tls.Config  // speak TLS like this; nil: plain TCP
	// Connect opens the connection; nil: net.Dialer.DialContext.
	Connect func(ctx context.Context, network, addr string) (net.Conn, error)

	Timeout      time.Duration // for the whole of Dial
	WriteTimeout time.Duration // for one message to be written
	// Heartbeat is half of the silence after which a server is lost that answers WebSocket
	// pings; default link.HeartbeatLAN. Of others the rule is their own.
	Heartbeat time.Duration
	Queues    QueueLimits
}

func (c *DialConfig) setDefaults() error {
	switch {
	case c.Key != nil:
		c.Envelope = c.Key.Envelope()
	case c.Envelope == nil:
		return errors.New("socketio: no key configured")
	}
	if c.Connect == nil {
		c.Connect = new(net.Dialer).DialContext
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	c.MaxPayload = cmp.Or(c.MaxPayload, wire.DefaultMaxPayload)
	c.Timeout = cmp.Or(c.Timeout, DefaultDialTimeout)
	c.Heartbeat = cmp.Or(c.Heartbeat, link.HeartbeatLAN)
	c.WriteTimeout = cmp.Or(c.WriteTimeout, DefaultWriteTimeout)
	c.Queues.setDefaults()
	return nil
}

// envelope is what seals the messages of one link.
func (c *Config) envelope() Envelope {
	if c.Ring != nil {
		return c.Ring.ForLink()
	}
	return c.Envelope
}

// maxFrame is the longest WebSocket message that is read, in bytes.
func maxFrame(maxPayload int) int64 { return int64(seal.SealedLen(maxPayload)) + frameSlack }
