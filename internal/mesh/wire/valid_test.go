package wire

import (
	"encoding/json"
	"strings"
	"testing"
)

var validity = []string{
	``, ` `, `null`, `nul`, `nulll`, `true`, `false`, `tru`, ` true `, `true false`, `0`, `-0`, `00`, `01`, `-`, `-1`, `1.`, `.5`, `1.5`, `1e`, `1e5`, `1E+5`, `1e-`, `1e-05`, `+1`, `1 2`,
	`""`, `"a`, `"a\"`, `"\u12"`, `"\u12ag"`, `"\u12aF"`, `"\x"`, `"\n"`, "\"\n\"", "\"\x00\"", "\"\x7f\"", "\"\xff\"", `"\\"`, `"\`,
	`[]`, `[`, `]`, `[ ]`, `[1]`, `[1,]`, `[,1]`, `[1 2]`, `[1,2 ]`, `[[],[]]`, `[}`, `[1}`, `[[]`, `[]]`,
	`{}`, `{`, `}`, `{ }`, `{"a"}`, `{"a":}`, `{"a":1}`, `{"a":1,}`, `{"a":1,"b":2}`, `{a:1}`, `{"a":1 "b":2}`, `{"a" : 1 , "b":[{}]}`, `{]`, `{"a":1]`, `{1:2}`, `{"a":{"b":{}}}`, `{,}`, `{"a":1}}`,
	"\ufeff1", "\v1", "1\n", "[\r\n\t1]",
}

func TestCheckJSONAgreesWithTheStandard(t *testing.T) {
	for _, text := range validity {
		if got, want := checkJSON([]byte(text), 64) == nil, json.Valid([]byte(text)); got != want {
			t.Errorf("%q: %v, json.Valid says %v", text, got, want)
		}
	}
	for depth, ok := range map[int]bool{63: true, 64: true, 65: false, 100000: false} {
		for _, pair := range []string{"[]", "{}"} {
			text := strings.Repeat("[", depth-1) + pair + strings.Repeat("]", depth-1)
			if err := checkJSON([]byte(text), 64); (err == nil) != ok {
				t.Errorf("depth %d of %s: %v", depth, pair, err)
			}
		}
	}
	if err := checkJSON([]byte(`[[1]]`), 1); err == nil || !strings.Contains(err.Error(), "nested") {
		t.Errorf("too deep: %v", err)
	}
}

func FuzzCheckJSON(f *testing.F) {
	for _, text := range validity {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		got := checkJSON(b, 64) == nil
		want := json.Valid(b) && checkDepth(b, 64) == nil
		if got != want {
			t.Fatalf("%q: %v, want %v", b, got, want)
		}
	})
}

func BenchmarkCheckJSON(b *testing.B) {
	text := []byte(`{"uid":"c81fc4f7-52b3-4623-9174-e40bae45a43b","status":{"test":"data","list":[1,2,3.5,true,null],"text":"` + strings.Repeat("lorem ipsum ", 10) + `"}}`)
	b.Run("checkJSON", func(b *testing.B) {
		b.SetBytes(int64(len(text)))
		for b.Loop() {
			_ = checkJSON(text, 64)
		}
	})
	b.Run("standard", func(b *testing.B) {
		b.SetBytes(int64(len(text)))
		for b.Loop() {
			_ = checkDepth(text, 64)
			_ = json.Valid(text)
		}
	})
}

// checkDepth is the simple way to check the depth, to compare checkJSON with. It fails if
// arrays and objects nest deeper than limit.
func checkDepth(body []byte, limit int) error {
	depth := 0
	for i := 0; i < len(body); i++ {
		switch body[i] {
		case '"':
			i = stringEnd(body, i) - 1
		case '[', '{':
			if depth++; depth > limit {
				return badRequest("nested deeper than %d", limit)
			}
		case ']', '}':
			depth = max(depth-1, 0)
		}
	}
	return nil
}
