package schema

import "fmt"

const (
	// keyTokens stands beside the workers. No worker can be named so.
	keyTokens      = "_tokens"
	tokensRequired = "required"
	tokensOptional = "optional"

	keyCallers = "callers"
)

// tokens reads "_tokens". What it cannot read counts as required: a mistake must not
// open a mesh.
func (c *checker) tokens(m member) bool {
	c.pos[keyTokens] = m.at
	if m.value.kind == text {
		switch m.value.text {
		case tokensRequired:
			return true
		case tokensOptional:
			return false
		}
	}
	c.add(m.value.at, keyTokens, fmt.Sprintf("%s is %s", keyTokens, m.value.describe()), tokensRequired+" or "+tokensOptional)
	return true
}

// callers reads who may call a command. Nothing at all is no answer: it could mean
// everybody as well as nobody.
func (c *checker) callers(m member, path, command string) *Set {
	if m.value.kind == null {
		c.add(m.at, join(path, m.key), "callers names nobody", "anyNode, a list of workers, or [] for operators alone")
		return &Set{}
	}
	set := c.set(m, path, command)
	return &set
}

// callersRule says what a command's callers say of a worker.
func (s *Schema) callersRule(worker string, cmd *Command, from string) Rule {
	name := "callers of " + worker + "." + cmd.Name
	r := Rule{Text: name + " names " + from, File: s.file, Grants: cmd.AllowsCaller(from)}
	at := s.pos[rulePath(commandPath(worker, cmd.Name), keyCallers)]
	switch {
	case cmd.Callers.Any:
		r.Text = name + " is " + AnyNode
	case r.Grants:
		at = s.pos[entryPath(commandPath(worker, cmd.Name), keyCallers, from)]
	case len(cmd.Callers.Workers) == 0:
		r.Text = name + " names nobody"
	default:
		r.Text = name + " does not name " + from
	}
	if r.Line = at.line; r.Line == 0 {
		r.File = ""
	}
	return r
}
