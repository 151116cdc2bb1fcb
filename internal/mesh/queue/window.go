package queue

import (
	"crypto/sha256"
	"time"
)

// maxKeys bounds the keys that a queue remembers; beyond it the oldest is forgotten early.
const maxKeys = 100_000

// digest stands for an idempotency key, which may have any length.
type digest [16]byte

func digestOf(key string) digest {
	sum := sha256.Sum256([]byte(key))
	return digest(sum[:16])
}

// window is the keys of the items that were accepted lately, by when. It is not safe for
// concurrent use.
type window struct {
	span  time.Duration
	byKey map[digest]keyed
	order []keyed // oldest first; one that is not in byKey any more is passed over
}

type keyed struct {
	key digest
	id  string // of the item
	at  time.Time
}

func newWindow(span time.Duration) window {
	return window{span: span, byKey: make(map[digest]keyed)}
}

func (w *window) find(key digest) (id string, ok bool) {
	k, ok := w.byKey[key]
	return k.id, ok
}

// add remembers a key, and gives those that are forgotten for it.
func (w *window) add(key digest, id string, at time.Time) (forgotten []digest) {
	k := keyed{key, id, at}
	w.byKey[key] = k
	w.order = append(w.order, k)
	for len(w.byKey) > maxKeys {
		forgotten = append(forgotten, w.forget()...)
	}
	return forgotten
}

// remove forgets the key of an item that was not accepted after all.
func (w *window) remove(key digest) { delete(w.byKey, key) }

// expire forgets the keys whose time is over, and gives them.
func (w *window) expire(now time.Time) (forgotten []digest) {
	for len(w.order) > 0 && now.Sub(w.order[0].at) > w.span {
		forgotten = append(forgotten, w.forget()...)
	}
	return forgotten
}

func (w *window) forget() []digest {
	k := w.order[0]
	w.order = w.order[1:]
	if w.byKey[k.key] != k {
		return nil
	}
	delete(w.byKey, k.key)
	return []digest{k.key}
}
