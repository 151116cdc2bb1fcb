package socketio

import (
	"errors"

	"github.com/gorilla/websocket"

	"github.com/meshctl/meshctl/internal/mesh/link"
	"github.com/meshctl/meshctl/internal/mesh/wire"
)

// closeWithCode is the WebSocket close code whose text is a wire.Code. JavaScript
// peers take it for any other close.
const closeWithCode = 4000

// closeFrame is the payload of the close frame that tells reason.
func closeFrame(reason error) []byte {
	if code := link.CodeOf(reason); code != "" {
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
		return link.ErrPeerLeft
	}
	return link.PeerReason(wire.Code(frame.Text))
}
