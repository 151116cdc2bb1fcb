package fault

import (
	"bytes"
	"context"
	"errors"
	"io"
	"time"
)

const (
	chunkSize  = 16 << 10 // read at once at most
	queueDepth = 256      // chunks that are on the way in one direction at most
)

// pipe is one direction of a connection.
type pipe struct {
	conn            *conn
	way             way
	from, to        socket
	jitter, corrupt chance
	queue           chan chunk
}

// chunk is what was read at once.
type chunk struct {
	bytes  []byte
	offset uint64 // in the stream
	at     time.Time
	end    error // instead of bytes: why there are no more
}

func newPipe(c *conn, w way, from, to socket) *pipe {
	of := func(what chance) chance { return newChance(c.proxy.cfg.Seed, c.number, what+chance(w)) }
	return &pipe{conn: c, way: w, from: from, to: to, jitter: of(forJitter), corrupt: of(forCorrupt), queue: make(chan chunk, queueDepth)}
}

// read fills the queue. It does not read in the dark, so that the sender's buffers fill.
func (p *pipe) read(ctx context.Context) {
	buf := make([]byte, chunkSize)
	for offset := uint64(0); p.lit(ctx, p.way); {
		n, err := p.from.Read(buf)
		x := chunk{bytes: bytes.Clone(buf[:n]), offset: offset, at: time.Now()}
		if n == 0 {
			x.end = err
		}
		offset += uint64(n)
		select {
		case p.queue <- x:
		case <-ctx.Done():
			return
		}
		if x.end != nil {
			return
		}
	}
}

// write empties the queue. It returns nil when all has been passed on, with the end of it.
func (p *pipe) write(ctx context.Context) error {
	for {
		var x chunk
		select {
		case x = <-p.queue:
		case <-ctx.Done():
			return ctx.Err()
		}
		if !p.arrive(ctx, x) || !p.lit(ctx, p.way) {
			return ctx.Err()
		}
		switch {
		case errors.Is(x.end, io.EOF):
			return p.to.CloseWrite()
		case x.end != nil:
			return x.end
		}
		if err := p.pass(ctx, x); err != nil {
			p.lit(ctx, p.way.back()) // where the news of it comes from
			return err
		}
	}
}

// arrive waits until what was read has travelled.
func (p *pipe) arrive(ctx context.Context, x chunk) bool {
	for {
		s := p.conn.proxy.now.Load()
		l := s.line(p.way)
		travel := l.Delay + time.Duration(share(p.jitter.draw(x.offset))*float64(l.Jitter))
		left := time.Until(x.at.Add(travel))
		if left <= 0 {
			return true
		}
		switch wait(ctx, left, s.changed) {
		case ended:
			return false
		case elapsed:
			return true
		}
	}
}

// pass writes a chunk as fast as the line is wide.
func (p *pipe) pass(ctx context.Context, x chunk) error {
	p.corrupt.corrupt(x.bytes, p.conn.proxy.now.Load().line(p.way).Corrupt, x.offset)
	for limit := p.conn.proxy.lines[p.way]; len(x.bytes) > 0; {
		s := p.conn.proxy.now.Load()
		n := min(len(x.bytes), limit.Burst())
		r := limit.ReserveN(time.Now(), n)
		if !r.OK() {
			continue // the burst has just changed
		}
		if d := r.Delay(); d > 0 {
			if w := wait(ctx, d, s.changed); w != elapsed {
				r.Cancel()
				if w == ended {
					return ctx.Err()
				}
				continue
			}
		}
		if !p.lit(ctx, p.way) {
			return ctx.Err()
		}
		n, err := p.to.Write(x.bytes[:n])
		p.conn.proxy.passed[p.way].Add(int64(n))
		if err != nil {
			return err
		}
		x.bytes = x.bytes[n:]
	}
	return nil
}

// lit waits while the direction is a blackhole, and reports false when ctx has ended.
func (p *pipe) lit(ctx context.Context, w way) bool {
	return p.conn.await(ctx, func(f *Faults) bool { return !f.line(w).Blackhole })
}

// waited is how a wait went.
type waited int

const (
	elapsed waited = iota
	changed
	ended
)

func wait(ctx context.Context, d time.Duration, change <-chan struct{}) waited {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return elapsed
	case <-change:
		return changed
	case <-ctx.Done():
		return ended
	}
}
