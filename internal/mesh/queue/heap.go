package queue

import stdheap "container/heap"

// heap is entries by less, the least one first.
type heap struct {
	less    func(a, b *entry) bool
	entries []*entry
}

func (h *heap) push(e *entry)   { stdheap.Push((*heapSlice)(h), e) }
func (h *heap) pop() *entry     { return stdheap.Pop((*heapSlice)(h)).(*entry) }
func (h *heap) remove(e *entry) { stdheap.Remove((*heapSlice)(h), e.index) }

// heapSlice is what container/heap wants of a heap.
type heapSlice heap

func (h *heapSlice) Len() int           { return len(h.entries) }
func (h *heapSlice) Less(i, j int) bool { return h.less(h.entries[i], h.entries[j]) }
func (h *heapSlice) Swap(i, j int) {
	h.entries[i], h.entries[j] = h.entries[j], h.entries[i]
	h.entries[i].index, h.entries[j].index = i, j
}

func (h *heapSlice) Push(x any) {
	e := x.(*entry)
	e.index = len(h.entries)
	h.entries = append(h.entries, e)
}

func (h *heapSlice) Pop() any {
	last := len(h.entries) - 1
	e := h.entries[last]
	h.entries[last] = nil
	h.entries = h.entries[:last]
	return e
}
