package wire

import (
	"bufio"
	"encoding/json"
	"errors"
	"os"
	"reflect"
	"testing"

	"github.com/meshctl/meshctl/internal/mesh/identity"
)

// recorded gives the plaintexts of a conversation between JavaScript nodes by event.
func recorded(t testing.TB) map[string][]string {
	t.Helper()
	f, err := os.Open("testdata/conversation.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	bodies := make(map[string][]string)
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var packet struct {
			Event     string
			Plaintext json.RawMessage
		}
		if err := json.Unmarshal(lines.Bytes(), &packet); err != nil {
			t.Fatal(err)
		}
		if packet.Event != "" {
			bodies[packet.Event] = append(bodies[packet.Event], string(packet.Plaintext))
		}
	}
	if err := lines.Err(); err != nil {
		t.Fatal(err)
	}
	for _, event := range []string{EventDeclare, EventDeclared, EventAddNode, EventRemoveNode, EventCommand, EventResponse} {
		if len(bodies[event]) == 0 {
			t.Fatalf("no %s recorded", event)
		}
	}
	return bodies
}

// TestRecordedConversation decodes and, where that is defined, reproduces byte by
// byte what JavaScript nodes wrote.
func TestRecordedConversation(t *testing.T) {
	for event, bodies := range recorded(t) {
		for _, body := range bodies {
			var again []byte
			var err error
			switch event {
			case EventDeclare:
				_, err = DecodeDeclare([]byte(body))
			case EventDeclared:
				var d Declared
				if d, err = DecodeDeclared([]byte(body)); err == nil {
					again, err = Encode(d)
				}
			case EventAddNode:
				var peers []Peer
				var skipped int
				if peers, skipped, err = DecodePeers([]byte(body)); skipped != 0 || len(peers) == 0 {
					t.Errorf("%s: %d peers, %d skipped", body, len(peers), skipped)
				}
			case EventRemoveNode:
				var p Peer
				if p, err = DecodePeer([]byte(body)); err == nil {
					again, err = Encode(p)
				}
			case EventCommand:
				var c Command
				if c, err = DecodeCommand([]byte(body), nil); err == nil {
					again, err = EncodeCommand(c)
				}
			case EventResponse:
				var r Response
				if r, err = DecodeResponse([]byte(body)); err == nil {
					again, err = EncodeResponse(r)
				}
			default:
				t.Errorf("unexpected event %s", event)
			}
			if err != nil || again != nil && string(again) != body {
				t.Errorf("%s: %s became %s, %v", event, body, again, err)
			}
		}
	}
}

// checkError fails unless err is what every decoder promises.
func checkError(t *testing.T, err error) {
	t.Helper()
	var e *Error
	if !errors.As(err, &e) || e.Code != CodeBadRequest || e.Message == "" {
		t.Errorf("not a bad_request: %v", err)
	}
	if len(e.Message) > 1024 {
		t.Errorf("error of %d bytes", len(e.Message))
	}
}

func seed(f *testing.F, event string, more ...string) {
	for _, body := range append(recorded(f)[event], more...) {
		f.Add([]byte(body))
	}
}

func FuzzDecodeCommand(f *testing.F) {
	seed(f, EventCommand,
		`{"uid":"u","echo":{"a":[1,"\u00e9\\\""]},"meshctl":{"timeout_ms":3000,"ack":true}}`,
		`{"a":1,"b":2}`, `{"__proto__":1}`, `{"status":1,"status":2}`, "{\"x\":\"\xff\"}", `{"a":`, `[[[[`, ``)
	known := func(name string) bool { return name == "status" || name == "echo" }
	f.Fuzz(func(t *testing.T, body []byte) {
		c, err := DecodeCommand(body, known)
		if err != nil {
			checkError(t, err)
			return
		}
		again, err := EncodeCommand(c)
		if err != nil {
			t.Fatalf("%+v: %v", c, err)
		}
		back, err := DecodeCommand(again, nil)
		if err != nil || !reflect.DeepEqual(back, c) {
			t.Errorf("%+v came back as %+v, %v", c, back, err)
		}
		if !json.Valid(again) {
			t.Errorf("wrote invalid JSON: %s", again)
		}
	})
}

func FuzzEncodeCommand(f *testing.F) {
	f.Add("u-1", "status", []byte(`{"a":1}`), int64(3000), true)
	f.Add("", "echo", []byte(` [ ] `), int64(0), false)
	f.Add("u", `a"b`, []byte(`1,"x":2`), int64(-1), true)
	f.Fuzz(func(t *testing.T, uid, name string, payload []byte, timeout int64, ack bool) {
		c := Command{UID: uid, Name: name, Payload: payload, Meta: &CommandMeta{TimeoutMS: timeout, Ack: ack}}
		body, err := EncodeCommand(c)
		if err != nil {
			checkError(t, err)
			return
		}
		back, err := DecodeCommand(body, nil)
		if err != nil {
			t.Fatalf("%s: %v", body, err)
		}
		if back.UID != uid || back.Name != name || *back.Meta != *c.Meta {
			t.Errorf("%+v came back as %+v", c, back)
		}
		var want, got any
		if len(payload) > 0 && json.Unmarshal(payload, &want) != nil {
			return // a number too large for encoding/json
		}
		if err := json.Unmarshal(back.Payload, &got); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("payload %s came back as %s, %v", payload, back.Payload, err)
		}
	})
}

func FuzzDecodeResponse(f *testing.F) {
	seed(f, EventResponse,
		`{"uid":"u","fail":null,"meshctl":{"error":{"code":"timeout","message":"m","temporary":true}}}`,
		`{"uid":"u","meshctl":{"error":{"code":"\u001b"}}}`, `{"uid":"u"}`, `{"uid":1,"a":2}`)
	f.Fuzz(func(t *testing.T, body []byte) {
		r, err := DecodeResponse(body)
		if err != nil {
			checkError(t, err)
			return
		}
		if (r.Result == nil) != (r.Err != nil) {
			t.Fatalf("neither or both of result and error: %+v", r)
		}
		again, err := EncodeResponse(r)
		if err != nil {
			t.Fatalf("%+v: %v", r, err)
		}
		back, err := DecodeResponse(again)
		if err != nil || !reflect.DeepEqual(back, r) {
			t.Errorf("%+v came back as %+v, %v", r, back, err)
		}
	})
}

func FuzzDecodeDeclare(f *testing.F) {
	seed(f, EventDeclare,
		`{"worker":"@operator","meshctl":{"protocol":1,"version":"1","instance":"i","started":1}}`,
		`{"worker":"a","port":"1","variant":2,"hostname":"h"}`, `{"worker":"__proto__"}`, `{"worker":"a","hostname":"fe80::1%x"}`)
	f.Add([]byte(`{"worker":"a","meshctl":{"protocol":1,"token":"a.b.c","denied":["a/b"]}}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		d, err := DecodeDeclare(body)
		if err != nil {
			checkError(t, err)
			return
		}
		if d.Port < 0 || d.Port > 65535 || ValidWorker(d.Worker) != nil && (d.Worker != OperatorWorker || d.Meshctl == nil) {
			t.Errorf("let %+v pass", d)
		}
		wantSame(t, d, DecodeDeclare)
	})
}

func FuzzDecodeDeclared(f *testing.F) {
	seed(f, EventDeclared, `{"worker":"a","variant":"1","meshctl":{"protocol":1,"schema":{"a":{}},"revision":2}}`)
	f.Fuzz(func(t *testing.T, body []byte) {
		d, err := DecodeDeclared(body)
		if err != nil {
			checkError(t, err)
			return
		}
		wantSame(t, d, DecodeDeclared)
	})
}

func FuzzDecodePeers(f *testing.F) {
	seed(f, EventAddNode, `[]`, `[null,{"worker":"a","variant":"1","ip":"h","port":1,"meshctl":{"protocol":1}}]`, `{}`)
	f.Fuzz(func(t *testing.T, body []byte) {
		peers, skipped, err := DecodePeers(body)
		if err != nil {
			checkError(t, err)
			return
		}
		var entries []json.RawMessage
		if err := json.Unmarshal(body, &entries); err != nil || len(entries) != len(peers)+skipped {
			t.Errorf("%d entries became %d and %d skipped, %v", len(entries), len(peers), skipped, err)
		}
		for _, p := range peers {
			if p.Meshctl != nil && (p.Meshctl.Token != "" || p.Meshctl.Denied != nil) {
				t.Errorf("took what is told of somebody else: %+v", p.Meshctl)
			}
			wantSame(t, p, DecodePeer)
		}
	})
}

func FuzzDecodeSmall(f *testing.F) {
	seed(f, EventRemoveNode, `{"message":"m","code":"denied"}`, `{"uid":"u"}`, `{"revision":1,"schema":{}}`, `{"entries":["a","b/c"]}`)
	f.Fuzz(func(t *testing.T, body []byte) {
		if _, err := DecodePeer(body); err != nil {
			checkError(t, err)
		}
		if m, err := DecodeErrorMessage(body); err != nil {
			checkError(t, err)
		} else if len(m.Message) > MaxErrorLen {
			t.Errorf("message of %d bytes", len(m.Message))
		}
		if c, err := DecodeCancel(body); err != nil {
			checkError(t, err)
		} else if err := ValidUID(c.UID); err != nil {
			t.Error(err)
		}
		if _, err := DecodeSchemaUpdate(body); err != nil {
			checkError(t, err)
		}
		if l, err := DecodeDenyList(body); err != nil {
			checkError(t, err)
		} else if len(l.Entries) > identity.MaxDenied {
			t.Errorf("%d entries", len(l.Entries))
		}
	})
}

// wantSame encodes v and decodes it again.
func wantSame[T any](t *testing.T, v T, decode func([]byte) (T, error)) {
	t.Helper()
	body, err := Encode(v)
	if err != nil {
		t.Fatalf("%+v: %v", v, err)
	}
	back, err := decode(body)
	if err != nil {
		t.Fatalf("%s: %v", body, err)
	}
	// Encoding compacts raw JSON, so that texts are compared.
	if again, err := Encode(back); err != nil || string(again) != string(body) {
		t.Errorf("%s came back as %s, %v", body, again, err)
	}
}

func BenchmarkEncodeCommand(b *testing.B) {
	c := Command{UID: "c81fc4f7-52b3-4623-9174-e40bae45a43b", Name: "status", Payload: payload200(), Meta: &CommandMeta{TimeoutMS: 3000}}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := EncodeCommand(c); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkDecodeCommand(b *testing.B) {
	body, err := EncodeCommand(Command{UID: "c81fc4f7-52b3-4623-9174-e40bae45a43b", Name: "status", Payload: payload200(), Meta: &CommandMeta{TimeoutMS: 3000}})
	if err != nil {
		b.Fatal(err)
	}
	known := func(name string) bool { return name == "status" }
	b.ReportAllocs()
	for b.Loop() {
		if _, err := DecodeCommand(body, known); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkEncodeResponse(b *testing.B) {
	r := Response{UID: "c81fc4f7-52b3-4623-9174-e40bae45a43b", Name: "status", Result: payload200()}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := EncodeResponse(r); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkDecodeResponse(b *testing.B) {
	body, err := EncodeResponse(Response{UID: "c81fc4f7-52b3-4623-9174-e40bae45a43b", Name: "status", Result: payload200()})
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := DecodeResponse(body); err != nil {
			b.Fatal(err)
		}
	}
}

func payload200() json.RawMessage {
	return json.RawMessage(`{"id":12345,"name":"something of a usual length","tags":["alpha","beta","gamma"],"nested":{"a":1.5,"b":null,"c":true},"text":"` +
		`lorem ipsum dolor sit amet, consectetur adipiscing elit"}`)
}
