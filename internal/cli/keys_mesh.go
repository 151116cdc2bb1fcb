package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/meshctl/meshctl/internal/mesh/node"
	"github.com/meshctl/meshctl/internal/mesh/rpc"
	"github.com/meshctl/meshctl/internal/mesh/wire"
)

const (
	// keyOrders is how many peers are asked at once, keyTimeout how long each may take.
	keyOrders  = 16
	keyTimeout = 20 * time.Second
)

// keyPeer is the keys of the master or of a node, or what came of an order to it.
type keyPeer struct {
	Peer    string         `json:"peer"`
	Kind    string         `json:"kind"`
	Uses    string         `json:"uses,omitempty"`
	Accepts []string       `json:"accepts,omitempty"`
	Lacks   []string       `json:"lacks,omitempty"` // of those that the master accepts
	Links   map[string]int `json:"links,omitempty"`
	Stored  bool           `json:"stored"`
	Note    string         `json:"note,omitempty"`
	Error   *failure       `json:"error,omitempty"`
}

// counts tells whether the peer is one that keys can be changed at.
func (p keyPeer) counts() bool { return p.Kind == wire.KindMeshctl }

// keyMesh orders peers about keys.
type keyMesh struct {
	app *App
	op  *node.Operator
}

// masters are the names of the masters, the one that is asked itself first.
func (m *keyMesh) masters(ctx context.Context) ([]string, error) {
	all, err := m.op.Masters(ctx)
	if wire.CodeOf(err) == wire.CodeDenied { // a JavaScript master: it has no keys to change, either
		return []string{wire.MasterWorker}, nil
	}
	if err != nil {
		return nil, err
	}
	var names []string
	for _, x := range all {
		switch {
		case x.ID == "":
			return []string{wire.MasterWorker}, nil
		case x.State != wire.MasterGone:
			names = append(names, wire.MasterName(x.ID))
		}
	}
	return names, nil
}

// everybody has the masters, then all nodes carry out an order, and gives what came of it,
// the masters first. Those that join meanwhile are asked as well. When the first master
// refuses, nobody else is asked, and the error is the master's. With nodesFirst the masters
// are asked at the end, and unless order.Force is set only if all nodes obeyed.
func (m *keyMesh) everybody(ctx context.Context, order wire.KeyOrder, nodesFirst bool) ([]keyPeer, error) {
	masters, err := m.masters(ctx)
	if err != nil {
		return nil, err
	}
	asked := make([]keyPeer, len(masters))
	first := &asked[0]
	askMasters := func() error {
		for i, name := range masters {
			p, err := m.ask(ctx, order, name)
			if err != nil && i == 0 {
				return err
			}
			if err != nil {
				p = keyPeer{Peer: name, Kind: wire.KindMeshctl, Error: failed(err)}
			}
			asked[i] = p
		}
		return nil
	}
	if !nodesFirst {
		if err := askMasters(); err != nil {
			return nil, err
		}
	}
	nodes, err := m.nodes(ctx, order)
	if err != nil {
		return nil, err
	}
	if nodesFirst {
		if anyFailed(nodes) && !order.Force {
			err = errNodesFailed
		} else {
			err = askMasters()
		}
		for i := range asked {
			if err != nil {
				asked[i] = keyPeer{Peer: masters[i], Kind: wire.KindMeshctl, Error: failed(err)}
			}
		}
	}
	accepted := first.Accepts
	all := append(asked, nodes...)
	for i := range all {
		for _, f := range accepted {
			if all[i].counts() && all[i].Error == nil && !slices.Contains(all[i].Accepts, f) {
				all[i].Lacks = append(all[i].Lacks, f)
			}
		}
	}
	return all, nil
}

func (m *keyMesh) nodes(ctx context.Context, order wire.KeyOrder) ([]keyPeer, error) {
	var all []keyPeer
	asked := make(map[string]bool)
	for {
		list, err := m.op.Nodes(ctx)
		if err != nil {
			return nil, err
		}
		list = slices.DeleteFunc(list, func(n wire.NodeInfo) bool { return asked[n.Worker+"/"+n.Variant] })
		if len(list) == 0 {
			return all, nil
		}
		round := make([]keyPeer, len(list))
		var done int
		var telling sync.Mutex
		var wg sync.WaitGroup
		slots := make(chan struct{}, keyOrders)
		for i, n := range list {
			name := n.Worker + "/" + n.Variant
			asked[name] = true
			if n.Kind != wire.KindMeshctl {
				round[i] = keyPeer{Peer: name, Kind: n.Kind, Note: "has one key, in its own configuration"}
				continue
			}
			slots <- struct{}{}
			wg.Go(func() {
				defer func() { <-slots }()
				p, err := m.ask(ctx, order, name)
				if err != nil {
					p = keyPeer{Peer: name, Kind: n.Kind, Error: failed(err)}
				}
				round[i] = p
				telling.Lock()
				defer telling.Unlock()
				done++
				m.progress("%d of %d nodes", done, len(list))
			})
		}
		wg.Wait()
		m.progress("")
		all = append(all, round...)
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
	}
}

var errNodesFailed = errors.New("not asked, since a node failed")

func anyFailed(peers []keyPeer) bool {
	return slices.ContainsFunc(peers, func(p keyPeer) bool { return p.Error != nil })
}

// progress shows, at a terminal, how far things are in a line that the next one replaces.
func (m *keyMesh) progress(format string, args ...any) {
	if m.app.ErrIsTerminal {
		fmt.Fprintf(m.app.Err, "\r\x1b[K"+format, args...)
	}
}

func (m *keyMesh) ask(ctx context.Context, order wire.KeyOrder, name string) (keyPeer, error) {
	if name != wire.MasterWorker {
		order.Peer = name
	}
	ctx, cancel := context.WithTimeout(ctx, keyTimeout)
	defer cancel()
	s, err := m.op.OrderKeys(ctx, order)
	if err != nil {
		return keyPeer{}, err
	}
	return keyPeer{Peer: name, Kind: wire.KindMeshctl, Uses: s.Uses, Accepts: s.Accepts, Links: s.Links, Stored: s.Stored, Note: s.Note}, nil
}

func failed(err error) *failure {
	f := classify(rpc.AsError(err))
	return &f
}

// acknowledgements is a row for each peer: what came of an order.
func acknowledgements(peers []keyPeer) [][]string {
	var rows [][]string
	for _, p := range peers {
		result := "done"
		switch {
		case p.Error != nil:
			result = "failed: " + p.Error.Message
		case !p.counts():
			result = "not asked: " + p.Note
		case !p.Stored:
			result = "done, not stored: " + p.Note
		}
		rows = append(rows, []string{p.Peer, result})
	}
	return rows
}

// acknowledge prints what came of an order. The error says how many peers did not carry
// it out.
func (a *App) acknowledge(fingerprint string, peers []keyPeer, output format) error {
	bad, lost := 0, 0
	for _, p := range peers {
		switch {
		case p.Error != nil:
			bad++
		case p.counts() && !p.Stored:
			lost++
		}
	}
	var err error
	if output == formatTable {
		err = writeTable(a.Out, []string{"PEER", "RESULT"}, acknowledgements(peers))
	} else {
		err = writeValue(a.Out, map[string]any{"fingerprint": fingerprint, "peers": peers}, output)
	}
	if err != nil {
		return err
	}
	if lost > 0 {
		a.notice("%d of %d keep the change in memory only: their next restart forgets it", lost, len(peers))
	}
	if bad > 0 {
		return &reported{code: codeFailure, message: fmt.Sprintf("%d of %d did not acknowledge", bad, len(peers))}
	}
	return nil
}

// keyRows are the peers as meshctl keys list prints them.
func keyRows(peers []keyPeer) [][]string {
	var rows [][]string
	for _, p := range peers {
		var notes []string
		for _, f := range p.Lacks {
			notes = append(notes, "lacks "+f)
		}
		if p.Uses != "" && p.Uses != peers[0].Uses {
			notes = append(notes, "uses another key than the master")
		}
		if p.Error != nil {
			notes = append(notes, p.Error.Message)
		}
		if p.Note != "" {
			notes = append(notes, p.Note)
		}
		var links []string
		for _, f := range p.Accepts {
			if n := p.Links[f]; n > 0 {
				links = append(links, fmt.Sprintf("%d on %s", n, f))
			}
		}
		rows = append(rows, []string{p.Peer, p.Kind, p.Uses, strings.Join(p.Accepts, " "), strings.Join(links, ", "), strings.Join(notes, "; ")})
	}
	return rows
}
