package interop

import (
	"crypto/rand"
	"encoding/json"
	"maps"
	"net"
	"os"
	"reflect"
	"testing"

	"github.com/meshctl/meshctl/internal/mesh/link/linktest"
	"go.uber.org/goleak"
)

// meshctlBinary is what all tests that need the command itself run.
var meshctlBinary builder

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(linktest.Settled(m), goleak.Cleanup(func(code int) {
		_ = os.RemoveAll(meshctlBinary.dir) // in the folder for temporary files; "" does nothing
		os.Exit(code)
	}))
}

type keys struct{ public, private string }

func newKeys() keys { return keys{public: rand.Text(), private: rand.Text()} }

// dials says which of the workers left and right connects to the other.
type dials struct{ left, right bool }

// pair is a schema of two workers with the same commands.
//
//	balanced:  echo, slow, boom (they respond), work (does not)
//	broadcast: info (responds), shout (does not)
func pair(d dials) options {
	worker := func(allow, connect []string) options {
		return options{
			"_allow": allow, "_connect": connect,
			"_commands": options{
				"_balanced": options{
					"echo": options{"responds": true, "method": options{"builtin": "echo"}},
					"slow": options{"responds": true, "method": options{"builtin": "sleep"}},
					"boom": options{"responds": true, "method": options{"builtin": "fail"}},
					"work": options{"responds": false, "method": options{"builtin": "echo"}},
				},
				"_broadcast": options{
					"info":  options{"responds": true, "method": options{"builtin": "echo"}},
					"shout": options{"method": options{"builtin": "echo"}},
				},
			},
		}
	}
	names := func(yes bool, name string) []string {
		if yes {
			return []string{name}
		}
		return []string{}
	}
	return options{
		"left":  worker(names(d.right, "right"), names(d.left, "right")),
		"right": worker(names(d.left, "left"), names(d.right, "left")),
	}
}

// jsMaster starts a JavaScript master.
func jsMaster(t testing.TB, sio int, k keys, schema options, more options) *peer {
	t.Helper()
	o := options{"role": "master", "sio": sio, "schema": schema}
	maps.Copy(o, more)
	return startPeer(t, k, o)
}

// jsNode starts a JavaScript node that answers the commands of pair and waits for
// the master to accept it.
func jsNode(t testing.TB, sio int, k keys, schema options, master int, worker string, variant any, more options) *peer {
	t.Helper()
	p := launchNode(t, sio, k, schema, master, worker, variant, more)
	p.said = p.await("declared")
	return p
}

// missing is the variant of a JavaScript node that does not say one, not even null.
const missing = "(missing)"

// launchNode starts a JavaScript node and waits only for it to listen.
func launchNode(t testing.TB, sio int, k keys, schema options, master int, worker string, variant any, more options) *peer {
	t.Helper()
	o := options{
		"role": "node", "sio": sio, "schema": schema, "worker": worker, "variant": variant,
		"handlers": options{
			"echo": "echo", "slow": options{"slow": 60_000}, "boom": "throw", "work": "echo",
			"info": "echo", "shout": "echo",
		},
		// The original gives up after 3 s, in which a busy machine may not answer.
		"requestTimeout": 20_000,
	}
	if master != 0 {
		o["masterPort"] = master
	}
	if variant == missing {
		delete(o, "variant")
	}
	maps.Copy(o, more)
	return startPeer(t, k, o)
}

// freePort returns a port that was free a moment ago.
func freePort(t testing.TB) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

// wantJSON fails the test unless got and want are the same JSON value.
func wantJSON(t testing.TB, got []byte, want string) {
	t.Helper()
	var g, w any
	if err := json.Unmarshal(got, &g); err != nil {
		t.Fatalf("got %q: %v", got, err)
	}
	if err := json.Unmarshal([]byte(want), &w); err != nil {
		t.Fatalf("want %q: %v", want, err)
	}
	if !reflect.DeepEqual(g, w) {
		t.Fatalf("got %s, want %s", got, want)
	}
}

// wantRotation fails the test unless successive answers came from the two variants by turns.
func wantRotation(t testing.TB, from []string, a, b string) {
	t.Helper()
	for i, v := range from {
		if (v != a && v != b) || (i > 0 && v == from[i-1]) {
			t.Fatalf("calls went to %v, want %s and %s by turns", from, a, b)
		}
	}
	if len(from) < 2 {
		t.Fatalf("calls went to %v", from)
	}
}
