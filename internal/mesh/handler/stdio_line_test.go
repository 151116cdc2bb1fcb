package handler

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"testing"
	"unicode/utf8"

	"github.com/meshctl/meshctl/internal/mesh/wire"
)

type noMesh struct{}

func (noMesh) CallJSON(context.Context, string, json.RawMessage) (json.RawMessage, error) {
	return nil, &wire.Error{Code: wire.CodeNoVariant, Message: "nobody"}
}

// FuzzStdioLine gives any line to a session that waits for one response, and wants
// what it decodes to be whole and what it answers to be one JSON line each.
func FuzzStdioLine(f *testing.F) {
	for _, s := range []string{
		``, `{`, `null`, `[]`, `"x"`, "\xff",
		`{"jsonrpc":"2.0","id":1,"result":{"a":1}}`,
		`{"jsonrpc":"2.0","id":1,"result":null}`,
		`{"jsonrpc":"2.0","id":1,"error":{"code":-32601,"message":"x","data":{"code":"overloaded","temporary":true}}}`,
		`{"jsonrpc":"2.0","id":1,"error":{"code":1.5,"message":"x","data":[]}}`,
		`{"jsonrpc":"2.0","id":1,"result":null,"error":null}`,
		`{"jsonrpc":"2.0","id":"a","method":"call","params":{"target":"w.c","payload":[1],"timeout_ms":5}}`,
		`{"jsonrpc":"2.0","id":-1.5e3,"method":"call","params":{"target":"w.c","timeout_ms":-1}}`,
		`{"jsonrpc":"2.0","method":"call","params":{"target":"w.c"}}`,
		`{"jsonrpc":"2.0","method":"cancel","params":{"id":"a"}}`,
		`{"jsonrpc":"2.0","method":"log","params":{"level":"ERROR+3","message":"x"}}`,
		`{"jsonrpc":"2.0","id":"\u2028<","method":"other"}`,
		`{"jsonrpc":"2.0","JSONRPC":"2.0","ID":1,"Result":1}`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if l, err := decodeLine(b); err == nil {
			if l.isResponse() && (l.Error == nil) == (l.Result == nil) {
				t.Errorf("neither or both of result and error: %+v", l)
			}
			if len(l.Result) > 0 && (!json.Valid(l.Result) || !utf8.Valid(l.Result)) {
				t.Errorf("result %q", l.Result)
			}
			if l.Error != nil {
				if e := l.Error.toWire(); e.Code == "" || e.Message == "" || !utf8.ValidString(e.Message) {
					t.Errorf("error %+v", e)
				}
			}
		}
		cfg := Config{Env: Env{Caller: noMesh{}}, Logger: slog.New(slog.DiscardHandler)}
		s := newSession(t.Context(), newProcess(program{argv: []string{"test"}}, cfg))
		waits := &pending{sent: true, reply: make(chan reply, 1)}
		s.pending[1] = waits
		s.handleLine(b)
		s.handleLine(b) // the same again must do no harm
		s.calling.Wait()
		for _, o := range s.out {
			if !json.Valid(o.data) || bytes.IndexByte(o.data, '\n') != len(o.data)-1 {
				t.Errorf("answered %q", o.data)
			}
		}
		s.end("over")
		select {
		case a := <-waits.reply:
			if a.err == nil && !json.Valid(a.result) {
				t.Errorf("reply %q", a.result)
			}
		default:
			t.Error("the request was left without a reply")
		}
	})
}

func TestSessionPilesUp(t *testing.T) {
	cfg := Config{Logger: slog.New(slog.DiscardHandler)}
	s := newSession(t.Context(), newProcess(program{argv: []string{"test"}}, cfg))
	for range maxOutgoing {
		s.handleLine([]byte(`{"jsonrpc":"2.0","id":1,"method":"other"}`))
	}
	select {
	case <-s.broken:
		t.Fatal("broken too early")
	default:
	}
	s.handleLine([]byte(`{"jsonrpc":"2.0","id":1,"method":"other"}`))
	select {
	case <-s.broken:
	default:
		t.Fatal("answers pile up without an end")
	}
	s.end("over")
	if n := len(s.out); n != 0 {
		t.Errorf("%d lines are kept", n)
	}
}

func TestFromWire(t *testing.T) {
	got := fromWire(errors.Join(errors.New("a"), &wire.Error{Code: wire.CodeDenied, Message: "no"}))
	if got.Data.Code != wire.CodeDenied || got.Message != "no" || got.Code != rpcCallFailed {
		t.Errorf("got %+v", got)
	}
}
