package socketio

import "sync"

// queue is a FIFO that is bounded in items and in bytes. Any number of
// goroutines may push; one at a time takes. A single item is always accepted
// by an empty queue, however big it is.
type queue[T any] struct {
	// ready receives after a push, space after a pop: both only say "look again".
	ready, space chan struct{}

	mu       sync.Mutex
	items    []sized[T]
	bytes    int
	maxItems int
	maxBytes int
}

type sized[T any] struct {
	value T
	size  int
}

func newQueue[T any](maxItems, maxBytes int) *queue[T] {
	return &queue[T]{
		ready:    make(chan struct{}, 1),
		space:    make(chan struct{}, 1),
		maxItems: maxItems,
		maxBytes: maxBytes,
	}
}

// tryPush adds v, or tells that there is no room.
func (q *queue[T]) tryPush(v T, size int) bool {
	q.mu.Lock()
	if n := len(q.items); n > 0 && (n >= q.maxItems || q.bytes+size > q.maxBytes) {
		q.mu.Unlock()
		return false
	}
	q.items = append(q.items, sized[T]{v, size})
	q.bytes += size
	q.mu.Unlock()
	wake(q.ready)
	return true
}

// push waits for room. It tells false when one of the channels was closed first.
func (q *queue[T]) push(v T, size int, done, closing <-chan struct{}) bool {
	for !q.tryPush(v, size) {
		select {
		case <-q.space:
		case <-done:
			return false
		case <-closing:
			return false
		}
	}
	return true
}

// pop takes the oldest item, if there is one.
func (q *queue[T]) pop() (T, bool) {
	q.mu.Lock()
	var first sized[T]
	ok := len(q.items) > 0
	if ok {
		first = q.items[0]
		q.items[0] = sized[T]{} // the array outlives the item
		q.items = q.items[1:]
		q.bytes -= first.size
		if len(q.items) == 0 {
			q.items = nil
		}
	}
	q.mu.Unlock()
	if ok {
		wake(q.space)
	}
	return first.value, ok
}

// setBounds changes the bounds; what is queued stays.
func (q *queue[T]) setBounds(maxItems, maxBytes int) {
	q.mu.Lock()
	q.maxItems, q.maxBytes = maxItems, maxBytes
	q.mu.Unlock()
	wake(q.space)
}

func wake(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
