package master_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/meshctl/meshctl/internal/mesh/link/linktest"
	"github.com/meshctl/meshctl/internal/mesh/link/socketio"
	"github.com/meshctl/meshctl/internal/mesh/master"
	"github.com/meshctl/meshctl/internal/mesh/meshtest"
	"github.com/meshctl/meshctl/internal/mesh/seal"
	"github.com/meshctl/meshctl/internal/mesh/wire"
	"github.com/meshctl/meshctl/internal/redisdb"
)

func TestMain(m *testing.M) {
	if addr := os.Getenv("MESHCTL_SCALE_MASTER"); addr != "" {
		n, err := strconv.Atoi(os.Getenv("MESHCTL_SCALE"))
		if err == nil {
			err = scaleNodes(addr, n)
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		_, _ = io.Copy(io.Discard, os.Stdin) // until the test has counted
		os.Exit(0)
	}
	redisdb.Quiet()
	goleak.VerifyTestMain(linktest.Settled(m))
}

const schema = `
nodeA: {_allow: [], _connect: [nodeB], _commands: {}}
nodeB: {_allow: [nodeA, nodeB], _connect: [nodeB], _commands: {_balanced: {status: {responds: true}}}}
lone: {_allow: [], _connect: [], _commands: {}}
`

// declared is what a JavaScript node gets; it may have no member that the recording lacks.
func declare(t *testing.T, r *meshtest.Raw, body string) wire.Declared {
	t.Helper()
	r.Say(wire.EventDeclare, body)
	var d wire.Declared
	if err := json.Unmarshal([]byte(r.Expect(wire.EventDeclared)), &d); err != nil {
		t.Fatal(err)
	}
	return d
}

func TestJavaScriptNodesAreIntroduced(t *testing.T) {
	m := meshtest.New(t, schema)
	b1 := m.Dial(m.Addr)
	if d := declare(t, b1, `{"worker":"nodeB","port":39131,"variant":"b1"}`); d.IP != "127.0.0.1" || d.Port != 39131 || d.ClientID == "" || d.Meshctl != nil {
		t.Errorf("declared: %+v", d)
	}
	b2 := m.Dial(m.Addr)
	declare(t, b2, `{"worker":"nodeB","port":39132,"variant":"b2","hostname":"b2.example.com"}`)
	if got, want := b2.Expect(wire.EventAddNode), `[{"worker":"nodeB","variant":"b1","ip":"127.0.0.1","port":39131}]`; got != want {
		t.Errorf("the new node was told %s, want %s", got, want)
	}
	if got, want := b1.Expect(wire.EventAddNode), `[{"worker":"nodeB","variant":"b2","ip":"b2.example.com","port":39132}]`; got != want {
		t.Errorf("the present node was told %s, want %s", got, want)
	}
	// nodeA connects to nodeB; nobody connects to nodeA.
	a := m.Dial(m.Addr)
	declare(t, a, `{"worker":"nodeA","port":1,"variant":null}`)
	var peers []wire.Peer
	if err := json.Unmarshal([]byte(a.Expect(wire.EventAddNode)), &peers); err != nil || len(peers) != 2 {
		t.Errorf("nodeA was told of %v (%v)", peers, err)
	}
	b2.Close(nil)
	for _, r := range []*meshtest.Raw{a, b1} {
		if got, want := r.Expect(wire.EventRemoveNode), `{"worker":"nodeB","variant":"b2"}`; got != want {
			t.Errorf("removenode %s, want %s", got, want)
		}
	}
}

func TestClientIDServesAsVariant(t *testing.T) {
	m := meshtest.New(t, schema)
	r := m.Dial(m.Addr)
	d := declare(t, r, `{"worker":"nodeB","port":1}`)
	if d.Variant == "" || d.Variant != d.ClientID {
		t.Errorf("variant %q, client id %q", d.Variant, d.ClientID)
	}
}

func TestDeclaringTwiceIsOneNode(t *testing.T) {
	m := meshtest.New(t, schema)
	watcher := m.Dial(m.Addr)
	declare(t, watcher, `{"worker":"nodeA","port":1,"variant":"a"}`)
	r := m.Dial(m.Addr)
	for range 3 {
		declare(t, r, `{"worker":"nodeB","port":7,"variant":"b"}`)
	}
	watcher.Expect(wire.EventAddNode)
	// It becomes another node on the same connection: the first is gone.
	declare(t, r, `{"worker":"nodeB","port":7,"variant":"c"}`)
	if got := watcher.Expect(wire.EventRemoveNode); got != `{"worker":"nodeB","variant":"b"}` {
		t.Errorf("removenode %s", got)
	}
	if got := watcher.Expect(wire.EventAddNode); !strings.Contains(got, `"c"`) {
		t.Errorf("addnode %s", got)
	}
	if n := m.Master.Nodes(); len(n) != 2 {
		t.Errorf("nodes: %+v", n)
	}
}

func TestHostileDeclares(t *testing.T) {
	m := meshtest.New(t, schema)
	good := m.Dial(m.Addr)
	declare(t, good, `{"worker":"nodeB","port":1,"variant":"good"}`)
	for _, body := range []string{
		``, `{`, `[]`, `null`, `"declare"`, `{"worker":`, `{}`, `{"worker":7}`, `{"worker":""}`,
		`{"worker":"ghost","variant":"x","port":1}`,
		`{"worker":"__proto__","variant":"x","port":1}`, `{"worker":"constructor","variant":"x","port":1}`,
		`{"worker":"nodeB","variant":"__proto__","port":1}`, `{"worker":"nodeB","variant":"a b","port":1}`,
		`{"worker":"nodeB","variant":"x","port":-1}`, `{"worker":"nodeB","variant":"x","port":65536}`, `{"worker":"nodeB","variant":"x","port":1e99}`,
		`{"worker":"nodeB","variant":"x","port":1,"hostname":"a/b"}`, `{"worker":"nodeB","variant":{"a":1},"port":1}`,
		`{"worker":"@operator","variant":"x"}`, // without the meshctl member
		`{"worker":"nodeB","worker":"nodeA","variant":"x","port":1}`,
		strings.Repeat("[", 5000) + strings.Repeat("]", 5000),
		`{"worker":"nodeB","variant":"` + strings.Repeat("x", 1<<19) + `","port":1}`,
	} {
		r := m.Dial(m.Addr)
		r.Say(wire.EventDeclare, body)
		r.ExpectEnd()
	}
	if n := m.Master.Nodes(); len(n) != 1 || n[0].Variant != "good" {
		t.Errorf("nodes: %+v", n)
	}
	declare(t, good, `{"worker":"nodeB","port":1,"variant":"good"}`) // it is still served
}

func TestUnknownWorkerIsToldSo(t *testing.T) {
	m := meshtest.New(t, schema)
	r := m.Dial(m.Addr)
	r.Say(wire.EventDeclare, `{"worker":"ghost","port":1,"variant":"g"}`)
	var e wire.ErrorMessage
	if err := json.Unmarshal([]byte(r.Expect(wire.EventError)), &e); err != nil || e.Message != "ghost is not defined in the Schema" {
		t.Errorf("error event %+v, %v", e, err)
	}
}

// A JavaScript node cuts its link when it hears that a node left: it hears of one that
// drains only when that is done.
func TestDrainIsToldWhenItHelps(t *testing.T) {
	m := meshtest.New(t, schema)
	js, peer, leaving := m.Dial(m.Addr), m.Dial(m.Addr), m.Dial(m.Addr)
	declare(t, js, `{"worker":"nodeA","port":1,"variant":"js"}`)
	declare(t, peer, `{"worker":"nodeA","port":1,"variant":"peer","meshctl":{"protocol":1,"instance":"i1"}}`)
	declare(t, leaving, `{"worker":"nodeB","port":1,"variant":"b","meshctl":{"protocol":1,"instance":"i2"}}`)
	js.Expect(wire.EventAddNode)
	leaving.Say(wire.EventDrain, `{"worker":"nodeB","variant":"b"}`)
	if got := peer.Expect(wire.EventRemoveNode); got != `{"worker":"nodeB","variant":"b"}` {
		t.Errorf("removenode %s", got)
	}
	// Had the JavaScript node been told, that would come before the answer to this.
	js.Say(wire.EventDeclare, `{"worker":"nodeA","port":1,"variant":"js"}`)
	for {
		msg, err := js.Receive(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if msg.Event == wire.EventRemoveNode {
			t.Fatal("the JavaScript node was told too early")
		}
		if msg.Event == wire.EventDeclared {
			break
		}
	}
	leaving.Close(nil)
	if got := js.Expect(wire.EventRemoveNode); got != `{"worker":"nodeB","variant":"b"}` {
		t.Errorf("removenode %s", got)
	}
}

// What a stranger or a JavaScript node says beside declare is void.
func TestOnlyMeshctlPeersMayAsk(t *testing.T) {
	m := meshtest.New(t, schema)
	stranger, js, peer := m.Dial(m.Addr), m.Dial(m.Addr), m.Dial(m.Addr)
	ask := func(r *meshtest.Raw) {
		r.Say(wire.EventCommand, `{"uid":"u1","mesh.nodes":{"offset":0}}`)
	}
	declare(t, js, `{"worker":"nodeB","port":1,"variant":"b"}`)
	ask(stranger)
	ask(js)
	declare(t, peer, `{"worker":"nodeA","port":1,"variant":"a","meshctl":{"protocol":1,"instance":"i1"}}`)
	ask(peer)
	var answer struct {
		Page wire.NodesPage `json:"mesh.nodes"`
	}
	if err := json.Unmarshal([]byte(peer.Expect(wire.EventResponse)), &answer); err != nil || answer.Page.Total != 2 {
		t.Errorf("list of nodes: %+v, %v", answer, err)
	}
	// A second answer to the same link would have been queued behind this one.
	js.Say(wire.EventDeclare, `{"worker":"nodeB","port":1,"variant":"b"}`)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	for {
		msg, err := js.Receive(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if msg.Event == wire.EventResponse {
			t.Fatalf("a JavaScript node was answered %s", msg.Body)
		}
		if msg.Event == wire.EventDeclared {
			break
		}
	}
}

func TestWrongKeyIsRefused(t *testing.T) {
	m := meshtest.New(t, schema)
	other, err := seal.NewRing([]seal.Keys{{Public: meshtest.Keys.Public, Private: "another key"}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	right := m.Ring
	for try := 1; ; try++ {
		begun := time.Now()
		m.Ring = other
		r := m.Dial(m.Addr)
		m.Ring = right
		r.Tells(wire.EventDeclare, `{"worker":"nodeB","port":1,"variant":"b"}`)
		err := r.ExpectEnd()
		if wire.CodeOf(err) == wire.CodeKeyMismatch {
			break
		}
		// On a busy machine the time to declare may be over before the keys are derived.
		if try == 5 || time.Since(begun) < socketio.DefaultDeclareTimeout {
			t.Fatalf("the link ended with %v, want key_mismatch", err)
		}
	}
	declare(t, m.Dial(m.Addr), `{"worker":"nodeB","port":1,"variant":"b"}`)
}

func TestSchemaChangeTellsJavaScriptNodes(t *testing.T) {
	m := meshtest.New(t, schema)
	a, b := m.Dial(m.Addr), m.Dial(m.Addr)
	declare(t, b, `{"worker":"nodeB","port":5,"variant":"b"}`)
	declare(t, a, `{"worker":"nodeA","port":1,"variant":"a"}`)
	a.Expect(wire.EventAddNode)
	set := func(text string) {
		t.Helper()
		if err := m.Master.SetSchema(meshtest.Parse(t, text)); err != nil {
			t.Fatal(err)
		}
	}
	set(strings.Replace(schema, "_connect: [nodeB], _commands: {}", "_connect: [], _commands: {}", 1))
	if got := a.Expect(wire.EventRemoveNode); got != `{"worker":"nodeB","variant":"b"}` {
		t.Errorf("removenode %s", got)
	}
	set(schema)
	a.Expect(wire.EventAddNode)
	set("nodeA: {_allow: [], _connect: [], _commands: {}}\n")
	if got := b.Expect(wire.EventError); !strings.Contains(got, "nodeB is not defined in the Schema") {
		t.Errorf("error %s", got)
	}
	b.ExpectEnd()
	if got := a.Expect(wire.EventRemoveNode); got != `{"worker":"nodeB","variant":"b"}` {
		t.Errorf("removenode %s", got)
	}
}

func TestSchemaTooLargeToSend(t *testing.T) {
	m := meshtest.New(t, schema)
	var big strings.Builder
	for w := range 500 {
		fmt.Fprintf(&big, "w%d:\n  _commands:\n    _balanced:\n", w)
		for c := range 60 {
			fmt.Fprintf(&big, "      %s%d:\n", strings.Repeat("c", 20), c)
		}
	}
	s := meshtest.Parse(t, big.String())
	if err := m.Master.SetSchema(s); err == nil || !strings.Contains(err.Error(), "bytes") {
		t.Errorf("a schema of %d bytes was taken: %v", big.Len(), err)
	}
}

func TestDiscovery(t *testing.T) {
	mm, err := master.New(master.Config{Keys: meshtest.Keys, Schema: meshtest.Parse(t, schema), Host: "127.0.0.1", DiscoveryPort: meshtest.ReservePort(t)})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- mm.Run(ctx) }()
	defer func() {
		cancel()
		if err := meshtest.Await(t, done, "the master to stop"); err != nil {
			t.Error(err)
		}
	}()
	select {
	case <-mm.Ready():
	case err := <-done:
		t.Fatal(err)
	}
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	ask := func(method, path, key string) (int, string) {
		req, err := http.NewRequest(method, "http://"+mm.DiscoveryAddr().String()+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		if key != "" {
			req.Header["discovery_key"] = []string{key}
		}
		resp, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		body, _ := io.ReadAll(resp.Body)
		return resp.StatusCode, string(body)
	}
	for _, tc := range []struct{ method, path, key string }{
		{"GET", "/", ""}, {"GET", "/", "wrong"}, {"GET", "/x", meshtest.Keys.Public}, {"POST", "/", meshtest.Keys.Public},
		{"GET", "/", meshtest.Keys.Private}, {"GET", "/", strings.Repeat("x", 10000)},
	} {
		if code, body := ask(tc.method, tc.path, tc.key); code != http.StatusUnauthorized || body != "" {
			t.Errorf("%s %s: %d %q", tc.method, tc.path, code, body)
		}
	}
	code, body := ask("GET", "/", meshtest.Keys.Public)
	envelope, err := seal.NewEnvelope(meshtest.Keys.Private)
	if err != nil {
		t.Fatal(err)
	}
	text, err := envelope.Open(t.Context(), body, nil)
	if want := fmt.Sprintf(`{"port":%d}`, mm.Addr().(*net.TCPAddr).Port); code != 200 || err != nil || string(text) != want {
		t.Errorf("discovery: %d %q (%v), want %s", code, text, err, want)
	}
}
