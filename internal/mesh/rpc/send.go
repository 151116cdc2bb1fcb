package rpc

import (
	"context"
	"errors"
	"fmt"

	"github.com/meshctl/meshctl/internal/mesh/link"
	"github.com/meshctl/meshctl/internal/mesh/wire"
)

// Send sends a command without waiting for anything. Errors are *wire.Error.
func Send(l link.Link, cmd wire.Command) error {
	return orNil(sendError(l.Send(wire.CommandMessage(cmd))))
}

// Event sends v as the body of an event. Errors are *wire.Error.
func Event(l link.Link, event string, v any) error {
	body, err := wire.Encode(v)
	if err != nil {
		return err
	}
	return orNil(sendError(l.Send(wire.Message{Event: event, Body: body})))
}

// orNil keeps a nil *wire.Error from becoming an error.
func orNil(e *wire.Error) error {
	if e == nil {
		return nil
	}
	return e
}

func sendError(err error) *wire.Error {
	var e *wire.Error
	switch {
	case err == nil:
		return nil
	case errors.As(err, &e) && e.Code == wire.CodeBadRequest:
		return e
	case errors.Is(err, link.ErrTooLarge):
		return &wire.Error{Code: wire.CodeBadRequest, Message: err.Error(), Hint: "send less, or raise --max-payload at both ends"}
	case errors.Is(err, link.ErrFull):
		return &wire.Error{Code: wire.CodeOverloaded, Message: "too much is waiting to be sent to this peer", Temporary: true, Hint: "send more slowly, or add variants"}
	default:
		return &wire.Error{Code: wire.CodePeerLost, Message: "the connection is closed", Temporary: true}
	}
}

// ContextError says as a *wire.Error why ctx ended: timeout or canceled.
func ContextError(ctx context.Context) *wire.Error {
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return errDeadline()
	}
	return &wire.Error{Code: wire.CodeCanceled, Message: "the caller gave up"}
}

func errDeadline() *wire.Error {
	return &wire.Error{Code: wire.CodeTimeout, Message: "no response before the deadline", Hint: "allow more time with --timeout, or see how busy the node is with its status command"}
}

// AsError makes a *wire.Error of any error: handler_error unless it is one already.
func AsError(err error) *wire.Error {
	var e *wire.Error
	if errors.As(err, &e) {
		return e
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return &wire.Error{Code: wire.CodeTimeout, Message: "the command ran into its deadline"}
	}
	if errors.Is(err, context.Canceled) {
		return &wire.Error{Code: wire.CodeCanceled, Message: "the command was canceled"}
	}
	return &wire.Error{Code: wire.CodeHandlerError, Message: fmt.Sprint(err)}
}
