package registry

import (
	"cmp"
	"slices"
	"sync"
)

// Memory is a Registry for one master. The zero value is empty and ready.
type Memory struct {
	mu    sync.RWMutex
	nodes map[id]Node
}

type id struct{ worker, variant string }

var _ Registry = (*Memory)(nil)

// Put implements Registry.
func (m *Memory) Put(n Node) *Node {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.nodes == nil {
		m.nodes = make(map[id]Node)
	}
	k := id{n.Worker, n.Variant}
	old, was := m.nodes[k]
	m.nodes[k] = n
	if was {
		return &old
	}
	return nil
}

// Remove implements Registry.
func (m *Memory) Remove(worker, variant, clientID string) (Node, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	k := id{worker, variant}
	n, ok := m.nodes[k]
	if !ok || n.ClientID != clientID {
		return Node{}, false
	}
	delete(m.nodes, k)
	return n, true
}

// Get implements Registry.
func (m *Memory) Get(worker, variant string) (Node, bool) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	n, ok := m.nodes[id{worker, variant}]
	return n, ok
}

// List implements Registry.
func (m *Memory) List() []Node {
	m.mu.RLock()
	defer m.mu.RUnlock()
	nodes := make([]Node, 0, len(m.nodes))
	for _, n := range m.nodes {
		nodes = append(nodes, n)
	}
	slices.SortFunc(nodes, func(a, b Node) int {
		return cmp.Or(cmp.Compare(a.Worker, b.Worker), cmp.Compare(a.Variant, b.Variant))
	})
	return nodes
}
