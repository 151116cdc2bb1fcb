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
	"sync/atomic"
	"testing"
)

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

// peer is a JavaScript process under a test's control.
type peer struct {
	*eventLog
	cmd     *exec.Cmd
	stdin   io.WriteCloser
	stderr  bytes.Buffer // complete once the log has ended
	port    int          // where it listens
	said    event        // a node's first "declared", if it was waited for
	options options
	lastID  atomic.Int64
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
		eventLog: newEventLog(t, fmt.Sprint("js", o["sio"], " ", o["role"], " ", o["worker"], "/", o["variant"])),
		options:  o,
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
			t.Logf("%s:\n%s%s", p.name, p.eventLog, p.stderr.String())
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
		p.add(e)
	}
	_ = p.cmd.Wait() // the tests look at events, not at the exit status
	p.end()
}

// send starts an operation and returns its id.
func (p *peer) send(op string, args options) int {
	p.t.Helper()
	id := int(p.lastID.Add(1))
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
	<-p.ended
}

// again starts the peer anew with the same options and what is changed in them.
func (p *peer) again(keys keys, changes options) *peer {
	p.t.Helper()
	o := maps.Clone(p.options)
	maps.Copy(o, changes)
	return startPeer(p.t, keys, o)
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
