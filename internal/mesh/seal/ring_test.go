package seal

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
)

// memory is a store that can be made to fail.
type memory struct {
	keys []Keys
	err  error
}

func (m *memory) Update(change func([]Keys) ([]Keys, error)) error {
	if m.err != nil {
		return m.err
	}
	keys, err := change(m.keys)
	if err == nil {
		m.keys = keys
	}
	return err
}

func pair(name string) Keys { return Keys{"public " + name, "private " + name} }

func newRing(t *testing.T, store Store, names ...string) *Ring {
	t.Helper()
	var keys []Keys
	for _, n := range names {
		keys = append(keys, pair(n))
	}
	r, err := NewRing(keys, store)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

func TestRing(t *testing.T) {
	t.Parallel()
	store := &memory{keys: []Keys{pair("a")}}
	r := newRing(t, store, "a")
	a := r.Used()
	b, err := r.Add(pair("b"))
	if err != nil || r.Used() != a || r.Stored() != nil {
		t.Fatalf("add: %v, stored %v", err, r.Stored())
	}
	if again, err := r.Add(pair("b")); err != nil || again != b || len(r.Keys()) != 2 {
		t.Errorf("add again: %v, %d keys", err, len(r.Keys()))
	}
	changed := r.Changed()
	if err := r.Remove(a.Fingerprint()); !errors.Is(err, ErrKeyInUse) {
		t.Errorf("remove the used key: %v", err)
	}
	if isClosed(changed) {
		t.Error("another key is used, though none was chosen")
	}
	if err := r.Use("000000000000"); !errors.Is(err, ErrUnknownKey) {
		t.Errorf("use an unknown key: %v", err)
	}
	if err := r.Use(b.Fingerprint()); err != nil || r.Used() != b || !isClosed(changed) || isClosed(r.Changed()) {
		t.Errorf("use: %v", err)
	}
	if want := []string{b.Fingerprint(), a.Fingerprint()}; !slices.Equal(r.Fingerprints(), want) {
		t.Errorf("fingerprints %v, want %v", r.Fingerprints(), want)
	}
	if _, id, err := a.Native(); err != nil || r.ByID(id) != a || r.ByID(KeyID{}) != nil {
		t.Errorf("the key is not found by its id: %v", err)
	}
	for range 2 { // what is gone can be removed again
		if err := r.Remove(a.Fingerprint()); err != nil || len(r.Keys()) != 1 {
			t.Errorf("remove: %v", err)
		}
	}
	if !slices.Equal(store.keys, []Keys{pair("b")}) {
		t.Error("something else is stored")
	}
}

func TestRingIsBounded(t *testing.T) {
	t.Parallel()
	r := newRing(t, nil, "a", "b", "c", "d")
	if _, err := r.Add(pair("e")); !errors.Is(err, ErrRingFull) || len(r.Keys()) != MaxRing {
		t.Errorf("a key too many: %v", err)
	}
	if _, err := NewRing([]Keys{pair("a"), pair("b"), pair("c"), pair("d"), pair("e")}, nil); err == nil {
		t.Error("a ring of five keys was made")
	}
	r = newRing(t, nil, "a")
	if _, err := r.Add(Keys{"another public", "private a"}); err == nil {
		t.Error("two keys have one private key")
	}
	if _, err := r.Add(Keys{"public", "two\nlines"}); err == nil {
		t.Error("an invalid key was added")
	}
	if !errors.Is(r.Stored(), ErrNotStored) {
		t.Errorf("a ring without a store is stored: %v", r.Stored())
	}
}

// A change that cannot be stored is in force all the same, and stored with the next.
func TestRingStoreFails(t *testing.T) {
	t.Parallel()
	store := &memory{keys: []Keys{pair("a"), pair("known to others")}, err: errors.New("read-only")}
	r := newRing(t, store, "a")
	b, err := r.Add(pair("b"))
	if err != nil || len(r.Keys()) != 2 || !errors.Is(r.Stored(), ErrNotStored) || !strings.Contains(r.Stored().Error(), "read-only") {
		t.Fatalf("%v, stored %v", err, r.Stored())
	}
	store.err = nil
	if err := r.Use(b.Fingerprint()); err != nil || r.Stored() != nil {
		t.Fatalf("%v, stored %v", err, r.Stored())
	}
	if want := []Keys{pair("b"), pair("a"), pair("known to others")}; !slices.Equal(store.keys, want) {
		t.Errorf("stored %d keys, the used one first, want %d", len(store.keys), len(want))
	}
}

// TestLinkEnvelope lets the first message that opens decide the key, of both directions.
func TestLinkEnvelope(t *testing.T) {
	t.Parallel()
	r := newRing(t, nil, "a", "b")
	b := newRealEnvelope(t, pair("b").Private)
	l := r.ForLink()
	if _, err := l.Open(t.Context(), mustSeal(t, newRealEnvelope(t, "stranger"), "{}"), nil); !errors.Is(err, ErrKeyMismatch) || l.Key() != nil {
		t.Fatalf("a stranger's message: %v", err)
	}
	sealed := mustSeal(t, b, `{"a":1}`)
	admitted := 0
	gate := gateFunc(func(context.Context) (func(bool), error) {
		admitted++
		return func(bool) {}, nil
	})
	got, err := l.Open(t.Context(), sealed, gate)
	if err != nil || string(got) != `{"a":1}` || l.Key() != r.Keys()[1] {
		t.Fatalf("%q, %v", got, err)
	}
	if admitted != 2 {
		t.Errorf("the gate was asked %d times for two derivations", admitted)
	}
	if _, err := l.Open(t.Context(), mustSeal(t, newRealEnvelope(t, pair("a").Private), "{}"), nil); !errors.Is(err, ErrKeyMismatch) {
		t.Errorf("another key of the ring was taken on the same link: %v", err)
	}
	answer, err := l.Seal([]byte("{}"))
	if err != nil {
		t.Fatal(err)
	}
	wantOpen(t, b, answer, "{}")
	if text, err := r.Open(t.Context(), sealed, nil); err != nil || string(text) != `{"a":1}` {
		t.Errorf("the ring: %q, %v", text, err)
	}
}

func TestKeyShowsNothing(t *testing.T) {
	t.Parallel()
	k, err := NewKey(Keys{"public-secret", "private-secret"})
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{fmt.Sprint(k), fmt.Sprintf("%+v %#v %s %x", k, k, k, k), k.LogValue().String()} {
		if strings.Contains(text, "secret") || !strings.Contains(text, k.Fingerprint()) {
			t.Errorf("printed as %s", text)
		}
	}
	if k.Fingerprint() != k.Keys().Fingerprint() {
		t.Error("a key has two fingerprints")
	}
}

func TestRingConcurrently(t *testing.T) {
	t.Parallel()
	r := newRing(t, nil, "a", "b")
	names := r.Fingerprints()
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			for n := range 200 {
				if i == 0 {
					if err := r.Use(names[n%2]); err != nil {
						t.Error(err)
					}
					continue
				}
				changed := r.Changed()
				if r.Used() == nil || len(r.Keys()) != 2 {
					t.Error("a ring between two states")
				}
				_ = isClosed(changed)
			}
		})
	}
	wg.Wait()
}
