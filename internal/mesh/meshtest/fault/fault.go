// Package fault is a proxy that makes a network worse than it is: slow, lossy, silent, lying.
// It stands between two ends of TCP connections and knows nothing of what they say. It is no
// network of its own: what the machine's TCP does, it does with both of its halves.
package fault

import (
	"fmt"
	"time"
)

// Faults is what a proxy does to its connections. The zero value passes everything on as
// it is. Up is from who connects to who is connected to, Down the way back.
type Faults struct {
	Up, Down Line

	// Drop and Reset are the probabilities that a connection is closed, and that it is reset
	// (RST), at both ends: when it is made, when the faults are set, and each second. One to which that happens when it is
	// made never reaches the target.
	Drop, Reset float64
	// HalfOpen closes connections towards who was connected to, and does not tell who
	// connected, whose bytes are not read any more. New ones lead nowhere. When it ends, they are
	// all reset, as by a machine that was started again and knows nothing of them.
	HalfOpen bool
}

// Line is one direction of a connection.
type Line struct {
	// Delay is how much later everything arrives. It does not make the line narrower: up
	// to 4 MiB are on the way.
	Delay time.Duration
	// Jitter is added to Delay, anew for what is read at once, between nothing and all of it.
	// The order of bytes stays.
	Jitter time.Duration
	// Corrupt is the probability that a bit of a byte is flipped, for each byte.
	Corrupt float64
	// Throttle is how many bytes a second pass, of all connections together; 0: as many as there are.
	Throttle int
	// Blackhole passes nothing on, neither bytes nor that an end has closed, and tells nobody.
	// Bytes are not lost: when it ends they arrive, as by TCP's retransmissions. Unlike on a
	// cut cable the machine of the proxy acknowledges what fits into the buffers of its
	// sockets, a few hundred KiB, and takes new connections: those get no answer.
	Blackhole bool
}

// Both is a line for both directions.
func Both(l Line) Faults { return Faults{Up: l, Down: l} }

// maxDelay bounds Delay and Jitter.
const maxDelay = time.Minute

// Check tells whether the faults are possible.
func (f Faults) Check() error {
	for _, p := range []struct {
		name string
		is   float64
	}{{"drop", f.Drop}, {"reset", f.Reset}, {"corrupt", f.Up.Corrupt}, {"corrupt", f.Down.Corrupt}} {
		if !(p.is >= 0 && p.is <= 1) {
			return fmt.Errorf("%s %v is no probability between 0 and 1", p.name, p.is)
		}
	}
	for _, l := range []Line{f.Up, f.Down} {
		switch {
		case l.Delay < 0 || l.Delay > maxDelay:
			return fmt.Errorf("delay %s is not between 0 and %s", l.Delay, maxDelay)
		case l.Jitter < 0 || l.Jitter > maxDelay:
			return fmt.Errorf("jitter %s is not between 0 and %s", l.Jitter, maxDelay)
		case l.Throttle < 0:
			return fmt.Errorf("throttle %d is less than 0 bytes a second", l.Throttle)
		}
	}
	return nil
}

// line gives the direction of that way.
func (f *Faults) line(w way) *Line {
	if w == up {
		return &f.Up
	}
	return &f.Down
}

// dark tells whether a handshake of TCP would not come about.
func (f *Faults) dark() bool { return f.Up.Blackhole || f.Down.Blackhole }

// way is a direction of a connection.
type way int

const (
	up way = iota
	down
)

func (w way) back() way { return 1 - w }
