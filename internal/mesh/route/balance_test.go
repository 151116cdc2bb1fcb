package route_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/meshctl/meshctl/internal/mesh/route"
)

// TestLessLoaded hands out requests that stay: no variant gets many more than another, far
// fewer than by chance alone.
func TestLessLoaded(t *testing.T) {
	load := make([]int, 10)
	all := make([]int, len(load))
	for i := range all {
		all[i] = i
	}
	for range 10_000 {
		load[route.LessLoaded(all, func(i int) int { return load[i] })]++
	}
	if lo, hi := slices.Min(load), slices.Max(load); hi-lo > 20 {
		t.Errorf("from %d to %d under way", lo, hi)
	}
	// A slow one, whose requests stay, gets next to none.
	slow := make([]int, 10)
	for range 10_000 {
		if i := route.LessLoaded(all, func(i int) int { return slow[i] }); i == 3 {
			slow[3]++
		}
	}
	if slow[3] > 2 {
		t.Errorf("the slow one got %d of 10000 while all others were idle", slow[3])
	}
	if i := route.LessLoaded(all[:1], nil); i != 0 {
		t.Errorf("the only one is %d", i)
	}
}

func TestKey(t *testing.T) {
	same := func(a, b, path string) bool {
		t.Helper()
		x, okX := route.Key(json.RawMessage(a), strings.Split(path, "."))
		y, okY := route.Key(json.RawMessage(b), strings.Split(path, "."))
		if !okX || !okY {
			t.Errorf("%s and %s have no %s", a, b, path)
		}
		return x == y
	}
	if !same(`{"a":{"b":"x"},"c":1}`, ` { "c":2, "a": {"z":[], "b" : "\u0078"} } `, "a.b") {
		t.Error("one text, two keys")
	}
	for _, other := range []string{`{"a":"y"}`, `{"a":true}`, `{"a":1}`} {
		if same(`{"a":"x"}`, other, "a") {
			t.Errorf("%s has the key of x", other)
		}
	}
	for _, payload := range []string{``, `null`, `1`, `[]`, `"a"`, `{}`, `{"A":1}`, `{"a":null}`, `{"a":{}}`, `{"a":[1]}`, `{"a":`, `{"b":{"a":1}}`} {
		if _, ok := route.Key(json.RawMessage(payload), []string{"a"}); ok {
			t.Errorf("%s has a key", payload)
		}
	}
}

// TestRanked: keys are spread evenly, and only those of a variant that goes move, to all
// of the others.
func TestRanked(t *testing.T) {
	var all []string
	for i := range 10 {
		all = append(all, fmt.Sprintf("variant-%d", i))
	}
	name := func(s string) string { return s }
	fewer := slices.Delete(slices.Clone(all), 4, 5)
	const keys = 10_000
	count, moved := map[string]int{}, map[string]int{}
	for i := range keys {
		key, _ := route.Key(json.RawMessage(fmt.Sprintf(`{"id":%d}`, i)), []string{"id"})
		ranked := route.Ranked(all, key, name)
		count[ranked[0]]++
		after := route.Ranked(fewer, key, name)
		switch {
		case ranked[0] == "variant-4":
			if after[0] != ranked[1] {
				t.Fatalf("key %d went to %s, not to the second one, %s", i, after[0], ranked[1])
			}
			moved[after[0]]++
		case after[0] != ranked[0]:
			t.Fatalf("key %d moved from %s to %s", i, ranked[0], after[0])
		}
		slices.Reverse(fewer) // the order in which they came is of no matter
	}
	for v, n := range count {
		if n < keys/10*8/10 || n > keys/10*12/10 {
			t.Errorf("%s has %d of %d keys", v, n, keys)
		}
	}
	if len(count) != 10 || len(moved) != 9 {
		t.Errorf("%d variants have keys, %d took over", len(count), len(moved))
	}
}

// As another implementation of FNV-1a and SplitMix64 has them.
const (
	wantKey   = 0x9749585ea13630d6
	wantOrder = "bcda"
)

// TestHash: peers of other releases come to the same order.
func TestHash(t *testing.T) {
	key, _ := route.Key(json.RawMessage(`{"id":"customer-7"}`), []string{"id"})
	got := route.Ranked([]string{"a", "b", "c", "d"}, key, func(s string) string { return s })
	if key != wantKey || strings.Join(got, "") != wantOrder {
		t.Errorf("key %#x, order %q", key, got)
	}
}
