package route

import (
	"bytes"
	"cmp"
	"encoding/json"
	"math/rand/v2"
	"slices"
)

// LessLoaded chooses two of all at random and gives the index of the one with less load: nearly
// as even as to look at all of them, and callers that know nothing of each other do not
// all choose the same one. all is not empty.
func LessLoaded[T any](all []T, load func(T) int) int {
	if len(all) == 1 {
		return 0
	}
	a := rand.IntN(len(all))
	b := rand.IntN(len(all) - 1)
	if b >= a {
		b++
	}
	if load(all[b]) < load(all[a]) {
		return b
	}
	return a
}

// Key is the hash of the member of a payload that a path leads to, from the outside. It
// reports false where that is missing or null, and where it is an object or a list. Numbers
// are compared as they are written.
func Key(payload json.RawMessage, path []string) (uint64, bool) {
	for _, field := range path {
		var members map[string]json.RawMessage
		if json.Unmarshal(payload, &members) != nil {
			return 0, false
		}
		payload = members[field]
	}
	payload = bytes.TrimSpace(payload)
	if len(payload) == 0 {
		return 0, false
	}
	switch payload[0] {
	case 'n', '{', '[':
		return 0, false
	case '"':
		var text string // however it is escaped
		if json.Unmarshal(payload, &text) != nil {
			return 0, false
		}
		return hash(text), true
	}
	return hash(string(payload)), true
}

// Ranked gives all in the order in which they are responsible for a key, by rendezvous
// hashing: without its first one, each key goes to its second one and no other key moves.
// Callers anywhere come to the same order.
func Ranked[T any](all []T, key uint64, name func(T) string) []T {
	type scored struct {
		score uint64
		of    T
	}
	scores := make([]scored, len(all))
	for i, v := range all {
		scores[i] = scored{mix(hash(name(v)) ^ key), v}
	}
	slices.SortStableFunc(scores, func(a, b scored) int { return cmp.Compare(b.score, a.score) })
	ranked := make([]T, len(all))
	for i, s := range scores {
		ranked[i] = s.of
	}
	return ranked
}

// hash is FNV-1a, mixed. It is part of the protocol: peers have to agree on it.
func hash(s string) uint64 {
	h := uint64(14695981039346656037)
	for i := range len(s) {
		h = (h ^ uint64(s[i])) * 1099511628211
	}
	return mix(h)
}

// mix is the finalizer of SplitMix64.
func mix(x uint64) uint64 {
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}
