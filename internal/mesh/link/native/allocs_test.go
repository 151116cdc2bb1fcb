//go:build !race

package native

import "testing"

// Allocations per record must not grow; the race detector adds its own.
func TestAllocations(t *testing.T) {
	messages := benchMessages(200)
	d := newDecoder()
	for _, tc := range []struct {
		name           string
		encode, decode float64 // ceilings
	}{
		{"request", 0, 1},
		{"response", 0, 0},
	} {
		m := messages[tc.name]
		buf := make([]byte, 0, recordLen(m))
		n := testing.AllocsPerRun(200, func() { buf = appendRecord(buf[:0], m) })
		if t.Logf("encode a %s: %.0f", tc.name, n); n > tc.encode {
			t.Errorf("encode a %s: %.0f allocations, at most %.0f are wanted", tc.name, n, tc.encode)
		}
		n = testing.AllocsPerRun(200, func() {
			if err := readRecord(&d, buf); err != nil {
				t.Fatal(err)
			}
		})
		if t.Logf("decode a %s: %.0f", tc.name, n); n > tc.decode {
			t.Errorf("decode a %s: %.0f allocations, at most %.0f are wanted", tc.name, n, tc.decode)
		}
	}
}
