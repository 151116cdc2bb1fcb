package fault

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/meshctl/meshctl/internal/pause"
	"golang.org/x/time/rate"
)

// maxConnections is how many connections a proxy has at once; more are turned away.
const maxConnections = 4096

// Config is what a proxy is made of.
type Config struct {
	Listen string // address to listen on; port 0 is a free one
	To     string // address to connect to, for each connection anew
	Seed   uint64 // of everything that is random
	Faults Faults // to begin with

	// Dial connects to To; default: TCP. What it gives has to be able to do what a
	// *net.TCPConn does to half-close and to reset.
	Dial   func(ctx context.Context, address string) (net.Conn, error)
	Logger *slog.Logger // default: discards
}

// Proxy is a running proxy. Its methods are safe for concurrent use.
type Proxy struct {
	cfg      Config
	listener net.Listener
	ctx      context.Context
	cancel   context.CancelFunc
	wg       sync.WaitGroup
	lines    [2]*rate.Limiter // by way

	mu  sync.Mutex // of Set
	now atomic.Pointer[setting]

	connections, open, cut atomic.Int64
	passed                 [2]atomic.Int64 // bytes, by way
}

// setting is the faults until others are set, when changed is closed.
type setting struct {
	Faults
	changed chan struct{}
}

// Stats is what a proxy has done so far.
type Stats struct {
	Connections int   // taken
	Open        int   // of them now
	Cut         int   // of them by Drop, Reset and HalfOpen
	Up, Down    int64 // bytes passed on
}

// Listen starts a proxy.
func Listen(cfg Config) (*Proxy, error) {
	if err := cfg.Faults.Check(); err != nil {
		return nil, err
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.Dial == nil {
		cfg.Dial = func(ctx context.Context, address string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "tcp", address)
		}
	}
	l, err := net.Listen("tcp", cfg.Listen)
	if err != nil {
		return nil, fmt.Errorf("fault proxy to %s: %w", cfg.To, err)
	}
	p := &Proxy{cfg: cfg, listener: l}
	p.ctx, p.cancel = context.WithCancel(context.Background())
	for i := range p.lines {
		p.lines[i] = rate.NewLimiter(rate.Inf, chunkSize)
	}
	p.now.Store(&setting{changed: make(chan struct{})})
	p.set(cfg.Faults)
	p.wg.Go(p.accept)
	return p, nil
}

// Addr is where the proxy listens.
func (p *Proxy) Addr() net.Addr { return p.listener.Addr() }

// Set makes the faults those of all connections, from now on. It fails where Check does,
// and then changes nothing.
func (p *Proxy) Set(f Faults) error {
	if err := f.Check(); err != nil {
		return err
	}
	p.set(f)
	return nil
}

func (p *Proxy) set(f Faults) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for w, l := range p.lines {
		limit, burst := rate.Inf, chunkSize
		if n := f.line(way(w)).Throttle; n > 0 {
			limit, burst = rate.Limit(n), min(max(n/10, 1), chunkSize)
		}
		l.SetLimit(limit)
		l.SetBurst(burst)
	}
	before := p.now.Swap(&setting{f, make(chan struct{})})
	close(before.changed)
}

// Faults gives what was set last.
func (p *Proxy) Faults() Faults { return p.now.Load().Faults }

// Stats says what the proxy has done so far.
func (p *Proxy) Stats() Stats {
	return Stats{
		Connections: int(p.connections.Load()), Open: int(p.open.Load()), Cut: int(p.cut.Load()),
		Up: p.passed[up].Load(), Down: p.passed[down].Load(),
	}
}

// Close ends all connections, with a reset, and returns when nothing of the proxy is left.
// It may be repeated.
func (p *Proxy) Close() {
	p.cancel()
	p.listener.Close()
	p.wg.Wait()
}

func (p *Proxy) accept() {
	for number := uint64(1); ; {
		client, err := p.listener.Accept()
		if err != nil {
			// Either it was closed or the process has too many files open, which may end.
			if !pause.For(p.ctx, 10*time.Millisecond) {
				return
			}
			p.cfg.Logger.Warn("cannot accept a connection", "error", err)
			continue
		}
		if p.open.Load() >= maxConnections {
			client.Close()
			continue
		}
		p.connections.Add(1)
		p.open.Add(1)
		c := newConn(p, client.(*net.TCPConn), number)
		number++
		p.wg.Go(func() {
			defer p.open.Add(-1)
			c.run()
		})
	}
}
