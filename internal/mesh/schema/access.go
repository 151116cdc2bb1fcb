package schema

import (
	"maps"
	"slices"
)

// MayConnect tells whether a node of from may open a link to one of to: from's
// _connect has to, and to's _allow has from. Unknown workers may nothing.
func (s *Schema) MayConnect(from, to string) bool {
	f, t := s.Workers[from], s.Workers[to]
	return f != nil && t != nil && f.Connect.Has(to) && t.Allow.Has(from)
}

// Links tells whether there may be a link between a and b, whoever opens it.
func (s *Schema) Links(a, b string) bool {
	return s.MayConnect(a, b) || s.MayConnect(b, a)
}

// MayCall tells whether from may call the commands of to: from's _allow or
// _connect has to, which holds for from itself as well. It says nothing of
// whether a link can exist (see Links). Unknown workers, and so the operator,
// may nothing by the schema.
func (s *Schema) MayCall(from, to string) bool {
	f := s.Workers[from]
	return f != nil && s.Workers[to] != nil && (f.Allow.Has(to) || f.Connect.Has(to))
}

// AllowsCaller tells whether the command's callers let a worker call it. Whether it may
// call the command's worker at all is for MayCall to say. The operator always may.
func (c *Command) AllowsCaller(worker string) bool {
	return c.Callers == nil || worker == Operator || c.Callers.Has(worker)
}

// Lookup finds a command of a worker.
func (s *Schema) Lookup(worker, command string) (*Command, bool) {
	w := s.Workers[worker]
	if w == nil {
		return nil, false
	}
	c, ok := w.Commands[command]
	return c, ok
}

// WorkerNames gives the names of all workers, sorted.
func (s *Schema) WorkerNames() []string {
	return slices.Sorted(maps.Keys(s.Workers))
}

// CommandNames gives the names of worker's commands, sorted; none where the
// worker is unknown.
func (s *Schema) CommandNames(worker string) []string {
	w := s.Workers[worker]
	if w == nil {
		return nil
	}
	return slices.Sorted(maps.Keys(w.Commands))
}

// FirstCaller gives the worker as which the operator introduces itself to a
// JavaScript node of to, which knows no operator: the first by name that may
// connect to it, preferring one without commands, whose calls nobody waits for.
func (s *Schema) FirstCaller(to string) (string, bool) {
	first := ""
	for _, name := range s.WorkerNames() {
		if !s.MayConnect(name, to) {
			continue
		}
		if len(s.Workers[name].Commands) == 0 {
			return name, true
		}
		if first == "" {
			first = name
		}
	}
	return first, first != ""
}
