package record

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"github.com/klauspost/compress/zstd"

	"github.com/meshctl/meshctl/internal/mesh/inspect"
)

// Version is that of the format. Readers refuse later ones.
const Version = 1

const (
	segmentEvery = 10 * time.Second
	flushEvery   = time.Second
	// endReserve is what the end of the last frame may take of Config.Max.
	endReserve = 4 << 10
	// MinSize is the least Config.Max.
	MinSize = 64 << 10
)

// Header is the first line of a recording.
type Header struct {
	Version int    `json:"meshctl_recording"`
	At      int64  `json:"at"` // milliseconds since 1970
	Master  string `json:"master,omitempty"`
	Release string `json:"release,omitempty"` // of meshctl
}

// ErrFull is told when a recording has reached its size.
var ErrFull = errors.New("the recording has reached its size")

// Config is what a Recorder needs. The zero value is usable.
type Config struct {
	Header   Header // Version and At are filled in
	Max      int64  // size of the file at most; 0: no bound
	Payloads bool   // payloads are recorded, as nodes masked them; else "***"
	Force    bool   // a file of that name is replaced
}

// Recorder writes one recording. Methods are safe for concurrent use.
type Recorder struct {
	cfg  Config
	file *os.File
	stop chan struct{}
	done chan struct{}

	mu      sync.Mutex
	out     counted
	enc     *zstd.Encoder
	model   *inspect.Model // for key frames
	next    time.Time      // when the next segment begins
	last    int64          // Update.At of the newest
	shift   int64          // what is added to it since the clock was set back
	unsaved bool           // since the last flush
	err     error          // it has ended
	closed  bool
}

// Create makes the file, which only its owner may read. It fails with fs.ErrExist when
// there is one and Force is not set.
func Create(path string, cfg Config) (*Recorder, error) {
	if cfg.Force {
		if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
			return nil, fmt.Errorf("replace the recording: %w", err)
		}
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, fmt.Errorf("create the recording: %w", err)
	}
	r := &Recorder{cfg: cfg, file: f, out: counted{w: f}, model: inspect.NewModel(), stop: make(chan struct{}), done: make(chan struct{})}
	if cfg.Max > 0 {
		r.cfg.Max = max(cfg.Max, MinSize)
	}
	if err := r.begin(); err != nil {
		f.Close()
		return nil, err
	}
	go r.flushing()
	return r, nil
}

// begin writes the header.
func (r *Recorder) begin() error {
	enc, err := zstd.NewWriter(&r.out, zstd.WithEncoderConcurrency(1), zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithWindowSize(1<<20))
	if err != nil {
		return fmt.Errorf("create the recording: %w", err)
	}
	r.enc = enc
	h := r.cfg.Header
	h.Version, h.At = Version, time.Now().UnixMilli()
	line, err := json.Marshal(h)
	if err != nil {
		return fmt.Errorf("create the recording: %w", err)
	}
	if _, err = enc.Write(append(line, '\n')); err == nil {
		err = enc.Close()
	}
	if err != nil {
		return fmt.Errorf("write the recording: %w", err)
	}
	return nil
}

// Err tells why the recording has ended early, ErrFull for example; nil while it goes on.
func (r *Recorder) Err() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.err
}

// Write records an update. It does not fail: whoever watches goes on when a recording
// has ended; see Err and Close.
func (r *Recorder) Write(u inspect.Update) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.err != nil || r.closed || u.Reset { // live sources never begin anew
		return
	}
	if !r.cfg.Payloads {
		u = masked(u)
	}
	// Time does not go back in a recording.
	if u.At+r.shift < r.last {
		r.shift = r.last - u.At
	}
	u.At += r.shift
	r.last = u.At
	r.model.Apply(u)
	at := time.UnixMilli(u.At)
	if !r.next.IsZero() {
		r.line(u)
	}
	if !at.Before(r.next) { // so it is at first: the key frame has u
		r.segment(at)
	}
}

// segment ends the frame and begins another with what is known.
func (r *Recorder) segment(at time.Time) {
	if !r.next.IsZero() {
		r.fail(r.enc.Close())
	}
	r.next = at.Add(segmentEvery)
	r.enc.Reset(&r.out)
	for _, u := range r.model.Snapshot() {
		u.At = at.UnixMilli()
		r.line(u)
	}
}

func (r *Recorder) line(u inspect.Update) {
	if r.err != nil {
		return
	}
	text, err := json.Marshal(u)
	if err != nil {
		r.fail(fmt.Errorf("encode an update: %w", err))
		return
	}
	// A line that is not compressible and what the encoder still holds must fit as well.
	if most := r.cfg.Max; most > 0 && r.out.n+r.out.pending+int64(len(text)) > most-endReserve {
		r.flush()
		if r.out.n+int64(len(text)) > most-endReserve {
			r.fail(r.enc.Close())
			r.fail(ErrFull)
			return
		}
	}
	r.out.pending += int64(len(text)) + 1
	_, err = r.enc.Write(append(text, '\n'))
	r.fail(err)
	r.unsaved = true
}

func (r *Recorder) flush() {
	r.fail(r.enc.Flush())
	r.out.pending, r.unsaved = 0, false
}

// fail keeps the first error.
func (r *Recorder) fail(err error) {
	if err != nil && r.err == nil {
		r.err = err
	}
}

// flushing saves what was written once a second.
func (r *Recorder) flushing() {
	defer close(r.done)
	tick := time.NewTicker(flushEvery)
	defer tick.Stop()
	for {
		select {
		case <-r.stop:
			return
		case <-tick.C:
			r.mu.Lock()
			if r.unsaved && r.err == nil {
				r.flush()
			}
			r.mu.Unlock()
		}
	}
}

// Close ends the recording, and gives why it ended early if it did, ErrFull for example.
// It may be called again.
func (r *Recorder) Close() error {
	r.mu.Lock()
	if r.closed {
		r.mu.Unlock()
		return nil
	}
	r.closed = true
	if r.err == nil && !r.next.IsZero() {
		r.fail(r.enc.Close())
	}
	if err := r.file.Close(); err != nil {
		r.fail(fmt.Errorf("close the recording: %w", err))
	}
	err := r.err
	r.mu.Unlock()
	close(r.stop)
	<-r.done
	if err != nil && !errors.Is(err, ErrFull) {
		return fmt.Errorf("write the recording: %w", err)
	}
	return err
}

// masked is the update without what its requests carry. What it shares with u is not
// changed.
func masked(u inspect.Update) inspect.Update {
	if u.Report == nil {
		return u
	}
	r := *u.Report
	r.Finished = maskedRequests(r.Finished)
	if r.InFlight != nil {
		r.InFlight = &inspect.InFlight{Total: r.InFlight.Total, Requests: maskedRequests(r.InFlight.Requests)}
	}
	u.Report = &r
	return u
}

func maskedRequests(list []inspect.Request) []inspect.Request {
	copied := make([]inspect.Request, len(list))
	copy(copied, list)
	for i := range copied {
		if copied[i].Payload != nil {
			copied[i].Payload, copied[i].Cut = json.RawMessage(`"***"`), false
		}
	}
	return copied
}

// counted counts what a file has been given.
type counted struct {
	w       io.Writer
	n       int64
	pending int64 // given to the encoder since it was last flushed
}

func (c *counted) Write(b []byte) (int, error) {
	n, err := c.w.Write(b)
	c.n += int64(n)
	return n, err
}

// Tee is a source that hands on another's updates and records them.
type Tee struct {
	inspect.Source
	Recorder *Recorder
}

// Next is the source's.
func (t Tee) Next(ctx context.Context) (inspect.Update, error) {
	u, err := t.Source.Next(ctx)
	if err == nil {
		t.Recorder.Write(u)
	}
	return u, err
}
