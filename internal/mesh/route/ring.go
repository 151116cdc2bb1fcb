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
// the turn on by one. The caller must not change the slice.
func (r *Ring[T]) Turn() (all []T, first int) {
	if all = r.All(); len(all) > 0 {
		first = int((r.turn.Add(1) - 1) % uint64(len(all)))
	}
	return all, first
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
func (r *Ring[T]) TurnOf(keep func(T) bool) (some []T, first int) {
	some = slices.DeleteFunc(slices.Clone(r.All()), func(v T) bool { return !keep(v) })
	if len(some) > 0 {
		first = int((r.turn.Add(1) - 1) % uint64(len(some)))
	}
	return some, first
}
