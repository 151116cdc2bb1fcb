package record

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sort"
	"sync"
	"time"

	"github.com/meshctl/meshctl/internal/mesh/inspect"
)

// preroll is how much is read before the place that is sought, so that rates and
// latencies are there as they were.
const preroll = 12 * time.Second

// seekAhead is how far a jump ahead just reads on.
const seekAhead = 2 * time.Second

// Replay is a recording as a Source and a Timeline. It begins to play at its start, at the
// speed of the recording. At its end it waits to be sought elsewhere, unless it was opened
// by Read.
type Replay struct {
	header   Header
	segments []segment
	from, to time.Time
	paced    bool

	reader struct { // of the goroutine that calls Next
		*lines
		file    *os.File
		segment int // which is being read
		open    bool
		frame   keyFrame
		next    *inspect.Update // read and not yet due
	}

	mu      sync.Mutex
	changed chan struct{} // closed and replaced when what follows changes
	closed  bool
	playing bool
	speed   float64
	base    time.Time // of the recording, at
	at      time.Time // by the clock, base was
	rewind  bool      // Next has to begin at a key frame
	damage  error
}

// keyFrame is what to do with the key frame at the beginning of a segment.
type keyFrame int

const (
	keyFrameGive keyFrame = iota // it is where reading begins
	keyFrameSkip                 // all of it is known
	keyFrameOver                 // it has passed
)

// Open opens a recording to be watched.
func Open(path string) (*Replay, error) { return open(path, true) }

// Read opens a recording to be read as fast as possible, from its start until io.EOF.
func Read(path string) (*Replay, error) { return open(path, false) }

func open(path string, paced bool) (_ *Replay, err error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("open the recording: %w", err)
	}
	l, err := newLines(f)
	if err == nil {
		r := &Replay{paced: paced, playing: true, speed: 1, changed: make(chan struct{})}
		var end int64
		if r.header, r.segments, end, r.damage, err = scan(path, f, l); err == nil {
			r.from, r.to = time.UnixMilli(r.segments[0].at), time.UnixMilli(end)
			r.base, r.at = r.from, time.Now()
			r.reader.lines, r.reader.file = l, f
			return r, nil
		}
		l.close()
	}
	f.Close()
	return nil, err
}

// Header tells what was recorded.
func (r *Replay) Header() Header { return r.header }

// Damage says what of the recording is missing, as far as is known by now: parts that
// cannot be read are only found when they are reached.
func (r *Replay) Damage() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.damage
}

// Close implements Source. It waits for nobody; a Next that is under way fails.
func (r *Replay) Close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return nil
	}
	r.closed = true
	r.wake()
	return r.reader.file.Close()
}

var errClosed = errors.New("the recording is closed")

// Next implements Source.
func (r *Replay) Next(ctx context.Context) (inspect.Update, error) {
	for {
		if err := ctx.Err(); err != nil {
			return inspect.Update{}, err
		}
		r.mu.Lock()
		if r.closed {
			r.mu.Unlock()
			return inspect.Update{}, errClosed
		}
		changed, rewind, target := r.changed, r.rewind, r.base
		r.rewind = false
		r.mu.Unlock()
		if rewind {
			r.beginAt(target)
		}
		u, err := r.peek()
		switch {
		case errors.Is(err, io.EOF) && !r.paced:
			return inspect.Update{}, io.EOF
		case err != nil && !errors.Is(err, io.EOF):
			return inspect.Update{}, err
		}
		wait, ok := r.due(u)
		if ok {
			r.reader.next = nil
			return *u, nil
		}
		if wait == 0 {
			wait = time.Hour // until something changes
		}
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
		case <-changed:
		case <-timer.C:
		}
		timer.Stop()
	}
}

// due tells whether an update is to be given now, or how long it takes until then; 0
// where that is until something changes.
func (r *Replay) due(u *inspect.Update) (wait time.Duration, ok bool) {
	if !r.paced {
		return 0, true
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.rewind || u == nil {
		return 0, false
	}
	early := time.UnixMilli(u.At).Sub(r.position())
	switch {
	case early <= 0:
		return 0, true
	case !r.playing:
		return 0, false
	}
	return max(time.Millisecond, time.Duration(float64(early)/r.speed)), false
}

// peek gives the next update, which stays the next one; io.EOF at the end.
func (r *Replay) peek() (*inspect.Update, error) {
	rd := &r.reader
	for rd.next == nil {
		if !rd.open {
			if rd.segment >= len(r.segments) {
				return nil, io.EOF
			}
			if err := rd.lines.open(r.segments[rd.segment]); err != nil {
				r.skipDamaged(err)
				continue
			}
			rd.open = true
		}
		line, err := rd.lines.next()
		if errors.Is(err, io.EOF) {
			rd.open, rd.frame = false, keyFrameSkip
			rd.segment++
			continue
		}
		if err != nil {
			r.skipDamaged(err)
			continue
		}
		u, err := inspect.DecodeUpdate(line)
		if err != nil {
			r.skipDamaged(err)
			continue
		}
		over := u.Past != nil
		if rd.frame != keyFrameSkip {
			rd.next = &u
		}
		if over {
			rd.frame = keyFrameOver
		}
	}
	return rd.next, nil
}

// skipDamaged goes on with the next key frame, which tells everything anew.
func (r *Replay) skipDamaged(err error) {
	rd := &r.reader
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.damage == nil {
		r.damage = fmt.Errorf("the recording is damaged at %s (%w); what is whole of it is shown", time.UnixMilli(r.segments[rd.segment].at).Format(time.DateTime), err)
	}
	rd.segment++
	rd.open, rd.frame = false, keyFrameGive
}

// beginAt prepares to read from a key frame well before target.
func (r *Replay) beginAt(target time.Time) {
	rd := &r.reader
	early := target.Add(-preroll).UnixMilli()
	rd.segment = max(0, sort.Search(len(r.segments), func(i int) bool { return r.segments[i].at > early })-1)
	rd.open, rd.frame, rd.next = false, keyFrameGive, nil
}

// wake makes Next look again. The lock is held.
func (r *Replay) wake() {
	close(r.changed)
	r.changed = make(chan struct{})
}

// position is where the recording is. The lock is held.
func (r *Replay) position() time.Time {
	at := r.base
	if r.playing {
		at = at.Add(time.Duration(float64(time.Since(r.at)) * r.speed))
	}
	if at.After(r.to) {
		return r.to
	}
	return at
}

// rebase makes base the present position. The lock is held.
func (r *Replay) rebase() { r.base, r.at = r.position(), time.Now() }

// Span implements Timeline.
func (r *Replay) Span() (from, to time.Time) { return r.from, r.to }

// Position implements Timeline.
func (r *Replay) Position() time.Time {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.position()
}

// Playing implements Timeline: at its end a recording no longer plays.
func (r *Replay) Playing() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.playing && r.position().Before(r.to)
}

// Speed implements Timeline.
func (r *Replay) Speed() float64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.speed
}

// Play implements Timeline. Playing at the end begins at the start.
func (r *Replay) Play(on bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.rebase()
	r.playing = on
	if on && !r.base.Before(r.to) {
		r.base, r.rewind = r.from, true
	}
	r.wake()
}

// SetSpeed implements Timeline.
func (r *Replay) SetSpeed(speed float64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.rebase()
	r.speed = min(max(speed, 1), 60)
	r.wake()
}

// Seek implements Timeline. A jump ahead of more than two seconds begins with
// a Reset as well.
func (r *Replay) Seek(to time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	was := r.position()
	if to.Before(r.from) {
		to = r.from
	}
	if to.After(r.to) {
		to = r.to
	}
	r.rewind = r.rewind || to.Before(was) || to.Sub(was) > seekAhead
	r.base, r.at = to, time.Now()
	r.wake()
}
