package socketio

import (
	"errors"

	"github.com/gorilla/websocket"

	"github.com/meshctl/meshctl/internal/mesh/seal"
	"github.com/meshctl/meshctl/internal/mesh/wire"
)

// closeWithCode is the WebSocket close code whose text is a wire.Code. JavaScript
// peers take it for any other close.
const closeWithCode = 4000

// codeOf gives the code of a reason to end a link, or "".
func codeOf(reason error) wire.Code {
	if errors.Is(reason, seal.ErrKeyMismatch) {
		return wire.CodeKeyMismatch
	}
	return wire.CodeOf(reason)
}

// closeFrame is the payload of the close frame that tells reason.
func closeFrame(reason error) []byte {
	if code := codeOf(reason); code != "" {
		return websocket.FormatCloseMessage(closeWithCode, string(code))
	}
	return websocket.FormatCloseMessage(websocket.CloseNormalClosure, "")
}

// staysAway tells whether a reason is one for which the peer should not dial again
// by itself.
func staysAway(reason error) bool {
	code := wire.CodeOf(reason)
	return code == wire.CodeDenied || code == wire.CodeReplaced
}

// peerReason makes a reason of the error with which reading from a peer ended.
func peerReason(err error) error {
	var frame *websocket.CloseError
	if !errors.As(err, &frame) || frame.Code != closeWithCode {
		return errPeerLeft
	}
	switch code := wire.Code(frame.Text); code {
	case wire.CodeDenied, wire.CodeReplaced, wire.CodeKeyMismatch, wire.CodeOverloaded, wire.CodeBadRequest:
		return &wire.Error{Code: code, Message: "the peer closed the connection"}
	}
	return errPeerLeft
}
