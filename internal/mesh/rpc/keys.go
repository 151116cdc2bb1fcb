package rpc

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"

	"github.com/meshctl/meshctl/internal/mesh/link"
	"github.com/meshctl/meshctl/internal/mesh/seal"
	"github.com/meshctl/meshctl/internal/mesh/wire"
)

// ErrKeyRemoved is why links end that lived on a key that was removed.
var ErrKeyRemoved = fmt.Errorf("the key of the link was removed: %w", seal.ErrKeyMismatch)

// ObeyKeys carries out an order on the ring of a peer with these links, and gives the state
// after it, encoded. The caller then closes the doomed links, which live on a key that is
// no more. It may block for seconds, while the ring is stored. Errors are *wire.Error.
func ObeyKeys(ring *seal.Ring, o wire.KeyOrder, links []link.Link, log *slog.Logger) (state json.RawMessage, doomed []link.Link, err error) {
	count := make(map[string]int)
	for _, l := range links {
		k := l.Info().Key
		if k == nil {
			continue
		}
		count[k.Fingerprint()]++
		if o.Op == wire.KeyRemove && k.Fingerprint() == o.Fingerprint {
			doomed = append(doomed, l)
		}
	}
	switch o.Op {
	case wire.KeyAdd:
		_, err = ring.Add(o.Keys())
	case wire.KeyUse:
		err = ring.Use(o.Fingerprint)
	case wire.KeyRemove:
		if len(doomed) > 0 && !o.Force && ring.Used().Fingerprint() != o.Fingerprint {
			return nil, nil, &wire.Error{Code: wire.CodeBadRequest, Message: fmt.Sprintf("links still on the key: %d", len(doomed))}
		}
		err = ring.Remove(o.Fingerprint)
	}
	if err != nil {
		return nil, nil, keyError(err)
	}
	if o.Op != wire.KeyList {
		log.Info("the keys changed", "operation", o.Op, "fingerprint", o.Fingerprint, "used", ring.Used(), "accepted", len(ring.Keys()))
	}
	s := wire.KeyState{Uses: ring.Used().Fingerprint(), Accepts: ring.Fingerprints(), Links: count, Stored: true}
	if err := ring.Stored(); err != nil {
		s.Stored, s.Note = false, err.Error()
		if o.Op != wire.KeyList {
			log.Warn("a change of keys is lost at the next restart", "fingerprint", o.Fingerprint, "error", err)
		}
	}
	state, err = wire.Encode(s)
	return state, doomed, err
}

func keyError(err error) *wire.Error {
	e := &wire.Error{Code: wire.CodeBadRequest, Message: err.Error()}
	switch {
	case errors.Is(err, seal.ErrUnknownKey):
		e.Hint = "meshctl keys add gives it the key"
	case errors.Is(err, seal.ErrRingFull):
		e.Hint = "meshctl keys remove takes one away"
	case errors.Is(err, seal.ErrKeyInUse):
		e.Hint = "meshctl keys use makes another the one for new links"
	}
	return e
}
