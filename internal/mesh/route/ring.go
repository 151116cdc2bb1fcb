// Package route chooses the variants that a request goes to: one in turn for a
// balanced command, each of them for a broadcast, narrowed by only and exclude.
package route

import (
	"slices"
	"sync/atomic"
)

// Ring hands out its members one after another. All methods are safe for concurrent
// use; All and Turn do not block and do not allocate.
type Ring[T comparable] struct {
	members atomic.Pointer[[]T]
	turn    atomic.Uint64
}

// All returns the members in their order. The caller must not change the slice.
func (r *Ring[T]) All() []T {
	if p := r.members.Load(); p != nil {
		return *p
	}
	return nil
}

// Turn returns the members, and which of them a request should try first. Each call moves
// the turn on by one. The turns of members to be skipped go to the others, to each as many;
// where all are, they keep them. The caller must not change the slice.
func (r *Ring[T]) Turn(skip func(T) bool) (all []T, first int) {
	all = r.All()
	return all, r.next(all, skip)
}

// next moves the turn on by one, and says which of some members it falls to; 0 without any.
func (r *Ring[T]) next(some []T, skip func(T) bool) int {
	if len(some) == 0 {
		return 0
	}
	turn := r.turn.Add(1) - 1
	first := int(turn % uint64(len(some)))
	if skip(some[first]) {
		return instead(some, turn, skip)
	}
	return first
}

// instead is who takes the turn of one that is skipped.
func instead[T any](all []T, turn uint64, skip func(T) bool) int {
	n := uint64(len(all))
	own := turn % n
	left := uint64(0)
	for _, v := range all {
		if !skip(v) {
			left++
		}
	}
	if left == 0 {
		return int(own)
	}
	// Another one each time round; and not the same one for two that are skipped.
	which := (turn/n + own) % left
	for i, v := range all {
		if skip(v) {
			continue
		}
		if which == 0 {
			return i
		}
		which--
	}
	return int(own) // one more has to be skipped since
}

// Add appends v unless it is a member. Callers serialise Add and Remove.
func (r *Ring[T]) Add(v T) {
	all := r.All()
	if slices.Contains(all, v) {
		return
	}
	next := append(slices.Clip(slices.Clone(all)), v)
	r.members.Store(&next)
}

// Remove takes v out, if it is a member. Callers serialise Add and Remove.
func (r *Ring[T]) Remove(v T) {
	next := slices.Clone(r.All())
	if i := slices.Index(next, v); i >= 0 {
		next = slices.Delete(next, i, i+1)
		r.members.Store(&next)
	}
}

// TurnOf is Turn over the members that keep accepts. The caller owns the slice.
func (r *Ring[T]) TurnOf(keep, skip func(T) bool) (some []T, first int) {
	some = slices.DeleteFunc(slices.Clone(r.All()), func(v T) bool { return !keep(v) })
	return some, r.next(some, skip)
}
