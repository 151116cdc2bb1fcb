package master

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"net"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/meshctl/meshctl/internal/mesh/registry"
	"github.com/meshctl/meshctl/internal/mesh/wire"
)

// Several masters of one mesh: each has the nodes that declared themselves at it, tells the
// others of them by the registry that they share, and tells its own nodes of all. What only
// the node's own master can do (reports, orders) goes by links between masters, see other.go.

// sharedWait is how long a master that starts waits for what the others know before it
// takes nodes in all the same.
const sharedWait = 5 * time.Second

func (m *Master) openShared() error {
	host, _ := os.Hostname()
	self := registry.Master{
		ID: wire.DrawVariant(host), Host: m.cfg.Advertise, Native: m.native(), Version: m.cfg.Version,
		Schema: fingerprint(m.schemaJSON), Policy: m.policy, Started: time.Now().UnixMilli(),
	}
	if ip := net.ParseIP(m.cfg.Host); self.Host == "" && m.cfg.Host != "" && (ip == nil || !ip.IsUnspecified()) {
		self.Host = m.cfg.Host
	}
	var err error
	m.shared, err = registry.OpenShared(registry.SharedConfig{
		URL: m.cfg.Redis, Mesh: m.cfg.Mesh, Self: self, Ring: m.ring, Listener: sharedView{m}, Linked: m.linked, Logger: m.log,
	})
	m.others, m.known = make(map[string]*otherMaster), make(map[string]knownMaster)
	return err
}

// awaitShared waits until this master knows what the others know, within bounds.
func (m *Master) awaitShared(ctx context.Context) {
	late := time.NewTimer(sharedWait)
	defer late.Stop()
	select {
	case <-m.shared.Ready():
	case <-ctx.Done():
	case <-late.C:
		m.log.Error("this master takes nodes in without knowing what other masters know: Redis does not answer")
	}
}

// fingerprint tells schemas apart, and policies.
func fingerprint(text []byte) string {
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:6])
}

// policyPrint is the fingerprint of what peers are let in by beside the schema: who issues
// their tokens, and the deny list. No list is an empty one. mu is held, or the master is new.
func (m *Master) policyPrint() string {
	var issuers []string
	if m.cfg.Issuer != nil {
		issuers = m.cfg.Issuer.Issuers()
	}
	return fingerprint([]byte(strings.Join(issuers, "\n") + "\n\n" + strings.Join(m.denied, "\n")))
}

// tellSelf lets the other masters know which schema and policy are in force here. mu is held.
func (m *Master) tellSelf() {
	if m.shared == nil {
		return
	}
	schema, policy := fingerprint(m.schemaJSON), m.policy
	m.shared.SetSelf(func(x *registry.Master) { x.Schema, x.Policy = schema, policy })
}

// id is this master's among several, "" of one that is alone.
func (m *Master) id() string {
	if m.shared == nil {
		return ""
	}
	return m.shared.ID()
}

// name is what this master is called among peers.
func (m *Master) name() string { return wire.MasterName(m.id()) }

// whole tells whether all nodes of the mesh are known here.
func (m *Master) whole() bool { return m.shared != nil && m.shared.Err() == nil }

// RegistryErr is why this master does not know what other masters know; nil when it does,
// or is alone.
func (m *Master) RegistryErr() error {
	if m.shared == nil {
		return nil
	}
	return m.shared.Err()
}

// put notes a node that is declared here. mu is held.
func (m *Master) put(n registry.Node) (replaced *registry.Node) {
	replaced = m.nodes.Put(n)
	if m.shared != nil {
		m.shared.Put(n)
	}
	return replaced
}

// sharedView takes in what the other masters know.
type sharedView struct{ *Master }

var _ registry.Listener = sharedView{}

// Found implements registry.Listener.
func (m sharedView) Found(n registry.Node) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.shared.Current(n) {
		return // it has come here since
	}
	old := m.nodes.Put(n)
	if old != nil {
		m.replace(*old, n)
	}
	m.meshChanged()
	switch {
	case n.Draining:
		if old == nil || !old.Draining {
			m.drained(n)
		}
	case old != nil && !old.Draining && sameAddress(old.Peer, n.Peer):
		// It came to another master: nobody's picture changes.
	default:
		m.log.Info("node joined at another master", "worker", n.Worker, "variant", n.Variant, "ip", n.IP, "port", n.Port, "kind", n.Kind(), "master", n.Master)
		m.announce(n)
	}
}

// Gone implements registry.Listener.
func (m sharedView) Gone(n registry.Node) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.remove(n)
}

// Masters implements registry.Listener.
func (m sharedView) Masters(all []registry.Master) {
	m.mu.Lock()
	defer m.mu.Unlock()
	was := m.known
	m.known = make(map[string]knownMaster, len(all))
	schema := fingerprint(m.schemaJSON)
	for _, x := range all {
		k, known := was[x.ID]
		switch {
		case x.Lapsed && known && !k.lapsed:
			m.log.Warn("another master has gone; its nodes are awaited elsewhere", "master", x.ID, "host", x.Host)
		case !x.Lapsed && (!known || k.lapsed):
			m.log.Info("another master is there", "master", x.ID, "host", x.Host, "version", x.Version)
		}
		k.lapsed = x.Lapsed
		if !x.Lapsed && k.schema.news(x.Schema, schema) {
			m.log.Warn("another master has another schema: give all the same", "master", x.ID, "schema", x.Schema, "here", schema)
		}
		if !x.Lapsed && k.policy.news(x.Policy, m.policy) {
			m.log.Warn("another master lets others in: give all the same --token-issuer and --token-denylist", "master", x.ID, "policy", x.Policy, "here", m.policy)
		}
		m.known[x.ID] = k
	}
	m.meshChanged()
	m.meet(all)
}

// knownMaster is what this master has seen of another one.
type knownMaster struct {
	lapsed         bool
	schema, policy difference
}

// difference is one between two fingerprints that has been logged.
type difference struct{ theirs, mine string }

// news tells whether these differ and that has not been logged yet, and notes it. Who does
// not tell does not differ.
func (d *difference) news(theirs, mine string) bool {
	now := difference{theirs, mine}
	if theirs == "" || theirs == mine {
		now = difference{}
	}
	was := *d
	*d = now
	return now != was && now != (difference{})
}

// detached tells whether the master of a node has gone. mu is held.
func (m *Master) detached(n registry.Node) bool {
	switch {
	case m.shared == nil:
		return false
	case n.Master == m.id():
		return m.sessions[n.ClientID] == nil
	}
	k, known := m.known[n.Master]
	return !known || k.lapsed
}

// Masters lists the masters of the mesh, this one first and then by ID.
func (m *Master) Masters() []wire.MasterInfo {
	m.mu.Lock()
	defer m.mu.Unlock()
	count := make(map[string]int)
	for _, n := range m.nodes.List() {
		count[n.Master]++
	}
	now := time.Now().UnixMilli()
	me := wire.MasterInfo{ID: m.id(), Version: m.cfg.Version, Nodes: count[m.id()], Schema: fingerprint(m.schemaJSON), Policy: m.policy, UpMillis: now - m.started.UnixMilli(), State: wire.MasterHere}
	select {
	case <-m.ready:
		if tcp, ok := m.listener.Addr().(*net.TCPAddr); ok {
			me.Port = tcp.Port
		}
	default: // it does not listen yet, and may wait for Redis
	}
	if m.shared == nil {
		return []wire.MasterInfo{me}
	}
	me.IP = m.shared.Self().Host
	if err := m.shared.Err(); err != nil {
		me.Registry = err.Error()
	}
	all := []wire.MasterInfo{me}
	for _, x := range m.shared.Masters() {
		info := wire.MasterInfo{ID: x.ID, IP: x.Host, Port: x.Port, Version: x.Version, Nodes: count[x.ID], Schema: x.Schema, Policy: x.Policy, UpMillis: max(0, now-x.Started), State: wire.MasterStarting}
		switch o := m.others[x.ID]; {
		case x.Lapsed:
			info.State = wire.MasterGone
		case o != nil && o.link.Load() != nil:
			info.State = wire.MasterLinked
		case o != nil && o.failed.Load():
			info.State = wire.MasterUnreachable
		}
		all = append(all, info)
	}
	return all
}

// admitMaster says whether a peer that presents a ticket is the master that it says it is.
// mu is held.
func (m *Master) admitMaster(s *session, peer wire.Peer) *wire.Error {
	denied := &wire.Error{Code: wire.CodeDenied, Message: "this is no master of this mesh, or one that is not known here yet", Temporary: true}
	if m.shared == nil || peer.Worker != wire.OperatorWorker {
		return denied
	}
	all := m.shared.Masters()
	i := slices.IndexFunc(all, func(x registry.Master) bool { return x.ID == peer.Variant && !x.Lapsed })
	if i < 0 || subtle.ConstantTimeCompare([]byte(all[i].Ticket), []byte(peer.Meshctl.Ticket)) != 1 {
		return denied
	}
	s.master = all[i].ID
	s.stopExpiry()
	return nil
}
