package link

import "fmt"

// Mode is which kinds of link a peer uses.
type Mode string

// The modes.
const (
	// Auto uses native links with every peer that serves them, and Socket.IO with
	// JavaScript peers. Nothing that got in the way makes it fall back.
	Auto Mode = "auto"
	// SocketIO uses Socket.IO with everybody, for networks that let only that through.
	SocketIO Mode = "socketio"
	// Native uses native links alone: JavaScript peers are refused. It is chosen by
	// --require-native, not by name.
	Native Mode = "native"
)

// ParseMode reads a mode; "" is Auto.
func ParseMode(s string) (Mode, error) {
	switch m := Mode(s); m {
	case "":
		return Auto, nil
	case Auto, SocketIO:
		return m, nil
	}
	return "", fmt.Errorf("unknown kind of link %q: write auto or socketio", s)
}
