package inspect

import (
	"encoding/json"
	"errors"
	"reflect"
	"strings"
	"testing"
	"unicode"

	"github.com/meshctl/meshctl/internal/mesh/wire"
)

const wholeReport = `{"node":"a/1","instance":"i","seq":3,"full":true,"every":100,
"commands":[{"command":"b.echo","dir":"out","blind":true,"started":4,"ok":2,"errors":{"timeout":1},"retries":1,"bytes_out":5,"bytes_in":6,"latency":[0,1,961,1],"late":true}],
"links":[{"id":"l","peer":"b/1","kind":"meshctl","transport":"native","dialed":true,"since":1,"draining":true,"in_flight":1,"sent":2,"received":3}],"unlinked":["m"],
"in_flight":{"total":201,"requests":[{"uid":"u","group":"g","dir":"out","caller":"a/1","target":"b/1","command":"b.echo","kind":"balanced","phase":"sent","age":1.5,"timeout":3000,"bytes":2,"payload":{"a":[1]}}]},
"finished":[{"uid":"","dir":"in","caller":"@operator/op-1","target":"a","command":"a.echo","kind":"queued","phase":"done","age":1,"bytes":2,"result":3,"code":"timeout","error":"e","attempt":2,"ended_ago":4,"payload":"cut","cut":true}],"finished_of":7,
"queues":[{"command":"a.q","depth":1,"oldest":2,"retries":3,"dead":4}],"logs":[{"ago":1,"level":"warn","message":"m"}],"logs_of":9}`

func TestDecodeReport(t *testing.T) {
	r, err := DecodeReport([]byte(wholeReport))
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(r)
	var got, want any
	if err != nil || json.Unmarshal(text, &got) != nil || json.Unmarshal([]byte(wholeReport), &want) != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("came back as %s, %v", text, err)
	}

	// Each of these changes one thing that is then wrong.
	for _, change := range []string{
		`"a/1"→"a"`, `"a/1"→"__proto__/1"`, `"instance":"i"→"instance":""`, `"seq":3→"seq":-3`, `"every":100→"every":-1`,
		`"b.echo","dir"→"b","dir"`, `"b.echo","dir"→"b.ec\u001bho","dir"`, `"dir":"out","blind"→"dir":"up","blind"`, `"started":4→"started":9007199254740992`,
		`"timeout":1→"TIMEOUT":1`, `[0,1,961,1]→[0,1,962,1]`, `[0,1,961,1]→[1,1,0,1]`, `[0,1,961,1]→[0,1,961]`, `[0,1,961,1]→[0,1,961,-1]`, `[0,1,961,1]→[0,18446744073709551615]`,
		`"id":"l"→"id":""`, `"peer":"b/1"→"peer":"b/ 1"`, `"kind":"meshctl"→"kind":"x"`, `"transport":"native"→"transport":""`, `"since":1→"since":-1`, `["m"]→["m\n"]`,
		`"total":201→"total":-1`, `"uid":"u"→"uid":"u u"`, `"group":"g"→"group":"<g>"`, `"caller":"a/1"→"caller":"a"`, `"target":"b/1"→"target":"/"`,
		`"kind":"balanced"→"kind":""`, `"phase":"sent"→"phase":"x"`, `"age":1.5→"age":-1.5`, `"age":1.5→"age":1e300`, `"timeout":3000→"timeout":-3000`, `"bytes":2,"payload"→"bytes":-2,"payload"`,
		`"code":"timeout"→"code":"Time out"`, `"attempt":2→"attempt":-2`, `"command":"a.q"→"command":"q"`, `"depth":1→"depth":-1`, `"level":"warn"→"level":"debug"`, `"logs_of":9→"logs_of":1e99`,
		`{"node"→["node"`, `"seq":3→"seq":"3"`,
	} {
		from, to, _ := strings.Cut(change, "→")
		if strings.Count(wholeReport, from) == 0 {
			t.Fatalf("%s changes nothing", change)
		}
		_, err := DecodeReport([]byte(strings.Replace(wholeReport, from, to, 1)))
		if e := (*wire.Error)(nil); !errors.As(err, &e) || e.Code != wire.CodeBadRequest {
			t.Errorf("%s: %v", change, err)
		}
	}

	request := `{"uid":"u","dir":"in","caller":"a/1","target":"a/2","command":"a.b","kind":"queued","phase":"done","age":1,"bytes":2}`
	for name, body := range map[string]string{
		"long":     wholeReport + strings.Repeat(" ", MaxReport),
		"rows":     `{"instance":"i","in_flight":{"total":1,"requests":[` + strings.Repeat(request+",", maxRows) + request + `]}}`,
		"finished": `{"instance":"i","finished":[` + strings.Repeat(request+",", maxFinished) + request + `]}`,
		"logs":     `{"instance":"i","logs":[` + strings.Repeat(`{"level":"warn"},`, maxLogs) + `{"level":"warn"}]}`,
	} {
		if _, err := DecodeReport([]byte(body)); err == nil {
			t.Errorf("%s: too much was accepted", name)
		}
	}

	dirty := strings.NewReplacer(`"message":"m"`, `"message":"\u001b[2J\u202e\nm`+strings.Repeat("x", 999)+`"`, `"error":"e"`, `"error":"\u009b`+strings.Repeat("é", 999)+`"`, `"payload":"cut"`, "\"payload\":[\n\"\u009b\\u001b\"]").Replace(wholeReport)
	if r, err = DecodeReport([]byte(dirty)); err != nil {
		t.Fatal(err)
	}
	if m := r.Logs[0].Message; !strings.HasPrefix(m, `\u001b[2J\u202e\nmx`) || len(m) != maxLogLine {
		t.Errorf("a line of a log: %q", m)
	}
	if f := r.Finished[0]; !strings.HasPrefix(f.Error, `\u009bé`) || len(f.Error) > maxErrorText || string(f.Payload) != `[ "\u009b\u001b"]` {
		t.Errorf("a failure: %q %q", f.Error, f.Payload)
	}
}

const wholeMesh = `{"nodes":[{"worker":"a","variant":"1","ip":"::1","port":1,"kind":"javascript","link":"socketio","native":true,"version":"v","since":1,"up_ms":2,"draining":true}],"schema":{"a":{}},"version":"1"}`

func TestDecodeMesh(t *testing.T) {
	m, err := DecodeMesh([]byte(wholeMesh))
	if err != nil || len(m.Nodes) != 1 || m.Nodes[0].Variant != "1" || string(m.Schema) != `{"a":{}}` {
		t.Fatalf("%+v, %v", m, err)
	}
	for _, change := range []string{`"a","variant"→"a.b","variant"`, `"1","ip"→"1/2","ip"`, `"port":1→"port":65536`, `"kind":"javascript"→"kind":""`, `"link":"socketio"→"link":"x"`, `"since":1→"since":-1`, `{"a":{}}→[]`, `"up_ms":2→"up_ms":-2`} {
		from, to, _ := strings.Cut(change, "→")
		if _, err := DecodeMesh([]byte(strings.Replace(wholeMesh, from, to, 1))); wire.CodeOf(err) != wire.CodeBadRequest {
			t.Errorf("%s: %v", change, err)
		}
	}
	if m, err = DecodeMesh([]byte(`{"nodes":[],"version":"\u001b"}`)); err != nil || m.Version != `\u001b` {
		t.Errorf("%+v, %v", m, err)
	}
}

func FuzzDecodeReport(f *testing.F) {
	for _, seed := range []string{wholeReport, wholeMesh, `{"instance":"i"}`, `{"instance":"i","commands":[{"command":"a.b","dir":"in","latency":[]}]}`, `{}`, `[`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		if m, err := DecodeMesh(body); err == nil {
			again(t, m, DecodeMesh)
		} else if wire.CodeOf(err) != wire.CodeBadRequest {
			t.Error(err)
		}
		r, err := DecodeReport(body)
		if err != nil {
			if wire.CodeOf(err) != wire.CodeBadRequest {
				t.Error(err)
			}
			return
		}
		for _, l := range r.Logs {
			printable(t, l.Message)
		}
		for _, c := range r.Commands {
			for _, b := range c.Latency {
				BucketBounds(b.Index)
			}
		}
		for _, q := range r.Finished {
			printable(t, q.Error)
			printable(t, string(q.Payload))
		}
		if text, err := json.Marshal(r); err != nil || len(text) < MaxReport/2 {
			again(t, r, DecodeReport)
		}
	})
}

// again checks that what was read can be written and read again.
func again[T any](t *testing.T, v *T, decode func([]byte) (*T, error)) {
	t.Helper()
	text, err := wire.Encode(v)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := decode(text); err != nil {
		t.Errorf("%s: %v", text, err)
	}
}

func printable(t *testing.T, s string) {
	t.Helper()
	for _, r := range s {
		if !unicode.IsPrint(r) && r != unicode.ReplacementChar {
			t.Errorf("%q cannot be shown", s)
		}
	}
}
