package node_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/meshctl/meshctl/internal/mesh/handler"
	"github.com/meshctl/meshctl/internal/mesh/identity"
	"github.com/meshctl/meshctl/internal/mesh/link"
	"github.com/meshctl/meshctl/internal/mesh/master"
	"github.com/meshctl/meshctl/internal/mesh/meshtest"
	"github.com/meshctl/meshctl/internal/mesh/node"
	"github.com/meshctl/meshctl/internal/mesh/wire"
)

// guarded is shop where nobody goes without a token.
const guarded = "_tokens: required\n" + shop

// issuer signs tokens for tests.
type issuer struct {
	t   *testing.T
	key *identity.Key
	*identity.Verifier
}

func newIssuer(t *testing.T) *issuer {
	t.Helper()
	key, err := identity.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	public, err := key.Public()
	if err != nil {
		t.Fatal(err)
	}
	v, err := identity.NewVerifier(public)
	if err != nil {
		t.Fatal(err)
	}
	return &issuer{t, key, v}
}

// issue signs a token that expires in ttl, which may be past.
func (i *issuer) issue(worker, variant string, ttl time.Duration) (identity.Token, *identity.Claims) {
	i.t.Helper()
	now := time.Now()
	token, claims, err := i.key.Issue(worker, variant, time.Hour, now.Add(ttl-time.Hour))
	if err != nil {
		i.t.Fatal(err)
	}
	return token, claims
}

// holds gives a node a token.
func holds(token identity.Token, v *identity.Verifier) meshtest.Option {
	return func(c *node.Config) {
		c.Token, c.Issuer = func() (identity.Token, error) { return token, nil }, v
	}
}

func eachMaster(change func(*master.Config)) func(*meshtest.Mesh) {
	return func(m *meshtest.Mesh) { m.EachMaster = change }
}

func guardedMesh(t *testing.T, i *issuer) *meshtest.Mesh {
	t.Helper()
	return meshtest.New(t, guarded, eachMaster(func(c *master.Config) { c.Issuer = i.Verifier }))
}

// attacks are tokens that a holder of the mesh's keys could present as billing/b1, and
// what the checker says.
func attacks(t *testing.T, i *issuer) map[string]struct {
	token identity.Token
	want  string
} {
	good := func(t identity.Token, _ *identity.Claims) identity.Token { return t }
	foreign := newIssuer(t)
	return map[string]struct {
		token identity.Token
		want  string
	}{
		"missing":       {"", identity.ErrMissing.Error()},
		"expired":       {good(i.issue("billing", "", -2*identity.Leeway)), identity.ErrExpired.Error()},
		"not yet valid": {good(i.issue("billing", "", 3*time.Hour)), identity.ErrNotYet.Error()},
		"foreign":       {good(foreign.issue("billing", "", time.Hour)), identity.ErrIssuer.Error()},
		"worker":        {good(i.issue("shop", "", time.Hour)), identity.ErrWorker.Error()},
		"operator":      {good(i.issue(identity.Operator, "", time.Hour)), identity.ErrWorker.Error()},
		"variant":       {good(i.issue("billing", "b2", time.Hour)), identity.ErrVariant.Error()},
		"alg none":      {"eyJhbGciOiJub25lIn0.eyJzdWIiOiJiaWxsaW5nIn0.", identity.ErrAlgorithm.Error()},
		"garbage":       {"garbage", identity.ErrMalformed.Error()},
		"oversized":     {identity.Token(strings.Repeat("x", identity.MaxLen+1)), "longer than"},
	}
}

func declareAs(worker, variant string, token identity.Token) string {
	body, err := wire.Encode(wire.Declare{Worker: worker, Variant: variant, Port: 1, Meshctl: &wire.Extra{Protocol: 1, Instance: variant, Token: token}})
	if err != nil {
		panic(err)
	}
	return string(body)
}

// Holders of the mesh's keys who present a bad token get in neither at the master nor at
// a node, and are told why.
func TestBadTokensAreRefused(t *testing.T) {
	i := newIssuer(t)
	m := guardedMesh(t, i)
	token, _ := i.issue("billing", "", time.Hour)
	n := m.Join("billing", "there", billing("there"), holds(token, i.Verifier))
	good, _ := i.issue("billing", "b1", time.Hour)
	doors := map[string]string{"master": m.Addr, "node": n.Addr().String()}
	for door, addr := range doors {
		for name, tc := range attacks(t, i) {
			r := m.Dial(addr)
			r.Say(wire.EventDeclare, declareAs("billing", "b1", tc.token))
			got := r.Expect(wire.EventError)
			if !strings.Contains(got, tc.want) {
				t.Errorf("%s, %s: %s, want %s", door, name, got, tc.want)
			}
			if name != "oversized" && !strings.Contains(got, `"denied"`) {
				t.Errorf("%s, %s: not denied: %s", door, name, got)
			}
			r.ExpectEnd()
		}
		js := m.Dial(addr)
		js.Say(wire.EventDeclare, `{"worker":"billing","variant":"js","port":1}`)
		if got := js.Expect(wire.EventError); !strings.Contains(got, "JavaScript") {
			t.Errorf("%s: JavaScript: %s", door, got)
		}
		op := m.Dial(addr)
		op.Say(wire.EventDeclare, declareAs(wire.OperatorWorker, "op", good))
		if got := op.Expect(wire.EventError); !strings.Contains(got, identity.ErrWorker.Error()) {
			t.Errorf("%s: operator by a worker's token: %s", door, got)
		}
		r := m.Dial(addr)
		r.Say(wire.EventDeclare, declareAs("billing", "b1", good))
		if got := r.Expect(wire.EventDeclared); strings.Contains(got, string(good)) {
			t.Errorf("%s: the answer tells the token", door)
		}
		r.Close(nil)
	}
}

// With tokens for everybody, a mesh works as without; no token is logged, told on or
// handed to a hook.
func TestTokensInAMesh(t *testing.T) {
	i := newIssuer(t)
	m := guardedMesh(t, i)
	var log lockedBuffer
	var hooked atomic.Value
	b, _ := i.issue("billing", "b1", time.Hour)
	s, _ := i.issue("shop", "", time.Hour)
	o, _ := i.issue(identity.Operator, "", time.Hour)
	logged := func(c *node.Config) {
		c.Logger = slog.New(slog.NewJSONHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))
		c.Hooks.OnConnection = func(p wire.Peer) {
			text, err := json.Marshal(p)
			if err != nil {
				text = []byte(err.Error())
			}
			hooked.Store(string(text))
		}
	}
	m.Join("billing", "b1", billing("b1"), holds(b, i.Verifier), logged)
	caller := m.Join("shop", "s1", holds(s, i.Verifier), logged)
	meshtest.AwaitPeers(t, caller, "billing/b1")
	if got := callWho(t, caller); got != `"b1"` {
		t.Errorf("answered %s", got)
	}
	for name, option := range map[string]meshtest.Option{"checking": holds(o, i.Verifier), "not checking": holds(o, nil)} {
		op := m.Operator(option)
		if got := callWho(t, op); got != `"b1"` {
			t.Errorf("operator, %s: answered %s", name, got)
		}
		nodes, err := op.Nodes(t.Context())
		if err != nil || len(nodes) != 2 {
			t.Errorf("operator, %s: nodes %v, %v", name, nodes, err)
		}
	}
	meshtest.WaitFor(t, func() bool { return hooked.Load() != nil }, func() string { return "a hook" })
	for _, token := range []identity.Token{b, s, o} {
		signature := string(token[strings.LastIndex(string(token), ".")+1:])
		if strings.Contains(log.String(), signature) || strings.Contains(hooked.Load().(string), signature) {
			t.Errorf("a token is in the log or in a hook's input:\n%s\n%s", log.String(), hooked.Load())
		}
	}

	// What the master tells of others has no token.
	r := m.Dial(m.Addr)
	r.Say(wire.EventDeclare, declareAs("shop", "raw", s))
	if got := r.Expect(wire.EventAddNode); strings.Contains(got, "token") || !strings.Contains(got, "billing") {
		t.Errorf("addnode: %s", got)
	}
}

func TestOperatorWithoutTokenIsDenied(t *testing.T) {
	m := guardedMesh(t, newIssuer(t))
	op, err := node.Connect(t.Context(), node.Config{Keys: meshtest.Keys, Master: m.Addr, Ring: m.Ring, Schema: m.Schema})
	if err == nil {
		op.Close()
	}
	if wire.CodeOf(err) != wire.CodeDenied || !strings.Contains(err.Error(), identity.ErrMissing.Error()) {
		t.Errorf("error %v", err)
	}
}

// A node that the master was made to believe in has to show its token to whoever dials it.
func TestAcceptorHasToProveItself(t *testing.T) {
	i := newIssuer(t)
	m := guardedMesh(t, i)
	good, _ := i.issue("billing", "b1", time.Hour)
	wrong, _ := i.issue("shop", "", time.Hour)
	refused := make(chan string, 8)
	port := m.Serve(func(r *meshtest.Raw) {
		r.Hears(wire.EventDeclare)
		body, err := wire.Encode(wire.Declared{Worker: "shop", Variant: "s1", Meshctl: &wire.Extra{Protocol: 1, Name: "billing/b1", Token: wrong}})
		if err != nil {
			panic(err)
		}
		r.Tells(wire.EventDeclared, string(body))
		if text, ok := r.Hears(wire.EventError); ok {
			select {
			case refused <- text:
			default: // the test has seen enough
			}
		}
	})
	r := m.Dial(m.Addr)
	r.Say(wire.EventDeclare, strings.Replace(declareAs("billing", "b1", good), `"port":1`, fmt.Sprintf(`"port":%d`, port), 1))
	r.Expect(wire.EventDeclared)
	s, _ := i.issue("shop", "", time.Hour)
	n := m.Join("shop", "s1", holds(s, i.Verifier))
	if got := meshtest.Await(t, refused, "the refusal"); !strings.Contains(got, identity.ErrWorker.Error()) {
		t.Errorf("told %s", got)
	}
	meshtest.AwaitPeers(t, n)
}

// Who is put on the deny list loses its links to the master and to the other nodes.
func TestRevocation(t *testing.T) {
	i := newIssuer(t)
	m := guardedMesh(t, i)
	b1, claims := i.issue("billing", "", time.Hour)
	b2, _ := i.issue("billing", "", time.Hour)
	s, _ := i.issue("shop", "", time.Hour)
	m.Join("billing", "b1", billing("b1"), holds(b1, i.Verifier))
	m.Join("billing", "b2", billing("b2"), holds(b2, i.Verifier))
	caller := m.Join("shop", "s1", holds(s, i.Verifier))
	meshtest.AwaitPeers(t, caller, "billing/b1", "billing/b2")
	deny := func(entries ...string) {
		t.Helper()
		l, err := identity.NewDenyList(entries)
		if err != nil {
			t.Fatal(err)
		}
		if err := m.Master.SetDenyList(l); err != nil {
			t.Fatal(err)
		}
	}
	deny(claims.ID)
	meshtest.AwaitPeers(t, caller, "billing/b2")
	if nodes := m.Master.Nodes(); len(nodes) != 2 {
		t.Errorf("the master still has %v", nodes)
	}
	r := m.Dial(m.Addr)
	r.Say(wire.EventDeclare, declareAs("billing", "b9", b1))
	if got := r.Expect(wire.EventError); !strings.Contains(got, identity.ErrRevoked.Error()) {
		t.Errorf("told %s", got)
	}

	// One who dials the node itself is refused as well, and so is another name.
	deny(claims.ID, "billing/b2")
	meshtest.AwaitPeers(t, caller)
	// Late comers learn the list with declared.
	late := m.Join("shop", "s2", holds(s, i.Verifier))
	op := m.Dial(late.Addr().String())
	op.Say(wire.EventDeclare, declareAs("mailer", "m1", ""))
	op.Expect(wire.EventError)
	deny()
	meshtest.AwaitPeers(t, late, "billing/b1", "billing/b2")

	many := make([]string, identity.MaxDenied)
	for k := range many {
		many[k] = fmt.Sprintf("%0200d", k)
	}
	l, err := identity.NewDenyList(many)
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Master.SetDenyList(l); err == nil {
		t.Error("a deny list that no node could be told of is accepted")
	}
}

// A link ends when its peer's token expires; with a renewed one the node comes back
// without a restart.
func TestExpiryEndsLinks(t *testing.T) {
	i := newIssuer(t)
	m := guardedMesh(t, i)
	long, _ := i.issue("billing", "", time.Hour)
	var mu sync.Mutex
	var short identity.Token // it has expired, but for the leeway
	var claims *identity.Claims
	renewed, accepted := false, false
	present := func() (identity.Token, error) {
		mu.Lock()
		defer mu.Unlock()
		if renewed {
			return long, nil
		}
		if claims == nil || !accepted && time.Now().After(claims.Until()) { // this machine was too slow for the first one
			short, claims = i.issue("billing", "", 1500*time.Millisecond-identity.Leeway)
		}
		return short, nil
	}
	set := func(flag *bool) {
		mu.Lock()
		defer mu.Unlock()
		*flag = true
	}
	var connected atomic.Int32
	var log lockedBuffer
	n := m.Start("billing", "b1", billing("b1"), func(c *node.Config) {
		c.Token = present
		c.Issuer = i.Verifier
		c.Hooks.OnConnected = func(wire.Peer) { connected.Add(1) }
		c.Logger = slog.New(slog.NewTextHandler(&log, nil))
	})
	meshtest.Await(t, n.Connected(), "a short token to be accepted")
	set(&accepted)
	s, _ := i.issue("shop", "", time.Hour)
	caller := m.Join("shop", "s1", holds(s, i.Verifier))
	meshtest.WaitFor(t, func() bool { return len(m.Master.Nodes()) == 2 || time.Now().After(claims.Until()) }, func() string { return "both nodes" })
	if time.Now().Before(claims.Until()) {
		meshtest.AwaitPeers(t, caller)
	}
	meshtest.WaitFor(t, func() bool { return len(m.Master.Nodes()) == 1 }, func() string { return "the node to be gone" })
	if now := time.Now(); now.Before(claims.Until()) {
		t.Errorf("it was gone at %s, before %s", now, claims.Until())
	}
	set(&renewed)
	meshtest.AwaitPeers(t, caller, "billing/b1")
	if !strings.Contains(log.String(), "expires soon") || strings.Contains(log.String(), string(short)) {
		t.Errorf("the log of who holds it: %s", log.String())
	}
}

// A schema that begins to require tokens sends those away who have shown none.
func TestTokensBecomeRequired(t *testing.T) {
	i := newIssuer(t)
	m := meshtest.New(t, shop, eachMaster(func(c *master.Config) { c.Issuer = i.Verifier }))
	s, _ := i.issue("shop", "", time.Hour)
	b, _ := i.issue("billing", "", time.Hour)
	m.Join("billing", "b1", billing("b1"), holds(b, i.Verifier))
	m.Join("billing", "b2", billing("b2"))
	caller := m.Join("shop", "s1", holds(s, i.Verifier))
	meshtest.AwaitPeers(t, caller, "billing/b1", "billing/b2")
	if err := m.Master.SetSchema(meshtest.Parse(t, guarded)); err != nil {
		t.Fatal(err)
	}
	meshtest.AwaitPeers(t, caller, "billing/b1")

	blind := meshtest.New(t, shop)
	if err := blind.Master.SetSchema(meshtest.Parse(t, guarded)); err == nil {
		t.Error("a master without an issuer's key takes a schema that requires tokens")
	}
	_, err := master.New(master.Config{Keys: meshtest.Keys, Schema: meshtest.Parse(t, guarded), Ring: m.Ring})
	if err == nil {
		t.Error("a master without an issuer's key begins with a schema that requires tokens")
	}
}

// A master that does away with the requirement does not do so for a node whose own
// schema has it.
func TestOwnSchemaRequiresTokens(t *testing.T) {
	i := newIssuer(t)
	m := meshtest.New(t, shop)
	b, _ := i.issue("billing", "", time.Hour)
	n := m.Join("billing", "b1", billing("b1"), holds(b, i.Verifier), func(c *node.Config) { c.Schema = meshtest.Parse(t, guarded) })
	r := m.Dial(n.Addr().String())
	r.Say(wire.EventDeclare, declareAs("shop", "s1", ""))
	if got := r.Expect(wire.EventError); !strings.Contains(got, identity.ErrMissing.Error()) {
		t.Errorf("told %s", got)
	}
}

// Callers are enforced by the node that answers, whoever asks.
func TestCallers(t *testing.T) {
	m := meshtest.New(t, strings.Replace(shop, "who: {responds: true}", "who: {responds: true, callers: [billing]}", 1))
	var ran atomic.Int32
	n := m.Join("billing", "b1", func(c *node.Config) {
		c.Handlers = map[string]handler.Handler{"who": handler.Func(func(context.Context, *handler.Request) (json.RawMessage, error) {
			ran.Add(1)
			return json.RawMessage(`"b1"`), nil
		})}
	})
	other := m.Join("billing", "b2", billing("b2"))
	s := m.Join("shop", "s1")
	meshtest.AwaitPeers(t, s, "billing/b1", "billing/b2")
	only := node.CallOptions{Only: []string{"b1"}}
	if _, err := s.Call(t.Context(), "billing.who", json.RawMessage(`{}`), only); wire.CodeOf(err) != wire.CodeDenied || !strings.Contains(err.Error(), "not among the callers") {
		t.Errorf("the caller's own check: %v", err)
	}
	meshtest.AwaitPeers(t, other, "billing/b1", "shop/s1")
	if _, err := other.Call(t.Context(), "billing.who", json.RawMessage(`{}`), only); err != nil {
		t.Errorf("a caller that is named: %v", err)
	}
	if _, err := m.Operator().Call(t.Context(), "billing.who", json.RawMessage(`{}`), only); err != nil {
		t.Errorf("the operator: %v", err)
	}

	// One that does not check itself.
	r := m.Dial(n.Addr().String())
	r.Say(wire.EventDeclare, `{"worker":"shop","variant":"raw","meshctl":{"protocol":1}}`)
	r.Expect(wire.EventDeclared)
	r.Say(wire.EventCommand, `{"uid":"1","who":{}}`)
	if got := r.Expect(wire.EventResponse); !strings.Contains(got, `"denied"`) || !strings.Contains(got, "callers") {
		t.Errorf("answered %s", got)
	}
	// A JavaScript caller gets no answer to it, but to the next request.
	js := m.Dial(n.Addr().String())
	js.Say(wire.EventDeclare, `{"worker":"shop","variant":"js"}`)
	js.Say(wire.EventCommand, `{"uid":"2","who":{}}`)
	js.Say(wire.EventCommand, `{"uid":"3","echo":{"a":1}}`)
	if got := js.Expect(wire.EventResponse); !strings.Contains(got, `"uid":"3"`) {
		t.Errorf("answered %s", got)
	}
	if got := ran.Load(); got != 2 {
		t.Errorf("it ran %d times, want 2", got)
	}
}

// A node's own file has a say beside the master's schema.
func TestOwnCallersCount(t *testing.T) {
	m := meshtest.New(t, shop)
	m.Join("billing", "b1", billing("b1"), func(c *node.Config) {
		c.Schema = meshtest.Parse(t, strings.Replace(shop, "who: {responds: true}", "who: {responds: true, callers: []}", 1))
	})
	s := m.Join("shop", "s1")
	meshtest.AwaitPeers(t, s, "billing/b1")
	_, err := s.Call(t.Context(), "billing.who", json.RawMessage(`{}`), node.CallOptions{})
	if wire.CodeOf(err) != wire.CodeDenied {
		t.Errorf("error %v", err)
	}
}

// With --require-native nobody gets in by Socket.IO, and nobody is dialled by it.
func TestRequireNative(t *testing.T) {
	m := meshtest.New(t, shop, eachMaster(func(c *master.Config) { c.Link = link.Native }))
	nativeOnly := func(c *node.Config) { c.Link = link.Native }
	b := m.Join("billing", "b1", billing("b1"), nativeOnly)
	s := m.Join("shop", "s1", nativeOnly)
	meshtest.AwaitPeers(t, s, "billing/b1")
	if got := callWho(t, s); got != `"b1"` {
		t.Errorf("answered %s", got)
	}
	for name, addr := range map[string]string{"master": m.Addr, "node": b.Addr().String()} {
		for _, declare := range []string{`{"worker":"shop","variant":"js","port":1}`, declareAs("shop", "plain", "")} {
			r := m.Dial(addr)
			r.Say(wire.EventDeclare, declare)
			if got := r.Expect(wire.EventError); !strings.Contains(got, "--require-native") || !strings.Contains(got, `"denied"`) {
				t.Errorf("%s: told %s", name, got)
			}
			r.ExpectEnd()
		}
	}

	// A master that serves no native links is not used.
	old := meshtest.New(t, shop, eachMaster(func(c *master.Config) { c.Link = link.SocketIO }))
	_, err := node.Connect(t.Context(), node.Config{Keys: meshtest.Keys, Master: old.Addr, Link: link.Native, Ring: m.Ring})
	var e *wire.Error
	if !errors.As(err, &e) || e.Code != wire.CodeDenied || e.Hint == "" {
		t.Errorf("master by Socket.IO: %v", err)
	}

	// Nor is a node.
	mixed := meshtest.New(t, shop)
	var dialled atomic.Int32
	port := mixed.Serve(func(r *meshtest.Raw) { dialled.Add(1) })
	js := mixed.Dial(mixed.Addr)
	js.Say(wire.EventDeclare, fmt.Sprintf(`{"worker":"billing","port":%d,"variant":"js"}`, port))
	js.Expect(wire.EventDeclared)
	mixed.Join("billing", "b1", billing("b1"), nativeOnly)
	picky := mixed.Join("shop", "s1", nativeOnly)
	meshtest.AwaitPeers(t, picky, "billing/b1")
	op := mixed.Operator(nativeOnly)
	_, err = op.Call(t.Context(), "billing.who", json.RawMessage(`{}`), node.CallOptions{Only: []string{"js"}})
	if !errors.As(err, &e) || e.Code != wire.CodeDenied || e.Hint == "" {
		t.Errorf("operator to a JavaScript node: %v", err)
	}
	if got := dialled.Load(); got != 0 {
		t.Errorf("it was dialled %d times", got)
	}
}

type calling interface {
	Call(context.Context, string, json.RawMessage, node.CallOptions) (*node.Result, error)
}

func callWho(t *testing.T, c calling) string {
	t.Helper()
	r, err := c.Call(t.Context(), "billing.who", json.RawMessage(`{}`), node.CallOptions{Timeout: 20 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	return string(r.Replies[0].Result)
}
