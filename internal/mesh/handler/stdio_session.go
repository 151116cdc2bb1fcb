package handler

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"os"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"

	"golang.org/x/time/rate"

	"github.com/meshctl/meshctl/internal/mesh/wire"
)

const (
	// maxOutgoing bounds the lines that wait to be written; a program that lets so
	// many pile up does not read its stdin and is stopped.
	maxOutgoing = 4096

	stderrLine  = 4 << 10 // a longer line of stderr is logged in pieces
	logPerSec   = 100     // lines of stderr and log notifications; the rest is dropped
	logBurst    = 200
	complainSec = 1 // malformed lines that are logged; all are counted
	complainMax = 5
)

// session is one life of a program: the requests it has, the calls it makes, and
// what waits to be written to it.
type session struct {
	p      *process
	log    *slog.Logger
	ctx    context.Context // of the program's own calls
	cancel context.CancelFunc

	logs, complaints *rate.Limiter

	wake       chan struct{} // capacity 1: out is not empty
	broken     chan struct{} // closed when the program cannot be talked to
	ended      chan struct{}
	breakOnce  sync.Once
	brokenWhy  string
	calling    sync.WaitGroup
	lastNumber atomic.Uint64

	mu      sync.Mutex // of all below
	over    bool
	out     []*outgoing
	pending map[uint64]*pending
	calls   map[string]context.CancelFunc // by the id that the program gave
	nCalls  int
}

// outgoing is a line to be written; taken is called under mu when it is about to be.
type outgoing struct {
	data  []byte
	taken func()
}

// pending is a request that the program has not answered.
type pending struct {
	ctx   context.Context // ends with the request
	line  *outgoing
	sent  bool
	reply chan reply // capacity 1
}

type reply struct {
	result json.RawMessage
	err    *wire.Error
}

func newSession(ctx context.Context, p *process) *session {
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	return &session{
		p:          p,
		log:        p.log,
		ctx:        ctx,
		cancel:     cancel,
		logs:       rate.NewLimiter(logPerSec, logBurst),
		complaints: rate.NewLimiter(complainSec, complainMax),
		wake:       make(chan struct{}, 1),
		broken:     make(chan struct{}),
		ended:      make(chan struct{}),
		pending:    make(map[uint64]*pending),
		calls:      make(map[string]context.CancelFunc),
	}
}

// ask sends r to the program and waits for the answer.
func (s *session) ask(ctx context.Context, r *Request) (json.RawMessage, error) {
	id := s.lastNumber.Add(1)
	data, err := requestLine(id, r)
	if err != nil {
		return nil, badRequest("encode request for the program: %v", err)
	}
	p := &pending{ctx: ctx, reply: make(chan reply, 1)}
	p.line = &outgoing{data: data, taken: func() { p.sent = true }}

	s.mu.Lock()
	if s.over {
		s.mu.Unlock()
		return nil, overloaded("the program is not running")
	}
	s.pending[id] = p
	s.queue(p.line)
	s.mu.Unlock()

	select {
	case a := <-p.reply:
		if a.err != nil {
			return nil, a.err
		}
		return a.result, nil
	case <-ctx.Done():
		return nil, s.abandon(ctx, id, p)
	}
}

// abandon forgets a request: one that was not written never will be, another is
// canceled.
func (s *session) abandon(ctx context.Context, id uint64, p *pending) *wire.Error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.pending[id] != p { // answered in this moment
		return contextError(ctx)
	}
	delete(s.pending, id)
	if !p.sent {
		if i := slices.Index(s.out, p.line); i >= 0 {
			s.out = slices.Delete(s.out, i, i+1)
		}
		return notRun(ctx)
	}
	params := json.RawMessage(`{"id":` + strconv.FormatUint(id, 10) + `}`)
	s.queueLine(&line{Method: "cancel", Params: params}, nil)
	return contextError(ctx)
}

// queueLine queues a line of this package's making. It is called under mu.
func (s *session) queueLine(l *line, taken func()) {
	data, err := encodeLine(l)
	if err != nil { // a result of the mesh that is not JSON
		l.Result, l.Error = nil, fromWire(failed("the result is not valid JSON"))
		data, _ = encodeLine(l)
	}
	s.queue(&outgoing{data: data, taken: taken})
}

// queue is called under mu.
func (s *session) queue(o *outgoing) {
	if len(s.out) >= maxOutgoing {
		s.breakUp("it does not read its stdin")
		return
	}
	s.out = append(s.out, o)
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// breakUp has the program stopped.
func (s *session) breakUp(why string) {
	s.breakOnce.Do(func() {
		s.brokenWhy = why
		close(s.broken)
	})
}

// write writes what is queued until the session ends.
func (s *session) write(stdin *os.File) {
	for {
		s.mu.Lock()
		var o *outgoing
		if len(s.out) > 0 {
			o = s.out[0]
			s.out[0] = nil
			s.out = s.out[1:]
			if o.taken != nil {
				o.taken()
			}
		}
		s.mu.Unlock()
		if o == nil {
			select {
			case <-s.wake:
				continue
			case <-s.ended:
				return
			}
		}
		if _, err := stdin.Write(o.data); err != nil {
			if !errors.Is(err, os.ErrClosed) {
				s.breakUp("its stdin cannot be written to")
			}
			return
		}
	}
}

// read takes the program's lines until its stdout ends.
func (s *session) read(stdout io.Reader) {
	sc := bufio.NewScanner(stdout)
	sc.Buffer(make([]byte, 0, 4<<10), max(4<<10, s.p.maxLine))
	for sc.Scan() {
		s.handleLine(sc.Bytes())
	}
	if errors.Is(sc.Err(), bufio.ErrTooLong) {
		s.breakUp("it wrote a line of more than " + strconv.Itoa(s.p.maxLine) + " bytes")
	}
}

// handleLine acts on one line of the program. It does not block and keeps nothing of b.
func (s *session) handleLine(b []byte) {
	b = bytes.TrimSpace(b)
	if len(b) == 0 {
		return
	}
	l, err := decodeLine(b)
	switch {
	case err != nil:
		s.p.malformed.Add(1)
		if s.complaints.Allow() {
			s.log.Warn("program wrote a malformed line", "err", err, "start", string(b[:min(len(b), 80)]))
		}
	case l.isResponse():
		s.settle(l)
	default:
		s.serve(l)
	}
}

// settle hands a response to who waits for it. One that nobody waits for (unknown, a
// second one, or too late) is counted.
func (s *session) settle(l *line) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.pending[l.reply]
	if p == nil || !p.sent {
		s.p.stray.Add(1)
		return
	}
	delete(s.pending, l.reply)
	if l.Error != nil {
		p.reply <- reply{err: l.Error.toWire()}
		return
	}
	p.reply <- reply{result: l.Result}
}

// end fails what is pending and cancels the program's calls.
func (s *session) end(reason string) {
	s.cancel()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.over = true
	for id, p := range s.pending {
		e := failed("%s", reason)
		if !p.sent {
			e = overloaded(reason)
		}
		p.reply <- reply{err: e}
		delete(s.pending, id)
	}
	s.out = nil
	close(s.ended)
}

// reason says why the program ended: by itself with the given status, or stopped.
func (s *session) reason(status error, stopped bool, stderr string) string {
	reason := "the program ended: exit status 0"
	if status != nil {
		reason = "the program ended: " + status.Error()
	}
	if stopped {
		select {
		case <-s.broken:
			reason = "the program was stopped: " + s.brokenWhy
		default:
		}
	}
	if stderr != "" {
		reason += ": " + stderr
	}
	return limitText(reason)
}

// logStderr logs the program's stderr line by line, as far as the rate allows.
func (s *session) logStderr(stderr io.Reader) {
	r := bufio.NewReaderSize(stderr, stderrLine)
	for {
		b, err := r.ReadSlice('\n')
		if text := limitText(string(b)); text != "" && s.logs.Allow() {
			s.log.Info("program wrote to stderr", "line", text)
		}
		if err != nil && !errors.Is(err, bufio.ErrBufferFull) {
			return
		}
	}
}
