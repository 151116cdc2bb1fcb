package node

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/meshctl/meshctl/internal/mesh/certs"
	"github.com/meshctl/meshctl/internal/mesh/wire"
)

// What is told where no master of several can be used: one error that names all of them,
// with the reason first that somebody has to do something about.

// failure is why a master could not be used.
type failure struct {
	where string
	err   error
}

// dialError is why an address is no use: as it is told where there is no other, and as a
// reason among several.
type dialError struct {
	alone  *wire.Error
	where  string
	reason error
}

func (e *dialError) Error() string   { return e.alone.Error() }
func (e *dialError) Unwrap() []error { return []error{e.alone, e.reason} }

func unreachable(where string, err error) *dialError {
	return &dialError{&wire.Error{
		Code: wire.CodeUnreachable, Temporary: true, Message: fmt.Sprintf("connect to the master at %s: %v", where, plain(err)),
		Hint: hintOf(err, "check that it runs and that --master names it"),
	}, where, err}
}

// tell makes one error of what became of all candidates.
func tell(failures []failure) error {
	if len(failures) == 1 {
		var e *dialError
		if errors.As(failures[0].err, &e) {
			return e.alone
		}
		return failures[0].err
	}
	// One reason each, with all places; the reason that tells most comes first.
	byReason := make(map[string][]string)
	var reasons []string
	telling := failures[0].err
	for _, f := range failures {
		if weight(f.err) > weight(telling) {
			telling = f.err
		}
		r := reason(f.err)
		if byReason[r] == nil {
			reasons = append(reasons, r)
		}
		byReason[r] = append(byReason[r], f.where)
	}
	first := reason(telling)
	reasons = append([]string{first}, slices.DeleteFunc(reasons, func(r string) bool { return r == first })...)
	for i, r := range reasons {
		reasons[i] = r + " at " + strings.Join(byReason[r], ", ")
	}
	told := &wire.Error{Code: wire.CodeUnreachable, Temporary: true, Hint: "check that one runs and that --master names it"}
	head := "no master answers: "
	var e *wire.Error
	if errors.As(telling, &e) {
		told.Code, told.Temporary = e.Code, e.Temporary
		if weight(telling) > 0 {
			told.Hint, head = e.Hint, "no master can be used: "
		}
	}
	told.Message = head + strings.Join(reasons, "; ")
	return told
}

func reason(err error) string {
	var dial *dialError
	if errors.As(err, &dial) {
		return plain(dial.reason).Error()
	}
	var e *wire.Error
	if errors.As(err, &e) {
		return e.Message
	}
	return err.Error()
}

// weight is how much an error says about what somebody has to do.
func weight(err error) int {
	var failure *certs.Failure
	switch code := wire.CodeOf(err); {
	case code == wire.CodeKeyMismatch:
		return 4
	case code == wire.CodeDenied:
		return 3
	case code != wire.CodeUnreachable && code != "":
		return 2
	case errors.As(err, &failure):
		return 1
	}
	return 0
}
