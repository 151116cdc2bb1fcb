package schema

import (
	"bytes"
	"encoding/json"
	"os"
	"testing"
)

func TestExplain(t *testing.T) {
	s := mustParse(t, meshText)
	peer, err := s.Wire()
	if err != nil {
		t.Fatal(err)
	}
	received, err := FromWire(peer)
	if err != nil {
		t.Fatal(err)
	}
	var got bytes.Buffer
	enc := json.NewEncoder(&got)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	for _, c := range []struct {
		s                     *Schema
		from, worker, command string
	}{
		{s, "gateway", "api", "price"},   // by _connect
		{s, "worker", "worker", "info"},  // itself
		{s, "worker", "api", "status"},   // by _allow, over the other's link
		{s, "admin", "api", "status"},    // allowed, but without a link
		{s, "gateway", "worker", "info"}, // denied
		{s, "api", "api", "status"},      // itself, denied
		{s, Operator, "worker", "info"},
		{s, Operator, "api", "price"},
		{s, Operator, "island", "x"}, // no command
		{s, "gatway", "api", "price"},
		{s, "gateway", "aip", "price"},
		{s, "gateway", "api", "prize"},
		{s, "gateway", "x", "y"},
		{received, "gateway", "api", "price"}, // without places
	} {
		if err := enc.Encode(c.s.Explain(c.from, c.worker, c.command)); err != nil {
			t.Fatal(err)
		}
	}
	const golden = "testdata/explain.want"
	if *update {
		if err := os.WriteFile(golden, got.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got.Bytes(), want) {
		t.Errorf("got:\n%s", got.Bytes())
	}
}

// An explanation may not disagree with the rules that are enforced.
func TestExplainAgrees(t *testing.T) {
	s := mustParse(t, meshText)
	for _, from := range s.WorkerNames() {
		for _, to := range s.WorkerNames() {
			for _, command := range s.CommandNames(to) {
				e := s.Explain(from, to, command)
				if e.Allowed != s.MayCall(from, to) || e.CanLink != s.Links(from, to) {
					t.Errorf("%s to %s: %+v", from, to, e)
				}
			}
		}
	}
}
