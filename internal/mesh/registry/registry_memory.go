package registry

import (
	"cmp"
	"maps"
	"slices"
	"sync"
)

// Memory is a Registry for one master. The zero value is empty and ready.
type Memory struct {
	mu      sync.RWMutex
	workers map[string]map[string]Node // by worker and variant
}

var _ Registry = (*Memory)(nil)

// Put implements Registry.
func (m *Memory) Put(n Node) *Node {
	m.mu.Lock()
	defer m.mu.Unlock()
	of := m.workers[n.Worker]
	if of == nil {
		if m.workers == nil {
			m.workers = make(map[string]map[string]Node)
		}
		of = make(map[string]Node)
		m.workers[n.Worker] = of
	}
	old, was := of[n.Variant]
	of[n.Variant] = n
	if was {
		return &old
	}
	return nil
}

// Remove implements Registry.
func (m *Memory) Remove(worker, variant, clientID string) (Node, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	of := m.workers[worker]
	n, ok := of[variant]
	if !ok || n.ClientID != clientID {
		return Node{}, false
	}
	if delete(of, variant); len(of) == 0 {
		delete(m.workers, worker)
	}
	return n, true
}

// Get implements Registry.
func (m *Memory) Get(worker, variant string) (Node, bool) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	n, ok := m.workers[worker][variant]
	return n, ok
}

// OfWorker implements Registry.
func (m *Memory) OfWorker(worker string) []Node {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return ofWorker(m.workers[worker])
}

func ofWorker(of map[string]Node) []Node {
	return slices.SortedFunc(maps.Values(of), func(a, b Node) int { return cmp.Compare(a.Variant, b.Variant) })
}

// List implements Registry.
func (m *Memory) List() []Node {
	m.mu.RLock()
	defer m.mu.RUnlock()
	nodes := []Node{}
	for _, worker := range slices.Sorted(maps.Keys(m.workers)) {
		nodes = append(nodes, ofWorker(m.workers[worker])...)
	}
	return nodes
}
