package node

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/meshctl/meshctl/internal/mesh/link"
	"github.com/meshctl/meshctl/internal/mesh/link/native"
	"github.com/meshctl/meshctl/internal/mesh/link/socketio"
	"github.com/meshctl/meshctl/internal/mesh/seal"
	"github.com/meshctl/meshctl/internal/mesh/wire"
)

// Which link is used with whom: native where the other end is known to serve it, or, of
// a master, where it turns out to. A native link that is known to be there and does not
// come about is an error and no reason to fall back: whoever is in between could have
// brought it about.

// dialPeer opens a link to another node, to appear there as the worker as. key is as of
// dialNative.
func (c *core) dialPeer(ctx context.Context, addr string, to wire.Peer, as string, key *seal.Key) (link.Link, error) {
	if c.cfg.Link == link.SocketIO || to.Meshctl == nil || !to.Meshctl.Native {
		return c.dialSocketIO(ctx, endpoint{name: addr})
	}
	l, err := c.dialNative(ctx, endpoint{name: addr}, as, key)
	if err != nil {
		return nil, err
	}
	if proven := l.Info().PeerName; proven != to.Name() {
		l.Close(errProtocol)
		return nil, fmt.Errorf("%s answers at the address of %s", proven, to.Name())
	}
	return l, nil
}

// dialMasterAt opens a link to a master of which nothing is known.
func (c *core) dialMasterAt(ctx context.Context, at endpoint) (link.Link, error) {
	if c.cfg.Link == link.SocketIO {
		return c.dialSocketIO(ctx, at)
	}
	if c.masters.knownPlain(at) && c.cfg.Link != link.Native {
		return c.dialSocketIO(ctx, at)
	}
	trying, giveUp := context.WithCancelCause(ctx)
	defer giveUp(nil)
	// A JavaScript server leaves the WebSocket unanswered for a second, and is then
	// quicker to answer a plain question.
	question := time.AfterFunc(patience, func() {
		if served, err := native.Served(trying, at.name, c.nativeTo(at, c.self.Worker)); err == nil && !served {
			giveUp(native.ErrNotServed)
		}
	})
	defer question.Stop()
	l, err := c.dialNative(trying, at, c.self.Worker, nil)
	if errors.Is(err, native.ErrNotServed) || err != nil && context.Cause(trying) == native.ErrNotServed {
		if c.cfg.Link == link.Native {
			return nil, &wire.Error{
				Code: wire.CodeDenied, Message: "the master at " + at.String() + " serves no native links, and this end takes no others",
				Hint: "it is a JavaScript master, or one with --link socketio: leave --require-native away to use it",
			}
		}
		// A JavaScript master, or one that keeps to Socket.IO: declared will tell.
		return c.dialSocketIO(ctx, at)
	}
	return l, err
}

// patience is how long a master may take to answer before it is asked what it is.
const patience = 150 * time.Millisecond

// checkDowngrade fails when a master turns out to serve native links, and we are
// connected to it otherwise.
func (c *core) checkDowngrade(to contact, master *wire.Extra) error {
	served := master != nil && master.Native
	known := c.masters.notePlain(to.at, !served)
	if c.cfg.Link == link.SocketIO || !served || to.link.Info().Transport == native.Transport {
		return nil
	}
	if known {
		return &wire.Error{Code: wire.CodeUnreachable, Message: "the master was replaced by one that serves native links", Temporary: true}
	}
	return &wire.Error{
		Code: wire.CodeUnreachable, Message: "the master serves native links, and something in between does not let them through",
		Hint: "where a proxy lets only Socket.IO pass, say so with --link socketio",
	}
}

func (c *core) dialSocketIO(ctx context.Context, at endpoint) (link.Link, error) {
	return socketio.Dial(ctx, at.name, socketio.DialConfig{Connect: at.connect, TLS: c.clientTLS(at.name), Key: c.ring.Used(), MaxPayload: c.cfg.MaxPayload, Logger: c.log, Heartbeat: c.cfg.Heartbeat})
}

// dialNative opens a native link that lives on key. Without one it takes the used key and,
// where the other end does not know that, others that this end accepts.
func (c *core) dialNative(ctx context.Context, at endpoint, as string, key *seal.Key) (l link.Link, err error) {
	cfg := c.nativeTo(at, as)
	keys := []*seal.Key{key}
	if key == nil {
		keys = c.ring.Keys()
	}
	for i, k := range keys {
		cfg.Key = k
		if l, err = native.Dial(ctx, at.name, cfg); !isMismatch(err) {
			break
		}
		if i+1 < len(keys) {
			c.log.Warn("a peer does not accept a key; trying another", "address", at.String(), "fingerprint", k, "hint", "meshctl keys list shows who lacks which")
		}
	}
	return l, err
}

// isMismatch tells whether the other end has other keys.
func isMismatch(err error) bool {
	return errors.Is(err, seal.ErrKeyMismatch) || wire.CodeOf(err) == wire.CodeKeyMismatch
}

// nativeTo is how a native link to somewhere is dialled.
func (c *core) nativeTo(at endpoint, as string) native.Config {
	cfg := c.nativeConfig(as)
	cfg.TLS, cfg.Connect = c.clientTLS(at.name), at.connect
	return cfg
}

func (c *core) nativeConfig(as string) native.Config {
	return native.Config{Key: c.ring.Used(), Find: c.ring.ByID, Hello: native.Hello{Name: as + "/" + c.self.Variant}, MaxPayload: c.cfg.MaxPayload, Logger: c.log, Heartbeat: c.cfg.Heartbeat}
}

// newServer makes the doors of a mesh server: Socket.IO, and beside it the native link.
func (c *core) newServer() (*socketio.Server, error) {
	cfg := socketio.Config{Ring: c.ring, MaxPayload: c.cfg.MaxPayload, Logger: c.log, Accept: c.accept, Heartbeat: c.cfg.Heartbeat}
	if c.cfg.Link != link.SocketIO {
		door, err := native.NewServer(c.nativeConfig(c.self.Worker), c.accept, socketio.Trust)
		if err != nil {
			return nil, err
		}
		cfg.Fallback = door
	}
	if c.cfg.TLS != nil {
		cfg.TLS = c.cfg.TLS.Server()
	}
	return socketio.New(cfg)
}
