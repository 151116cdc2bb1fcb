package identity

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

const (
	// MaxDenied is how many entries a deny list may have.
	MaxDenied = 10_000
	// MaxDenyListSize is the largest deny list file, in bytes.
	MaxDenyListSize = 1 << 20

	maxEntry = 256
)

// DenyList names who is revoked: the id of a token, a worker (or Operator), or
// "worker/variant". It is immutable. The nil list is empty.
type DenyList struct{ entries map[string]bool }

// ParseDenyList reads a file: an entry per line; what follows "#" is a comment. Errors
// wrap ErrBadDenyList and name the line.
func ParseDenyList(data []byte) (*DenyList, error) {
	if len(data) > MaxDenyListSize {
		return nil, fmt.Errorf("%w: more than %d bytes", ErrBadDenyList, MaxDenyListSize)
	}
	l := &DenyList{map[string]bool{}}
	number := 0
	for line := range strings.Lines(string(data)) {
		number++
		line, _, _ = strings.Cut(line, "#")
		if line = strings.TrimSpace(line); line == "" {
			continue
		}
		if err := l.add(line); err != nil {
			return nil, fmt.Errorf("%w: line %d: %w", ErrBadDenyList, number, err)
		}
	}
	return l, nil
}

// NewDenyList takes the entries that a master sent. Errors wrap ErrBadDenyList.
func NewDenyList(entries []string) (*DenyList, error) {
	l := &DenyList{map[string]bool{}}
	for _, e := range entries {
		if err := l.add(e); err != nil {
			return nil, fmt.Errorf("%w: %w", ErrBadDenyList, err)
		}
	}
	return l, nil
}

func (l *DenyList) add(entry string) error {
	if entry == "" || len(entry) > maxEntry || strings.ContainsFunc(entry, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return errors.New("an entry is a token's id, WORKER or WORKER/VARIANT")
	}
	l.entries[entry] = true
	if len(l.entries) > MaxDenied {
		return fmt.Errorf("more than %d entries", MaxDenied)
	}
	return nil
}

// Entries lists the entries, sorted; none of a nil list.
func (l *DenyList) Entries() []string {
	if l == nil {
		return nil
	}
	out := make([]string, 0, len(l.entries))
	for e := range l.entries {
		out = append(out, e)
	}
	slices.Sort(out)
	return out
}

// Denies tells whether somebody is revoked, by name or by token, which may be nil.
func (l *DenyList) Denies(worker, variant string, c *Claims) bool {
	if l == nil {
		return false
	}
	return l.entries[worker] || l.entries[worker+"/"+variant] || c != nil && l.entries[c.ID]
}
