package query

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/meshctl/meshctl/internal/mesh/inspect"
	"github.com/meshctl/meshctl/internal/mesh/schema"
)

// Assertion is a condition on a mesh. It is immutable and safe for concurrent use.
type Assertion struct {
	text  string
	holds func(seen []Finding) bool
	tests []test
}

// test compares what a function gives with a number.
type test struct {
	function *function
	argument string
	op       comparison
	want     float64
	wantText string
}

// Finding is what an assertion saw of one of its comparisons.
type Finding struct {
	Call  string  // as in "p99(worker.status)"
	Want  string  // as in "<200ms"
	Value float64 // of durations in milliseconds
	Unit  string  // "ms", "/s" or ""
	// Known is false where there is nothing to compare, such as the latency of a command
	// that nobody has called. The comparison does not hold then.
	Known bool
	Holds bool
}

func (f Finding) String() string {
	if !f.Known {
		return f.Call + " has no value yet"
	}
	return f.Call + " is " + strconv.FormatFloat(f.Value, 'f', -1, 64) + f.Unit
}

// Baseline is where counts begin: errors() and calls() are what came after it. The zero
// Baseline counts from the start of the nodes.
type Baseline struct {
	calls, errors uint64
	commands      map[string][2]uint64
}

// NewBaseline begins to count at a picture.
func NewBaseline(p *inspect.Picture) Baseline {
	b := Baseline{p.Totals.Calls, p.Totals.Errors, map[string][2]uint64{}}
	for i := range p.Commands {
		c := &p.Commands[i]
		b.commands[c.Name] = [2]uint64{c.Calls, c.Failed}
	}
	return b
}

// scope is what the argument of a function names.
type scope int

const (
	scopeMesh    scope = iota // takes none
	scopeWorker               // needs a worker
	scopeCommand              // takes a command, or none for all
)

// function is one of those that assertions may call.
type function struct {
	name  string
	scope scope
	kind  Kind
	unit  string
	value func(p *inspect.Picture, since Baseline, argument string) (value float64, known bool)
}

func functions() []function {
	count := func(n int) (float64, bool) { return float64(n), true }
	list := []function{
		{"variants", scopeWorker, KindNumber, "", func(p *inspect.Picture, _ Baseline, worker string) (float64, bool) {
			n := 0
			for i := range p.Nodes {
				v := &p.Nodes[i]
				if v.Worker == worker && (v.Health == inspect.Healthy || v.Health == inspect.Degraded) {
					n++
				}
			}
			return count(n)
		}},
		{"nodes", scopeMesh, KindNumber, "", func(p *inspect.Picture, _ Baseline, _ string) (float64, bool) { return count(p.Totals.Nodes) }},
		{"links", scopeMesh, KindNumber, "", func(p *inspect.Picture, _ Baseline, _ string) (float64, bool) { return count(p.Totals.Links) }},
		{"missing_links", scopeMesh, KindNumber, "", func(p *inspect.Picture, _ Baseline, _ string) (float64, bool) { return count(p.Totals.MissingLinks) }},
		{"calls", scopeCommand, KindNumber, "", func(p *inspect.Picture, b Baseline, name string) (float64, bool) {
			if name == "" {
				return float64(p.Totals.Calls - b.calls), true
			}
			return float64(commandOf(p, name).Calls - b.commands[name][0]), true
		}},
		{"errors", scopeCommand, KindNumber, "", func(p *inspect.Picture, b Baseline, name string) (float64, bool) {
			if name == "" {
				return float64(p.Totals.Errors - b.errors), true
			}
			return float64(commandOf(p, name).Failed - b.commands[name][1]), true
		}},
		{"rate", scopeCommand, KindNumber, "/s", func(p *inspect.Picture, _ Baseline, name string) (float64, bool) {
			if name == "" {
				return p.Totals.Rate, true
			}
			return commandOf(p, name).Rate, true
		}},
		{"inflight", scopeCommand, KindNumber, "", func(p *inspect.Picture, _ Baseline, name string) (float64, bool) {
			if name == "" {
				return count(p.Totals.InFlight)
			}
			return count(commandOf(p, name).InFlight)
		}},
		{"queue_depth", scopeCommand, KindNumber, "", func(p *inspect.Picture, _ Baseline, name string) (float64, bool) {
			return queued(p, name, func(q *inspect.Queue) int { return q.Depth })
		}},
		{"dead", scopeCommand, KindNumber, "", func(p *inspect.Picture, _ Baseline, name string) (float64, bool) {
			return queued(p, name, func(q *inspect.Queue) int { return q.Dead })
		}},
	}
	for _, q := range []struct {
		name string
		mesh func(*inspect.Totals) time.Duration
		of   func(*inspect.Command) time.Duration
	}{
		{"p50", func(t *inspect.Totals) time.Duration { return t.P50 }, func(c *inspect.Command) time.Duration { return c.P50 }},
		{"p90", func(t *inspect.Totals) time.Duration { return t.P90 }, func(c *inspect.Command) time.Duration { return c.P90 }},
		{"p99", func(t *inspect.Totals) time.Duration { return t.P99 }, func(c *inspect.Command) time.Duration { return c.P99 }},
		{"p999", func(t *inspect.Totals) time.Duration { return t.P999 }, func(c *inspect.Command) time.Duration { return c.P999 }},
	} {
		list = append(list, function{q.name, scopeCommand, KindDuration, "ms", func(p *inspect.Picture, _ Baseline, name string) (float64, bool) {
			d := q.mesh(&p.Totals)
			if name != "" {
				c := commandOf(p, name)
				d = q.of(&c)
			}
			return float64(d), d > 0
		}})
	}
	return list
}

func commandOf(p *inspect.Picture, name string) inspect.Command {
	i, found := slices.BinarySearchFunc(p.Commands, name, func(c inspect.Command, name string) int { return cmp.Compare(c.Name, name) })
	if !found {
		return inspect.Command{}
	}
	return p.Commands[i]
}

func queued(p *inspect.Picture, command string, of func(*inspect.Queue) int) (float64, bool) {
	n := 0
	for i := range p.Queues {
		if q := &p.Queues[i]; command == "" || q.Command == command {
			n += of(q)
		}
	}
	return float64(n), true
}

// Assert reads an assertion: comparisons joined by and, or, not and parentheses. What is
// compared is
//
//	variants(WORKER)             that are there and well
//	nodes() links() missing_links()
//	p50() p90() p99() p999()     of the last ten seconds, of all commands or (COMMAND)
//	rate()                       calls a second, of all or (COMMAND)
//	calls() errors()             since the Baseline, of all or (COMMAND)
//	inflight() queue_depth() dead()   now, of all or (COMMAND)
//
// with = != > >= < <= and a number, or a duration such as 200ms. Errors are *Error.
func Assert(text string) (*Assertion, error) {
	p, err := newParser(text)
	if err != nil {
		return nil, err
	}
	a := &Assertion{text: text}
	c := &assertParser{p, functions(), a}
	if p.tok.kind == tokenEnd {
		return nil, p.fail(0, "write something like errors()=0", "nothing is asserted")
	}
	type rule = func([]Finding) bool
	a.holds, err = expression(p, c.comparison, joiner[rule]{
		and: func(x, y rule) rule { return func(f []Finding) bool { return x(f) && y(f) } },
		or:  func(x, y rule) rule { return func(f []Finding) bool { return x(f) || y(f) } },
		not: func(x rule) rule { return func(f []Finding) bool { return !x(f) } },
	})
	if err != nil {
		return nil, err
	}
	if p.tok.kind != tokenEnd {
		return nil, p.fail(p.tok.at, "", "%s is not expected here", p.tok)
	}
	return a, nil
}

// String is the text that was compiled.
func (a *Assertion) String() string { return a.text }

// Check judges a picture. It fails when the schema does not define what the assertion
// names, so that a slip of the pen is no success.
func (a *Assertion) Check(p *inspect.Picture, since Baseline) (holds bool, seen []Finding, err error) {
	seen = make([]Finding, len(a.tests))
	for i, t := range a.tests {
		if err := t.defined(p.Schema); err != nil {
			return false, nil, err
		}
		f := &seen[i]
		f.Call, f.Want, f.Unit = t.function.name+"("+t.argument+")", string(t.op)+t.wantText, t.function.unit
		f.Value, f.Known = t.function.value(p, since, t.argument)
		f.Holds = f.Known && t.op.numbers(f.Value, t.want)
		if t.function.kind == KindDuration {
			f.Value = math.Round(f.Value/float64(time.Microsecond)) / 1000
		}
	}
	return a.holds(seen), seen, nil
}

func (t *test) defined(s *schema.Schema) error {
	if s == nil || t.argument == "" {
		return nil
	}
	worker, command, isCommand := strings.Cut(t.argument, ".")
	names := s.WorkerNames()
	if s.Workers[worker] == nil {
		return undefined("worker", worker, names)
	}
	if !isCommand {
		return nil
	}
	if _, ok := s.Lookup(worker, command); !ok {
		return undefined("command", t.argument, prefixed(worker, s.CommandNames(worker)))
	}
	return nil
}

func undefined(what, name string, known []string) error {
	if near := schema.Nearest(name, known); near != "" {
		return fmt.Errorf("the schema has no %s %q; did you mean %s?", what, name, near)
	}
	return fmt.Errorf("the schema has no %s %q", what, name)
}

func prefixed(worker string, commands []string) []string {
	for i, c := range commands {
		commands[i] = worker + "." + c
	}
	return commands
}

type assertParser struct {
	*parser
	functions []function
	assertion *Assertion
}

// comparison reads FUNCTION([ARGUMENT]) OP VALUE.
func (p *assertParser) comparison() (func([]Finding) bool, error) {
	t, err := p.call()
	if err != nil {
		return nil, err
	}
	if p.tok.kind != tokenOp || p.tok.text == "~" {
		return nil, p.fail(p.tok.at, "compare with one of = != > >= < <=", "%s where a comparison should be", p.tok)
	}
	t.op = comparison(p.tok.text)
	if err := p.next(); err != nil {
		return nil, err
	}
	if p.tok.kind != tokenWord {
		return nil, p.fail(p.tok.at, "", "%s where a %s should be", p.tok, t.function.kind)
	}
	var ok bool
	if t.want, ok = parseNumber(t.function.kind, p.tok.text); !ok {
		return nil, p.fail(p.tok.at, "", "%q is not a %s", p.tok.text, t.function.kind)
	}
	t.wantText = p.tok.text
	p.assertion.tests = append(p.assertion.tests, *t)
	at := len(p.assertion.tests) - 1
	return func(seen []Finding) bool { return seen[at].Holds }, p.next()
}

func (p *assertParser) call() (*test, error) {
	name := p.tok
	i := slices.IndexFunc(p.functions, func(f function) bool { return name.is(f.name) })
	if i < 0 {
		return nil, p.unknownFunction(name)
	}
	f := &p.functions[i]
	if err := p.next(); err != nil {
		return nil, err
	}
	if p.tok.kind != tokenOpen {
		return nil, p.fail(p.tok.at, "write "+f.usage(), "%s has no parentheses", f.name)
	}
	if err := p.next(); err != nil {
		return nil, err
	}
	t := &test{function: f}
	if at := p.tok; at.kind == tokenWord || at.kind == tokenQuoted {
		t.argument = at.text
		if err := f.takes(t.argument); err != nil {
			return nil, p.fail(at.at, "write "+f.usage(), "%v", err)
		}
		if err := p.next(); err != nil {
			return nil, err
		}
	} else if f.scope == scopeWorker {
		return nil, p.fail(at.at, "write "+f.usage(), "%s needs a worker", f.name)
	}
	if p.tok.kind != tokenClose {
		return nil, p.fail(p.tok.at, "write "+f.usage(), "%s where ) should be", p.tok)
	}
	return t, p.next()
}

func (f *function) usage() string {
	switch f.scope {
	case scopeWorker:
		return f.name + "(WORKER)"
	case scopeCommand:
		return f.name + "() or " + f.name + "(WORKER.COMMAND)"
	}
	return f.name + "()"
}

// takes refuses arguments that cannot be meant.
func (f *function) takes(argument string) error {
	worker, command, isCommand := strings.Cut(argument, ".")
	switch {
	case f.scope == scopeMesh:
		return fmt.Errorf("%s takes no argument", f.name)
	case f.scope == scopeWorker && isCommand, f.scope == scopeCommand && !isCommand:
		return fmt.Errorf("%s does not take %q", f.name, argument)
	}
	if err := schema.ValidWorker(worker); err != nil {
		return err
	}
	if isCommand {
		return schema.ValidCommand(command)
	}
	return nil
}

func (p *assertParser) unknownFunction(name token) error {
	var names []string
	for _, f := range p.functions {
		names = append(names, f.name)
	}
	hint := "functions are " + strings.Join(names, ", ")
	if name.kind != tokenWord {
		return p.fail(name.at, hint, "%s where a function should be", name)
	}
	if near := schema.Nearest(name.text, names); near != "" {
		hint = "did you mean " + near + "? " + hint
	}
	return p.fail(name.at, hint, "there is no function %q", name.text)
}
