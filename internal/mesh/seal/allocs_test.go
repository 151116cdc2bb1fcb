//go:build !race

package seal

import (
	"context"
	"testing"
)

// Allocations per message must not grow; the race detector adds its own.
func TestAllocations(t *testing.T) {
	e := newEnvelope(t, "key")
	plaintext := make([]byte, 200)
	sealed := mustSeal(t, e, string(plaintext))
	for _, tc := range []struct {
		name    string
		ceiling float64
		do      func() error
	}{
		{"seal", 1, func() error { _, err := e.Seal(plaintext); return err }},
		{"open", 1, func() error { _, err := e.Open(context.Background(), sealed, nil); return err }},
	} {
		n := testing.AllocsPerRun(200, func() {
			if err := tc.do(); err != nil {
				t.Fatal(err)
			}
		})
		t.Logf("%s: %.0f", tc.name, n)
		if n > tc.ceiling {
			t.Errorf("%s: %.0f allocations, at most %.0f are wanted", tc.name, n, tc.ceiling)
		}
	}
}
