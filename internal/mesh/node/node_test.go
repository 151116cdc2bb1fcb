package node_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/meshctl/meshctl/internal/mesh/handler"
	"github.com/meshctl/meshctl/internal/mesh/link"
	"github.com/meshctl/meshctl/internal/mesh/link/linktest"
	"github.com/meshctl/meshctl/internal/mesh/meshtest"
	"github.com/meshctl/meshctl/internal/mesh/node"
	"github.com/meshctl/meshctl/internal/mesh/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(linktest.Settled(m)) }

const shop = `
shop:
  _allow: [mailer]
  _connect: [billing, mailer]
  _commands:
    _balanced:
      status: {responds: true, method: {builtin: status}}
billing:
  _allow: [shop, billing]
  _connect: [billing]
  _commands:
    _balanced:
      who: {responds: true}
      slow: {responds: true}
      boom: {responds: true}
      tell: {responds: false}
      echo: {responds: true, method: {builtin: echo}}
    _broadcast:
      all: {responds: true}
      hear: {responds: false}
mailer:
  _allow: [shop]
  _connect: []
  _commands:
    _balanced:
      send: {queued: true, responds: true}
    _broadcast:
      post: {queued: true, responds: false}
`

// eachLink runs a test over native links, over Socket.IO, and with both in one mesh.
func eachLink(t *testing.T, test func(*testing.T, *meshtest.Mesh)) {
	for _, mode := range []link.Mode{link.Auto, link.SocketIO, "mixed"} {
		t.Run(string(mode), func(t *testing.T) {
			m := meshtest.New(t, shop)
			m.Link = mode
			if mode == "mixed" {
				joined := 0
				m.Link = link.Auto
				m.Each = func(c *node.Config) { // every second node keeps to Socket.IO
					if joined++; joined%2 == 0 {
						c.Link = link.SocketIO
					}
				}
			}
			test(t, m)
		})
	}
}

// who answers with the node's variant.
func who(variant string) handler.Handler {
	return handler.Func(func(context.Context, *handler.Request) (json.RawMessage, error) {
		return json.Marshal(variant)
	})
}

func billing(variant string, more ...map[string]handler.Handler) meshtest.Option {
	return func(c *node.Config) {
		c.Handlers = map[string]handler.Handler{"who": who(variant), "all": who(variant)}
		for _, m := range more {
			for name, h := range m {
				c.Handlers[name] = h
			}
		}
	}
}

func call(t *testing.T, n interface {
	Call(context.Context, string, json.RawMessage, node.CallOptions) (*node.Result, error)
}, target, payload string, opts node.CallOptions) (*node.Result, error) {
	t.Helper()
	if opts.Timeout == 0 {
		opts.Timeout = 20 * time.Second
	}
	return n.Call(t.Context(), target, json.RawMessage(payload), opts)
}

func TestBalancedGoesRound(t *testing.T) { eachLink(t, testBalancedGoesRound) }

func testBalancedGoesRound(t *testing.T, m *meshtest.Mesh) {
	for _, v := range []string{"b1", "b2", "b3"} {
		m.Join("billing", v, billing(v))
	}
	s := m.Join("shop", "s1")
	meshtest.AwaitPeers(t, s, "billing/b1", "billing/b2", "billing/b3")
	count := map[string]int{}
	for range 9 {
		r, err := call(t, s, "billing.who", `{}`, node.CallOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if got := string(r.Replies[0].Result); got != `"`+r.Replies[0].Variant+`"` {
			t.Errorf("variant %s answered as %s", r.Replies[0].Variant, got)
		}
		count[r.Replies[0].Variant]++
	}
	if count["b1"] != 3 || count["b2"] != 3 || count["b3"] != 3 {
		t.Errorf("nine calls went to %v, want three each", count)
	}
	clear(count)
	for range 8 {
		r, err := call(t, s, "billing.who", `{}`, node.CallOptions{Exclude: []string{"b3"}})
		if err != nil {
			t.Fatal(err)
		}
		count[r.Replies[0].Variant]++
	}
	if count["b1"] != 4 || count["b2"] != 4 {
		t.Errorf("eight narrowed calls went to %v, want four each", count)
	}
}

// Variants of billing connect to each other in both directions, so that there are two
// links between each pair.
func TestBroadcastReachesEachVariantOnce(t *testing.T) {
	eachLink(t, testBroadcastReachesEachVariantOnce)
}

func testBroadcastReachesEachVariantOnce(t *testing.T, m *meshtest.Mesh) {
	var heard sync.Map
	hear := func(v string) map[string]handler.Handler {
		n := new(atomic.Int64)
		heard.Store(v, n)
		return map[string]handler.Handler{"hear": handler.Func(func(context.Context, *handler.Request) (json.RawMessage, error) {
			n.Add(1)
			return nil, nil
		})}
	}
	b1 := m.Join("billing", "b1", billing("b1", hear("b1")))
	b2 := m.Join("billing", "b2", billing("b2", hear("b2")))
	b3 := m.Join("billing", "b3", billing("b3", hear("b3")))
	meshtest.AwaitPeers(t, b1, "billing/b2", "billing/b3")
	meshtest.AwaitPeers(t, b2, "billing/b1", "billing/b3")
	meshtest.AwaitPeers(t, b3, "billing/b1", "billing/b2")

	r, err := call(t, b1, "billing.all", `{}`, node.CallOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if got := answers(r); got != `b2="b2" b3="b3"` {
		t.Errorf("broadcast got %s", got)
	}
	if _, err = call(t, b1, "billing.hear", `{}`, node.CallOptions{}); err != nil {
		t.Fatal(err)
	}
	// A response over the same link comes after what was sent before.
	if _, err = call(t, b1, "billing.all", `{}`, node.CallOptions{}); err != nil {
		t.Fatal(err)
	}
	for _, v := range []string{"b2", "b3"} {
		n, _ := heard.Load(v)
		meshtest.WaitFor(t, func() bool { return n.(*atomic.Int64).Load() == 1 }, func() string { return v + " to hear it" })
	}
}

func answers(r *node.Result) string {
	var out []string
	for _, x := range r.Replies {
		if x.Err != nil {
			out = append(out, x.Variant+"!"+string(x.Err.Code))
		} else {
			out = append(out, x.Variant+"="+string(x.Result))
		}
	}
	slices.Sort(out)
	return strings.Join(out, " ")
}

// A variant that fails or is too slow does not discard the answers of the others.
func TestBroadcastKeepsPartialResults(t *testing.T) { eachLink(t, testBroadcastKeepsPartialResults) }

func testBroadcastKeepsPartialResults(t *testing.T, m *meshtest.Mesh) {
	fail := map[string]handler.Handler{"all": handler.Func(func(context.Context, *handler.Request) (json.RawMessage, error) {
		return nil, errors.New("no luck")
	})}
	hang := map[string]handler.Handler{"all": handler.Func(func(ctx context.Context, _ *handler.Request) (json.RawMessage, error) {
		<-ctx.Done()
		return nil, ctx.Err()
	})}
	m.Join("billing", "b1", billing("b1"))
	m.Join("billing", "b2", billing("b2", fail))
	m.Join("billing", "b3", billing("b3", hang))
	s := m.Join("shop", "s1")
	meshtest.AwaitPeers(t, s, "billing/b1", "billing/b2", "billing/b3")
	for timeout := 500 * time.Millisecond; ; timeout *= 8 { // those that answer may need more on a busy machine
		r, err := call(t, s, "billing.all", `{}`, node.CallOptions{Timeout: timeout, Only: []string{"b1", "b2", "b3", "b9"}})
		if err != nil {
			t.Fatal(err)
		}
		got := answers(r)
		if got == `b1="b1" b2!handler_error b3!timeout b9!no_variant` {
			break
		}
		if strings.Count(got, "!timeout") < 2 || timeout > 20*time.Second {
			t.Fatalf("broadcast got %s", got)
		}
	}
}

func TestRefusals(t *testing.T) {
	m := meshtest.New(t, shop)
	s := m.Join("shop", "s1")
	b := m.Join("billing", "b1", billing("b1", map[string]handler.Handler{
		"boom": handler.Func(func(context.Context, *handler.Request) (json.RawMessage, error) { panic("boom") }),
	}))
	meshtest.AwaitPeers(t, s, "billing/b1")
	for _, tc := range []struct {
		from   *meshtest.Node
		target string
		opts   node.CallOptions
		want   wire.Code
	}{
		{s, "mailer.send", node.CallOptions{}, wire.CodeNoVariant},
		{s, "billing.who", node.CallOptions{Only: []string{"b7"}}, wire.CodeNoVariant},
		{s, "billing.all", node.CallOptions{Exclude: []string{"b1"}}, wire.CodeNoVariant},
		{s, "billing.who", node.CallOptions{Only: []string{}}, wire.CodeBadRequest},
		{s, "billing.nothing", node.CallOptions{}, wire.CodeUnknownCommand},
		{s, "nobody.who", node.CallOptions{}, wire.CodeUnknownCommand},
		{s, "billing", node.CallOptions{}, wire.CodeBadRequest},
		{s, "__proto__.who", node.CallOptions{}, wire.CodeBadRequest},
		{b, "mailer.send", node.CallOptions{}, wire.CodeDenied},
		{s, "billing.boom", node.CallOptions{}, wire.CodeHandlerError},
		{s, "billing.slow", node.CallOptions{}, wire.CodeUnknownCommand}, // nothing answers it on b1
	} {
		_, err := call(t, tc.from, tc.target, `{}`, tc.opts)
		if got := wire.CodeOf(err); got != tc.want {
			t.Errorf("%s from %s: %v, want code %s", tc.target, tc.from.Name(), err, tc.want)
		}
	}
}

// The data plane outlives the control plane.
func TestMasterMayDieUnderCalls(t *testing.T) { eachLink(t, testMasterMayDieUnderCalls) }

func testMasterMayDieUnderCalls(t *testing.T, m *meshtest.Mesh) {
	var downs atomic.Int64
	count := func(c *node.Config) { c.Hooks.OnDisconnection = func(wire.Peer) { downs.Add(1) } }
	b1 := m.Join("billing", "b1", billing("b1"), count)
	b2 := m.Join("billing", "b2", billing("b2"), count)
	s := m.Join("shop", "s1", count)
	meshtest.AwaitPeers(t, s, "billing/b1", "billing/b2")

	stop := make(chan struct{})
	var calls, failed atomic.Int64
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if _, err := s.Call(context.Background(), "billing.who", json.RawMessage(`{}`), node.CallOptions{Timeout: 20 * time.Second}); err != nil {
					failed.Add(1)
					t.Errorf("call: %v", err)
				}
				calls.Add(1)
			}
		})
	}
	for range 3 {
		before := calls.Load()
		m.Master.Stop()
		meshtest.WaitFor(t, func() bool { return !s.Ready() && calls.Load() > before+50 }, func() string { return "calls without a master" })
		if why := s.NotReady(); why == nil || !strings.Contains(why.Error(), "not declared at a master") {
			t.Errorf("a node without a master is not ready since %v", why)
		}
		m.Master = m.StartMaster(portOf(m.Addr))
		meshtest.WaitFor(t, func() bool { return s.Ready() && b1.Ready() && b2.Ready() }, func() string { return "the nodes to come back" })
	}
	close(stop)
	wg.Wait()
	if failed.Load() > 0 || downs.Load() > 0 {
		t.Errorf("of %d calls %d failed; %d links went down", calls.Load(), failed.Load(), downs.Load())
	}
	if got := len(m.Master.Nodes()); got != 3 {
		t.Errorf("the new master knows %d nodes, want 3", got)
	}
	meshtest.AwaitPeers(t, s, "billing/b1", "billing/b2")
}

func portOf(addr string) (port int) {
	_, text, _ := strings.Cut(addr, ":")
	fmt.Sscan(text, &port)
	return port
}

// A node that leaves takes no new requests, finishes those that it has, and no call
// fails for it.
func TestDrainLosesNothing(t *testing.T) { eachLink(t, testDrainLosesNothing) }

func testDrainLosesNothing(t *testing.T, m *meshtest.Mesh) {
	started, release := make(chan struct{}, 1), make(chan struct{})
	slow := map[string]handler.Handler{"slow": handler.Func(func(ctx context.Context, _ *handler.Request) (json.RawMessage, error) {
		started <- struct{}{}
		<-release
		return json.RawMessage(`"done"`), nil
	})}
	leaving := m.Join("billing", "b1", billing("b1", slow), func(c *node.Config) { c.DrainTimeout = time.Minute })
	s := m.Join("shop", "s1")
	meshtest.AwaitPeers(t, s, "billing/b1")
	result := make(chan string, 1)
	go func() {
		r, err := s.Call(context.Background(), "billing.slow", nil, node.CallOptions{Timeout: 20 * time.Second})
		if err != nil {
			result <- err.Error()
			return
		}
		result <- string(r.Replies[0].Result)
	}()
	meshtest.Await(t, started, "the slow request to start")

	m.Join("billing", "b2", billing("b2"))
	meshtest.AwaitPeers(t, s, "billing/b1", "billing/b2")
	ended := make(chan error, 1)
	go func() { ended <- leaving.Stop() }()
	meshtest.WaitFor(t, func() bool {
		for _, n := range m.Master.Nodes() {
			if n.Variant == "b1" && n.Draining {
				return true
			}
		}
		return false
	}, func() string { return "the master to hear of the drain" })
	if why := leaving.NotReady(); leaving.Ready() || why == nil || !strings.Contains(why.Error(), "drains") {
		t.Errorf("a node that drains is not ready since %v", why)
	}
	for range 20 {
		r, err := call(t, s, "billing.who", `{}`, node.CallOptions{})
		if err != nil {
			t.Fatalf("a call while a variant drains: %v", err)
		}
		_ = r
	}
	select {
	case err := <-ended:
		t.Fatalf("the node left (%v) before its request was done", err)
	default:
	}
	close(release)
	if got := meshtest.Await(t, result, "the slow result"); got != `"done"` {
		t.Errorf("the request under way got %s", got)
	}
	if err := meshtest.Await(t, ended, "the node to end"); err != nil {
		t.Errorf("run: %v", err)
	}
	meshtest.AwaitPeers(t, s, "billing/b2")
}

func TestLostPeerFailsItsRequestsAtOnce(t *testing.T) {
	eachLink(t, testLostPeerFailsItsRequestsAtOnce)
}

func testLostPeerFailsItsRequestsAtOnce(t *testing.T, m *meshtest.Mesh) {
	started := make(chan struct{}, 1)
	hang := map[string]handler.Handler{"slow": handler.Func(func(ctx context.Context, _ *handler.Request) (json.RawMessage, error) {
		started <- struct{}{}
		<-ctx.Done()
		return nil, ctx.Err()
	})}
	b := m.Join("billing", "b1", billing("b1", hang))
	s := m.Join("shop", "s1")
	meshtest.AwaitPeers(t, s, "billing/b1")
	failure := make(chan error, 1)
	go func() {
		_, err := s.Call(context.Background(), "billing.slow", nil, node.CallOptions{Timeout: time.Hour})
		failure <- err
	}()
	meshtest.Await(t, started, "the request to start")
	b.Kill()
	if err := meshtest.Await(t, failure, "the call to fail"); wire.CodeOf(err) != wire.CodePeerLost && wire.CodeOf(err) != wire.CodeCanceled {
		t.Errorf("the call failed with %v, want peer_lost", err)
	}
}

// Cancelling a call ends the handler's context at the other end.
func TestCancelTravels(t *testing.T) { eachLink(t, testCancelTravels) }

func testCancelTravels(t *testing.T, m *meshtest.Mesh) {
	started, canceled := make(chan struct{}, 1), make(chan error, 1)
	hang := map[string]handler.Handler{"slow": handler.Func(func(ctx context.Context, _ *handler.Request) (json.RawMessage, error) {
		started <- struct{}{}
		<-ctx.Done()
		canceled <- context.Cause(ctx)
		return nil, ctx.Err()
	})}
	m.Join("billing", "b1", billing("b1", hang))
	s := m.Join("shop", "s1")
	meshtest.AwaitPeers(t, s, "billing/b1")
	ctx, cancel := context.WithCancel(t.Context())
	failure := make(chan error, 1)
	go func() {
		_, err := s.Call(ctx, "billing.slow", nil, node.CallOptions{Timeout: time.Hour})
		failure <- err
	}()
	meshtest.Await(t, started, "the request to start")
	cancel()
	if err := meshtest.Await(t, failure, "the call to end"); wire.CodeOf(err) != wire.CodeCanceled {
		t.Errorf("the call ended with %v", err)
	}
	if cause := meshtest.Await(t, canceled, "the handler to be canceled"); !errors.Is(cause, context.Canceled) {
		t.Errorf("the handler's context ended with %v", cause)
	}
	// Its late response is counted and dropped.
	meshtest.WaitFor(t, func() bool { return s.Late() == 1 }, func() string { return "the late response to be counted" })
}

// A queued command is worked off one after another in the order of arrival.
func TestQueuedInOrder(t *testing.T) {
	m := meshtest.New(t, shop)
	var mu sync.Mutex
	var order []string
	running := 0
	work := handler.Func(func(_ context.Context, r *handler.Request) (json.RawMessage, error) {
		mu.Lock()
		running++
		if running > 1 {
			t.Error("two at once")
		}
		order = append(order, string(r.Payload))
		mu.Unlock()
		mu.Lock()
		running--
		mu.Unlock()
		return json.RawMessage(`"ok"`), nil
	})
	block := make(chan struct{})
	var once sync.Once
	entered := make(chan struct{})
	send := handler.Func(func(ctx context.Context, r *handler.Request) (json.RawMessage, error) {
		once.Do(func() { close(entered); <-block })
		return work(ctx, r)
	})
	handlers := map[string]handler.Handler{"send": send, "post": work}
	m.Join("mailer", "m1", func(c *node.Config) { c.Handlers = handlers; c.QueueDepth = 3 })
	s := m.Join("shop", "s1")
	meshtest.AwaitPeers(t, s, "mailer/m1")

	for i := range 3 { // fire and forget, acknowledged as accepted
		r, err := call(t, s, "mailer.post", fmt.Sprint(i), node.CallOptions{})
		if err != nil || r.Replies[0].Err != nil {
			t.Fatal(err, r.Replies[0].Err)
		}
	}
	meshtest.WaitFor(t, func() bool { mu.Lock(); defer mu.Unlock(); return len(order) == 3 }, func() string { return "three posts" })

	results := make(chan string, 10)
	sendOne := func(i int) {
		go func() {
			_, err := call(t, s, "mailer.send", fmt.Sprint(10+i), node.CallOptions{})
			results <- string(wire.CodeOf(err))
		}()
	}
	sendOne(0)
	meshtest.Await(t, entered, "the first to be worked on")
	for i := 1; i < 8; i++ { // three fit, the rest is refused
		sendOne(i)
	}
	for range 4 {
		if got := meshtest.Await(t, results, "a refusal"); got != string(wire.CodeOverloaded) {
			t.Errorf("over the bound: %q, want overloaded", got)
		}
	}
	close(block)
	for range 4 {
		if got := meshtest.Await(t, results, "a result"); got != "" {
			t.Errorf("queued request: %s", got)
		}
	}
	mu.Lock()
	defer mu.Unlock()
	if !slices.Equal(order[:3], []string{"0", "1", "2"}) || len(order) != 7 {
		t.Errorf("worked off %v", order)
	}
}

// A newer instance of the same variant replaces the older one, which ends and does
// not come back.
func TestNewerInstanceReplaces(t *testing.T) { eachLink(t, testNewerInstanceReplaces) }

func testNewerInstanceReplaces(t *testing.T, m *meshtest.Mesh) {
	older := m.Join("billing", "b1", billing("older"))
	s := m.Join("shop", "s1")
	meshtest.AwaitPeers(t, s, "billing/b1")
	m.Join("billing", "b1", billing("newer"))
	err := older.Wait()
	if e := (*wire.Error)(nil); !errors.As(err, &e) || e.Code != wire.CodeReplaced || !strings.Contains(e.Hint, "--variant") {
		t.Errorf("the older one ended with %v, want replaced and a hint at --variant", err)
	}
	meshtest.WaitFor(t, func() bool {
		r, err := call(t, s, "billing.who", `{}`, node.CallOptions{})
		return err == nil && string(r.Replies[0].Result) == `"newer"`
	}, func() string { return "the newer one to answer" })
	if n := len(m.Master.Nodes()); n != 2 {
		t.Errorf("the master knows %d nodes, want 2", n)
	}
}

func TestSchemaChangeIsApplied(t *testing.T) { eachLink(t, testSchemaChangeIsApplied) }

func testSchemaChangeIsApplied(t *testing.T, m *meshtest.Mesh) {
	m.Join("billing", "b1", billing("b1"))
	s := m.Join("shop", "s1")
	meshtest.AwaitPeers(t, s, "billing/b1")
	if err := m.Master.SetSchema(meshtest.Parse(t, strings.Replace(shop, "_connect: [billing, mailer]", "_connect: [mailer]", 1))); err != nil {
		t.Fatal(err)
	}
	meshtest.AwaitPeers(t, s)
	if err := m.Master.SetSchema(meshtest.Parse(t, shop)); err != nil {
		t.Fatal(err)
	}
	meshtest.AwaitPeers(t, s, "billing/b1")
	if _, err := call(t, s, "billing.who", `{}`, node.CallOptions{}); err != nil {
		t.Error(err)
	}
}

func TestOperator(t *testing.T) {
	m := meshtest.New(t, shop)
	for _, v := range []string{"b1", "b2"} {
		m.Join("billing", v, billing(v))
	}
	op := m.Operator()
	nodes, err := op.Nodes(t.Context())
	if err != nil || len(nodes) != 2 || nodes[0].Kind != wire.KindMeshctl || nodes[0].Port == 0 {
		t.Fatalf("nodes: %+v, %v", nodes, err)
	}
	count := map[string]int{}
	for range 4 {
		r, err := call(t, op, "billing.who", `{}`, node.CallOptions{})
		if err != nil {
			t.Fatal(err)
		}
		count[r.Replies[0].Variant]++
	}
	if count["b1"] != 2 || count["b2"] != 2 {
		t.Errorf("four calls went to %v", count)
	}
	r, err := call(t, op, "billing.all", `{}`, node.CallOptions{})
	if err != nil || answers(r) != `b1="b1" b2="b2"` {
		t.Errorf("broadcast: %v, %v", r, err)
	}
	if _, err := call(t, op, "mailer.send", `{}`, node.CallOptions{}); wire.CodeOf(err) != wire.CodeNoVariant {
		t.Errorf("nobody there: %v", err)
	}
	as := m.Operator(func(c *node.Config) { c.Worker = "mailer" })
	if _, err := call(t, as, "billing.who", `{}`, node.CallOptions{}); wire.CodeOf(err) != wire.CodeDenied {
		t.Errorf("as mailer: %v, want denied", err)
	}
}

// No message between meshctl peers costs a key derivation: each has one salt.
func TestDerivationsAreCounted(t *testing.T) {
	m := meshtest.New(t, shop)
	m.Ring = nil // each its own, as between processes
	m.Link = link.SocketIO
	b := m.Join("billing", "b1", billing("b1"))
	s := m.Join("shop", "s1")
	meshtest.AwaitPeers(t, s, "billing/b1")
	for range 200 {
		if _, err := call(t, s, "billing.who", `{}`, node.CallOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	// One's own salt, the master's, and the peer's.
	if s.Derivations() > 3 || b.Derivations() > 3 {
		t.Errorf("derivations: shop %d, billing %d, want at most 3 each", s.Derivations(), b.Derivations())
	}
}
