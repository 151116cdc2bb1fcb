package wire

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"
)

func wantBadRequest(t *testing.T, err error, part string) {
	t.Helper()
	var e *Error
	if !errors.As(err, &e) || e.Code != CodeBadRequest || !strings.Contains(e.Message, part) {
		t.Errorf("error %v, want bad_request with %q", err, part)
	}
}

func TestEncodeCommand(t *testing.T) {
	for _, tc := range []struct {
		command Command
		want    string
	}{
		{Command{UID: "u-1", Name: "status", Payload: json.RawMessage(`{"test":"data"}`)}, `{"uid":"u-1","status":{"test":"data"}}`},
		{Command{Name: "ping"}, `{"ping":null}`},
		{Command{UID: "1", Name: "echo", Payload: json.RawMessage(`"<&>"`), Meta: &CommandMeta{TimeoutMS: 3000, Ack: true}}, `{"uid":"1","echo":"<&>","meshctl":{"timeout_ms":3000,"ack":true}}`},
		{Command{Name: "echo", Meta: &CommandMeta{}}, `{"echo":null,"meshctl":{}}`},
		{Command{UID: "1", Name: ControlNodes}, `{"uid":"1","mesh.nodes":null}`},
		{Command{Name: `say "hé"`}, `{"say \"hé\"":null}`},
	} {
		got, err := EncodeCommand(tc.command)
		if err != nil || string(got) != tc.want {
			t.Errorf("got %s, %v, want %s", got, err, tc.want)
		}
	}
}

func TestEncodeCommandRefuses(t *testing.T) {
	for _, tc := range []struct {
		command Command
		part    string
	}{
		{Command{}, "name is empty"},
		{Command{Name: "uid"}, "word of the protocol"},
		{Command{Name: "meshctl"}, "word of the protocol"},
		{Command{Name: "__proto__"}, "JavaScript"},
		{Command{Name: strings.Repeat("x", MaxNameLen+1)}, "longer"},
		{Command{Name: "a\x1b[2J"}, "printed"},
		{Command{Name: "a\xff"}, "printed"},
		{Command{Name: "echo", UID: `a","x":"`}, "uid"},
		{Command{Name: "echo", UID: "constructor"}, "JavaScript"},
		{Command{Name: "echo", Payload: json.RawMessage(`{"a":`)}, "not valid JSON"},
		{Command{Name: "echo", Payload: json.RawMessage(`1,"b":2`)}, "not valid JSON"},
		{Command{Name: "echo", Payload: nested(MaxDepth)}, "nested"},
	} {
		_, err := EncodeCommand(tc.command)
		wantBadRequest(t, err, tc.part)
	}
	if _, err := EncodeCommand(Command{Name: "echo", Payload: nested(MaxDepth - 1)}); err != nil {
		t.Error(err)
	}
}

func TestDecodeCommand(t *testing.T) {
	known := func(name string) bool { return name == "status" || name == "echo" }
	for _, tc := range []struct {
		body, uid, name, payload string
		meta                     *CommandMeta
	}{
		{`{"uid":"u-1","status":{"test":"data"}}`, "u-1", "status", `{"test":"data"}`, nil},
		{`{"work":{"job":1}}`, "", "work", `{"job":1}`, nil},
		{"\n { \"status\" : [ 1 , \"}\\\"\" ] , \"uid\" : \"u\" } \t", "u", "status", `[ 1 , "}\"" ]`, nil},
		{`{"st\u0061tus":null}`, "", "status", `null`, nil},
		{`{"uid":null,"status":1.5e3}`, "", "status", `1.5e3`, nil},
		{`{"uid":"","status":true}`, "", "status", `true`, nil},
		{`{"trace":"x","status":{},"later":[{}]}`, "", "status", `{}`, nil},
		{`{"status":{},"trace":"x","__proto__":1}`, "", "status", `{}`, nil},
		{`{"status":{"__proto__":{"uid":1},"uid":"2"}}`, "", "status", `{"__proto__":{"uid":1},"uid":"2"}`, nil},
		{`{"status":"` + "\xff\xfe" + `"}`, "", "status", `"��"`, nil},
		{`{"mesh.nodes":null}`, "", "mesh.nodes", `null`, nil},
		{`{"status":1,"meshctl":{"timeout_ms":250,"ack":true,"newer":[]}}`, "", "status", `1`, &CommandMeta{TimeoutMS: 250, Ack: true}},
		{`{"status":1,"meshctl":{"job":true,"key":"k"}}`, "", "status", `1`, &CommandMeta{Job: true, Key: "k"}},
		{`{"status":1,"meshctl":{}}`, "", "status", `1`, &CommandMeta{}},
		{`{"status":1,"meshctl":{"timeout_ms":"soon"}}`, "", "status", `1`, nil},
		{`{"status":1,"meshctl":"yes"}`, "", "status", `1`, nil},
		{`{"status":1,"meshctl":null}`, "", "status", `1`, nil},
	} {
		c, err := DecodeCommand([]byte(tc.body), known)
		if err != nil {
			t.Errorf("%s: %v", tc.body, err)
			continue
		}
		if c.UID != tc.uid || c.Name != tc.name || string(c.Payload) != tc.payload {
			t.Errorf("%s: got %q %q %s", tc.body, c.UID, c.Name, c.Payload)
		}
		if (c.Meta == nil) != (tc.meta == nil) || c.Meta != nil && *c.Meta != *tc.meta {
			t.Errorf("%s: meta %+v, want %+v", tc.body, c.Meta, tc.meta)
		}
	}
}

func TestDecodeCommandRefuses(t *testing.T) {
	known := func(name string) bool { return name == "status" || name == "echo" }
	for _, tc := range []struct{ body, uid, part string }{
		{``, "", "not valid JSON"},
		{`{`, "", "not valid JSON"},
		{`{"status":1}{}`, "", "not valid JSON"},
		{`null`, "", "not a JSON object"},
		{`["status"]`, "", "not a JSON object"},
		{`"status"`, "", "not a JSON object"},
		{`{}`, "", "no member"},
		{`{"uid":"u"}`, "u", "no member"},
		{`{"uid":"u","meshctl":{}}`, "u", "no member"},
		{`{"uid":"u","a":1,"b":2}`, "u", "none of 2 members"},
		{`{"uid":"u","echo":1,"status":2}`, "u", "2 members name"},
		{`{"uid":"u","echo":1,"x":0,"status":2}`, "u", "2 members name"},
		{`{"status":1,"status":2}`, "", "appears twice"},
		{`{"status":1,"st\u0061tus":2}`, "", "appears twice"},
		{`{"uid":"a","uid":"b","status":2}`, "", "appears twice"},
		{`{"uid":7,"status":1}`, "", "uid is not a string"},
		{`{"uid":"__proto__","status":1}`, "", "JavaScript"},
		{`{"uid":"a b","status":1}`, "", "not allowed"},
		{`{"uid":"` + strings.Repeat("u", MaxUIDLen+1) + `","status":1}`, "", "longer"},
		{`{"uid":"u","__proto__":1}`, "u", "JavaScript"},
		{`{"uid":"u","constructor":1}`, "u", "JavaScript"},
		{`{"uid":"u","":1}`, "u", "empty"},
		{`{"uid":"u","a\u001b":1}`, "u", "printed"},
		{`{"uid":"u","` + strings.Repeat("x", MaxNameLen+1) + `":1}`, "u", "longer"},
		{`{"status":` + string(nested(MaxDepth)) + `}`, "", "nested"},
		{`{"status":` + string(nested(1<<20)) + `}`, "", "nested"},
		{manyMembers(MaxMembers + 1), "", "more than"},
	} {
		c, err := DecodeCommand([]byte(tc.body), known)
		wantBadRequest(t, err, tc.part)
		if c.UID != tc.uid || c.Name != "" || c.Payload != nil {
			t.Errorf("%.80s: returned %+v, want uid %q only", tc.body, c, tc.uid)
		}
	}
	if _, err := DecodeCommand([]byte(`{"a":1,"b":2}`), nil); err == nil {
		t.Error("two members accepted without a schema")
	}
}

func TestCommandTimeout(t *testing.T) {
	for _, tc := range []struct {
		meta *CommandMeta
		want time.Duration
	}{
		{nil, 0},
		{&CommandMeta{}, 0},
		{&CommandMeta{TimeoutMS: -1}, 0},
		{&CommandMeta{TimeoutMS: 1500}, 1500 * time.Millisecond},
		{&CommandMeta{TimeoutMS: 1 << 62}, MaxTimeout},
	} {
		if got := tc.meta.Timeout(); got != tc.want {
			t.Errorf("%+v: %v, want %v", tc.meta, got, tc.want)
		}
	}
}

func TestResponses(t *testing.T) {
	long := strings.Repeat("é", MaxErrorLen)
	for _, tc := range []struct {
		response Response
		body     string
		back     Response
	}{
		{
			Response{UID: "u", Name: "status", Result: json.RawMessage(`{"a":1}`)},
			`{"uid":"u","status":{"a":1}}`,
			Response{UID: "u", Name: "status", Result: json.RawMessage(`{"a":1}`)},
		},
		{
			Response{UID: "u", Name: "status"},
			`{"uid":"u","status":null}`,
			Response{UID: "u", Name: "status", Result: json.RawMessage(`null`)},
		},
		{
			Response{UID: "u", Name: "fail", Result: json.RawMessage(`1`), Err: &Error{CodeHandlerError, "exit <1>", true, "not sent"}},
			`{"uid":"u","fail":null,"meshctl":{"error":{"code":"handler_error","message":"exit <1>","temporary":true}}}`,
			Response{UID: "u", Name: "fail", Err: &Error{CodeHandlerError, "exit <1>", true, ""}},
		},
		{
			Response{UID: "u", Err: &Error{Code: CodeBadRequest, Message: long}},
			`{"uid":"u","meshctl":{"error":{"code":"bad_request","message":"` + long[:MaxErrorLen] + `"}}}`,
			Response{UID: "u", Err: &Error{Code: CodeBadRequest, Message: long[:MaxErrorLen]}},
		},
	} {
		body, err := EncodeResponse(tc.response)
		if err != nil || string(body) != tc.body {
			t.Errorf("got %.200s, %v, want %.200s", body, err, tc.body)
			continue
		}
		back, err := DecodeResponse(body)
		if err != nil {
			t.Errorf("%.200s: %v", body, err)
			continue
		}
		wantResponse(t, back, tc.back)
	}
}

func TestDecodeForeignResponses(t *testing.T) {
	for body, want := range map[string]Response{
		`{"uid":"u"}`:                                                          {UID: "u", Result: json.RawMessage(`null`)}, // a handler that returned undefined
		`{"status":1,"uid":"u","x":2}`:                                         {UID: "u", Name: "status", Result: json.RawMessage(`1`)},
		`{"uid":"u","a":1,"meshctl":7}`:                                        {UID: "u", Name: "a", Result: json.RawMessage(`1`)},
		`{"uid":"u","a":1,"meshctl":{"error":null}}`:                           {UID: "u", Name: "a", Result: json.RawMessage(`1`)},
		`{"uid":"u","a":1,"meshctl":{"error":"x"}}`:                            {UID: "u", Name: "a", Result: json.RawMessage(`1`)},
		`{"uid":"u","a":1,"meshctl":{"error":{}}}`:                             {UID: "u", Name: "a", Err: &Error{Code: CodeHandlerError}},
		`{"uid":"u","a":1,"meshctl":{"error":{"code":"\u001b[31m"}}}`:          {UID: "u", Name: "a", Err: &Error{Code: CodeHandlerError}},
		`{"uid":"u","a":1,"meshctl":{"error":{"code":"new_1","Hint":"evil"}}}`: {UID: "u", Name: "a", Err: &Error{Code: "new_1"}},
	} {
		got, err := DecodeResponse([]byte(body))
		if err != nil {
			t.Errorf("%s: %v", body, err)
			continue
		}
		wantResponse(t, got, want)
	}
	for body, part := range map[string]string{
		`{"status":1}`:              "without uid",
		`{"uid":1,"status":1}`:      "not a string",
		`{"uid":"u","__proto__":1}`: "JavaScript",
		`[]`:                        "not a JSON object",
		``:                          "not valid JSON",
	} {
		_, err := DecodeResponse([]byte(body))
		wantBadRequest(t, err, part)
	}
	for _, r := range []Response{{}, {UID: "u", Name: "meshctl"}, {UID: "u", Name: "a", Result: json.RawMessage(`{`)}} {
		_, err := EncodeResponse(r)
		wantBadRequest(t, err, "")
	}
}

func wantResponse(t *testing.T, got, want Response) {
	t.Helper()
	if got.UID != want.UID || got.Name != want.Name || string(got.Result) != string(want.Result) || (got.Err == nil) != (want.Err == nil) {
		t.Errorf("got %+v, want %+v", got, want)
		return
	}
	if got.Err != nil && *got.Err != *want.Err {
		t.Errorf("got error %+v, want %+v", got.Err, want.Err)
	}
}

func TestCheckDepthOracle(t *testing.T) {
	for _, tc := range []struct {
		body string
		ok   bool
	}{
		{``, true},
		{`[[[]]]`, true},
		{`[[[[]]]]`, false},
		{`{"a":{"b":{"c":[]}}}`, false},
		{`[{"a":"[[[[{{{{"}]`, true},
		{`["\"[[[[","\\",[[]]]`, true},
		{`[[],[],[],[],[]]`, true},
		{`]]]]]][[[[`, false}, // what is malformed gains nothing
		{`"[[[[`, true},
		{`"\`, true},
	} {
		if err := checkDepth([]byte(tc.body), 3); (err == nil) != tc.ok {
			t.Errorf("%s: %v", tc.body, err)
		}
	}
}

func TestEncode(t *testing.T) {
	got, err := Encode(ErrorMessage{Message: "<b> & \n"})
	if want := `{"message":"<b> & \n"}`; err != nil || string(got) != want {
		t.Errorf("got %s, %v, want %s", got, err, want)
	}
	_, err = Encode(func() {})
	wantBadRequest(t, err, "encode")
}

// nested is an array nested to depth.
func nested(depth int) json.RawMessage {
	return json.RawMessage(strings.Repeat("[", depth) + strings.Repeat("]", depth))
}

func manyMembers(n int) string {
	var b strings.Builder
	for i := range n {
		b.WriteString(`,"m` + strings.Repeat("x", i) + `":1`)
	}
	return "{" + b.String()[1:] + "}"
}
