package wire

import (
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/meshctl/meshctl/internal/mesh/identity"
)

func TestDecodeDeclare(t *testing.T) {
	for body, want := range map[string]Declare{
		`{"worker":"nodeB","port":39131,"variant":"b1"}`:               {Worker: "nodeB", Port: 39131, Variant: "b1"},
		`{"worker":"nodeA","variant":"a1"}`:                            {Worker: "nodeA", Variant: "a1"},
		`{"worker":"a","variant":null,"port":null,"hostname":null}`:    {Worker: "a"},
		`{"worker":"a","variant":"","port":"","hostname":""}`:          {Worker: "a"},
		`{"worker":"a","variant":7,"port":"3000"}`:                     {Worker: "a", Variant: "7", Port: 3000},
		`{"worker":"a","port":65535,"hostname":"node-1.my_net.local"}`: {Worker: "a", Port: 65535, Hostname: "node-1.my_net.local"},
		`{"worker":"a","hostname":"10.0.0.1"}`:                         {Worker: "a", Hostname: "10.0.0.1"},
		`{"worker":"a","hostname":"fe80::1%eth0"}`:                     {Worker: "a", Hostname: "fe80::1%eth0"},
		`{"worker":"a","extra":{"x":[1]},"Worker":"b"}`:                {Worker: "a"},
		`{"worker":"a","meshctl":"theirs"}`:                            {Worker: "a"},
		`{"worker":"a","meshctl":{"theirs":1}}`:                        {Worker: "a"},
		`{"worker":"a","meshctl":{"protocol":"1"}}`:                    {Worker: "a"},
		`{"worker":"a","meshctl":{"protocol":1,"version":"v1.0.0","instance":"i-1","newer":{}}}`: {
			Worker: "a", Meshctl: &Extra{Protocol: 1, Version: "v1.0.0", Instance: "i-1"}},
		`{"worker":"a","meshctl":{"protocol":2,"version":"\u001b[2J"}}`: {Worker: "a", Meshctl: &Extra{Protocol: 2}},
		`{"worker":"@operator","meshctl":{"protocol":1}}`:               {Worker: OperatorWorker, Meshctl: &Extra{Protocol: 1}},
	} {
		got, err := DecodeDeclare([]byte(body))
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: got %+v, %v, want %+v", body, got, err, want)
		}
	}
	for body, part := range map[string]string{
		``:                                     "not valid JSON",
		`[]`:                                   "not a JSON object",
		`{}`:                                   "worker is not a string",
		`{"worker":null}`:                      "worker is not a string",
		`{"worker":1}`:                         "worker is not a string",
		`{"worker":["a"]}`:                     "worker is not a string",
		`{"worker":""}`:                        "worker",
		`{"worker":"a/b"}`:                     "worker",
		`{"worker":"__proto__"}`:               "worker",
		`{"worker":"constructor"}`:             "worker",
		`{"worker":"@operator"}`:               "worker",
		`{"worker":"a","worker":"b"}`:          "appears twice",
		`{"worker":"a","variant":"a b"}`:       "variant",
		`{"worker":"a","variant":"__proto__"}`: "variant",
		`{"worker":"a","variant":true}`:        "variant",
		`{"worker":"a","variant":{}}`:          "variant",
		`{"worker":"a","port":65536}`:          "port",
		`{"worker":"a","port":-1}`:             "port",
		`{"worker":"a","port":1.5}`:            "port",
		`{"worker":"a","port":"http"}`:         "port",
		`{"worker":"a","port":[80]}`:           "port",
		`{"worker":"a","hostname":80}`:         "hostname",
		`{"worker":"a","hostname":"a b"}`:      "hostname",
		`{"worker":"a","hostname":"http://x"}`: "hostname",
		`{"worker":"a","hostname":"x:80"}`:     "hostname",
		`{"worker":"a","meshctl":{"protocol":1,"instance":"a b"}}`: "instance",
		`{"worker":"a","x":` + string(nested(MaxDepth)) + `}`:      "nested",
	} {
		_, err := DecodeDeclare([]byte(body))
		wantBadRequest(t, err, part)
	}
}

func TestDecodeDeclared(t *testing.T) {
	for body, want := range map[string]Declared{
		`{"worker":"nodeB","variant":"b1","clientId":"DkKknDVHYQnm93AwAAAA","port":39131,"ip":"127.0.0.1"}`: {
			Worker: "nodeB", Variant: "b1", ClientID: "DkKknDVHYQnm93AwAAAA", Port: 39131, IP: "127.0.0.1"},
		`{"worker":"a","variant":"1","clientId":null,"port":null}`: {Worker: "a", Variant: "1"},
		`{"worker":"@operator","variant":"1","meshctl":{"protocol":1,"revision":3,"schema":{"a":{}}}}`: {
			Worker: OperatorWorker, Variant: "1", Meshctl: &Extra{Protocol: 1, Revision: 3, Schema: []byte(`{"a":{}}`)}},
	} {
		got, err := DecodeDeclared([]byte(body))
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: got %+v, %v, want %+v", body, got, err, want)
		}
	}
	for body, part := range map[string]string{
		`{"worker":"a"}`: "variant",
		`{"worker":"a","variant":"1","clientId":"a b"}`: "clientId",
		`{"worker":"a","variant":"1","ip":"::g"}`:       "ip",
		`{"worker":"@operator","variant":"1"}`:          "worker",
	} {
		_, err := DecodeDeclared([]byte(body))
		wantBadRequest(t, err, part)
	}
}

func TestDecodePeers(t *testing.T) {
	peers, skipped, err := DecodePeers([]byte(` [ {"worker":"a","variant":"1","ip":"10.0.0.1","port":1} ,
		{"worker":"a","variant":"2","ip":"host","port":"2","meshctl":{"protocol":1}},
		{"worker":"a","variant":"3","ip":"10.0.0.1","port":0},
		{"worker":"a","variant":"4","port":1},
		{"worker":"a","ip":"10.0.0.1","port":1},
		{"worker":"@operator","variant":"5","ip":"10.0.0.1","port":1,"meshctl":{"protocol":1}},
		{"worker":"__proto__","variant":"6","ip":"10.0.0.1","port":1},
		null, 7, "a", [{"worker":"a"}] ] `))
	want := []Peer{
		{Worker: "a", Variant: "1", IP: "10.0.0.1", Port: 1},
		{Worker: "a", Variant: "2", IP: "host", Port: 2, Meshctl: &Extra{Protocol: 1}},
	}
	if err != nil || skipped != 9 || !reflect.DeepEqual(peers, want) {
		t.Errorf("got %+v, %d skipped, %v", peers, skipped, err)
	}
	if peers, skipped, err := DecodePeers([]byte(`[]`)); len(peers) != 0 || skipped != 0 || err != nil {
		t.Errorf("empty: %v, %d, %v", peers, skipped, err)
	}
	for body, part := range map[string]string{
		``:     "not valid JSON",
		`null`: "not a JSON array",
		`{}`:   "not a JSON array",
		`[1`:   "not valid JSON",
		"[" + strings.Repeat("0,", MaxNodesPerMessage) + "0]": "more than",
	} {
		_, _, err := DecodePeers([]byte(body))
		wantBadRequest(t, err, part)
	}
}

func TestDecodePeer(t *testing.T) {
	p, err := DecodePeer([]byte(`{"worker":"nodeB","variant":"b2"}`))
	if err != nil || p != (Peer{Worker: "nodeB", Variant: "b2"}) {
		t.Errorf("%+v, %v", p, err)
	}
	for body, part := range map[string]string{
		`{"worker":"a"}`:                "variant",
		`{"worker":"a","variant":""}`:   "variant",
		`{"worker":"a,","variant":"1"}`: "worker",
	} {
		_, err := DecodePeer([]byte(body))
		wantBadRequest(t, err, part)
	}
}

func TestDecodeErrorMessage(t *testing.T) {
	for body, want := range map[string]ErrorMessage{
		`{"message":"ghost is not defined in the Schema"}`: {Message: "ghost is not defined in the Schema"},
		`{}`:                              {},
		`{"message":7,"code":{}}`:         {},
		`{"message":"m","code":"denied"}`: {Message: "m", Code: CodeDenied},
		`{"message":"m","code":"\u0007"}`: {Message: "m"},
		`{"message":"` + strings.Repeat("x", MaxErrorLen+1) + `"}`:  {Message: strings.Repeat("x", MaxErrorLen)},
		`{"message":"` + strings.Repeat("x", MaxErrorLen-1) + `é"}`: {Message: strings.Repeat("x", MaxErrorLen-1)},
	} {
		got, err := DecodeErrorMessage([]byte(body))
		if err != nil || got != want {
			t.Errorf("%.80s: got %+v, %v", body, got, err)
		}
	}
	_, err := DecodeErrorMessage([]byte(`"message"`))
	wantBadRequest(t, err, "not a JSON object")
}

func TestDecodeCancel(t *testing.T) {
	if c, err := DecodeCancel([]byte(`{"uid":"u-1"}`)); err != nil || c.UID != "u-1" {
		t.Errorf("%+v, %v", c, err)
	}
	for _, body := range []string{``, `{}`, `{"uid":""}`, `{"uid":1}`, `{"uid":"toString"}`} {
		_, err := DecodeCancel([]byte(body))
		wantBadRequest(t, err, "")
	}
}

func TestDecodeWatch(t *testing.T) {
	for body, want := range map[string]bool{`{"on":true,"later":1}`: true, `{"on":false}`: false} {
		if w, err := DecodeWatch([]byte(body)); err != nil || w.On != want {
			t.Errorf("%s: %+v, %v", body, w, err)
		}
	}
	for body, want := range map[string]Observe{
		`{"on":true,"every_ms":250}`:                 {On: true, EveryMillis: 250},
		`{"on":false}`:                               {},
		`{"on":true,"every_ms":null}`:                {On: true},
		`{"on":true,"every_ms":9223372036854775807}`: {On: true, EveryMillis: MaxTimeout.Milliseconds()},
	} {
		if o, err := DecodeObserve([]byte(body)); err != nil || o != want {
			t.Errorf("%s: %+v, %v", body, o, err)
		}
	}
	for _, body := range []string{``, `[]`, `{}`, `{"on":1}`, `{"on":"true"}`, `{"on":null}`} {
		_, err := DecodeWatch([]byte(body))
		wantBadRequest(t, err, "")
		_, err = DecodeObserve([]byte(body))
		wantBadRequest(t, err, "")
	}
	for _, every := range []string{`-1`, `1.5`, `"1"`, `9223372036854775808`} {
		_, err := DecodeObserve([]byte(`{"on":true,"every_ms":` + every + `}`))
		wantBadRequest(t, err, "every_ms")
	}
}

func TestDecodeCancelRequest(t *testing.T) {
	if q, err := DecodeCancelRequest([]byte(`{"node":"a/1","uid":"u"}`)); err != nil || q != (CancelRequest{"a/1", "u"}) {
		t.Errorf("%+v, %v", q, err)
	}
	for body, part := range map[string]string{
		`{"uid":"u"}`: "node", `{"node":"a","uid":"u"}`: "node", `{"node":"@operator/x","uid":"u"}`: "node", `{"node":"a/1/2","uid":"u"}`: "node",
		`{"node":"a/1"}`: "uid", `{"node":"a/1","uid":""}`: "uid", `{"node":"a/1","uid":7}`: "uid", `[]`: "",
	} {
		_, err := DecodeCancelRequest([]byte(body))
		wantBadRequest(t, err, part)
	}
}

func TestDecodeSchemaUpdate(t *testing.T) {
	u, err := DecodeSchemaUpdate([]byte(`{"revision":4,"schema":{"a":{}}}`))
	if err != nil || u.Revision != 4 || string(u.Schema) != `{"a":{}}` {
		t.Errorf("%+v, %v", u, err)
	}
	for body, part := range map[string]string{
		`{"schema":{}}`:                "revision",
		`{"revision":"x","schema":{}}`: "revision",
		`{"revision":1}`:               "schema",
		`{"revision":1,"schema":[]}`:   "schema",
	} {
		_, err := DecodeSchemaUpdate([]byte(body))
		wantBadRequest(t, err, part)
	}
}

func TestDecodeDenyList(t *testing.T) {
	for body, want := range map[string]int{`{"entries":[]}`: 0, `{"entries":["a","b/c"],"later":1}`: 2} {
		if l, err := DecodeDenyList([]byte(body)); err != nil || l.Entries == nil || len(l.Entries) != want {
			t.Errorf("%s: %+v, %v", body, l, err)
		}
	}
	many := `{"entries":["a"` + strings.Repeat(`,"a"`, identity.MaxDenied) + `]}`
	// A list that cannot be read must not count as an empty one.
	for _, body := range []string{`{}`, `{"entries":null}`, `{"entries":"a"}`, `{"entries":[1]}`, `[]`, many} {
		_, err := DecodeDenyList([]byte(body))
		wantBadRequest(t, err, "")
	}
}

func TestTokensOfPeers(t *testing.T) {
	d, err := DecodeDeclare([]byte(`{"worker":"a","meshctl":{"protocol":1,"token":"a.b.c"}}`))
	if err != nil || d.Meshctl.Token != "a.b.c" {
		t.Errorf("%+v, %v", d.Meshctl, err)
	}
	if text := fmt.Sprintf("%+v %v", *d.Meshctl, d); strings.Contains(text, "a.b.c") {
		t.Errorf("formatted, it shows: %s", text)
	}
	long := `{"worker":"a","meshctl":{"protocol":1,"token":"` + strings.Repeat("x", identity.MaxLen+1) + `"}}`
	_, err = DecodeDeclare([]byte(long))
	wantBadRequest(t, err, "token")
	peers, _, err := DecodePeers([]byte(`[{"worker":"a","variant":"1","ip":"h","port":1,"meshctl":{"protocol":1,"native":true,"token":"a.b.c","denied":["x"]}}]`))
	if err != nil || len(peers) != 1 || peers[0].Meshctl.Token != "" || peers[0].Meshctl.Denied != nil || !peers[0].Meshctl.Native {
		t.Errorf("%+v, %v", peers, err)
	}
}
