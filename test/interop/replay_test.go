package interop

import (
	"bufio"
	"context"
	"encoding/json"
	"net"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/meshctl/meshctl/internal/mesh/handler"
	"github.com/meshctl/meshctl/internal/mesh/node"
)

// recordedKeys are those of conversation.jsonl; its public key is not known.
var recordedKeys = keys{public: "randomPublicKey", private: "randomPrivateKey"}

// packet is one line of the recording.
type packet struct {
	Conn      string          `json:"conn"` // SERVER#NUMBER
	Dir       string          `json:"dir"`
	Frame     string          `json:"frame"`
	Event     string          `json:"event"`
	Plaintext json.RawMessage `json:"plaintext"`
}

func (p packet) fromClient() bool { return p.Dir == "client->server" }

// recording gives what one server of the recorded mesh saw.
func recording(t testing.TB, server string) []packet {
	t.Helper()
	f, err := os.Open("../../internal/mesh/wire/testdata/conversation.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var packets []packet
	scanner := bufio.NewScanner(f)
	for scanner.Scan() {
		var p packet
		if err := json.Unmarshal(scanner.Bytes(), &p); err != nil {
			t.Fatal(err)
		}
		if strings.HasPrefix(p.Conn, server+"#") {
			packets = append(packets, p)
		}
	}
	if err := scanner.Err(); err != nil || len(packets) == 0 {
		t.Fatalf("%d packets for %s: %v", len(packets), server, err)
	}
	return packets
}

// recordedSchema is one by which the recorded mesh behaves as it did.
func recordedSchema() options {
	responds, silent := options{"responds": true}, options{"responds": false}
	return options{
		"nodeA": options{
			"_allow": "anyNode", "_connect": []string{"nodeB"},
			"_commands": options{"_balanced": options{"ping": silent}},
		},
		"nodeB": options{
			"_allow": "anyNode", "_connect": []string{"nodeB"},
			"_commands": options{
				"_balanced":  options{"status": responds, "ask": responds, "work": silent},
				"_broadcast": options{"queued": options{"queued": true}},
			},
		},
	}
}

// replay sends what the recorded clients sent and hands each packet that the server
// answered to check, together with the connection.
func replay(t testing.TB, packets []packet, port int, check func(*raw, packet)) map[string]*raw {
	t.Helper()
	conns := make(map[string]*raw)
	for _, p := range packets {
		switch {
		case p.fromClient() && p.Frame == "0":
			conns[p.Conn] = dialRaw(t, p.Conn, recordedKeys.private, port)
		case p.fromClient():
			conns[p.Conn].write("4" + p.Frame)
		case !strings.HasPrefix(p.Frame, "0"):
			check(conns[p.Conn], p)
		}
	}
	return conns
}

// TestReplayToMaster plays the recorded nodes to masters of both kinds.
func TestReplayToMaster(t *testing.T) {
	k, schema := recordedKeys, recordedSchema()
	for name, start := range map[string]func(*testing.T) int{
		"js":      func(t *testing.T) int { return jsMaster(t, 3, k, schema, options{"selfAddress": true}).port },
		"meshctl": func(t *testing.T) int { return startMaster(t, k, schema).port },
	} {
		t.Run(name, func(t *testing.T) {
			replay(t, recording(t, "manager"), start(t), func(r *raw, p packet) {
				switch p.Event {
				case "addnode":
					wantNodes(t, r, p, name == "js")
				case "declared":
					got := fields(t, r.await("declared").Message)
					if id, ok := got["clientId"].(string); !ok || id == "" {
						t.Errorf("%s: client id %v", r.name, got["clientId"])
					}
					want := fields(t, p.Plaintext)
					delete(got, "clientId")
					delete(want, "clientId")
					wantFields(t, got, want)
				default:
					wantFields(t, fields(t, r.await(p.Event).Message), fields(t, p.Plaintext))
				}
			})
		})
	}
}

// wantNodes compares an addnode. Only a master of the 1.1.0 line tells a node of itself.
func wantNodes(t testing.TB, r *raw, p packet, withSelf bool) {
	t.Helper()
	var want []entry
	if err := json.Unmarshal(p.Plaintext, &want); err != nil {
		t.Fatal(err)
	}
	self := map[string]string{"manager#1": "b1", "manager#3": "b2", "manager#7": "a1"}[p.Conn]
	if !withSelf {
		want = slices.DeleteFunc(want, func(e entry) bool { return e.Variant == self })
	}
	if len(want) > 0 {
		var names []string
		for _, e := range want {
			names = append(names, e.Worker+"/"+e.Variant)
		}
		if got := r.await("addnode", lists(names...)).Nodes; !slices.Equal(got, want) {
			t.Errorf("%s: nodes %+v, want %+v", r.name, got, want)
		}
	}
}

// TestReplayToNode plays the recorded callers to nodes of both kinds.
func TestReplayToNode(t *testing.T) {
	k, schema := recordedKeys, recordedSchema()
	t.Run("js", func(t *testing.T) {
		master := jsMaster(t, 3, k, schema, nil)
		b1 := jsNode(t, 3, k, schema, master.port, "nodeB", "b1", options{"handlers": options{
			"status": "echo", "ask": options{"wrap": "asked"}, "work": "echo", "queued": "echo",
		}})
		replayToNode(t, b1.port, func() {
			if _, err := b1.call("nodeA.ping", options{}); err != nil {
				t.Error(err)
			}
		})
		b1.await("command", command("work"))
		b1.await("command", command("queued"))
		if b1.awaitCount(1, "denied") != 1 {
			t.Error("a node took a link to itself")
		}
	})
	t.Run("meshctl", func(t *testing.T) {
		master := startMaster(t, k, schema)
		b1 := startNode(t, k, schema, master.port, "nodeB", "b1", answersAsRecorded)
		replayToNode(t, portOf(b1), func() {
			if _, err := b1.ask("nodeA.ping", options{}, node.CallOptions{}); err != nil {
				t.Error(err)
			}
		})
		wantJSON(t, b1.await("command", command("work")).Message, `{"job":1}`)
		wantJSON(t, b1.await("command", command("queued")).Message, `{"job":2}`)
	})
	t.Run("meshctl with other keys", func(t *testing.T) {
		other := newKeys()
		b1 := launchGo(t, other, schema, 1, "nodeB", "b1")
		<-b1.Listening()
		for _, p := range recording(t, "nodeB/b1") {
			if p.Conn == "nodeB/b1#8" && p.Event == "declare" {
				r := dialRaw(t, p.Conn, recordedKeys.private, portOf(b1))
				r.write("4" + p.Frame)
				r.await("closed")
			}
		}
		if n := b1.count("connection"); n != 0 {
			t.Error("a node took a link from a peer with other keys")
		}
	})
}

func portOf(n *goNode) int { return n.Addr().(*net.TCPAddr).Port }

// answersAsRecorded makes handlers that answer as the recorded node did: a handler of
// the original gets, and so returned, the payload in its wrapping.
func answersAsRecorded(c *node.Config) {
	for name, h := range c.Handlers {
		c.Handlers[name] = handler.Func(func(ctx context.Context, r *handler.Request) (json.RawMessage, error) {
			wrapped := options{r.Command: r.Payload}
			if _, err := h.Handle(ctx, r); err != nil {
				return nil, err
			}
			if name == "ask" {
				return json.Marshal(options{"asked": wrapped})
			}
			return json.Marshal(options{"variant": r.Variant, "got": wrapped})
		})
	}
}

// replayToNode plays to a node nodeB/b1; ping has it call nodeA.ping.
func replayToNode(t *testing.T, port int, ping func()) {
	t.Helper()
	var a1 *raw
	conns := replay(t, recording(t, "nodeB/b1"), port, func(r *raw, p packet) {
		switch p.Event {
		case "": // a disconnection
			if p.Conn == "nodeB/b1#2" {
				r.await("closed") // b1 will not connect to itself
			}
			// The other one is the end of b2, which has not come to this mesh.
		case "command":
			ping()
			wantFields(t, fields(t, r.await("command").Message), fields(t, p.Plaintext))
		default:
			a1 = r
			wantFields(t, fields(t, r.await(p.Event).Message), fields(t, p.Plaintext))
		}
	})
	if len(conns) != 3 || a1 == nil || a1.count("response") != 3 {
		t.Errorf("%d connections, answers to a1: %s", len(conns), a1)
	}
}

func fields(t testing.TB, object json.RawMessage) map[string]any {
	t.Helper()
	var m map[string]any
	if err := json.Unmarshal(object, &m); err != nil {
		t.Fatalf("%s: %v", object, err)
	}
	return m
}

func wantFields(t testing.TB, got, want map[string]any) {
	t.Helper()
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}
