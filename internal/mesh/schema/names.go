package schema

import (
	"errors"
	"fmt"
)

// MaxName is the longest worker or command name, in bytes.
const MaxName = 64

// AnyNode stands for every worker in _allow and _connect. It is no worker's name.
const AnyNode = "anyNode"

// ErrName is wrapped by the errors of ValidWorker and ValidCommand.
var ErrName = errors.New("bad name")

// ValidWorker fails, wrapping ErrName, unless name may name a worker: a letter,
// then at most 63 letters, digits, "_" or "-"; neither a property that every
// JavaScript object inherits (peers use names as object keys) nor "anyNode".
// The error quotes at most MaxName bytes of name, so it is safe to log.
func ValidWorker(name string) error {
	if err := validName("worker", name); err != nil {
		return err
	}
	if name == AnyNode {
		return fmt.Errorf("%w: %q means every worker and cannot name one", ErrName, name)
	}
	return nil
}

// ValidCommand is ValidWorker for commands. It also refuses the names that the
// protocol itself uses as members beside a command's: uid, meshctl, only, exclude.
func ValidCommand(name string) error {
	if err := validName("command", name); err != nil {
		return err
	}
	switch name {
	case "uid", "meshctl", "only", "exclude":
		return fmt.Errorf("%w: %q is a word of the protocol and cannot name a command", ErrName, name)
	}
	return nil
}

func validName(kind, name string) error {
	if !wellFormed(name) {
		return fmt.Errorf("%w: %q cannot name a %s: a name is a letter followed by at most %d letters, digits, \"_\" or \"-\"",
			ErrName, clip(name), kind, MaxName-1)
	}
	switch name {
	// The inherited properties that are otherwise well formed; those with a
	// leading "_", such as __proto__, are not.
	case "constructor", "prototype", "hasOwnProperty", "isPrototypeOf",
		"propertyIsEnumerable", "toLocaleString", "toString", "valueOf":
		return fmt.Errorf("%w: %q is a property of every JavaScript object and cannot name a %s", ErrName, name, kind)
	}
	return nil
}

// wellFormed is ^[A-Za-z][A-Za-z0-9_-]{0,63}$, without a regular expression
// because every message from the network passes through it.
func wellFormed(name string) bool {
	if name == "" || len(name) > MaxName {
		return false
	}
	for i := range len(name) {
		c := name[i]
		switch {
		case 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z':
		case i > 0 && ('0' <= c && c <= '9' || c == '_' || c == '-'):
		default:
			return false
		}
	}
	return true
}

// clip shortens s for an error message.
func clip(s string) string {
	if len(s) <= MaxName {
		return s
	}
	return s[:MaxName] + "…"
}
