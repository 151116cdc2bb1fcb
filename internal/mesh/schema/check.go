package schema

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// checker makes a Schema of a tree and collects what is wrong with it.
type checker struct {
	file string
	// wire accepts what a newer release may send: unknown members and rules
	// about unknown workers. It never looks at a method: what runs on this
	// machine is not for a peer to say.
	wire     bool
	problems Problems
	pos      map[string]position
	workers  []string        // sorted, all that are defined and well named
	badNames map[string]bool // the others
}

func newChecker(file string) *checker {
	return &checker{file: file, pos: map[string]position{}, badNames: map[string]bool{}}
}

// full tells that further problems are not reported, nor worth looking for.
func (c *checker) full() bool { return len(c.problems) >= maxProblems }

func (c *checker) add(at position, path, message, instead string) {
	if c.full() {
		return
	}
	c.problems = append(c.problems, Problem{
		File: c.file, Line: at.line, Column: at.column,
		Path: path, Message: message, Instead: instead,
	})
}

// object gives n's members without duplicates, which it reports, and nothing
// where n is absent or null. It fails where n is something else.
func (c *checker) object(n *node, path, what, instead string) ([]member, bool) {
	if n == nil || n.kind == null {
		return nil, true
	}
	if n.kind != object {
		c.add(n.at, path, fmt.Sprintf("%s is %s, not an object", what, n.describe()), instead)
		return nil, false
	}
	seen := make(map[string]position, len(n.members))
	members := make([]member, 0, len(n.members))
	for _, m := range n.members {
		if first, ok := seen[m.key]; ok {
			c.add(m.at, join(path, m.key), fmt.Sprintf("duplicate key %q, first on line %d", clip(m.key), first.line), "")
			continue
		}
		seen[m.key] = m.at
		members = append(members, m)
	}
	return members, true
}

// unknown reports a key that is none of known.
func (c *checker) unknown(m member, path, where string, known []string) {
	if c.wire || c.full() {
		return
	}
	instead := suggest(m.key, known)
	msg := fmt.Sprintf("unknown key %q in %s", clip(m.key), where)
	if instead == "" {
		msg += ", which has " + strings.Join(known, ", ")
	}
	c.add(m.at, join(path, m.key), msg, instead)
}

func (c *checker) schema(root *node) *Schema {
	const example = `"worker: {_allow: anyNode, _connect: [worker]}"`
	s := &Schema{Workers: map[string]*Worker{}, file: c.file, pos: c.pos}
	members, ok := c.object(root, "", "the schema", example)
	members = slices.DeleteFunc(members, func(m member) bool {
		if m.key == keyTokens {
			s.TokensRequired = c.tokens(m)
		}
		return m.key == keyTokens
	})
	switch {
	case !ok:
		return nil
	case len(members) == 0 && !c.wire:
		c.add(position{1, 1}, "", "the schema is empty", example)
		return nil
	case len(members) > MaxWorkers:
		c.add(members[MaxWorkers].at, "", fmt.Sprintf("the schema has more than %d workers", MaxWorkers), "")
		return nil
	}
	for _, m := range members {
		if err := ValidWorker(m.key); err != nil {
			c.add(m.at, join("", m.key), err.Error(), "")
			c.badNames[m.key] = true
			continue
		}
		c.workers = append(c.workers, m.key)
	}
	slices.Sort(c.workers)
	for _, m := range members {
		s.Workers[m.key] = c.worker(m)
	}
	return s
}

func (c *checker) worker(m member) *Worker {
	w := &Worker{Name: m.key, Commands: map[string]*Command{}}
	path := join("", m.key)
	c.pos[m.key] = m.at
	members, _ := c.object(m.value, path, "worker "+clip(m.key), "{_allow: …, _connect: …, _commands: …}")
	for _, m := range members {
		switch m.key {
		case "_allow":
			w.Allow = c.set(m, path, w.Name)
		case "_connect":
			w.Connect = c.set(m, path, w.Name)
		case "_commands":
			c.commands(w, m.value, join(path, m.key))
		default:
			c.unknown(m, path, "worker "+clip(w.Name), []string{"_allow", "_connect", "_commands"})
		}
	}
	return w
}

func (c *checker) set(m member, path, worker string) Set {
	path = join(path, m.key)
	c.pos[rulePath(worker, m.key)] = m.at
	items := []*node{m.value}
	switch m.value.kind {
	case null:
		return Set{}
	case list:
		items = m.value.items
	case text:
		if m.value.text == AnyNode {
			return Set{Any: true}
		}
	}
	names := make(map[string]bool, len(items))
	for _, item := range items {
		if c.ruleEntry(item, path, names) {
			names[item.text] = true
			c.pos[entryPath(worker, m.key, item.text)] = item.at
		}
	}
	if len(names) == 0 {
		return Set{}
	}
	return Set{Workers: slices.Sorted(maps.Keys(names))}
}

// ruleEntry tells whether n, one name in an _allow or _connect, is good.
func (c *checker) ruleEntry(n *node, path string, earlier map[string]bool) bool {
	switch {
	case c.full():
		return false
	case n.kind != text:
		instead := "anyNode, a worker's name or a list of names"
		if n.kind == boolean {
			instead = quoted(n)
		}
		c.add(n.at, path, "a worker's name is expected, not "+n.describe(), instead)
		return false
	case n.text == AnyNode:
		c.add(n.at, path, "anyNode stands for all workers and is not part of a list", AnyNode+" without a list")
		return false
	case earlier[n.text]:
		c.add(n.at, path, fmt.Sprintf("worker %q is listed twice", clip(n.text)), "")
		return false
	}
	if _, defined := slices.BinarySearch(c.workers, n.text); defined || c.badNames[n.text] {
		return true // a bad name is reported where it is defined
	}
	if err := ValidWorker(n.text); err != nil {
		c.add(n.at, path, err.Error(), "")
		return false
	}
	if c.wire {
		return true
	}
	instead := suggest(n.text, append([]string{AnyNode}, c.workers...))
	msg := fmt.Sprintf("unknown worker %q", clip(n.text))
	if instead == "" {
		msg += ": the schema defines " + enumerate(c.workers)
	}
	c.add(n.at, path, msg, instead)
	return false
}

func (c *checker) commands(w *Worker, n *node, path string) {
	members, _ := c.object(n, path, "_commands", "{_balanced: {…}, _broadcast: {…}}")
	for _, m := range members {
		switch m.key {
		case "_balanced":
			c.delivery(w, m, path, Balanced)
		case "_broadcast":
			c.delivery(w, m, path, Broadcast)
		default:
			c.unknown(m, path, "_commands", []string{"_balanced", "_broadcast"})
		}
	}
}

func (c *checker) delivery(w *Worker, m member, path string, d Delivery) {
	path = join(path, m.key)
	members, _ := c.object(m.value, path, m.key, "{NAME: METHOD, …}")
	for _, m := range members {
		if len(w.Commands) >= MaxCommands {
			c.add(m.at, path, fmt.Sprintf("worker %s has more than %d commands", clip(w.Name), MaxCommands), "")
			return
		}
		if err := ValidCommand(m.key); err != nil {
			c.add(m.at, join(path, m.key), err.Error(), "")
		}
		if other, ok := w.Commands[m.key]; ok {
			c.add(m.at, join(path, m.key), fmt.Sprintf("command %q of worker %s is both %s and %s, %s on line %d",
				clip(m.key), clip(w.Name), other.Delivery, d, other.Delivery, c.pos[commandPath(w.Name, m.key)].line),
				"it in one of them only")
			continue
		}
		c.pos[commandPath(w.Name, m.key)] = m.at
		w.Commands[m.key] = c.command(w.Name, m, path, d)
	}
}

// enumerate lists names for a message.
func enumerate(names []string) string {
	const most = 8
	if len(names) == 0 {
		return "none"
	}
	short := make([]string, 0, most)
	for _, n := range names[:min(most, len(names))] {
		short = append(short, clip(n))
	}
	s := strings.Join(short, ", ")
	if len(names) > most {
		s += fmt.Sprintf(" and %d more", len(names)-most)
	}
	return s
}

// Where the parts of a schema were defined, by a key that no name can contain.
func rulePath(worker, rule string) string         { return worker + "\x00" + rule }
func entryPath(worker, rule, entry string) string { return worker + "\x00" + rule + "\x00" + entry }
func commandPath(worker, command string) string   { return worker + "\x00." + command }
