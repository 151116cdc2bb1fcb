package link

import (
	"errors"

	"github.com/meshctl/meshctl/internal/mesh/seal"
	"github.com/meshctl/meshctl/internal/mesh/wire"
)

// ErrPeerLeft is why a link ended that the peer closed for no reason that it told.
var ErrPeerLeft = errors.New("the peer closed the connection")

// ErrDrained is the reason for Close of an end that has answered all requests that it took up, and takes
// up no more. Over a native link it is ErrPeerDrained at the other end: a request that has no response by then did
// not run. Over Socket.IO, where a reason is not sealed, it is ErrPeerLeft.
var (
	ErrDrained     = errors.New("this node is leaving")
	ErrPeerDrained = errors.New("the peer has left")
)

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
