package queue

import (
	"errors"
	"log/slog"
)

// logTry logs a try that failed, and what becomes of the item. next is its state, nil when
// it is gone.
func logTry(log *slog.Logger, item Item, next *state, err error) {
	if err == nil || next == nil && item.Once && !errors.As(err, new(*PanicError)) {
		return // whoever waits for the outcome is told
	}
	log = log.With("id", item.ID, "uid", item.UID, "command", item.Command, "caller", item.Caller, "err", err)
	if p := (*PanicError)(nil); errors.As(err, &p) {
		log = log.With("stack", string(p.Stack))
	}
	switch {
	case next == nil:
		log.Error("queued command given up")
	case !next.Died.IsZero():
		log.Error("queued command is a dead letter now", "attempts", next.Attempts)
	case next.Error != "" && !next.Due.IsZero():
		log.Warn("queued command failed; it is tried again", "attempt", next.Attempts, "due", next.Due)
	default:
		log.Warn("queued command was interrupted; it is tried again when the node is back")
	}
}
