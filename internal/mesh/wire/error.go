package wire

import "errors"

// Code is how a request failed. Callers, exit codes and displays branch on it.
type Code string

// The codes, append-only.
const (
	CodeNoVariant      Code = "no_variant"      // nobody is there to answer
	CodeDenied         Code = "denied"          // the schema does not allow it
	CodeTimeout        Code = "timeout"         // no response before the deadline
	CodePeerLost       Code = "peer_lost"       // the link died while waiting
	CodeHandlerError   Code = "handler_error"   // the command ran and failed
	CodeOverloaded     Code = "overloaded"      // a bound was reached; nothing ran
	CodeCanceled       Code = "canceled"        // the caller gave up
	CodeBadRequest     Code = "bad_request"     // malformed, or over a size limit
	CodeUnknownCommand Code = "unknown_command" // the worker has no such command
	CodeUnavailable    Code = "unavailable"     // what has to store a queued command is away; it was not accepted, or nobody knows, as the message says

	// Ends of a connection, not of a request.
	CodeReplaced    Code = "replaced"     // a newer instance took worker and variant
	CodeUnreachable Code = "unreachable"  // cannot connect
	CodeKeyMismatch Code = "key_mismatch" // the other side has other keys
)

// Error is a failed request as it travels between peers and as it is shown.
type Error struct {
	Code    Code   `json:"code"`
	Message string `json:"message"`
	// Temporary says that the request was not executed and may be sent again.
	Temporary bool `json:"temporary,omitempty"`
	// Hint tells a person what to do next. It does not travel.
	Hint string `json:"-"`
}

func (e *Error) Error() string { return string(e.Code) + ": " + e.Message }

// Is matches another *Error by code alone, so that errors.Is(err, &Error{Code: c}) works.
func (e *Error) Is(target error) bool {
	t, ok := target.(*Error)
	return ok && t.Code == e.Code
}

// CodeOf gives the code of the first *Error in err's tree, or "".
func CodeOf(err error) Code {
	var e *Error
	if errors.As(err, &e) {
		return e.Code
	}
	return ""
}
