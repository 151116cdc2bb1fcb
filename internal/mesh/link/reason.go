package link

import (
	"errors"

	"github.com/meshctl/meshctl/internal/mesh/seal"
	"github.com/meshctl/meshctl/internal/mesh/wire"
)

// ErrPeerLeft is why a link ended that the peer closed for no reason that it told.
var ErrPeerLeft = errors.New("the peer closed the connection")

// CodeOf is how a peer is told of a reason to end a link; "" is not told.
func CodeOf(reason error) wire.Code {
	if errors.Is(reason, seal.ErrKeyMismatch) {
		return wire.CodeKeyMismatch
	}
	return wire.CodeOf(reason)
}

// PeerReason is why a link ended, as the peer tells it.
func PeerReason(code wire.Code) error {
	switch code {
	case wire.CodeDenied, wire.CodeReplaced, wire.CodeKeyMismatch, wire.CodeOverloaded, wire.CodeBadRequest:
		return &wire.Error{Code: code, Message: "the peer closed the connection"}
	}
	return ErrPeerLeft
}
