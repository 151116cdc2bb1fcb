package schema

import (
	"fmt"
	"strings"
)

// Operator is the identity of meshctl's own command line. It is no valid
// worker name, so no schema can define it.
const Operator = "@operator"

// Explanation says whether one worker may call a command of another, and why.
type Explanation struct {
	From    string `json:"from"`
	Target  string `json:"target"` // "worker.command"
	Allowed bool   `json:"allowed"`
	Reason  string `json:"reason"` // a sentence naming the rules, with FILE:LINE where known

	// CanLink is whether the two may be connected at all. A call may be allowed
	// where no link can exist; Reason then says so.
	CanLink  bool   `json:"can_link"`
	Connects string `json:"connects"` // who may open the link and by which rules, or why nobody can

	// Of the command; zero when there is no such command.
	Delivery Delivery `json:"delivery,omitempty"`
	Responds bool     `json:"responds"`
	Queued   bool     `json:"queued"`
	// Of those that say more than the default.
	Balance     string `json:"balance,omitempty"`
	Retry       string `json:"retry,omitempty"`
	MaxInFlight int    `json:"max_in_flight,omitempty" yaml:"max_in_flight,omitempty"`

	Rules []Rule `json:"rules,omitempty"` // all that were consulted
}

// Rule is what one worker's _allow or _connect says of another worker.
type Rule struct {
	Text   string `json:"text"`
	File   string `json:"file,omitempty"` // "" when the schema came from a peer
	Line   int    `json:"line,omitempty"`
	Grants bool   `json:"grants"` // it names the other worker
}

// String is the rule's text and place.
func (r Rule) String() string {
	if r.Line == 0 {
		return r.Text
	}
	if r.File == "" {
		return fmt.Sprintf("%s (line %d)", r.Text, r.Line)
	}
	return fmt.Sprintf("%s (%s:%d)", r.Text, r.File, r.Line)
}

// Explain explains a call of worker's command by from, which is a worker or
// Operator. None of the names needs to exist.
func (s *Schema) Explain(from, worker, command string) Explanation {
	e := Explanation{From: clip(from), Target: clip(worker) + "." + clip(command)}
	if from != Operator && s.Workers[from] == nil {
		e.Reason = s.noWorker(from)
		return e
	}
	if s.Workers[worker] == nil {
		e.Reason = s.noWorker(worker)
		return e
	}
	s.explainLink(&e, from, worker)
	cmd, ok := s.Lookup(worker, command)
	if !ok {
		e.Reason = s.noCommand(worker, command)
		return e
	}
	e.Delivery, e.Responds, e.Queued = cmd.Delivery, cmd.Responds, cmd.Queued
	e.MaxInFlight = cmd.MaxInFlight
	if cmd.Balance.Strategy != RoundRobin {
		e.Balance = cmd.Balance.String()
	}
	if cmd.Retry != nil {
		e.Retry = cmd.Retry.String()
	}
	s.explainCall(&e, from, worker)
	if cmd.Callers != nil && from != Operator {
		s.explainCallers(&e, s.callersRule(worker, cmd, from))
	}
	return e
}

func (s *Schema) noWorker(name string) string {
	msg := fmt.Sprintf("the schema defines no worker %q", clip(name))
	if near := suggest(name, s.WorkerNames()); near != "" {
		return msg + fmt.Sprintf("; did you mean %q?", near)
	}
	return msg + "; it defines " + enumerate(s.WorkerNames())
}

func (s *Schema) noCommand(worker, name string) string {
	msg := fmt.Sprintf("worker %s has no command %q", worker, clip(name))
	if near := suggest(name, s.CommandNames(worker)); near != "" {
		return msg + fmt.Sprintf("; did you mean %q?", near)
	}
	return msg + "; it has " + enumerate(s.CommandNames(worker))
}

func (s *Schema) explainCall(e *Explanation, from, to string) {
	if from == Operator {
		e.Allowed = true
		e.Reason = "the operator holds the mesh's keys and may call every command"
		if s.TokensRequired {
			e.Reason = "the operator holds the mesh's keys and, as " + keyTokens + " is " + tokensRequired + ", an operator's token; it may call every command"
		}
		return
	}
	connect, allow := s.rule(from, "_connect", to), s.rule(from, "_allow", to)
	e.Allowed = connect.Grants || allow.Grants
	switch {
	case connect.Grants:
		e.Reason = fmt.Sprintf("%s may call %s: %s", from, to, connect)
	case allow.Grants:
		e.Reason = fmt.Sprintf("%s may call %s: %s", from, to, allow)
	default:
		e.Reason = fmt.Sprintf("%s may not call %s: %s, and %s; name %s in either to allow it", from, to, connect, allow, to)
	}
	if e.Allowed && !e.CanLink {
		e.Reason += "; but no link between them is possible, so the call never arrives"
	}
}

// explainCallers adds what the command itself says to what its worker's rules say.
func (s *Schema) explainCallers(e *Explanation, r Rule) {
	e.Rules = append(e.Rules, r)
	switch {
	case e.Allowed && r.Grants:
		e.Reason += "; " + r.String()
	case e.Allowed:
		e.Reason = fmt.Sprintf("%s may not call %s: %s", e.From, e.Target, r)
	case !r.Grants:
		e.Reason += "; and " + r.String()
	}
	e.Allowed = e.Allowed && r.Grants
}

func (s *Schema) explainLink(e *Explanation, from, to string) {
	if from == Operator {
		e.CanLink = true
		e.Connects = "the operator opens the link to a meshctl node itself; "
		if as, ok := s.FirstCaller(to); ok {
			e.Connects += "to a JavaScript node, which knows no operator, it introduces itself as " + as
		} else {
			e.Connects += fmt.Sprintf("a JavaScript node does not accept it, because no worker may connect to %s", to)
		}
		return
	}
	openers := []struct{ a, b string }{{from, to}, {to, from}}
	if from == to {
		openers = openers[:1]
	}
	var can, cannot []string
	for _, o := range openers {
		connect, allow := s.rule(o.a, "_connect", o.b), s.rule(o.b, "_allow", o.a)
		e.Rules = append(e.Rules, connect, allow)
		if connect.Grants && allow.Grants {
			can = append(can, fmt.Sprintf("%s may open a link to %s: %s, and %s", o.a, o.b, connect, allow))
			continue
		}
		var why []string
		for _, r := range []Rule{connect, allow} {
			if !r.Grants {
				why = append(why, r.String())
			}
		}
		cannot = append(cannot, fmt.Sprintf("%s may not open one to %s: %s", o.a, o.b, strings.Join(why, ", and ")))
	}
	if e.CanLink = len(can) > 0; e.CanLink {
		e.Connects = strings.Join(can, "; ")
		return
	}
	e.Connects = "no link is possible: " + strings.Join(cannot, "; ")
}

// rule says what owner's _allow or _connect says of other.
func (s *Schema) rule(owner, key, other string) Rule {
	set := s.Workers[owner].Allow
	if key == "_connect" {
		set = s.Workers[owner].Connect
	}
	name := owner + "'s " + key
	r := Rule{File: s.file, Grants: set.Has(other)}
	at := s.pos[rulePath(owner, key)]
	switch {
	case set.Any:
		r.Text = name + " is " + AnyNode
	case r.Grants:
		r.Text = name + " names " + other
		at = s.pos[entryPath(owner, key, other)]
	case len(set.Workers) == 0:
		r.Text = name + " names nobody"
		if at == (position{}) { // not written at all
			at = s.pos[owner]
		}
	default:
		r.Text = name + " does not name " + other
	}
	if r.Line = at.line; r.Line == 0 {
		r.File = ""
	}
	return r
}
