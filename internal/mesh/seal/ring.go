package seal

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
)

// MaxRing is how many keys a ring may hold. Each costs a stranger's message a trial.
const MaxRing = 4

// Errors of changing a ring, by which callers tell what to advise.
var (
	ErrUnknownKey = errors.New("no such key in the ring")
	ErrKeyInUse   = errors.New("the key is the one that new links use")
	ErrRingFull   = fmt.Errorf("the ring holds %d keys already", MaxRing)
	// ErrNotStored says that a ring lives in memory alone and a restart forgets changes.
	ErrNotStored = errors.New("kept in memory only")
)

// Store keeps a ring beyond the life of a process.
type Store interface {
	// Update writes down what change makes of the keys that are stored, the used one
	// first, in one step: if it fails they are as before. It is called by one goroutine
	// at a time and may wait for other processes for some seconds.
	Update(change func([]Keys) ([]Keys, error)) error
}

// Ring is the keys that a process accepts; one of them is used for new links. It is safe
// for concurrent use; reading it never waits for a change.
type Ring struct {
	store  Store      // nil: none
	change sync.Mutex // held while the ring is changed
	now    atomic.Pointer[ringState]
}

// ringState is a ring between two changes. Nothing in it changes.
type ringState struct {
	keys   []*Key        // the used one first
	next   chan struct{} // closed when another key is used
	stored error         // why it is not written down; nil if it is
}

// NewRing makes a ring of keys, the used one first. Changes are kept in store, unless that
// is nil. It derives nothing yet.
func NewRing(keys []Keys, store Store) (*Ring, error) {
	if len(keys) == 0 {
		return nil, errors.New("there is no key")
	}
	if len(keys) > MaxRing {
		return nil, fmt.Errorf("%d keys are given; a ring holds %d", len(keys), MaxRing)
	}
	s := &ringState{next: make(chan struct{})}
	for i, k := range keys {
		if slices.ContainsFunc(keys[:i], func(other Keys) bool { return other.Private == k.Private }) {
			return nil, errors.New("two keys of the ring have the same private key")
		}
		key, err := NewKey(k)
		if err != nil {
			return nil, err
		}
		s.keys = append(s.keys, key)
	}
	r := &Ring{store: store}
	if store == nil {
		s.stored = ErrNotStored
	}
	r.now.Store(s)
	return r, nil
}

// Used is the key for new links.
func (r *Ring) Used() *Key { return r.now.Load().keys[0] }

// Keys are all that are accepted, the used one first. Nobody may change the slice.
func (r *Ring) Keys() []*Key { return r.now.Load().keys }

// Fingerprints are those of Keys.
func (r *Ring) Fingerprints() []string {
	keys := r.Keys()
	names := make([]string, len(keys))
	for i, k := range keys {
		names[i] = k.Fingerprint()
	}
	return names
}

// Changed is closed when another key than the present one is used for new links. Read it
// before Used to miss no change.
func (r *Ring) Changed() <-chan struct{} { return r.now.Load().next }

// Stored is nil if the ring is written down as it is, else why not: it wraps ErrNotStored.
func (r *Ring) Stored() error { return r.now.Load().stored }

// ByID finds the key that a native link names; nil where there is none. At first it may
// derive keys.
func (r *Ring) ByID(id KeyID) *Key {
	for _, k := range r.Keys() {
		if _, own, err := k.Native(); err == nil && own == id {
			return k
		}
	}
	return nil
}

// Find finds a key by its fingerprint.
func (r *Ring) Find(fingerprint string) (*Key, error) {
	for _, k := range r.Keys() {
		if k.Fingerprint() == fingerprint {
			return k, nil
		}
	}
	return nil, fmt.Errorf("%w: %.32q", ErrUnknownKey, fingerprint)
}

// Seal is Envelope.Seal with the used key.
func (r *Ring) Seal(plaintext []byte) (string, error) { return r.Used().envelope.Seal(plaintext) }

// Open is Envelope.Open with whichever key fits; gate is asked for each that is tried.
func (r *Ring) Open(ctx context.Context, sealed string, gate Gate) ([]byte, error) {
	plaintext, _, err := r.open(ctx, sealed, gate)
	return plaintext, err
}

// Opener is the key that opens a sealed text; nil where none does, or ctx ends.
func (r *Ring) Opener(ctx context.Context, sealed string) *Key {
	if _, key, err := r.open(ctx, sealed, nil); err == nil {
		return key
	}
	return nil
}

func (r *Ring) open(ctx context.Context, sealed string, gate Gate) (plaintext []byte, with *Key, err error) {
	for _, k := range r.Keys() {
		plaintext, err = k.envelope.Open(ctx, sealed, gate)
		if !errors.Is(err, ErrKeyMismatch) {
			return plaintext, k, err
		}
	}
	return nil, nil, err
}

// ForLink gives what seals one link that somebody else opens.
func (r *Ring) ForLink() *LinkEnvelope { return &LinkEnvelope{ring: r} }

// Derivations counts the keys derived so far for messages.
func (r *Ring) Derivations() (n uint64) {
	for _, k := range r.Keys() {
		n += k.envelope.Derivations()
	}
	return n
}

// Add accepts a key from now on, and does nothing if it was accepted before. It fails with
// ErrRingFull, or as Keys.Validate does, and then the ring is as before; Stored tells
// whether the change outlives the process.
func (r *Ring) Add(keys Keys) (*Key, error) {
	key, err := NewKey(keys)
	if err != nil {
		return nil, err
	}
	r.change.Lock()
	defer r.change.Unlock()
	for _, k := range r.Keys() {
		if k.keys == keys {
			key = k
		}
	}
	return key, r.apply(func(all []Keys) ([]Keys, error) { return Added(all, keys) }, key)
}

// Use makes an accepted key the one for new links. It fails with ErrUnknownKey.
func (r *Ring) Use(fingerprint string) error {
	r.change.Lock()
	defer r.change.Unlock()
	k, err := r.Find(fingerprint)
	if err != nil {
		return err
	}
	return r.apply(func(all []Keys) ([]Keys, error) { return Preferred(all, k.keys) }, k)
}

// Remove accepts a key no more; one that is not there is removed already. It fails with
// ErrKeyInUse.
func (r *Ring) Remove(fingerprint string) error {
	r.change.Lock()
	defer r.change.Unlock()
	k, err := r.Find(fingerprint)
	if err != nil {
		return nil
	}
	return r.apply(func(all []Keys) ([]Keys, error) { return Removed(all, k.keys) }, k)
}

// apply puts a change into force, then writes it down: what is stored may hold keys
// that the process does not, and the other way round. r.change is held. key is the one
// that it is about.
func (r *Ring) apply(change func([]Keys) ([]Keys, error), key *Key) error {
	old := r.now.Load()
	known := append(slices.Clone(old.keys), key)
	texts := make([]Keys, len(old.keys))
	for i, k := range old.keys {
		texts[i] = k.keys
	}
	texts, err := change(texts)
	if err != nil {
		return err
	}
	now := &ringState{next: old.next, stored: ErrNotStored}
	for _, t := range texts {
		i := slices.IndexFunc(known, func(k *Key) bool { return k.keys == t })
		now.keys = append(now.keys, known[i])
	}
	if r.store != nil {
		if now.stored = r.store.Update(following(change, texts)); now.stored != nil {
			now.stored = fmt.Errorf("%w: %w", ErrNotStored, now.stored)
		}
	}
	used := now.keys[0] != old.keys[0]
	if used {
		now.next = make(chan struct{})
	}
	r.now.Store(now)
	if used {
		close(old.next)
	}
	return nil
}

// following is a change of stored keys after which they have all of those in force: an
// earlier change may have failed to be stored.
func following(change func([]Keys) ([]Keys, error), inForce []Keys) func([]Keys) ([]Keys, error) {
	return func(stored []Keys) ([]Keys, error) {
		stored, err := change(stored)
		for _, k := range inForce {
			if err == nil {
				stored, err = Added(stored, k)
			}
		}
		return stored, err
	}
}

// Added is a list of keys, the used one first, with one more. It fails with ErrRingFull, or
// where another key has the same private one.
func Added(all []Keys, k Keys) ([]Keys, error) {
	for _, other := range all {
		switch {
		case other == k:
			return all, nil
		case other.Private == k.Private:
			return nil, errors.New("the ring has this private key with another public one")
		}
	}
	if len(all) >= MaxRing {
		return nil, ErrRingFull
	}
	return append(slices.Clone(all), k), nil
}

// Preferred is a list of keys with one of them, or one more, used.
func Preferred(all []Keys, k Keys) ([]Keys, error) {
	all, err := Added(all, k)
	if err != nil {
		return nil, err
	}
	rest := slices.DeleteFunc(slices.Clone(all), func(other Keys) bool { return other == k })
	return append([]Keys{k}, rest...), nil
}

// Removed is a list of keys without one. It fails with ErrKeyInUse.
func Removed(all []Keys, k Keys) ([]Keys, error) {
	if len(all) > 0 && all[0] == k {
		return nil, ErrKeyInUse
	}
	return slices.DeleteFunc(slices.Clone(all), func(other Keys) bool { return other == k }), nil
}

// ValidFingerprint fails unless s looks like one.
func ValidFingerprint(s string) error {
	if len(s) != 12 || strings.Trim(s, "0123456789abcdef") != "" {
		return fmt.Errorf("%.32q is no fingerprint, which has 12 digits of 0-9 and a-f", s)
	}
	return nil
}
