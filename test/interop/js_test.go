package interop

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// patience bounds every wait. JavaScript peers pay a PBKDF2 for each message, and
// the machine may be busy.
const patience = 30 * time.Second

// lines are the major versions of socket.io that peers are run with.
var lines = []int{3, 4}

// requireJS skips the test where JavaScript peers cannot run, or fails it where they must.
func requireJS(t testing.TB) {
	t.Helper()
	missing := ""
	if _, err := exec.LookPath("node"); err != nil {
		missing = "node is not installed"
	} else if _, err := os.Stat("node_modules/cryptr"); err != nil {
		missing = "test/interop/node_modules is missing: run npm ci in test/interop"
	}
	switch {
	case missing == "":
	case os.Getenv("CI") != "" || os.Getenv("MESHCTL_REQUIRE_INTEROP") == "1":
		t.Fatal(missing)
	default:
		t.Skip(missing)
	}
}

// options are those of startMaster and startNode in the .mjs files.
type options map[string]any

// event is a line that a JavaScript peer wrote; which members it has depends on Event.
type event struct {
	Event         string          `json:"event"`
	ID            int             `json:"id"`
	Result        json.RawMessage `json:"result"`
	Error         string          `json:"error"`
	Port          int             `json:"port"`
	DiscoveryPort int             `json:"discoveryPort"`
	Worker        string          `json:"worker"`
	Variant       string          `json:"variant"`
	ClientID      string          `json:"clientId"`
	IP            string          `json:"ip"`
	Hostname      string          `json:"hostname"`
	Reason        string          `json:"reason"`
	Name          string          `json:"name"`
	UID           string          `json:"uid"`
	From          string          `json:"from"`
	Message       json.RawMessage `json:"message"`
	Dialed        bool            `json:"dialed"`
	Again         bool            `json:"again"`
	Extra         bool            `json:"extra"`
	Valid         bool            `json:"valid"`
	Nodes         []entry         `json:"nodes"`

	line string // as it was written
}

// entry is a node in addnode, and with the links to it in the answer to "peers".
type entry struct {
	Worker   string `json:"worker"`
	Variant  string `json:"variant"`
	IP       string `json:"ip"`
	Port     int    `json:"port"`
	Dialed   bool   `json:"dialed"`
	Accepted int    `json:"accepted"`
}

// match chooses events.
type match func(event) bool

// of matches events about one node.
func of(worker, variant string) match {
	return func(e event) bool { return e.Worker == worker && e.Variant == variant }
}

// link matches events about a link to one node that this or the other side opened.
func link(worker, variant string, dialed bool) match {
	return func(e event) bool { return of(worker, variant)(e) && e.Dialed == dialed }
}

// command matches an arriving command.
func command(name string) match {
	return func(e event) bool { return e.Name == name }
}

// lists matches an addnode with exactly these nodes, each as "worker/variant".
func lists(nodes ...string) match {
	return func(e event) bool {
		if len(e.Nodes) != len(nodes) {
			return false
		}
		for i, n := range e.Nodes {
			if n.Worker+"/"+n.Variant != nodes[i] {
				return false
			}
		}
		return true
	}
}

// peer is a JavaScript process under a test's control.
type peer struct {
	t       testing.TB
	name    string
	cmd     *exec.Cmd
	stdin   io.WriteCloser
	stderr  bytes.Buffer  // complete once exited is closed
	exited  chan struct{} // closed when the process has ended and its output is read
	port    int           // where it listens
	options options

	mu      sync.Mutex
	events  []event
	taken   []bool        // events that await has returned
	changed chan struct{} // closed and replaced when events grows
	lastID  int
}

// startPeer runs peer.mjs until the test ends and waits for it to listen.
func startPeer(t testing.TB, keys keys, o options) *peer {
	t.Helper()
	p := launchPeer(t, keys, o)
	p.port = p.await("listening").Port
	return p
}

// launchPeer runs peer.mjs until the test ends.
func launchPeer(t testing.TB, keys keys, o options) *peer {
	t.Helper()
	requireJS(t)
	argument, err := json.Marshal(o)
	if err != nil {
		t.Fatal(err)
	}
	p := &peer{
		t: t, name: fmt.Sprint("js", o["sio"], " ", o["role"], " ", o["worker"], "/", o["variant"]), options: o,
		exited: make(chan struct{}), changed: make(chan struct{}),
	}
	p.cmd = exec.Command("node", "peer.mjs", string(argument))
	p.cmd.Env = append(os.Environ(), "MESH_PUBLIC_KEY="+keys.public, "MESH_PRIVATE_KEY="+keys.private)
	p.cmd.Stderr = &p.stderr
	if p.stdin, err = p.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	stdout, err := p.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatalf("start node: %v", err)
	}
	go p.read(stdout)
	t.Cleanup(func() {
		p.kill()
		if t.Failed() {
			p.dump()
		}
	})
	return p
}

func (p *peer) read(stdout io.Reader) {
	scanner := bufio.NewScanner(stdout)
	scanner.Buffer(nil, 8<<20)
	for scanner.Scan() {
		var e event
		if err := json.Unmarshal(scanner.Bytes(), &e); err != nil {
			e = event{Event: "unparsed"}
		}
		e.line = scanner.Text()
		p.mu.Lock()
		p.events, p.taken = append(p.events, e), append(p.taken, false)
		close(p.changed)
		p.changed = make(chan struct{})
		p.mu.Unlock()
	}
	_ = p.cmd.Wait() // the tests look at events, not at the exit status
	close(p.exited)
}

// await returns the first event of a kind that matches and that no await has
// returned before. It fails the test when there is none in time.
func (p *peer) await(kind string, matches ...match) event {
	p.t.Helper()
	timer := time.NewTimer(patience)
	defer timer.Stop()
	for {
		e, ok, changed := p.take(kind, matches)
		if ok {
			return e
		}
		select {
		case <-changed:
		case <-p.exited:
			if e, ok, _ := p.take(kind, matches); ok {
				return e
			}
			p.t.Fatalf("%s ended before %q", p.name, kind)
		case <-timer.C:
			p.t.Fatalf("%s: no %q within %v", p.name, kind, patience)
		}
	}
}

func (p *peer) take(kind string, matches []match) (event, bool, <-chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i, e := range p.events {
		if !p.taken[i] && e.is(kind, matches) {
			p.taken[i] = true
			return e, true, nil
		}
	}
	return event{}, false, p.changed
}

func (e event) is(kind string, matches []match) bool {
	if e.Event != kind {
		return false
	}
	for _, m := range matches {
		if !m(e) {
			return false
		}
	}
	return true
}

// count tells how many such events there have been, taken or not.
func (p *peer) count(kind string, matches ...match) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := 0
	for _, e := range p.events {
		if e.is(kind, matches) {
			n++
		}
	}
	return n
}

// send starts an operation and returns its id.
func (p *peer) send(op string, args options) int {
	p.t.Helper()
	p.mu.Lock()
	p.lastID++
	id := p.lastID
	p.mu.Unlock()
	message := maps.Clone(args)
	if message == nil {
		message = options{}
	}
	message["id"], message["op"] = id, op
	line, err := json.Marshal(message)
	if err != nil {
		p.t.Fatal(err)
	}
	if _, err := p.stdin.Write(append(line, '\n')); err != nil {
		p.t.Fatalf("%s: send %s: %v", p.name, op, err)
	}
	return id
}

// result waits for the end of an operation that send has started.
func (p *peer) result(id int) (json.RawMessage, error) {
	p.t.Helper()
	e := p.await("result", func(e event) bool { return e.ID == id })
	if e.Error != "" {
		return nil, fmt.Errorf("%s", e.Error)
	}
	return e.Result, nil
}

// do carries out an operation and decodes its result into a T.
func do[T any](p *peer, op string, args options) T {
	p.t.Helper()
	raw, err := p.result(p.send(op, args))
	if err != nil {
		p.t.Fatalf("%s: %s %v: %v", p.name, op, args, err)
	}
	var value T
	if err := json.Unmarshal(raw, &value); err != nil {
		p.t.Fatalf("%s: %s answered %s: %v", p.name, op, raw, err)
	}
	return value
}

// call has the node call a command.
func (p *peer) call(target string, payload any, narrow ...options) (json.RawMessage, error) {
	p.t.Helper()
	args := options{"target": target, "payload": payload}
	for _, n := range narrow {
		maps.Copy(args, n)
	}
	return p.result(p.send("call", args))
}

// kill ends the process with SIGKILL and waits until its output is read.
func (p *peer) kill() {
	_ = p.cmd.Process.Kill() // it may have ended by itself
	<-p.exited
}

// again starts the peer anew with the same options and what is changed in them.
func (p *peer) again(keys keys, changes options) *peer {
	p.t.Helper()
	o := maps.Clone(p.options)
	maps.Copy(o, changes)
	return startPeer(p.t, keys, o)
}

func (p *peer) dump() {
	p.mu.Lock()
	defer p.mu.Unlock()
	var b strings.Builder
	for _, e := range p.events {
		b.WriteString(e.line + "\n")
	}
	p.t.Logf("%s:\n%s%s", p.name, b.String(), p.stderr.String())
}

// answer is what an echo handler of pair gives on a JavaScript node.
type answer struct {
	Variant string          `json:"variant"`
	Got     json.RawMessage `json:"got"`
}

// variants lists who answered a call of the command name, balanced or broadcast.
func variants(t testing.TB, name string, result json.RawMessage) []string {
	t.Helper()
	if !bytes.HasPrefix(result, []byte("[")) {
		result = fmt.Appendf(nil, "[%s]", result)
	}
	var results []map[string]answer
	if err := json.Unmarshal(result, &results); err != nil {
		t.Fatalf("answer %s: %v", result, err)
	}
	var from []string
	for _, r := range results {
		from = append(from, r[name].Variant)
	}
	slices.Sort(from)
	return from
}
