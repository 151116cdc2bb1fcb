package node_test

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/meshctl/meshctl/internal/mesh/meshtest"
	"github.com/meshctl/meshctl/internal/mesh/node"
	"github.com/meshctl/meshctl/internal/mesh/wire"
)

// An operator remembers who is there for a second; no call may fail for that.
func TestOperatorFindsNodesThatItDoesNotRemember(t *testing.T) {
	m := meshtest.New(t, shop)
	first := m.Join("billing", "b1")
	op := m.Operator()
	call := func(want string) {
		t.Helper()
		result, err := op.Call(context.Background(), "billing.echo", nil, node.CallOptions{})
		if err != nil {
			t.Fatalf("call: %v", err)
		}
		if got := result.Replies[0].Variant; got != want {
			t.Errorf("%s answered, want %s", got, want)
		}
	}
	call("b1")
	if err := first.Stop(); err != nil {
		t.Fatal(err)
	}
	m.Join("billing", "b2")
	call("b2")
	result, err := op.Call(context.Background(), "billing.all", nil, node.CallOptions{})
	if err != nil || len(result.Replies) != 1 || result.Replies[0].Variant != "b2" {
		t.Errorf("a broadcast reached %+v, %v", result, err)
	}
}

// Calls that begin at once share one link: a second one would end the first, and with
// it the calls on it.
func TestOperatorOpensOneLinkForManyCalls(t *testing.T) {
	eachLink(t, func(t *testing.T, m *meshtest.Mesh) {
		m.Join("billing", "b1")
		op := m.Operator()
		var calls sync.WaitGroup
		for range 50 {
			calls.Go(func() {
				if _, err := op.Call(context.Background(), "billing.echo", nil, node.CallOptions{Timeout: 30 * time.Second}); err != nil {
					t.Errorf("call: %v", err)
				}
			})
		}
		calls.Wait()
	})
}

// Nobody who waits for a link is cut off because another caller gave up.
func TestOperatorKeepsOpeningForOtherCallers(t *testing.T) {
	m := meshtest.New(t, shop)
	m.Join("billing", "b1")
	op := m.Operator()
	hasty, giveUp := context.WithCancel(context.Background())
	var calls sync.WaitGroup
	for range 10 {
		calls.Go(func() {
			_, _ = op.Call(hasty, "billing.echo", nil, node.CallOptions{})
		})
		calls.Go(func() {
			if _, err := op.Call(context.Background(), "billing.echo", nil, node.CallOptions{Timeout: 30 * time.Second}); err != nil {
				t.Errorf("call: %v", err)
			}
		})
	}
	giveUp()
	calls.Wait()
}

// A master that has just started knows nobody yet: an operator waits a moment for the nodes
// that are on their way back to it.
func TestOperatorWaitsForAMasterThatSettles(t *testing.T) {
	for begun := time.Now(); ; begun = time.Now() {
		err := callWhileSettling(t)
		if err == nil {
			return
		}
		if time.Since(begun) < 2*time.Second { // else the master may not have waited any more: this machine is too slow
			t.Fatal(err)
		}
		t.Logf("once more, as this took %s: %v", time.Since(begun), err)
	}
}

func callWhileSettling(t *testing.T) error {
	m := meshtest.New(t, shop)
	op := m.Operator()
	result := make(chan error, 1)
	go func() {
		_, err := op.Call(context.Background(), "billing.echo", nil, node.CallOptions{Timeout: 30 * time.Second})
		result <- err
	}()
	select {
	case err := <-result:
		return fmt.Errorf("it did not wait: %w", err)
	case <-time.After(100 * time.Millisecond):
	}
	m.Join("billing", "b1")
	if err := meshtest.Await(t, result, "the call to end"); err != nil {
		return err
	}
	return nil
}

// A call whose time is up while a master settles ends because nobody was there, also where the master was being
// asked just then.
func TestOperatorsTimeIsUpWhileAMasterSettles(t *testing.T) {
	m := meshtest.New(t, shop)
	var lists atomic.Int32
	port := toOperators(t, m, `"echo":{"responds":true}`, func() string {
		if lists.Add(1) > 1 {
			return "" // it takes longer than there is time
		}
		return `"mesh.nodes":{"total":0,"nodes":[],"settling":true}`
	})
	op := m.Operator(func(c *node.Config) { c.Master = fmt.Sprint("127.0.0.1:", port) })
	asked := make(chan struct{})
	go func() {
		defer close(asked)
		meshtest.WaitFor(t, func() bool { return lists.Load() == 2 }, func() string { return "the master to be asked again" })
	}()
	_, err := op.Call(timeIsUp{t.Context(), asked}, "billing.echo", nil, node.CallOptions{})
	if wire.CodeOf(err) != wire.CodeNoVariant {
		t.Errorf("%v", err)
	}
}

// toOperators pretends a master with one worker, billing, that has the balanced commands. It answers what operators ask
// with what answer gives, which may be nothing.
func toOperators(t *testing.T, m *meshtest.Mesh, commands string, answer func() string) (port int) {
	return m.Serve(func(r *meshtest.Raw) {
		r.Hears(wire.EventDeclare)
		r.Tells(wire.EventDeclared, fmt.Sprintf(`{"worker":"@operator","variant":"o","clientId":"c","port":0,"ip":"127.0.0.1","meshctl":{"protocol":1,"schema":{"billing":{"_allow":"anyNode","_connect":[],"_commands":{"_balanced":{%s},"_broadcast":{}}}}}}`, commands))
		for {
			command, ok := r.Hears(wire.EventCommand)
			if !ok {
				return
			}
			var asked struct {
				UID string `json:"uid"`
			}
			if err := json.Unmarshal([]byte(command), &asked); err != nil {
				t.Error(err)
			}
			if text := answer(); text != "" {
				r.Tells(wire.EventResponse, fmt.Sprintf(`{"uid":%q,%s}`, asked.UID, text))
			}
		}
	})
}
