package fault_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math"
	"math/bits"
	"math/rand/v2"
	"net"
	"os"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/meshctl/meshctl/internal/mesh/meshtest/fault"
	"go.uber.org/goleak"
)

// patience bounds what ought to happen at once, silence is how long nothing is waited for.
const (
	patience = 30 * time.Second
	silence  = 150 * time.Millisecond
)

// target accepts connections and leaves the rest to the test.
type target struct {
	t        *testing.T
	listener net.Listener
	accepted chan *end
}

// end is an end of a connection whose failures are those of the test.
type end struct {
	*net.TCPConn
	t *testing.T
}

func newTarget(t *testing.T) *target {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &target{t, l, make(chan *end, 1000)}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			s.accepted <- &end{c.(*net.TCPConn), t}
		}
	}()
	t.Cleanup(func() {
		l.Close()
		<-done
		for len(s.accepted) > 0 {
			(<-s.accepted).Close()
		}
	})
	return s
}

// proxy starts one in front of the target, and checks in the end that nothing is left of it.
func (s *target) proxy(f fault.Faults, change ...func(*fault.Config)) *fault.Proxy {
	s.t.Helper()
	before := goleak.IgnoreCurrent()
	cfg := fault.Config{Listen: "127.0.0.1:0", To: s.listener.Addr().String(), Seed: 1, Faults: f}
	for _, c := range change {
		c(&cfg)
	}
	p, err := fault.Listen(cfg)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() {
		p.Close()
		p.Close()
		if err := goleak.Find(before); err != nil {
			s.t.Error(err)
		}
	})
	return p
}

func (s *target) next() *end {
	s.t.Helper()
	select {
	case e := <-s.accepted:
		s.t.Cleanup(func() { e.Close() })
		return e
	case <-time.After(patience):
		s.t.Fatal("no connection at the target")
		return nil
	}
}

// none checks that nobody connects.
func (s *target) none() {
	s.t.Helper()
	select {
	case <-s.accepted:
		s.t.Error("a connection at the target")
	case <-time.After(silence):
	}
}

func dial(t *testing.T, p *fault.Proxy) *end {
	t.Helper()
	c, err := net.DialTimeout("tcp", p.Addr().String(), patience)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return &end{c.(*net.TCPConn), t}
}

// pair is both ends of a connection through the proxy.
func (s *target) pair(p *fault.Proxy) (client, server *end) {
	s.t.Helper()
	client = dial(s.t, p)
	return client, s.next()
}

// fate is how a connection ends that was only just made, or was not.
func fate(t *testing.T, p *fault.Proxy) error {
	t.Helper()
	c, err := net.DialTimeout("tcp", p.Addr().String(), patience)
	if err != nil {
		return err // a reset may come before connecting has returned
	}
	defer c.Close()
	return (&end{c.(*net.TCPConn), t}).ended()
}

func set(t *testing.T, p *fault.Proxy, f fault.Faults) {
	t.Helper()
	if err := p.Set(f); err != nil {
		t.Fatal(err)
	}
}

func (e *end) say(text string) {
	e.t.Helper()
	if _, err := e.Write([]byte(text)); err != nil {
		e.t.Fatal(err)
	}
}

func (e *end) hear(text string) {
	e.t.Helper()
	_ = e.SetReadDeadline(time.Now().Add(patience))
	buf := make([]byte, len(text))
	if _, err := io.ReadFull(e, buf); err != nil || string(buf) != text {
		e.t.Fatalf("got %q, %v; want %q", buf, err, text)
	}
}

// ended gives what ends the connection, after anything that is still read.
func (e *end) ended() error {
	e.t.Helper()
	_ = e.SetReadDeadline(time.Now().Add(patience))
	_, err := io.Copy(io.Discard, e)
	if err == nil {
		err = io.EOF
	}
	return err
}

// silent checks that neither bytes nor an end arrive.
func (e *end) silent() {
	e.t.Helper()
	_ = e.SetReadDeadline(time.Now().Add(silence))
	n, err := e.Read(make([]byte, 1))
	if n > 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
		e.t.Errorf("no silence: %d bytes, %v", n, err)
	}
}

func random(n int) []byte {
	b := make([]byte, n)
	r := rand.NewChaCha8([32]byte{1})
	_, _ = r.Read(b)
	return b
}

// through sends b from one end to the other, in pieces of that size, and gives what arrives.
func through(t *testing.T, from, to *end, b []byte, piece int) []byte {
	t.Helper()
	go func() {
		for p := range slices.Chunk(b, piece) {
			if _, err := from.Write(p); err != nil {
				t.Error(err)
				return
			}
		}
	}()
	_ = to.SetReadDeadline(time.Now().Add(patience))
	got := make([]byte, len(b))
	if _, err := io.ReadFull(to, got); err != nil {
		t.Fatal(err)
	}
	return got
}

func TestWithoutFaults(t *testing.T) {
	s := newTarget(t)
	p := s.proxy(fault.Faults{})
	client, server := s.pair(p)
	b := random(3 << 20)
	if !bytes.Equal(through(t, client, server, b, 100_000), b) || !bytes.Equal(through(t, server, client, b, 1000), b) {
		t.Error("not what was sent")
	}
	// One end may close its half while the other goes on.
	if err := client.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if err := server.ended(); err != io.EOF {
		t.Errorf("the half that was closed ended with %v", err)
	}
	server.say("bye")
	client.hear("bye")
	server.Close()
	if err := client.ended(); err != io.EOF {
		t.Errorf("ended with %v", err)
	}
	waitFor(t, func() bool { return p.Stats().Open == 0 })
	want := fault.Stats{Connections: 1, Up: 3 << 20, Down: 3<<20 + 3}
	if got := p.Stats(); got != want {
		t.Errorf("stats %+v, want %+v", got, want)
	}
}

func waitFor(t *testing.T, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("waited too long")
		}
	}
}

// TestResetIsPassedOn: what an end does to its connection happens at the other end.
func TestResetIsPassedOn(t *testing.T) {
	s := newTarget(t)
	p := s.proxy(fault.Faults{})
	client, server := s.pair(p)
	client.say("hello")
	server.hear("hello")
	_ = server.SetLinger(0)
	server.Close()
	if err := client.ended(); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("ended with %v", err)
	}
}

func TestNobodyListens(t *testing.T) {
	s := newTarget(t)
	p := s.proxy(fault.Faults{}, func(c *fault.Config) {
		c.Dial = func(context.Context, string) (net.Conn, error) { return nil, errors.New("no") }
	})
	if err := fate(t, p); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("ended with %v", err)
	}
}

func TestDelay(t *testing.T) {
	s := newTarget(t)
	const delay = 100 * time.Millisecond
	p := s.proxy(fault.Faults{Up: fault.Line{Delay: delay}, Down: fault.Line{Delay: delay / 2, Jitter: delay}})
	client, server := s.pair(p)
	begun := time.Now()
	client.say("a")
	server.hear("a")
	if took := time.Since(begun); took < delay {
		t.Errorf("up took %s", took)
	}
	begun = time.Now()
	server.say("b")
	client.hear("b")
	if took := time.Since(begun); took < delay/2 {
		t.Errorf("down took %s", took)
	}
	// What is on the way does not wait for each other, and keeps its order.
	begun = time.Now()
	b := random(8 << 20)
	if !bytes.Equal(through(t, server, client, b, 5000), b) {
		t.Error("not what was sent")
	}
	if took := time.Since(begun); took > 8<<20/(16<<10)*delay/2 {
		t.Errorf("8 MiB took %s", took)
	}
	// A shorter delay holds for what is on the way.
	set(t, p, fault.Both(fault.Line{Delay: time.Minute}))
	client.say("c")
	server.silent()
	set(t, p, fault.Faults{})
	server.hear("c")
}

func TestThrottle(t *testing.T) {
	s := newTarget(t)
	p := s.proxy(fault.Faults{Up: fault.Line{Throttle: 64 << 10}})
	client, server := s.pair(p)
	begun := time.Now()
	through(t, client, server, random(32<<10), 32<<10)
	if took := time.Since(begun); took < 400*time.Millisecond {
		t.Errorf("32 KiB at 64 KiB a second took %s", took)
	}
	begun = time.Now()
	through(t, server, client, random(1<<20), 1<<20)
	if took := time.Since(begun); took > 8*time.Second {
		t.Errorf("the other direction took %s", took)
	}
	// A byte a second would take days.
	set(t, p, fault.Faults{Up: fault.Line{Throttle: 1}})
	time.AfterFunc(silence, func() { set(t, p, fault.Faults{}) })
	through(t, client, server, random(256<<10), 256<<10)
}

func TestBlackhole(t *testing.T) {
	dark := fault.Line{Blackhole: true}
	for name, f := range map[string]fault.Faults{"up": {Up: dark}, "down": {Down: dark}, "both": fault.Both(dark)} {
		t.Run(name, func(t *testing.T) {
			s := newTarget(t)
			p := s.proxy(fault.Faults{})
			client, server := s.pair(p)
			client.say("a")
			server.hear("a")
			set(t, p, f)
			client.say("to server")
			server.say("to client")
			if f.Up.Blackhole {
				server.silent()
			} else {
				server.hear("to server")
			}
			if f.Down.Blackhole {
				client.silent()
			} else {
				client.hear("to client")
			}
			// Who connects now gets no answer.
			late := dial(t, p)
			late.say("late")
			s.none()
			// What was said in the dark arrives after it.
			set(t, p, fault.Faults{})
			if f.Up.Blackhole {
				server.hear("to server")
			}
			if f.Down.Blackhole {
				client.hear("to client")
			}
			s.next().hear("late")
			// So does that an end has closed.
			set(t, p, f)
			closer, other := client, server
			if !f.Up.Blackhole {
				closer, other = server, client
			}
			closer.Close()
			other.silent()
			set(t, p, fault.Faults{})
			if err := other.ended(); err != io.EOF {
				t.Errorf("ended with %v", err)
			}
		})
	}
}

// TestBlackholeFills: who sends into the dark has to stop at some time.
func TestBlackholeFills(t *testing.T) {
	s := newTarget(t)
	p := s.proxy(fault.Faults{})
	client, _ := s.pair(p)
	set(t, p, fault.Both(fault.Line{Blackhole: true}))
	_ = client.SetWriteDeadline(time.Now().Add(2 * silence))
	n, err := client.Write(make([]byte, 64<<20))
	if !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("%d bytes, %v", n, err)
	}
	t.Logf("%d KiB fit into the buffers", n>>10)
}

func TestHalfOpen(t *testing.T) {
	s := newTarget(t)
	p := s.proxy(fault.Faults{})
	client, server := s.pair(p)
	client.say("a")
	server.hear("a")
	set(t, p, fault.Faults{HalfOpen: true})
	if err := server.ended(); err != io.EOF {
		t.Errorf("ended with %v", err)
	}
	client.say("b")
	client.silent()
	late := dial(t, p)
	waitFor(t, func() bool { return p.Stats().Connections == 2 })
	s.none()
	set(t, p, fault.Faults{})
	for _, e := range []*end{client, late} {
		if err := e.ended(); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("after it: %v", err)
		}
	}
	client, server = s.pair(p)
	client.say("c")
	server.hear("c")
	if st := p.Stats(); st.Connections != 3 || st.Cut != 2 {
		t.Errorf("stats %+v", st)
	}
}

func TestReset(t *testing.T) {
	s := newTarget(t)
	p := s.proxy(fault.Faults{})
	client, server := s.pair(p)
	client.say("a")
	server.hear("a")
	set(t, p, fault.Faults{Reset: 1})
	for _, err := range []error{client.ended(), server.ended(), fate(t, p)} {
		if !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("ended with %v", err)
		}
	}
	s.none()
	// A connection that is let through gets its chance again each second.
	set(t, p, fault.Faults{Reset: 0.5})
	waitFor(t, func() bool {
		if err := fate(t, p); !errors.Is(err, syscall.ECONNRESET) {
			t.Fatalf("ended with %v", err)
		}
		return len(s.accepted) > 0
	})
}

func TestDrop(t *testing.T) {
	s := newTarget(t)
	// Who is turned away is the same for the same seed.
	turnedAway := func(seed uint64) (all []bool) {
		p := s.proxy(fault.Faults{Drop: 0.5}, func(c *fault.Config) { c.Seed = seed })
		for range 20 {
			end := make(chan error, 1)
			client := dial(t, p)
			go func() { end <- client.ended() }()
			select {
			case err := <-end:
				if err != io.EOF {
					t.Errorf("turned away with %v", err)
				}
				all = append(all, true)
			case server := <-s.accepted:
				server.Close()
				<-end
				all = append(all, false)
			}
		}
		return all
	}
	first, again, other := turnedAway(1), turnedAway(1), turnedAway(2)
	if !slices.Equal(first, again) || slices.Equal(first, other) {
		t.Errorf("turned away:\n%v\n%v\n%v", first, again, other)
	}
}

func TestCorrupt(t *testing.T) {
	s := newTarget(t)
	b := random(1 << 20)
	const p = 0.001
	flipped := func(seed uint64, piece int) []byte {
		x := s.proxy(fault.Faults{Up: fault.Line{Corrupt: p}}, func(c *fault.Config) { c.Seed = seed })
		client, server := s.pair(x)
		got := through(t, client, server, b, piece)
		if !bytes.Equal(through(t, server, client, b, piece), b) {
			t.Error("the other direction was corrupted too")
		}
		return got
	}
	first := flipped(1, 1<<20)
	n := 0
	for i := range b {
		switch bits.OnesCount8(b[i] ^ first[i]) {
		case 0:
		case 1:
			n++
		default:
			t.Fatalf("byte %d: %08b became %08b", i, b[i], first[i])
		}
	}
	if mean := p * float64(len(b)); math.Abs(float64(n)-mean) > 5*math.Sqrt(mean) {
		t.Errorf("%d bytes of %d were corrupted", n, len(b))
	}
	if !bytes.Equal(flipped(1, 777), first) {
		t.Error("the same seed corrupts other bytes when they come in other pieces")
	}
	if bytes.Equal(flipped(2, 1<<20), first) {
		t.Error("another seed corrupts the same")
	}
}

func TestCheck(t *testing.T) {
	for _, f := range []fault.Faults{
		{Drop: -0.1}, {Reset: 1.1}, {Drop: math.NaN()}, fault.Both(fault.Line{Corrupt: 2}),
		{Up: fault.Line{Delay: -1}}, {Down: fault.Line{Jitter: time.Hour}}, {Down: fault.Line{Throttle: -1}},
	} {
		if f.Check() == nil {
			t.Errorf("%+v is taken", f)
		}
		if _, err := fault.Listen(fault.Config{Listen: "127.0.0.1:0", Faults: f}); err == nil {
			t.Errorf("%+v is taken by Listen", f)
		}
	}
	if err := fault.Both(fault.Line{Delay: time.Second, Corrupt: 1, Throttle: 1}).Check(); err != nil {
		t.Error(err)
	}
}

// TestCloseWhenStuck ends a proxy all of whose connections are waiting for something else.
func TestCloseWhenStuck(t *testing.T) {
	for name, f := range map[string]fault.Faults{
		"blackhole": fault.Both(fault.Line{Blackhole: true}), "throttle": fault.Both(fault.Line{Throttle: 1}),
		"delay": fault.Both(fault.Line{Delay: time.Minute}), "half-open": {HalfOpen: true}, "nobody reads": {},
	} {
		t.Run(name, func(t *testing.T) {
			s := newTarget(t)
			p := s.proxy(fault.Faults{})
			var all []*end
			for range 3 {
				client, server := s.pair(p)
				all = append(all, client, server)
			}
			set(t, p, f)
			var wg sync.WaitGroup
			for _, e := range all {
				wg.Go(func() {
					_ = e.SetWriteDeadline(time.Now().Add(silence))
					_, _ = e.Write(make([]byte, 8<<20))
				})
			}
			wg.Wait()
			dial(t, p)
			begun := time.Now()
			p.Close()
			if took := time.Since(begun); took > 5*time.Second {
				t.Errorf("took %s", took)
			}
			if st := p.Stats(); st.Open != 0 {
				t.Errorf("%d are open", st.Open)
			}
		})
	}
}
