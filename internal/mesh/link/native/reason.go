package native

import (
	"errors"

	"github.com/meshctl/meshctl/internal/mesh/seal"
	"github.com/meshctl/meshctl/internal/mesh/wire"
)

// codeOf gives the code of a reason to end a link, or "".
func codeOf(reason error) wire.Code {
	if errors.Is(reason, seal.ErrKeyMismatch) {
		return wire.CodeKeyMismatch
	}
	return wire.CodeOf(reason)
}

// peerReason is why a link ended that the peer closed properly.
func peerReason(code wire.Code) error {
	switch code {
	case wire.CodeDenied, wire.CodeReplaced, wire.CodeKeyMismatch, wire.CodeOverloaded, wire.CodeBadRequest:
		return &wire.Error{Code: code, Message: "the peer closed the connection"}
	}
	return errPeerLeft
}
