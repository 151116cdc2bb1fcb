package inspect

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/meshctl/meshctl/internal/mesh/wire"
)

// subject is a node that is only pretended.
type subject struct {
	mu     sync.Mutex // time that passes in a bubble orders nothing
	links  []LinkCount
	rows   []Row
	total  int
	queues []QueueCount
}

func (s *subject) change(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f()
}

func (s *subject) Instance() string { return "i-1" }

func (s *subject) Links() []LinkCount {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.links)
}

func (s *subject) InFlight(atMost int) ([]Row, int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.rows[:min(atMost, len(s.rows))]), s.total
}

func (s *subject) Queues() []QueueCount {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.queues)
}

// sent collects what a reporter sends, and reads it as a watcher does.
type sent struct {
	t       *testing.T
	mu      sync.Mutex
	reports []*Report
	bytes   int
	fail    error
}

func (s *sent) send(body []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fail != nil {
		return s.fail
	}
	r, err := DecodeReport(body)
	if err != nil {
		s.t.Errorf("%v: %s", err, body)
		return nil
	}
	s.bytes += len(body)
	s.reports = append(s.reports, r)
	return nil
}

func (s *sent) failWith(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fail = err
}

// took gives the reports since it was last called, and their size.
func (s *sent) took() ([]*Report, int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	all, bytes := s.reports, s.bytes
	s.reports, s.bytes = nil, 0
	return all, bytes
}

func (s *sent) take() []*Report {
	all, _ := s.took()
	return all
}

// run observes in a bubble; stop ends it.
func run(t *testing.T, r *Reporter) (s *sent, order func(time.Duration), stop func()) {
	s = &sent{t: t}
	orders := make(chan time.Duration, 1)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		r.Run(ctx, orders, s.send)
	}()
	return s, func(every time.Duration) {
			orders <- every
			synctest.Wait()
		}, func() {
			cancel()
			<-done
		}
}

func advance(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func TestReporterSaysWhatChanged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := &subject{links: []LinkCount{{ID: "l1", Peer: "b/1", Kind: wire.KindMeshctl, Transport: "native"}}}
		r := NewReporter(n)
		echo := r.Meter.Command("b.echo", Out).Tally(false)
		echo.Start(7)
		echo.End("", time.Millisecond, 3)
		if r.Wants("", time.Hour) {
			t.Error("wants what ended while nobody observes")
		}
		s, order, stop := run(t, r)
		defer stop()
		advance(5 * time.Second)
		if all := s.take(); len(all) != 0 {
			t.Fatalf("%d reports without an order", len(all))
		}

		order(100 * time.Millisecond)
		all := s.take()
		if len(all) != 1 || !all[0].Full || all[0].Seq != 1 || all[0].Instance != "i-1" || all[0].EveryMillis != 100 || len(all[0].Links) != 1 {
			t.Fatalf("the first report: %+v", all)
		}
		want := CommandCount{Command: "b.echo", Dir: Out, Started: 1, OK: 1, BytesOut: 7, BytesIn: 3, Latency: Buckets{{BucketOf(time.Millisecond), 1}}}
		if got := fmt.Sprintf("%+v", all[0].Commands); got != fmt.Sprintf("%+v", []CommandCount{want}) {
			t.Errorf("counters: %s", got)
		}

		advance(1500 * time.Millisecond)
		if all := s.take(); len(all) != 0 {
			t.Errorf("an idle node said: %+v", all[0])
		}
		advance(600 * time.Millisecond)
		if all := s.take(); len(all) != 1 || all[0].Full || all[0].Commands != nil || all[0].InFlight != nil {
			t.Errorf("the keep-alive: %+v", all)
		}

		echo.Start(1)
		echo.End(wire.CodeTimeout, time.Second, 0)
		if !r.Wants(wire.CodeTimeout, time.Second) {
			t.Fatal("does not want a failure")
		}
		r.Finished(Row{Took: time.Second, Request: Request{UID: "u", Dir: Out, Caller: "a/1", Target: "b/1", Command: "b.echo", Kind: KindBalanced, Code: wire.CodeTimeout, Error: "bad\x1b[31m"}})
		n.change(func() { n.links = nil })
		advance(100 * time.Millisecond)
		all = s.take()
		if len(all) != 1 || len(all[0].Commands) != 1 || len(all[0].Commands[0].Latency) != 1 || all[0].Commands[0].Errors[wire.CodeTimeout] != 1 ||
			len(all[0].Unlinked) != 1 || len(all[0].Finished) != 1 || all[0].FinishedOf != 1 || all[0].Finished[0].Error != `bad\u001b[31m` {
			t.Errorf("after a failure: %+v", all)
		}

		// What went missing is made up for by telling everything.
		echo.Start(1)
		s.failWith(context.Canceled)
		advance(100 * time.Millisecond)
		s.failWith(nil)
		advance(time.Second)
		if all := s.take(); len(all) != 1 || !all[0].Full || len(all[0].Commands) != 1 || all[0].Commands[0].Started != 3 {
			t.Errorf("after a report that could not be sent: %+v", all)
		}

		stop()
		echo.Start(1)
		advance(5 * time.Second)
		if len(s.take()) != 0 || r.Wants(wire.CodeTimeout, time.Second) {
			t.Error("goes on after its end")
		}
	})
}

func TestFirstReportsOfManyNodesAreSpread(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var all []*sent
		for range 50 {
			s, order, stop := run(t, NewReporter(new(subject)))
			defer stop()
			order(time.Second)
			all = append(all, s)
		}
		came := func() (n int) {
			for _, s := range all {
				n += len(s.take())
			}
			return n
		}
		soon := came()
		advance(200 * time.Millisecond)
		soon += came()
		advance(800 * time.Millisecond)
		if later := came(); soon > 40 || soon+later != 50 {
			t.Errorf("%d come within 200 ms, and %d later in the first second", soon, later)
		}
	})
}

func TestReporterStaysWithinItsBounds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := &subject{total: 100_000}
		var raw strings.Builder
		for range 500 {
			raw.WriteString(`"0123456789",`)
		}
		r := NewReporter(n)
		s, order, stop := run(t, r)
		defer stop()
		order(0)
		s.take()
		advance(2 * time.Second)
		s.take()
		seen := map[string]CommandCount{}
		buckets := map[string]map[int]uint64{}
		rows, finished := 0, 0
		lasted := func(i int) time.Duration { return time.Duration(i%997+1) * 10 * time.Microsecond }
		for second := range 10 {
			for tick := range 20 {
				var rows []Row
				for i := range maxRows {
					rows = append(rows, Row{Started: time.Now(), Raw: []byte(`[` + raw.String() + `1]`), Request: Request{
						UID: fmt.Sprintf("%08d-%d-%d", i, second, tick), Dir: In, Caller: "caller/with-a-name-of-a-usual-length", Target: "callee/with-a-name", Command: "callee.command", Kind: KindBalanced, Phase: PhaseRunning,
					}})
				}
				n.change(func() { n.rows = rows })
				for i := range 1000 { // 20,000 requests a second
					name := fmt.Sprintf("callee.command%d", i%60)
					tally := r.Meter.Command(name, In).Tally(false)
					tally.Start(1)
					tally.End("", lasted(i*(second+1)), 1)
					if r.Wants("", lasted(i)) {
						r.Finished(Row{Took: lasted(i), Request: Request{UID: "u", Dir: In, Caller: "a/1", Target: "b/1", Command: name, Kind: KindBalanced}})
					}
				}
				advance(50 * time.Millisecond)
			}
			reports, bytes := s.took()
			if bytes > 64<<10 || len(reports) > 10 || len(reports) == 0 {
				t.Errorf("second %d: %d reports of %d bytes", second, len(reports), bytes)
			}
			for _, rep := range reports {
				if rep.InFlight != nil {
					rows += len(rep.InFlight.Requests)
				}
				finished += len(rep.Finished)
				collect(seen, buckets, rep)
			}
		}
		advance(20 * time.Second)
		for _, rep := range s.take() {
			collect(seen, buckets, rep)
		}
		total, inBuckets := uint64(0), uint64(0)
		for _, c := range seen {
			total += c.OK
		}
		for _, b := range buckets {
			for _, n := range b {
				inBuckets += n
			}
		}
		if total != 200_000 || inBuckets != 200_000 {
			t.Errorf("the totals are %d, and %d in histograms, want 200,000", total, inBuckets)
		}
		if rows == 0 || finished == 0 {
			t.Errorf("%d rows and %d finished: what matters less was starved", rows, finished)
		}
	})
}

func collect(seen map[string]CommandCount, buckets map[string]map[int]uint64, r *Report) {
	for _, c := range r.Commands {
		seen[c.Command] = c
		if buckets[c.Command] == nil {
			buckets[c.Command] = map[int]uint64{}
		}
		for _, b := range c.Latency {
			buckets[c.Command][b.Index] = b.Count
		}
	}
}

func TestFullReportOfManyCommands(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := NewReporter(new(subject))
		for i := range 200 {
			// One of them has more buckets than any report has room for at load.
			tally := r.Meter.Command(fmt.Sprintf("b.c%d", i), Out).Tally(false)
			for j := range 300 + 2000*(i/199) {
				tally.Start(0)
				tally.End("", time.Duration(j*j+1)*time.Microsecond, 0)
			}
		}
		s, order, stop := run(t, r)
		defer stop()
		order(0)
		late := 0
		first := s.take()
		for _, c := range first[0].Commands {
			if c.Late {
				late++
			}
		}
		if len(first[0].Commands) != 200 || late == 0 || late == 200 {
			t.Errorf("%d commands, %d of them late", len(first[0].Commands), late)
		}
		advance(time.Minute)
		seen, buckets := map[string]CommandCount{}, map[string]map[int]uint64{}
		for _, rep := range append(first, s.take()...) {
			collect(seen, buckets, rep)
			if !rep.Full && len(rep.Commands) > 0 && rep.Commands[0].Late {
				t.Error("a histogram is late twice")
			}
		}
		for name, c := range seen {
			n := uint64(0)
			for _, b := range buckets[name] {
				n += b
			}
			if n != c.OK || n < 300 {
				t.Errorf("%s: %d of %d are in its histogram", name, n, c.OK)
			}
		}
	})
}

func TestManyLinks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := new(subject)
		for i := range 1000 {
			n.links = append(n.links, LinkCount{ID: fmt.Sprintf("%036d", i), Peer: fmt.Sprintf("worker/%d", i), Kind: wire.KindMeshctl, Transport: "native", Since: 1763850000000})
		}
		r := NewReporter(n)
		s, order, stop := run(t, r)
		defer stop()
		order(0)
		first := s.take()[0]
		if !first.Full || !first.Partial || len(first.Links) < 100 {
			t.Errorf("%d links, full %v, partial %v", len(first.Links), first.Full, first.Partial)
		}
		tally := r.Meter.Command("a.b", Out).Tally(false)
		for range 100 {
			n.change(func() {
				n.links[999].Draining = !n.links[999].Draining
				for i := range n.links {
					n.links[i].Sent++
				}
			})
			tally.Start(1)
			advance(100 * time.Millisecond)
		}
		seen := map[string]LinkCount{}
		for _, l := range first.Links {
			seen[l.ID] = l
		}
		commands := 0
		for _, rep := range s.take() {
			if rep.Full || rep.Partial {
				t.Error("another full report")
			}
			commands += len(rep.Commands)
			for _, l := range rep.Links {
				seen[l.ID] = l
			}
		}
		old := 0
		for _, l := range seen {
			if l.Sent < 50 {
				old++
			}
		}
		if len(seen) != 1000 || old > 0 || commands < 20 {
			t.Errorf("%d links, %d with old numbers, counters told %d times", len(seen), old, commands)
		}
	})
}

func TestFinishedKeepsFailuresAndTheSlowest(t *testing.T) {
	var f finished
	f.wants(false, 0)
	for i := range 1000 {
		took, code := time.Duration(i*7919%1000), wire.Code("")
		if i%100 == 0 {
			took, code = 0, wire.CodeTimeout
		}
		if f.wants(code != "", took) {
			f.add(Row{Took: took, Request: Request{Code: code}})
		}
	}
	all, of := f.take()
	if len(all) != maxFinished || of != 1001 {
		t.Fatalf("%d of %d", len(all), of)
	}
	for i, k := range all {
		if (i < 10) != (k.Code != "") || i >= 10 && k.Took < 950 {
			t.Errorf("%d: %s %q", i, k.Took, k.Code)
		}
	}
	if all, of := f.take(); len(all) != 0 || of != 0 {
		t.Error("keeps what was taken")
	}
}

func TestLogs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var l Logs
		var out strings.Builder
		log := slog.New(l.Handler(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: slog.LevelError})))
		log.Warn("nobody sees this")
		l.observe(true)
		log = log.With("of", "a b").WithGroup("g")
		log.Info("nor this")
		log.Warn("it\x1b failed", "code", 7, slog.Group("in", "x", "y"))
		log.WarnContext(Untold(t.Context()), "a row tells it")
		log.Error(strings.Repeat("long ", 500))
		lines, of := l.take()
		if len(lines) != 2 || of != 2 || lines[0].message != `it\u001b failed of="a b" g.code=7 g.in.x=y` || lines[0].level != "warn" || len(lines[1].message) != maxLogLine {
			t.Errorf("%d %+v", of, lines)
		}
		log.ErrorContext(Untold(t.Context()), "a row tells it")
		if !strings.HasPrefix(out.String(), "time=") || strings.Count(out.String(), "\n") != 2 {
			t.Errorf("the log itself: %s", out.String())
		}
		for range 100 {
			log.Warn("flood")
		}
		if lines, of := l.take(); len(lines) != maxLogs-2 || of != 100 {
			t.Errorf("%d lines of %d", len(lines), of)
		}
		time.Sleep(time.Second)
		log.Warn("later")
		if lines, _ := l.take(); len(lines) != 1 {
			t.Errorf("%d lines a second later", len(lines))
		}
	})
}

func TestMask(t *testing.T) {
	sensitive := []string{"Password", "k"}
	for payload, want := range map[string]string{
		`{"user":"u","password":"p"}`:                     `{"user":"u","password":"***"}`,
		`[{"PASSWORD":{"a":[1]}},{"a":{"K":null,"b":1}}]`: `[{"PASSWORD":"***"},{"a":{"K":"***","b":1}}]`,
		`{"pass\u0077ord":"p"}`:                           `{"password":"***"}`,
		` 12.50 `:                                         `12.50`,
		`"k"`:                                             `"k"`,
		`{}`:                                              `{}`,
		"\"\u202e\\u001b\"":                               `"\u202e\u001b"`,
	} {
		if got, cutOff := Mask([]byte(payload), sensitive); string(got) != want || cutOff {
			t.Errorf("%s: %s, %v", payload, got, cutOff)
		}
	}
	long := `{"password":"secret","a":"` + strings.Repeat("é", 5000) + `","k":"secret"}`
	got, cutOff := Mask([]byte(long), sensitive)
	if !cutOff || len(got) > MaxPayload+100 || !strings.HasPrefix(string(got), `"{\"password\":\"***\",\"a\":\"éé`) {
		t.Errorf("%d bytes, %v: %.60s", len(got), cutOff, got)
	}
	for _, bad := range []string{``, `{"password":`, `{"a":1`, `{"a"`} {
		if got, cutOff := Mask([]byte(bad), sensitive); got != nil || !cutOff {
			t.Errorf("%q: %s", bad, got)
		}
	}
}

// BenchmarkMeter is what counting a call costs at both its ends, while nobody watches: of
// one caller, and of as many as there are processors.
func BenchmarkMeter(b *testing.B) {
	r := NewReporter(new(subject))
	of, in := r.Meter.Command("b.echo", Out), r.Meter.Command("b.echo", In)
	call := func() {
		out := of.Tally(false)
		out.Start(200)
		t := in.Tally(false)
		t.Start(200)
		t.End("", time.Millisecond, 200)
		_ = r.Wants("", time.Millisecond)
		out.End("", time.Millisecond, 200)
		_ = r.Wants("", time.Millisecond)
	}
	b.Run("alone", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			call()
		}
	})
	b.Run("parallel", func(b *testing.B) {
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				call()
			}
		})
	})
}
