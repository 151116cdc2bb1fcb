package fault

import (
	"context"
	"fmt"
	"net"
	"sync"
	"time"
)

// dialTimeout is how long connecting to the target may take.
const dialTimeout = 10 * time.Second

// socketBuffer is small, so that who sends feels soon that nothing gets through.
const socketBuffer = 128 << 10

// socket is an end of a TCP connection.
type socket interface {
	net.Conn
	CloseWrite() error
	SetLinger(seconds int) error
}

// conn is one connection through the proxy. What is not said to be for other goroutines
// belongs to run.
type conn struct {
	proxy  *Proxy
	number uint64 // of the proxy's, from 1
	client socket
	target socket // nil until it is linked
	halved bool   // by HalfOpen

	drop, reset chance
	trials      uint64

	pipes sync.WaitGroup
	stop  context.CancelFunc // of pipes
	ended chan error         // for pipes: what became of each direction
}

func newConn(p *Proxy, client socket, number uint64) *conn {
	return &conn{
		proxy: p, number: number, client: client,
		drop: newChance(p.cfg.Seed, number, forDrop), reset: newChance(p.cfg.Seed, number, forReset),
		stop: func() {}, ended: make(chan error, 2),
	}
}

// run serves the connection until it ends.
func (c *conn) run() {
	second := time.NewTicker(time.Second)
	defer second.Stop()
	for open, trial := 2, true; ; {
		s := c.proxy.now.Load()
		if trial {
			switch dropped, reset := c.try(&s.Faults); {
			case dropped:
				c.proxy.cut.Add(1)
				c.close()
				return
			case reset:
				c.proxy.cut.Add(1)
				c.abort()
				return
			}
		}
		switch {
		case s.HalfOpen:
			c.halve()
		case c.halved:
			c.abort()
			return
		case c.target == nil && !s.dark():
			if err := c.link(); err != nil {
				c.proxy.cfg.Logger.Warn("cannot reach the target", "to", c.proxy.cfg.To, "error", err)
				c.abort()
				return
			}
		}
		select {
		case <-c.proxy.ctx.Done():
			c.abort()
			return
		case <-s.changed:
			trial = true
		case <-second.C:
			trial = true
		case err := <-c.ended:
			trial = false
			open--
			switch {
			case err != nil:
				c.abort()
				return
			case open == 0:
				c.close()
				return
			}
		}
	}
}

// try gives the connection its chance to be dropped or reset.
func (c *conn) try(f *Faults) (dropped, reset bool) {
	n := c.trials
	c.trials++
	return c.drop.hits(f.Drop, n), c.reset.hits(f.Reset, n)
}

// link connects to the target.
func (c *conn) link() error {
	ctx, cancel := context.WithTimeout(c.proxy.ctx, dialTimeout)
	defer cancel()
	raw, err := c.proxy.cfg.Dial(ctx, c.proxy.cfg.To)
	if err != nil {
		return err
	}
	target, ok := raw.(socket)
	if !ok {
		raw.Close()
		return fmt.Errorf("a %T cannot be closed in one direction", raw)
	}
	c.target = target
	for _, s := range []socket{c.client, c.target} {
		if b, ok := s.(interface {
			SetReadBuffer(int) error
			SetWriteBuffer(int) error
		}); ok {
			_ = b.SetReadBuffer(socketBuffer)
			_ = b.SetWriteBuffer(socketBuffer)
		}
	}
	ctx, c.stop = context.WithCancel(c.proxy.ctx)
	for _, p := range []*pipe{newPipe(c, up, c.client, c.target), newPipe(c, down, c.target, c.client)} {
		c.pipes.Go(func() { p.read(ctx) })
		c.pipes.Go(func() {
			if err := p.write(ctx); ctx.Err() == nil {
				c.ended <- err
			}
		})
	}
	return nil
}

// halve closes the connection to the target and leaves the client waiting.
func (c *conn) halve() {
	if c.halved {
		return
	}
	c.halved = true
	c.proxy.cut.Add(1)
	if c.target == nil {
		return
	}
	c.stop()
	c.target.Close()
	_ = c.client.SetDeadline(time.Unix(1, 0)) // ends what the pipes do with it
	c.pipes.Wait()
	for len(c.ended) > 0 {
		<-c.ended
	}
}

// close ends both connections as those do that have nothing more to say.
func (c *conn) close() {
	c.stop()
	c.client.Close()
	if c.target != nil {
		c.target.Close()
	}
	c.pipes.Wait()
}

// abort resets both connections.
func (c *conn) abort() {
	_ = c.client.SetLinger(0)
	if c.target != nil && !c.halved {
		_ = c.target.SetLinger(0)
	}
	c.close()
}

// await waits until the faults are as wanted, and reports false when ctx has ended.
func (c *conn) await(ctx context.Context, wanted func(*Faults) bool) bool {
	for ctx.Err() == nil {
		s := c.proxy.now.Load()
		if wanted(&s.Faults) {
			return true
		}
		select {
		case <-ctx.Done():
		case <-s.changed:
		}
	}
	return false
}
