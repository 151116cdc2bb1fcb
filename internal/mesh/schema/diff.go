package schema

import (
	"fmt"
	"reflect"
	"slices"
)

// Changes is what differs between two schemas, each list sorted.
type Changes struct {
	WorkersAdded, WorkersRemoved []string

	// "worker.command", those of added and removed workers included. Changed are
	// the commands that are delivered, queued or answered in another way.
	CommandsAdded, CommandsRemoved, CommandsChanged []string

	// Links that may be opened now, or no more, between workers that both
	// schemas have.
	LinksAdded, LinksRemoved []Pair

	// Tokens became required, or are no more.
	TokensAdded, TokensRemoved bool

	// RulesChanged are the _allow and _connect of workers that both schemas have.
	RulesChanged []RuleChange
}

// Pair is two workers, of which From may connect to To.
type Pair struct{ From, To string }

// RuleChange is a worker's changed _allow or _connect.
type RuleChange struct {
	Worker, Rule string
	Old, New     Set
}

// Diff compares two schemas.
func Diff(old, new *Schema) Changes {
	c := Changes{TokensAdded: new.TokensRequired && !old.TokensRequired, TokensRemoved: old.TokensRequired && !new.TokensRequired}
	var common []string
	for _, name := range old.WorkerNames() {
		if new.Workers[name] == nil {
			c.WorkersRemoved = append(c.WorkersRemoved, name)
			continue
		}
		common = append(common, name)
	}
	for _, name := range new.WorkerNames() {
		if old.Workers[name] == nil {
			c.WorkersAdded = append(c.WorkersAdded, name)
		}
	}
	c.commands(old, new)
	for _, from := range common {
		c.rule(from, "_allow", old.Workers[from].Allow, new.Workers[from].Allow)
		c.rule(from, "_connect", old.Workers[from].Connect, new.Workers[from].Connect)
		for _, to := range common {
			switch before, after := old.MayConnect(from, to), new.MayConnect(from, to); {
			case after && !before:
				c.LinksAdded = append(c.LinksAdded, Pair{from, to})
			case before && !after:
				c.LinksRemoved = append(c.LinksRemoved, Pair{from, to})
			}
		}
	}
	return c
}

func (c *Changes) rule(worker, rule string, old, new Set) {
	if old.Any != new.Any || !slices.Equal(old.Workers, new.Workers) {
		c.RulesChanged = append(c.RulesChanged, RuleChange{worker, rule, old, new})
	}
}

func (c *Changes) commands(old, new *Schema) {
	for _, worker := range old.WorkerNames() {
		for _, name := range old.CommandNames(worker) {
			before := old.Workers[worker].Commands[name]
			after, ok := new.Lookup(worker, name)
			switch {
			case !ok:
				c.CommandsRemoved = append(c.CommandsRemoved, worker+"."+name)
			case !reflect.DeepEqual(before, after):
				c.CommandsChanged = append(c.CommandsChanged, worker+"."+name)
			}
		}
	}
	for _, worker := range new.WorkerNames() {
		for _, name := range new.CommandNames(worker) {
			if _, ok := old.Lookup(worker, name); !ok {
				c.CommandsAdded = append(c.CommandsAdded, worker+"."+name)
			}
		}
	}
}

// Empty tells that the schemas are equal but for where they come from.
func (c Changes) Empty() bool { return len(c.Lines()) == 0 }

// Lines gives one line for the log per change.
func (c Changes) Lines() []string {
	var out []string
	add := func(format string, names []string) {
		for _, n := range names {
			out = append(out, fmt.Sprintf(format, n))
		}
	}
	switch {
	case c.TokensAdded:
		out = append(out, "tokens are now required")
	case c.TokensRemoved:
		out = append(out, "tokens are no longer required")
	}
	add("worker %s added", c.WorkersAdded)
	add("worker %s removed", c.WorkersRemoved)
	add("command %s added", c.CommandsAdded)
	add("command %s removed", c.CommandsRemoved)
	add("command %s changed", c.CommandsChanged)
	for _, r := range c.RulesChanged {
		out = append(out, fmt.Sprintf("%s of %s changed from %s to %s", r.Rule, r.Worker, r.Old, r.New))
	}
	for _, l := range c.LinksAdded {
		out = append(out, fmt.Sprintf("%s may now connect to %s", l.From, l.To))
	}
	for _, l := range c.LinksRemoved {
		out = append(out, fmt.Sprintf("%s may no longer connect to %s", l.From, l.To))
	}
	return out
}
