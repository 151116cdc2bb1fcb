package wire

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/meshctl/meshctl/internal/mesh/seal"
)

func TestDecodeKeyOrder(t *testing.T) {
	keys := seal.Keys{Public: "public", Private: "secret"}
	good := KeyOrder{Op: KeyAdd, Peer: "worker/a", Fingerprint: keys.Fingerprint(), Public: keys.Public, Private: keys.Private}
	change := func(f func(*KeyOrder)) KeyOrder { o := good; f(&o); return o }
	for _, tc := range []struct {
		name string
		o    KeyOrder
		ok   bool
	}{
		{"add", good, true},
		{"list", KeyOrder{Op: KeyList}, true},
		{"use", KeyOrder{Op: KeyUse, Fingerprint: good.Fingerprint}, true},
		{"nothing", KeyOrder{}, false},
		{"unknown", change(func(o *KeyOrder) { o.Op = "rotate" }), false},
		{"no fingerprint", KeyOrder{Op: KeyUse}, false},
		{"bad fingerprint", KeyOrder{Op: KeyRemove, Fingerprint: "../../../etc"}, false},
		{"another key's fingerprint", change(func(o *KeyOrder) { o.Private = "secret2" }), false},
		{"no key", change(func(o *KeyOrder) { o.Private = "" }), false},
		{"key with a line break", change(func(o *KeyOrder) { o.Private = "secret\n" }), false},
		{"long key", change(func(o *KeyOrder) { o.Private = strings.Repeat("secret", seal.MaxKeyLen) }), false},
		{"bad peer", change(func(o *KeyOrder) { o.Peer = "worker" }), false},
		{"operator", change(func(o *KeyOrder) { o.Peer = "@operator/x" }), false},
	} {
		payload, err := json.Marshal(tc.o)
		if err != nil {
			t.Fatal(err)
		}
		o, err := DecodeKeyOrder(payload)
		if (err == nil) != tc.ok || err == nil && o != tc.o {
			t.Errorf("%s: %v", tc.name, err)
		}
		if err != nil && (CodeOf(err) != CodeBadRequest || strings.Contains(err.Error(), "secret")) {
			t.Errorf("%s: %v", tc.name, err)
		}
	}
	for _, text := range []string{"", "null", "[]", `{"op":1}`, `{"op":"list"`, `{"op":"list","peer":"` + strings.Repeat("a", 1<<16) + `"}`} {
		if _, err := DecodeKeyOrder([]byte(text)); CodeOf(err) != CodeBadRequest {
			t.Errorf("%.40s: %v", text, err)
		}
	}
	if text := fmt.Sprintf("%v %+v %#v %s", good, good, good, &good); strings.Contains(text, "secret") {
		t.Errorf("printed as %s", text)
	}
}

func TestDecodeKeyState(t *testing.T) {
	const a, b = "0123456789ab", "ba9876543210"
	for text, ok := range map[string]bool{
		`{"uses":"` + a + `","accepts":["` + a + `","` + b + `"],"links":{"` + b + `":3},"stored":true}`: true,
		`{"uses":"` + a + `","accepts":[]}`:                                         false,
		`{"uses":"x","accepts":["` + a + `"]}`:                                      false,
		`{"uses":"` + a + `","accepts":["\u001b[2J"]}`:                              false,
		`{"uses":"` + a + `","accepts":["` + a + `"],"links":{"\u001b[2J":1}}`:      false,
		`{"uses":"` + a + `","accepts":["` + strings.Repeat(a+`","`, 4) + a + `"]}`: false,
		`[]`: false,
		``:   false,
	} {
		if _, err := DecodeKeyState([]byte(text)); (err == nil) != ok {
			t.Errorf("%s: %v", text, err)
		}
	}
	if _, err := DecodeDeclared([]byte(`{"worker":"a","variant":"b","meshctl":{"protocol":1,"keys":["\u001b[2J"]}}`)); err == nil {
		t.Error("took something else for fingerprints")
	}
}
