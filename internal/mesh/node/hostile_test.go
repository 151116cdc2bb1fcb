package node_test

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/meshctl/meshctl/internal/mesh/handler"
	"github.com/meshctl/meshctl/internal/mesh/meshtest"
	"github.com/meshctl/meshctl/internal/mesh/node"
	"github.com/meshctl/meshctl/internal/mesh/wire"
)

// fakeBilling declares a JavaScript node of worker billing and hands the links that
// others open to it, once they have declared themselves, to the test.
func fakeBilling(t *testing.T, m *meshtest.Mesh, variant string) <-chan *meshtest.Raw {
	t.Helper()
	links := make(chan *meshtest.Raw, 4)
	port := m.Serve(func(r *meshtest.Raw) {
		if _, ok := r.Hears(wire.EventDeclare); ok {
			links <- r
		}
	})
	r := m.Dial(m.Addr)
	r.Say(wire.EventDeclare, fmt.Sprintf(`{"worker":"billing","port":%d,"variant":%q}`, port, variant))
	r.Expect(wire.EventDeclared)
	return links
}

// A response counts only when it comes from the peer that was asked.
func TestNobodyAnswersForAnother(t *testing.T) {
	m := meshtest.New(t, shop)
	honest, liar := fakeBilling(t, m, "honest"), fakeBilling(t, m, "liar")
	s := m.Join("shop", "s1")
	h, l := meshtest.Await(t, honest, "the link to honest"), meshtest.Await(t, liar, "the link to liar")
	meshtest.AwaitPeers(t, s, "billing/honest", "billing/liar")

	result := make(chan string, 1)
	go func() {
		r, err := s.Call(context.Background(), "billing.who", json.RawMessage(`{}`), node.CallOptions{Only: []string{"honest"}, Timeout: 20 * time.Second})
		if err != nil {
			result <- err.Error()
			return
		}
		result <- string(r.Replies[0].Result)
	}()
	var asked struct {
		UID string `json:"uid"`
	}
	if err := json.Unmarshal([]byte(h.Expect(wire.EventCommand)), &asked); err != nil || asked.UID == "" {
		t.Fatal(asked, err)
	}
	l.Say(wire.EventResponse, fmt.Sprintf(`{"uid":%q,"who":"a lie"}`, asked.UID))
	// The lie has been read once the liar's next request is answered.
	l.Say(wire.EventCommand, `{"uid":"after","status":{}}`)
	l.Expect(wire.EventResponse)
	h.Say(wire.EventResponse, fmt.Sprintf(`{"uid":%q,"who":"the truth"}`, asked.UID))
	if got := meshtest.Await(t, result, "the result"); got != `"the truth"` {
		t.Errorf("the caller got %s", got)
	}
	if s.Late() != 1 {
		t.Errorf("%d responses were counted as unexpected, want the lie", s.Late())
	}
}

// A node whose peer says nonsense drops the nonsense and serves on.
func TestHostileMessagesOnALink(t *testing.T) {
	m := meshtest.New(t, shop)
	links := fakeBilling(t, m, "b1")
	s := m.Join("shop", "s1")
	l := meshtest.Await(t, links, "the link")
	for _, body := range []string{
		``, `{`, `[]`, `null`, `7`, `{}`, `{"uid":"x"}`, `{"uid":7,"status":{}}`, `{"uid":"__proto__","status":{}}`,
		`{"uid":"constructor","status":{}}`, `{"uid":"x","__proto__":{}}`, `{"uid":"x","constructor":{}}`,
		`{"uid":"x","status":{},"other":{}}`, `{"uid":"x","a":1,"b":2}`, `{"uid":"` + strings.Repeat("u", 500) + `","status":{}}`,
		`{"uid":"x","status":` + strings.Repeat("[", 3000) + strings.Repeat("]", 3000) + `}`,
		`{"uid":"x","status":{},"meshctl":{"timeout_ms":-9223372036854775808}}`,
		`{"uid":"x","status":{},"meshctl":{"timeout_ms":9223372036854775807}}`, `{"uid":"y","status":{},"meshctl":7}`,
	} {
		for _, event := range []string{wire.EventCommand, wire.EventResponse, wire.EventCancel} {
			l.Say(event, body)
		}
	}
	l.Say(wire.EventCommand, `{"uid":"last","status":{}}`)
	for !strings.Contains(l.Expect(wire.EventResponse), `"last"`) {
	}
	meshtest.AwaitPeers(t, s, "billing/b1")
}

// A JavaScript caller is never told a false success: where a command fails, it gets no
// response, and what it sends without uid is run and not answered.
func TestJavaScriptCallerGetsNoFalseSuccess(t *testing.T) {
	m := meshtest.New(t, shop)
	told := make(chan string, 1)
	b := m.Start("billing", "b1", billing("b1", map[string]handler.Handler{
		"boom": handler.Func(func(context.Context, *handler.Request) (json.RawMessage, error) { panic("boom") }),
		"tell": handler.Func(func(_ context.Context, r *handler.Request) (json.RawMessage, error) {
			told <- r.Caller + " " + string(r.Payload)
			return json.RawMessage(`1`), nil
		}),
	}))
	meshtest.Await(t, b.Connected(), "billing to join")
	l := m.Dial(b.Addr().String())
	l.Say(wire.EventDeclare, `{"worker":"shop","variant":"js"}`)
	l.Say(wire.EventCommand, `{"uid":"1","boom":{}}`)
	l.Say(wire.EventCommand, `{"uid":"2","nothing":{}}`)
	l.Say(wire.EventCommand, `{"tell":{"a":1}}`)
	if got := meshtest.Await(t, told, "the command without uid"); got != `shop/js {"a":1}` {
		t.Errorf("it ran as %s", got)
	}
	l.Say(wire.EventCommand, `{"uid":"3","who":{}}`)
	if got := l.Expect(wire.EventResponse); got != `{"uid":"3","who":"b1"}` {
		t.Errorf("the first response is %s", got)
	}
	l.Silent(wire.EventResponse, 100*time.Millisecond)
}

func TestWhoMayNotConnectIsSentAway(t *testing.T) {
	m := meshtest.New(t, shop)
	b := m.Join("billing", "b1", billing("b1"))
	for _, tc := range []struct {
		body string
		code wire.Code
	}{
		{`{"worker":"mailer","variant":"x","meshctl":{"protocol":1}}`, wire.CodeDenied},
		{`{"worker":"ghost","variant":"x","meshctl":{"protocol":1}}`, wire.CodeDenied},
		{`{"worker":"__proto__","variant":"x","meshctl":{"protocol":1}}`, wire.CodeBadRequest},
		{`{"worker":"@operator","variant":"x"}`, wire.CodeBadRequest},
		{`{`, wire.CodeBadRequest},
	} {
		l := m.Dial(b.Addr().String())
		l.Say(wire.EventCommand, `{"uid":"1","who":{}}`) // before declaring: void
		l.Say(wire.EventDeclare, tc.body)
		if err := l.ExpectEnd(); wire.CodeOf(err) != tc.code {
			t.Errorf("%s: ended with %v, want %s", tc.body, err, tc.code)
		}
	}
	if got := b.Status().Served; got != 0 {
		t.Errorf("%d requests of strangers were served", got)
	}
}

// A peer that calls itself as the node does is refused, though others of the worker
// may connect.
func TestNobodyIsTheNodeItself(t *testing.T) {
	m := meshtest.New(t, shop)
	b := m.Join("billing", "b1", billing("b1"))
	l := m.Dial(b.Addr().String())
	l.Say(wire.EventDeclare, `{"worker":"billing","variant":"b1"}`)
	l.Expect(wire.EventError)
	l.ExpectEnd()
	l = m.Dial(b.Addr().String())
	l.Say(wire.EventDeclare, `{"worker":"billing","variant":"b2"}`)
	meshtest.AwaitPeers(t, b, "billing/b2")
}

// Nobody becomes somebody else on a link.
func TestIdentityOfALinkIsFixed(t *testing.T) {
	m := meshtest.New(t, shop)
	b := m.Join("billing", "b1", billing("b1"))
	l := m.Dial(b.Addr().String())
	l.Say(wire.EventDeclare, `{"worker":"shop","variant":"js"}`)
	l.Say(wire.EventDeclare, `{"worker":"shop","variant":"js"}`) // as after a reconnection
	l.Say(wire.EventCommand, `{"uid":"1","who":{}}`)
	l.Expect(wire.EventResponse)
	l.Say(wire.EventDeclare, `{"worker":"billing","variant":"b7"}`)
	l.ExpectEnd()
	meshtest.AwaitPeers(t, b)
}

// A flood over the bound of requests under way is refused, not buffered.
func TestInFlightIsBounded(t *testing.T) {
	m := meshtest.New(t, shop)
	release := make(chan struct{})
	hang := map[string]handler.Handler{"slow": handler.Func(func(context.Context, *handler.Request) (json.RawMessage, error) {
		<-release
		return json.RawMessage(`1`), nil
	})}
	b := m.Join("billing", "b1", billing("b1", hang), func(c *node.Config) { c.MaxInFlight = 5 })
	l := m.Dial(b.Addr().String())
	l.Say(wire.EventDeclare, `{"worker":"shop","variant":"s1","meshctl":{"protocol":1}}`)
	for i := range 50 {
		l.Say(wire.EventCommand, fmt.Sprintf(`{"uid":"u%d","slow":{},"meshctl":{"timeout_ms":60000}}`, i))
	}
	for range 45 {
		if got := l.Expect(wire.EventResponse); !strings.Contains(got, string(wire.CodeOverloaded)) {
			t.Fatalf("response %s, want overloaded", got)
		}
	}
	if got := b.Status().InFlight; got != 5 {
		t.Errorf("%d in flight, want 5", got)
	}
	close(release)
	for range 5 {
		if got := l.Expect(wire.EventResponse); !strings.Contains(got, `"slow":1`) {
			t.Errorf("response %s", got)
		}
	}
}

// A node that was taken for JavaScript says late that it is meshctl, and who it is: calls for
// one node must not reach another, which took its address.
func TestLateNameIsChecked(t *testing.T) {
	m := meshtest.New(t, shop)
	links := fakeBilling(t, m, "b1")
	s := m.Join("shop", "s1")
	declared := func(l *meshtest.Raw, name string) {
		l.Say(wire.EventDeclared, fmt.Sprintf(`{"worker":"shop","variant":"s1","clientId":"x","meshctl":{"protocol":1,"name":%q,"instance":"i"}}`, name))
	}
	l := meshtest.Await(t, links, "the link")
	meshtest.AwaitPeers(t, s, "billing/b1")
	declared(l, "billing/b2")
	if err := l.ExpectEnd(); err == nil {
		t.Error("the link of another node stayed")
	}
	l = meshtest.Await(t, links, "the next link")
	declared(l, "billing/b1")
	meshtest.WaitFor(t, func() bool {
		peers := s.Peers()
		return len(peers) == 1 && peers[0].Kind() == wire.KindMeshctl
	}, func() string { return fmt.Sprint("peers: ", s.Peers()) })
}

// A master that tells nonsense of its mesh costs a command neither its memory nor more than
// one question.
func TestHostileLists(t *testing.T) {
	m := meshtest.New(t, shop)
	for name, list := range map[string]string{
		"endless nodes": `"mesh.nodes":{"total":4000000000,"nodes":[{"worker":"billing","variant":"b1"}]}`,
		"no masters":    `"mesh.masters":{"masters":[]}`,
		"null masters":  `"mesh.masters":null`,
	} {
		t.Run(name, func(t *testing.T) {
			var asked atomic.Int32
			port := toOperators(t, m, "", func() string {
				if asked.Add(1) > 1 {
					t.Error("it was asked again")
				}
				return list
			})
			op := m.Operator(func(c *node.Config) { c.Master, c.Timeout = fmt.Sprint("127.0.0.1:", port), 20*time.Second })
			var err error
			if strings.Contains(list, "mesh.masters") {
				_, err = op.Masters(context.Background())
			} else {
				_, err = op.Nodes(context.Background())
			}
			if wire.CodeOf(err) != wire.CodeBadRequest {
				t.Errorf("%v", err)
			}
		})
	}
}
