package node_test

import (
	"context"
	"encoding/json"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/meshctl/meshctl/internal/mesh/handler"
	"github.com/meshctl/meshctl/internal/mesh/meshtest"
	"github.com/meshctl/meshctl/internal/mesh/node"
	"github.com/meshctl/meshctl/internal/mesh/wire"
)

const bank = `
shop: {_connect: [billing]}
billing:
  _allow: [shop]
  _commands:
    _balanced:
      who:
      once:
      twice: {idempotent: true, retry: {attempts: 3, on: [peer_lost]}}
      patient: {retry: {attempts: 10, on: [no_variant]}}
      tight: {max_in_flight: 2}
      waiting: {max_in_flight: 2, retry: {attempts: 10, on: [overloaded]}}
      spread: {balance: least_in_flight}
      keyed: {balance: {key: customer.id}}
`

// served makes f answer commands of a node.
func served(f handler.Func, commands ...string) meshtest.Option {
	return func(c *node.Config) {
		c.Handlers = map[string]handler.Handler{}
		for _, name := range commands {
			c.Handlers[name] = f
		}
	}
}

func name(_ context.Context, r *handler.Request) (json.RawMessage, error) {
	return json.Marshal(r.Variant)
}

// asker is a node or an operator.
type asker interface {
	Call(context.Context, string, json.RawMessage, node.CallOptions) (*node.Result, error)
}

// ask gives the variant that answered.
func ask(s asker, command, payload string) (string, error) {
	r, err := s.Call(context.Background(), command, json.RawMessage(payload), node.CallOptions{Timeout: 30 * time.Second})
	if err != nil {
		return "", err
	}
	var variant string
	err = json.Unmarshal(r.Replies[0].Result, &variant)
	return variant, err
}

// TestRepeatedAfterLoss has each variant end when it is asked first: what may run twice
// goes on to another one, what may not fails.
func TestRepeatedAfterLoss(t *testing.T) {
	for command, lost := range map[string]bool{"billing.once": true, "billing.twice": false} {
		t.Run(command, func(t *testing.T) {
			m := meshtest.New(t, bank)
			var first atomic.Bool
			var nodes [2]atomic.Pointer[meshtest.Node]
			for i := range nodes {
				n := m.Join("billing", fmt.Sprint("b", i), served(func(ctx context.Context, r *handler.Request) (json.RawMessage, error) {
					if !first.Swap(true) {
						go nodes[i].Load().Kill()
						<-ctx.Done()
						meshtest.WaitFor(t, func() bool { return len(nodes[i].Load().Peers()) == 0 }, func() string { return "the link to go before it says anything" })
					}
					return name(ctx, r)
				}, "once", "twice"))
				nodes[i].Store(n)
			}
			s := m.Join("shop", "s1")
			meshtest.AwaitPeers(t, s, "billing/b0", "billing/b1")
			got, err := ask(s, command, `1`)
			switch {
			case lost && wire.CodeOf(err) != wire.CodePeerLost:
				t.Errorf("%q, %v", got, err)
			case !lost && err != nil:
				t.Error(err)
			}
		})
	}
}

func TestRepeatedUntilSomebodyIsThere(t *testing.T) {
	m := meshtest.New(t, bank)
	s := m.Join("shop", "s1")
	for try := 1; ; try++ {
		done := make(chan error, 1)
		began := time.Now()
		go func() {
			_, err := ask(s, "billing.patient", `1`)
			done <- err
		}()
		if _, err := ask(s, "billing.who", `1`); wire.CodeOf(err) != wire.CodeNoVariant {
			t.Errorf("without retry: %v", err)
		}
		b := m.Join("billing", "b1", served(name, "patient"))
		meshtest.AwaitPeers(t, s, "billing/b1")
		took := time.Since(began)
		err := meshtest.Await(t, done, "the patient caller")
		if err == nil {
			return
		}
		// Ten attempts are made within 4 s, at least.
		if wire.CodeOf(err) != wire.CodeNoVariant || took < 2*time.Second || try == 5 {
			t.Fatal(err)
		}
		t.Logf("once more, as it took %s until somebody was there", took)
		_ = b.Stop()
		meshtest.AwaitPeers(t, s)
	}
}

// TestMaxInFlight: a command has room for two, other commands are not concerned, and a
// caller that repeats gets its turn.
func TestMaxInFlight(t *testing.T) {
	m := meshtest.New(t, bank)
	entered, release := make(chan struct{}, 8), make(chan struct{})
	m.Join("billing", "b1", served(func(ctx context.Context, r *handler.Request) (json.RawMessage, error) {
		if string(r.Payload) == `"stay"` {
			entered <- struct{}{}
			<-release
		}
		return name(ctx, r)
	}, "tight", "waiting", "who"))
	s := m.Join("shop", "s1")
	meshtest.AwaitPeers(t, s, "billing/b1")
	done := make(chan error, 8)
	for _, command := range []string{"billing.tight", "billing.tight", "billing.waiting", "billing.waiting"} {
		go func() {
			_, err := ask(s, command, `"stay"`)
			done <- err
		}()
	}
	for range 4 {
		meshtest.Await(t, entered, "a request")
	}
	if _, err := ask(s, "billing.tight", `1`); wire.CodeOf(err) != wire.CodeOverloaded {
		t.Errorf("a third one: %v", err)
	}
	if _, err := ask(s, "billing.who", `1`); err != nil {
		t.Errorf("another command: %v", err)
	}
	go func() {
		_, err := ask(s, "billing.waiting", `1`)
		done <- err
	}()
	time.AfterFunc(200*time.Millisecond, func() { close(release) })
	for range 5 {
		if err := meshtest.Await(t, done, "an answer"); err != nil {
			t.Error(err)
		}
	}
	for range 10 { // there is room again, for as many as before
		if _, err := ask(s, "billing.tight", `1`); err != nil {
			t.Error(err)
		}
	}
}

// TestFailingVariantIsSkipped: it is asked no more while the other one answers, and is
// asked when it is the last one.
func TestFailingVariantIsSkipped(t *testing.T) {
	m := meshtest.New(t, bank)
	var asked atomic.Int64
	m.Join("billing", "b1", served(func(context.Context, *handler.Request) (json.RawMessage, error) {
		asked.Add(1)
		return nil, &wire.Error{Code: wire.CodeOverloaded, Message: "no", Temporary: true}
	}, "who"))
	other := m.Join("billing", "b2", served(name, "who"))
	s := m.Join("shop", "s1")
	meshtest.AwaitPeers(t, s, "billing/b1", "billing/b2")
	for i := range 100 {
		if got, err := ask(s, "billing.who", `1`); got != "b2" {
			t.Fatalf("call %d: %q, %v", i, got, err)
		}
	}
	// Five, and one more for each time that it was tried again, if this took so long.
	if n := asked.Load(); n < 5 || n > 10 {
		t.Errorf("the failing one was asked %d times", n)
	}
	_ = other.Stop()
	meshtest.AwaitPeers(t, s, "billing/b1")
	before := asked.Load()
	if _, err := ask(s, "billing.who", `1`); wire.CodeOf(err) != wire.CodeOverloaded || asked.Load() != before+1 {
		t.Errorf("the last one was not asked: %v", err)
	}
}

// A variant that comes to be skipped while a request looks for one that takes it has been asked, and is
// not asked again.
func TestEachVariantIsAskedOnce(t *testing.T) {
	m := meshtest.New(t, bank)
	var asked [2]atomic.Int32
	for i := range asked {
		m.Join("billing", fmt.Sprint("b", i), served(func(context.Context, *handler.Request) (json.RawMessage, error) {
			asked[i].Add(1)
			return nil, &wire.Error{Code: wire.CodeOverloaded, Message: "full", Temporary: true}
		}, "who"))
	}
	s := m.Join("shop", "s1")
	meshtest.AwaitPeers(t, s, "billing/b0", "billing/b1")
	call := func(only ...string) {
		if _, err := s.Call(t.Context(), "billing.who", nil, node.CallOptions{Timeout: time.Minute, Only: only}); wire.CodeOf(err) != wire.CodeOverloaded {
			t.Fatal(err)
		}
	}
	for range 4 {
		call("b0")
	}
	for range 5 {
		call("b1")
	}
	call() // b1 is skipped, and b0 fails for the fifth time
	if b0, b1 := asked[0].Load(), asked[1].Load(); b0 != 5 || b1 != 6 {
		t.Errorf("asked %d and %d times, want 5 and 6", b0, b1)
	}
}

// TestTheShareOfAFailingVariantIsSpread: evenly over those that are left, by nodes, which skip it, and by
// operators, which ask it each time that it is its turn.
func TestTheShareOfAFailingVariantIsSpread(t *testing.T) {
	m := meshtest.New(t, bank)
	refuse := func(context.Context, *handler.Request) (json.RawMessage, error) {
		return nil, &wire.Error{Code: wire.CodeOverloaded, Message: "no", Temporary: true}
	}
	for _, v := range []string{"b1", "b2", "b3", "b4"} {
		f := handler.Func(name)
		if v == "b2" {
			f = refuse
		}
		m.Join("billing", v, served(f, "who"))
	}
	s := m.Join("shop", "s1")
	meshtest.AwaitPeers(t, s, "billing/b1", "billing/b2", "billing/b3", "billing/b4")
	const calls = 240
	for who, end := range map[string]asker{"a node": s, "an operator": m.Operator()} {
		for range 20 { // until it is skipped
			if _, err := ask(end, "billing.who", `1`); err != nil {
				t.Fatal(who, err)
			}
		}
		count := map[string]int{}
		for range calls {
			got, err := ask(end, "billing.who", `1`)
			if count[got]++; err != nil {
				t.Fatal(who, err)
			}
		}
		// Time and again it is asked once more, whose turn that is and who answers instead.
		for _, v := range []string{"b1", "b3", "b4"} {
			if n := count[v]; n < calls/3-10 || n > calls/3+10 {
				t.Errorf("of %s %s got %d of %d calls, not a third: %v", who, v, n, calls, count)
			}
		}
	}
}

func TestBalanceByLoad(t *testing.T) {
	m := meshtest.New(t, bank)
	entered, release := make(chan string, 1), make(chan struct{})
	for _, v := range []string{"b1", "b2"} {
		m.Join("billing", v, served(func(ctx context.Context, r *handler.Request) (json.RawMessage, error) {
			if string(r.Payload) == `"stay"` {
				entered <- r.Variant
				<-release
			}
			return name(ctx, r)
		}, "spread"))
	}
	s := m.Join("shop", "s1")
	meshtest.AwaitPeers(t, s, "billing/b1", "billing/b2")
	done := make(chan error, 1)
	go func() {
		_, err := ask(s, "billing.spread", `"stay"`)
		done <- err
	}()
	busy := meshtest.Await(t, entered, "a request")
	for range 50 {
		if got, err := ask(s, "billing.spread", `1`); got == busy || err != nil {
			t.Errorf("%q was asked, %v", got, err)
		}
	}
	close(release)
	if err := meshtest.Await(t, done, "an answer"); err != nil {
		t.Error(err)
	}
}

// TestBalanceByKey: two nodes and an operator agree on who is responsible, whatever the
// order in which the variants came.
func TestBalanceByKey(t *testing.T) {
	m := meshtest.New(t, bank)
	s1 := m.Join("shop", "s1")
	for _, v := range []string{"b3", "b1", "b2"} {
		m.Join("billing", v, served(name, "keyed"))
	}
	s2 := m.Join("shop", "s2")
	for _, s := range []*meshtest.Node{s1, s2} {
		meshtest.AwaitPeers(t, s, "billing/b1", "billing/b2", "billing/b3")
	}
	op := m.Operator()
	count := map[string]int{}
	for i := range 60 {
		payload := fmt.Sprintf(`{"customer":{"id":%d}}`, i)
		want, err := ask(s1, "billing.keyed", payload)
		if err != nil {
			t.Fatal(err)
		}
		count[want]++
		if got, err := ask(s2, "billing.keyed", payload); got != want {
			t.Errorf("%s: %q, not %q, %v", payload, got, want, err)
		}
		if got, err := ask(op, "billing.keyed", payload); got != want {
			t.Errorf("%s: the operator asks %q, not %q, %v", payload, got, want, err)
		}
	}
	if len(count) != 3 {
		t.Errorf("keys went to %v", count)
	}
	clear(count)
	for range 30 { // without one, in turn
		got, err := ask(s1, "billing.keyed", `{}`)
		if count[got]++; err != nil {
			t.Error(err)
		}
	}
	if count["b1"] != 10 || count["b2"] != 10 || count["b3"] != 10 {
		t.Errorf("without a key: %v", count)
	}
}
