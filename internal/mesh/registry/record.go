package registry

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/meshctl/meshctl/internal/mesh/seal"
	"github.com/meshctl/meshctl/internal/mesh/wire"
)

// What is written to Redis: records are sealed with the mesh's key, as messages are, so
// that who can write to Redis alone can name no node. Owners are not: the scripts compare them.

// maxRecord bounds a record that is read, in bytes as it is sealed.
const maxRecord = 64 << 10

// record is a Node as it is sealed.
type record struct {
	Peer     json.RawMessage `json:"peer"`
	Client   string          `json:"client"`
	Link     string          `json:"link"`
	Since    int64           `json:"since"`
	Draining bool            `json:"draining,omitempty"`
	Master   string          `json:"master"`
	Attach   int64           `json:"attach,omitempty"`
}

// owner is who answers for a node.
type owner struct {
	Master   string `json:"m"`
	Client   string `json:"c"`
	Instance string `json:"i"`
	Attach   int64  `json:"a"`
	Since    int64  `json:"s"`
	Draining bool   `json:"d,omitempty"`
}

func ownerOf(n Node) owner {
	o := owner{Master: n.Master, Client: n.ClientID, Attach: n.Attach, Since: n.Since.UnixMilli(), Draining: n.Draining}
	if n.Meshctl != nil {
		o.Instance = n.Meshctl.Instance
	}
	return o
}

func ownerText(n Node) ([]byte, error) { return wire.Encode(ownerOf(n)) }

// owns tells whether o is what ownerOf says of n.
func (o owner) owns(n Node) bool { return o.Master == n.Master && o.Client == n.ClientID }

func parseOwner(text string) (owner, bool) {
	var o owner
	err := json.Unmarshal([]byte(text), &o)
	return o, err == nil && o.Master != ""
}

func sealNode(ring *seal.Ring, n Node) (string, error) {
	peer, err := wire.Encode(n.Peer)
	if err != nil {
		return "", err
	}
	text, err := wire.Encode(record{
		Peer: peer, Client: n.ClientID, Link: n.Link, Since: n.Since.UnixMilli(), Draining: n.Draining, Master: n.Master, Attach: n.Attach,
	})
	if err != nil {
		return "", err
	}
	return ring.Seal(text)
}

// openNode opens the record of the node of that name. Whoever wrote it had the mesh's key,
// and may still have written nonsense.
func openNode(ctx context.Context, ring *seal.Ring, name, sealed string) (Node, error) {
	if len(sealed) > maxRecord {
		return Node{}, fmt.Errorf("the record has %d bytes", len(sealed))
	}
	text, err := ring.Open(ctx, sealed, nil)
	if err != nil {
		return Node{}, err
	}
	var r record
	if err := json.Unmarshal(text, &r); err != nil {
		return Node{}, fmt.Errorf("read the record: %w", err)
	}
	peer, err := wire.DecodePeer(r.Peer)
	if err != nil {
		return Node{}, err
	}
	n := Node{Peer: peer, ClientID: r.Client, Link: r.Link, Since: time.UnixMilli(r.Since), Draining: r.Draining, Master: r.Master, Attach: r.Attach}
	if n.Name() != name {
		return Node{}, fmt.Errorf("it is the record of %s", n.Name())
	}
	if n.Master == "" || n.ClientID == "" {
		return Node{}, errors.New("the record names no master or no link")
	}
	return n, nil
}

func sealMaster(ring *seal.Ring, m Master) (string, error) {
	text, err := wire.Encode(m)
	if err != nil {
		return "", err
	}
	return ring.Seal(text)
}

func openMaster(ctx context.Context, ring *seal.Ring, id, sealed string) (Master, error) {
	if len(sealed) > maxRecord {
		return Master{}, fmt.Errorf("the record has %d bytes", len(sealed))
	}
	text, err := ring.Open(ctx, sealed, nil)
	if err != nil {
		return Master{}, err
	}
	var m Master
	if err := json.Unmarshal(text, &m); err != nil {
		return Master{}, fmt.Errorf("read the record: %w", err)
	}
	if m.ID != id {
		return Master{}, fmt.Errorf("it is the record of %.64q", m.ID)
	}
	return m, nil
}
