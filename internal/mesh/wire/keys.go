package wire

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"

	"github.com/meshctl/meshctl/internal/mesh/seal"
)

// ControlKeys asks a peer for the state of its keys, after a change of them: an operator
// the master, about itself or a node that it names, and the master that node. KeyOrder,
// KeyState. It travels over native links alone.
const ControlKeys = "mesh.keys"

// maxKeyOrder bounds a KeyOrder, in bytes of JSON.
const maxKeyOrder = 8 * seal.MaxKeyLen

// KeyOp is what a KeyOrder is about.
type KeyOp string

// The operations.
const (
	KeyList   KeyOp = "list"   // only the state
	KeyAdd    KeyOp = "add"    // accept a key
	KeyUse    KeyOp = "use"    // use an accepted key for new links
	KeyRemove KeyOp = "remove" // accept a key no more
)

// KeyOrder is a change of keys. However it is printed, it shows no key.
type KeyOrder struct {
	Op KeyOp `json:"op"`
	// Peer is the "worker/variant", or "@master/ID", that the master passes the order to; "" is
	// the master itself.
	Peer string `json:"peer,omitempty"`
	// Fingerprint is the key's; "" for KeyList.
	Fingerprint string `json:"fingerprint,omitempty"`
	// Public and Private are the key, of KeyAdd.
	Public  string `json:"public,omitempty"`
	Private string `json:"private,omitempty"`
	// Force removes a key that links still use, and ends them.
	Force bool `json:"force,omitempty"`
}

// Format implements fmt.Formatter.
func (o KeyOrder) Format(f fmt.State, _ rune) {
	_, _ = io.WriteString(f, strings.TrimSpace(string(o.Op)+" "+o.Fingerprint+" "+o.Peer))
}

// DecodeKeyOrder reads an order. The key that it adds is the one of its fingerprint.
// Errors are *Error with CodeBadRequest and quote no key.
func DecodeKeyOrder(payload []byte) (KeyOrder, error) {
	var o KeyOrder
	if len(payload) > maxKeyOrder || json.Unmarshal(payload, &o) != nil {
		return KeyOrder{}, badRequest("malformed order about keys")
	}
	if o.Peer != "" {
		worker, variant, _ := strings.Cut(o.Peer, "/")
		if err := ValidWorker(worker); err != nil && worker != MasterWorker {
			return KeyOrder{}, badRequest("peer: %v", err)
		}
		if err := ValidVariant(variant); err != nil {
			return KeyOrder{}, badRequest("peer: %v", err)
		}
	}
	switch o.Op {
	case KeyList:
		return o, nil
	case KeyAdd, KeyUse, KeyRemove:
	default:
		return KeyOrder{}, badRequest("%.32q is nothing to be done with keys", string(o.Op))
	}
	if err := seal.ValidFingerprint(o.Fingerprint); err != nil {
		return KeyOrder{}, badRequest("%v", err)
	}
	if o.Op == KeyAdd {
		keys := o.Keys()
		if err := keys.Validate(); err != nil {
			return KeyOrder{}, badRequest("%v", err)
		}
		if keys.Fingerprint() != o.Fingerprint {
			return KeyOrder{}, badRequest("the key is not that of its fingerprint %s", o.Fingerprint)
		}
	}
	return o, nil
}

// Keys are the key that the order carries.
func (o KeyOrder) Keys() seal.Keys { return seal.Keys{Public: o.Public, Private: o.Private} }

// KeyState is the keys of one peer, by fingerprint.
type KeyState struct {
	Uses    string   `json:"uses"`
	Accepts []string `json:"accepts"` // with the used one
	// Links counts the peer's links by the key that they live on.
	Links map[string]int `json:"links,omitempty"`
	// Stored says that a restart finds the same keys; else Note says why not.
	Stored bool   `json:"stored"`
	Note   string `json:"note,omitempty"`
}

// DecodeKeyState reads a state. Errors are *Error with CodeBadRequest.
func DecodeKeyState(payload []byte) (KeyState, error) {
	var s KeyState
	if json.Unmarshal(payload, &s) != nil || len(s.Links) > 2*seal.MaxRing || len(s.Accepts) == 0 {
		return KeyState{}, badRequest("malformed state of keys")
	}
	named := append([]string{s.Uses}, s.Accepts...)
	for fingerprint := range s.Links {
		named = append(named, fingerprint)
	}
	if err := validFingerprints(s.Accepts); err != nil {
		return KeyState{}, err
	}
	for _, fingerprint := range named {
		if err := seal.ValidFingerprint(fingerprint); err != nil {
			return KeyState{}, badRequest("%v", err)
		}
	}
	s.Note = clip(s.Note, MaxErrorLen)
	return s, nil
}

func validFingerprints(list []string) error {
	if len(list) > seal.MaxRing {
		return badRequest("%d keys", len(list))
	}
	for _, fingerprint := range list {
		if err := seal.ValidFingerprint(fingerprint); err != nil {
			return badRequest("%v", err)
		}
	}
	return nil
}
