package node_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/meshctl/meshctl/internal/mesh/handler"
	"github.com/meshctl/meshctl/internal/mesh/inspect"
	"github.com/meshctl/meshctl/internal/mesh/link"
	"github.com/meshctl/meshctl/internal/mesh/meshtest"
	"github.com/meshctl/meshctl/internal/mesh/node"
	"github.com/meshctl/meshctl/internal/mesh/wire"
)

// watch watches a mesh and keeps the latest that each node said. look is called with that,
// again and again, until it returns true.
func watch(t *testing.T, m *meshtest.Mesh) (w *node.Watcher, await func(what string, look func(map[string]*told) bool)) {
	t.Helper()
	w, err := node.Watch(t.Context(), m.OperatorConfig())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = w.Close() })
	var mu sync.Mutex
	all := map[string]*told{}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			u, err := w.Next(ctx)
			if err != nil {
				return
			}
			if u.Report != nil {
				mu.Lock()
				if all[u.Report.Node] == nil {
					all[u.Report.Node] = &told{commands: map[string]inspect.CommandCount{}, finished: map[string]inspect.Request{}, links: map[string]inspect.LinkCount{}, buckets: map[string]uint64{}}
				}
				all[u.Report.Node].fold(u.Report)
				mu.Unlock()
			}
		}
	}()
	t.Cleanup(func() { cancel(); <-done })
	return w, func(what string, look func(map[string]*told) bool) {
		t.Helper()
		meshtest.WaitFor(t, func() bool {
			mu.Lock()
			defer mu.Unlock()
			return look(all)
		}, func() string {
			mu.Lock()
			defer mu.Unlock()
			for name, n := range all {
				what += fmt.Sprintf("\n%s: %s", name, n.text[max(0, len(n.text)-5):])
			}
			return what
		})
	}
}

// told is what a node said.
type told struct {
	commands map[string]inspect.CommandCount // by direction, command and "blind"
	links    map[string]inspect.LinkCount
	finished map[string]inspect.Request // by direction and command: the latest
	inFlight []inspect.Request
	logs     []inspect.Log
	buckets  map[string]uint64 // of all histograms
	text     []string          // of all reports
}

func (n *told) fold(r *inspect.Report) {
	text, _ := json.Marshal(r)
	n.text = append(n.text, string(text))
	if r.Full {
		clear(n.commands)
		clear(n.links)
		clear(n.buckets)
		n.inFlight = nil
	}
	for _, c := range r.Commands {
		n.commands[counterName(c)] = c
		for _, b := range c.Latency {
			n.buckets[fmt.Sprint(counterName(c), b.Index)] = b.Count
		}
	}
	for _, l := range r.Links {
		n.links[l.Peer] = l
	}
	for _, f := range r.Finished {
		n.finished[f.Dir+" "+f.Command] = f // one report may tell of several callers
		n.finished[f.Dir+" "+f.Command+" of "+f.Caller] = f
	}
	if r.InFlight != nil {
		n.inFlight = r.InFlight.Requests
	}
	n.logs = append(n.logs, r.Logs...)
}

func counterName(c inspect.CommandCount) string {
	if c.Blind {
		return c.Dir + " " + c.Command + " blind"
	}
	return c.Dir + " " + c.Command
}

// says compares counters: "name: started ok errors retries".
func (n *told) says(want ...string) bool {
	for _, w := range want {
		name, counts, _ := strings.Cut(w, ": ")
		c := n.commands[name]
		errors := ""
		for code, n := range c.Errors {
			errors += fmt.Sprintf(" %s=%d", code, n)
		}
		if fmt.Sprintf("%d/%d%s", c.OK, c.Started, errors) != counts {
			return false
		}
	}
	return true
}

func TestTelemetryCountsCalls(t *testing.T) {
	eachLink(t, func(t *testing.T, m *meshtest.Mesh) {
		begun, begin := make(chan struct{}), sync.Once{}
		billing := func(c *node.Config) {
			c.Handlers = map[string]handler.Handler{"who": who(c.Variant), "all": who(c.Variant), "boom": handler.Func(func(context.Context, *handler.Request) (json.RawMessage, error) {
				return nil, &wire.Error{Code: wire.CodeHandlerError, Message: "boom\x1b"}
			}), "tell": who(""), "slow": handler.Func(func(ctx context.Context, _ *handler.Request) (json.RawMessage, error) {
				begin.Do(func() { close(begun) })
				<-ctx.Done()
				return nil, ctx.Err()
			})}
		}
		b1 := m.Join("billing", "b1", billing)
		b2 := m.Join("billing", "b2", billing)
		mailer := m.Join("mailer", "m1", func(c *node.Config) {
			c.Handlers = map[string]handler.Handler{"send": who("m1"), "post": who("m1")}
		})
		s := m.Join("shop", "s1")
		meshtest.AwaitPeers(t, s, "billing/b1", "billing/b2", "mailer/m1")
		meshtest.AwaitPeers(t, mailer, "shop/s1")
		op := m.Operator()
		call := func(target string, o node.CallOptions) {
			_, _ = s.Call(t.Context(), target, json.RawMessage(`"12345"`), o)
		}
		only := node.CallOptions{Only: []string{"b1"}}
		for range 5 {
			call("billing.echo", only) // 5 times 7 bytes
		}
		call("billing.all", node.CallOptions{})
		call("billing.boom", only)
		call("billing.tell", only)
		_, _ = s.Call(timeIsUp{t.Context(), begun}, "billing.slow", json.RawMessage(`"12345"`), only)
		call("billing.who", node.CallOptions{Only: []string{"b3"}})
		call("shop.status", node.CallOptions{})
		call("billing.nothing", node.CallOptions{})
		call("mailer.send", node.CallOptions{})
		call("mailer.post", node.CallOptions{})
		if _, err := mailer.Call(t.Context(), "billing.echo", nil, node.CallOptions{}); wire.CodeOf(err) != wire.CodeDenied {
			t.Fatal(err)
		}
		if _, err := op.Call(t.Context(), "billing.echo", nil, node.CallOptions{Only: []string{"b1"}}); err != nil {
			t.Fatal(err)
		}
		w, await := watch(t, m)
		await("counters", func(all map[string]*told) bool {
			s1, b1, b2, m1 := all["shop/s1"], all["billing/b1"], all["billing/b2"], all["mailer/m1"]
			return s1 != nil && b1 != nil && b2 != nil && m1 != nil &&
				s1.says("out billing.echo: 5/5", "out billing.all: 2/2", "out billing.boom: 0/1 handler_error=1", "out billing.tell: 1/1", "out billing.slow: 0/1 timeout=1",
					"out billing.who: 0/1 no_variant=1", "out billing.nothing: 0/0", "out mailer.send: 1/1", "out mailer.post: 1/1") &&
				b1.says("in billing.echo: 5/5", "in billing.echo blind: 1/1", "in billing.all: 1/1", "in billing.boom: 0/1 handler_error=1", "in billing.tell: 1/1") &&
				b1.commands["in billing.slow"].Started == 1 && b1.commands["in billing.slow"].OK == 0 && len(b1.commands["in billing.slow"].Errors) == 1 &&
				b2.says("in billing.all: 1/1") && m1.says("in mailer.send: 1/1", "in mailer.post: 1/1", "out billing.echo: 0/1 denied=1")
		})
		await("bytes, histograms and links", func(all map[string]*told) bool {
			out, in := all["shop/s1"].commands["out billing.echo"], all["billing/b1"].commands["in billing.echo"]
			buckets := uint64(0)
			for _, b := range out.Latency {
				buckets += b.Count
			}
			l, ok := all["shop/s1"].links["billing/b1"]
			return out.BytesOut == 35 && out.BytesIn == 35 && in.BytesIn == 35 && in.BytesOut == 35 && buckets == 5 &&
				ok && l.Kind == wire.KindMeshctl && l.Dialed && l.Sent == 9 && l.Since > time.Now().Add(-time.Hour).UnixMilli()
		})

		// From now on it sees things come and go.
		_ = b2.Stop()
		meshtest.AwaitPeers(t, s, "billing/b1", "mailer/m1")
		release := make(chan error, 1)
		go func() {
			_, err := s.Call(context.Background(), "billing.slow", json.RawMessage(`{"n":1}`), node.CallOptions{Timeout: time.Minute})
			release <- err
		}()
		uid := ""
		await("a request in flight at both its ends, and its link gone", func(all map[string]*told) bool {
			for _, r := range all["shop/s1"].inFlight {
				for _, same := range all["billing/b1"].inFlight {
					if r.UID == same.UID && r.Command == "billing.slow" && r.Dir == inspect.Out && same.Dir == inspect.In && r.Phase == inspect.PhaseSent && same.Phase == inspect.PhaseRunning {
						uid = r.UID
						return r.Caller == "shop/s1" && r.Target == "billing/b1" && same.Caller == r.Caller && same.Target == r.Target &&
							r.Kind == inspect.KindBalanced && r.TimeoutMillis > 50_000 && r.Bytes == 7 && r.Payload == nil
					}
				}
			}
			return false
		})
		if err := w.Cancel(t.Context(), "shop/s1", uid); err != nil {
			t.Fatal(err)
		}
		if err := meshtest.Await(t, release, "the canceled request"); wire.CodeOf(err) != wire.CodeCanceled {
			t.Error(err)
		}
		await("its end", func(all map[string]*told) bool {
			f := all["shop/s1"].finished["out billing.slow"]
			return f.UID == uid && f.Code == wire.CodeCanceled && f.Phase == inspect.PhaseDone && len(all["shop/s1"].inFlight) == 0
		})
		call("billing.boom", node.CallOptions{})
		raw := m.Dial(b1.Addr().String())
		raw.Say(wire.EventDeclare, `{"worker":"shop","variant":"old","port":1}`)
		raw.Say(wire.EventCommand, `{"uid":"u","boom":{}}`)
		await("failures, as the caller tells of them, or the callee for one that does not", func(all map[string]*told) bool {
			return all["shop/s1"].finished["out billing.boom"].Error == `boom\u001b` && all["billing/b1"].finished["in billing.boom of shop/old"].UID == "u"
		})
		raw.Say(wire.EventCommand, `{"uid":"u","nothing":{}}`)
		await("a line of the log, where nothing else tells it", func(all map[string]*told) bool {
			told := false
			for _, l := range all["billing/b1"].logs {
				if strings.Contains(l.Message, "command=boom") {
					t.Fatalf("told twice: %s", l.Message)
				}
				told = told || l.Level == "warn" && strings.Contains(l.Message, "a request failed command=nothing from=shop/old")
			}
			return told
		})
	})
}

// timeIsUp is a context whose time is up once something has happened. With a real time-out it could be so before
// anything was sent.
type timeIsUp struct {
	context.Context
	once <-chan struct{}
}

func (c timeIsUp) Deadline() (time.Time, bool) { return time.Now().Add(time.Minute), true }
func (c timeIsUp) Done() <-chan struct{}       { return c.once }

func (c timeIsUp) Err() error {
	select {
	case <-c.once:
		return context.DeadlineExceeded
	default:
		return nil
	}
}

// pretendMaster is a master of which a test has the link of the one node that joins.
func pretendMaster(t *testing.T, m *meshtest.Mesh) (addr string, joined <-chan *meshtest.Raw) {
	c := make(chan *meshtest.Raw, 1)
	port := m.Serve(func(r *meshtest.Raw) {
		declare, ok := r.Hears(wire.EventDeclare)
		if !ok {
			return
		}
		var d wire.Declare
		if err := json.Unmarshal([]byte(declare), &d); err != nil {
			t.Error(err)
		}
		if r.Tells(wire.EventDeclared, fmt.Sprintf(`{"worker":%q,"variant":%q,"meshctl":{"protocol":1}}`, d.Worker, d.Variant)) {
			c <- r
		}
	})
	return fmt.Sprintf("127.0.0.1:%d", port), c
}

func TestTelemetryOnlyWhileObserved(t *testing.T) {
	m := meshtest.New(t, shop)
	m.Link = link.SocketIO
	addr, joined := pretendMaster(t, m)
	var log atomic.Pointer[slog.Logger]
	n := m.Join("billing", "b1", func(c *node.Config) {
		c.Master = addr
		log.Store(c.Logger)
	})
	master := meshtest.Await(t, joined, "the node to join")
	raw := m.Dial(n.Addr().String())
	raw.Say(wire.EventDeclare, `{"worker":"shop","variant":"s1","port":1}`)
	ask := func() {
		raw.Say(wire.EventCommand, `{"uid":"u","echo":{"password":"tiger"}}`)
		raw.Expect(wire.EventResponse)
	}
	ask()
	master.Silent(wire.EventTelemetry, 300*time.Millisecond)

	observe := func(on bool) {
		body, _ := json.Marshal(wire.Observe{On: on, EveryMillis: 1})
		master.Say(wire.EventObserve, string(body))
	}
	expect := func() *inspect.Report {
		t.Helper()
		body := master.Expect(wire.EventTelemetry)
		if strings.Contains(body, "tiger") || strings.Contains(body, "password") {
			t.Errorf("a payload left the node: %s", body)
		}
		r, err := inspect.DecodeReport([]byte(body))
		if err != nil {
			t.Fatalf("%v: %s", err, body)
		}
		return r
	}
	observe(true)
	if r := expect(); !r.Full || len(r.Commands) != 1 || !r.Commands[0].Blind || r.Commands[0].OK != 1 || r.EveryMillis != 100 || len(r.Links) != 1 || r.Links[0].Kind != wire.KindJavaScript {
		t.Errorf("%+v", r)
	}
	ask()
	// Between what is waited for there may be keep-alives, and news of a request that is not over yet.
	r := expect()
	for !r.Full && (r.Commands == nil || r.Commands[0].OK < 2) {
		r = expect()
	}
	if r.Full || len(r.Commands) != 1 || r.Commands[0].OK != 2 || r.FinishedOf != 1 || len(r.Finished) != 1 || r.Finished[0].Payload != nil {
		t.Errorf("%+v", r)
	}
	if r := expect(); r.Full || r.Commands != nil || r.Finished != nil {
		t.Errorf("instead of a keep-alive: %+v", r)
	}
	observe(true)
	for r = expect(); !r.Full && r.Commands == nil; r = expect() {
	}
	if !r.Full || len(r.Commands) != 1 {
		t.Errorf("asked again: %+v", r)
	}
	observe(false)
	ask()                                // reports may be under way
	for quiet := 0; quiet < 5; quiet++ { // one alone may be that this process stood still
		ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
		if _, err := master.Receive(ctx); err == nil {
			quiet = -1
		}
		cancel()
	}
	ask()
	master.Silent(wire.EventTelemetry, 300*time.Millisecond)

	// What a master may send: nothing of it harms.
	for _, body := range []string{``, `{}`, `{"on":1}`, `{"on":true,"every_ms":-1}`, `{"on":true,"every_ms":1e9}`, `[]`} {
		master.Say(wire.EventObserve, body)
	}
	master.Say(wire.EventWithdraw, `{"uid":"nobody"}`)
	observe(true)
	expect()
	master.Close(nil) // the node's end checks that nothing goes on
}

func TestTelemetryMasksPayloads(t *testing.T) {
	m := meshtest.New(t, `
shop: {_connect: [billing]}
billing:
  _allow: [shop]
  _commands:
    _balanced:
      pay: {responds: true, x-sensitive: [Card]}
      hang: {responds: true, x-sensitive: [card]}
`)
	hanging := make(chan struct{})
	payloads := func(c *node.Config) { c.InspectPayloads = true }
	m.Join("billing", "b1", payloads, func(c *node.Config) {
		c.Handlers = map[string]handler.Handler{"pay": who(""), "hang": handler.Func(func(context.Context, *handler.Request) (json.RawMessage, error) { <-hanging; return nil, nil })}
	})
	s := m.Join("shop", "s1", payloads)
	meshtest.AwaitPeers(t, s, "billing/b1")
	_, await := watch(t, m)
	await("the first reports", func(all map[string]*told) bool { return len(all) == 2 })
	done := make(chan error, 1)
	go func() {
		_, err := s.Call(context.Background(), "billing.hang", json.RawMessage(`{"a":[{"CARD":"4111"}],"b":2}`), node.CallOptions{Timeout: time.Minute})
		done <- err
	}()
	const masked = `{"a":[{"CARD":"***"}],"b":2}`
	await("the payload of the one in flight", func(all map[string]*told) bool {
		s, b := all["shop/s1"].inFlight, all["billing/b1"].inFlight
		return len(s) == 1 && string(s[0].Payload) == masked && len(b) == 1 && string(b[0].Payload) == masked
	})
	close(hanging)
	if err := meshtest.Await(t, done, "the call"); err != nil {
		t.Error(err)
	}
	await("the payload of the one that ended", func(all map[string]*told) bool {
		return string(all["shop/s1"].finished["out billing.hang"].Payload) == masked && string(all["billing/b1"].finished["in billing.hang"].Payload) == masked
	})
	await("no card", func(all map[string]*told) bool {
		for _, n := range all {
			if strings.Contains(strings.Join(n.text, " "), "4111") {
				t.Error("a sensitive member left its node")
			}
		}
		return true
	})
}

// The counters of both ends equal what was called, however fast, and what is reported
// stays within its bounds.
func TestTelemetryUnderLoad(t *testing.T) {
	m := meshtest.New(t, shop)
	m.Each = func(c *node.Config) { c.Logger = nil }
	m.Join("billing", "b1", func(c *node.Config) { c.Handlers = map[string]handler.Handler{"who": who("b1")} })
	s := m.Join("shop", "s1")
	meshtest.AwaitPeers(t, s, "billing/b1")
	began := time.Now()
	_, await := watch(t, m)
	await("the first reports", func(all map[string]*told) bool { return len(all) == 2 })
	var called atomic.Int64
	var callers sync.WaitGroup
	for range 32 {
		callers.Go(func() {
			for time.Since(began) < 2*time.Second {
				target := "billing.echo"
				if called.Add(1)%4 == 0 {
					target = "billing.boom" // which nothing answers
				}
				if _, err := s.Call(context.Background(), target, json.RawMessage(`{"a":"0123456789"}`), node.CallOptions{Timeout: time.Minute}); (err != nil) != (target == "billing.boom") {
					t.Errorf("%s: %v", target, err)
					return
				}
			}
		})
	}
	callers.Wait()
	sum := func(n *told, dir string) (total, failed, buckets int64) {
		for _, command := range []string{"billing.echo", "billing.boom"} {
			c := n.commands[dir+" "+command]
			failed += int64(c.Errors[wire.CodeUnknownCommand])
			total += int64(c.OK) + int64(c.Errors[wire.CodeUnknownCommand])
		}
		for _, count := range n.buckets {
			buckets += int64(count)
		}
		return total, failed, buckets
	}
	await("the totals", func(all map[string]*told) bool {
		for name, dir := range map[string]string{"shop/s1": "out", "billing/b1": "in"} {
			total, failed, buckets := sum(all[name], dir)
			if n := called.Load(); total != n || failed != n/4 || buckets != n {
				return false
			}
		}
		return true
	})
	t.Logf("%d calls in %s", called.Load(), time.Since(began))
	await("reports", func(all map[string]*told) bool {
		seconds := time.Since(began).Seconds()
		for name, n := range all {
			bytes := 0
			for _, text := range n.text {
				bytes += len(text)
			}
			t.Logf("%s: %d reports and %d bytes in %.1f s", name, len(n.text), bytes, seconds)
			if float64(len(n.text)) > 10*seconds+2 || float64(bytes) > 64<<10*(seconds+1) {
				t.Errorf("%s is over its bounds", name)
			}
			if len(n.finished) == 0 {
				t.Errorf("%s told of nothing that ended", name)
			}
		}
		return true
	})
}
