package wire

import (
	"encoding/json"

	"github.com/meshctl/meshctl/internal/mesh/identity"
	"github.com/meshctl/meshctl/internal/mesh/schema"
)

// Event names. The first group is what JavaScript nodes speak.
const (
	EventDeclare    = "declare"
	EventDeclared   = "declared"
	EventAddNode    = "addnode"
	EventRemoveNode = "removenode"
	EventError      = "error"
	EventCommand    = "command"
	EventResponse   = "response"

	// Sent between meshctl peers only; JavaScript peers have no listener for them.
	EventCancel = "cancel" // Cancel: the caller no longer waits for a request
	EventDrain  = "drain"  // Peer: the sender takes no new requests and will leave
	EventSchema = "schema" // SchemaUpdate: the master's schema changed
	EventDenied = "denied" // DenyList: who is revoked now, from the master
	EventRetire = "retire" // an empty object: the sender has no request under way on this link and sends no more on it

	// Of watching: nobody gets them who did not ask, or was not asked.
	EventWatch     = "watch"     // Watch: an operator begins or ceases to watch, to the master
	EventObserve   = "observe"   // Observe: a node is to report or not to, from the master
	EventTelemetry = "telemetry" // inspect.Report to the master, inspect.Relay from it to who watches
	EventMesh      = "mesh"      // inspect.MeshPart: from the master to who watches
	EventWithdraw  = "withdraw"  // Cancel: a node is to end a request, from the master
)

// Message is one event and what it says, as a link carries it: JSON in Body, or a
// Command or Response that was never put into JSON because both ends speak the
// native link. Whoever holds a Message owns what it points to.
type Message struct {
	Event    string
	Body     []byte
	Command  *Command  // of EventCommand; Body is then nil
	Response *Response // of EventResponse; Body is then nil
	Number   uint64    // of EventCancel on native links: the Command's; Body is then nil
}

// CommandMessage is the message of a request.
func CommandMessage(c Command) Message { return Message{Event: EventCommand, Command: &c} }

// ResponseMessage is the message of a response.
func ResponseMessage(r Response) Message { return Message{Event: EventResponse, Response: &r} }

// JSON is the body as JavaScript peers read it. Errors are those of EncodeCommand and
// EncodeResponse.
func (m Message) JSON() ([]byte, error) {
	switch {
	case m.Command != nil:
		return EncodeCommand(*m.Command)
	case m.Response != nil:
		return EncodeResponse(*m.Response)
	}
	return m.Body, nil
}

// AsCommand reads the body of EventCommand as DecodeCommand does.
func (m Message) AsCommand(known func(name string) bool) (Command, error) {
	if m.Command != nil {
		return *m.Command, nil
	}
	return DecodeCommand(m.Body, known)
}

// AsResponse reads the body of EventResponse as DecodeResponse does.
func (m Message) AsResponse() (Response, error) {
	if m.Response != nil {
		return *m.Response, nil
	}
	return DecodeResponse(m.Body)
}

// Kinds of peer software, as shown to users.
const (
	KindMeshctl    = "meshctl"
	KindJavaScript = "javascript"
)

// OperatorWorker is the worker name of meshctl's own command line (call, ls, …)
// where it is no worker of the schema. It is not a valid schema name, so that no
// worker can be mistaken for it; only meshctl peers accept it.
const OperatorWorker = schema.Operator

// Peer names one running variant of a worker and where its mesh server listens.
type Peer struct {
	Worker  string `json:"worker"`
	Variant string `json:"variant"`
	IP      string `json:"ip,omitempty"`
	Port    int    `json:"port,omitempty"`
	// Meshctl is present when the peer is a meshctl node.
	Meshctl *Extra `json:"meshctl,omitempty"`
}

// Kind tells whether the peer runs meshctl or JavaScript.
func (p Peer) Kind() string {
	if p.Meshctl != nil {
		return KindMeshctl
	}
	return KindJavaScript
}

// Name is "worker/variant", as logs and tables show it.
func (p Peer) Name() string { return p.Worker + "/" + p.Variant }

// Public is the peer as others, and hooks, may learn of it: without its token, and without
// what a master serves.
func (p Peer) Public() Peer {
	if p.Meshctl != nil {
		x := *p.Meshctl
		x.Token, x.Denied, x.Schema, x.Keys = "", nil, nil, nil
		x.Attach, x.Ticket, x.Whole = 0, "", false
		p.Meshctl = &x
	}
	return p
}

// Extra is what one meshctl peer tells another in declare, declared and addnode.
type Extra struct {
	// Protocol is the version of meshctl's additions, now 1.
	Protocol int `json:"protocol"`
	// Version is the release of the sender, for display only.
	Version string `json:"version,omitempty"`
	// Name is "worker/variant" of the node that accepts a link, or of the master that
	// accepts another master's, in declared, so that whoever dialled an address notices
	// when somebody else has taken it.
	Name string `json:"name,omitempty"`
	// Instance is drawn at random when a node starts. A declare of another
	// instance with the same worker and variant replaces the older one.
	Instance string `json:"instance,omitempty"`
	// Started is when the node started, in milliseconds since 1970.
	Started int64 `json:"started,omitempty"`
	// Native says that the sender serves native links on the same port.
	Native bool `json:"native,omitempty"`
	// Schema is sent by a master in declared: its schema without handlers.
	Schema json.RawMessage `json:"schema,omitempty"`
	// Revision counts the master's schema changes.
	Revision int64 `json:"revision,omitempty"`
	// Token says who signed that the sender may be who it is, in declare and, from a
	// node, in declared. It is meant for the other end alone: see Public.
	Token identity.Token `json:"token,omitempty"`
	// Denied is sent by a master in declared: its deny list.
	Denied []string `json:"denied,omitempty"`
	// Keys is sent by a master in declared: the fingerprints of the keys that it accepts, the
	// used one first.
	Keys []string `json:"keys,omitempty"`
	// Attach counts a node's declares at masters, in declare.
	Attach int64 `json:"attach,omitempty"`
	// Ticket is sent by a master that declares itself at another one, as an operator: see
	// registry.Master.
	Ticket string `json:"ticket,omitempty"`
	// Whole is sent by a master in declared: at once after that it names all nodes of the
	// mesh that the peer may connect to, and not only those that came back so far.
	Whole bool `json:"whole,omitempty"`
}

// ProtocolVersion is what this build writes into Extra.Protocol.
const ProtocolVersion = 1

// Declare is a node's introduction, to the master or to another node.
type Declare struct {
	Worker   string `json:"worker"`
	Port     int    `json:"port,omitempty"`
	Variant  string `json:"variant,omitempty"`
	Hostname string `json:"hostname,omitempty"`
	Meshctl  *Extra `json:"meshctl,omitempty"`
}

// Declared is the master's acceptance, and that of one meshctl node to another.
type Declared struct {
	Worker   string `json:"worker"`
	Variant  string `json:"variant"`
	ClientID string `json:"clientId,omitempty"`
	Port     int    `json:"port,omitempty"`
	IP       string `json:"ip,omitempty"`
	Meshctl  *Extra `json:"meshctl,omitempty"`
}

// ErrorMessage is the body of EventError. Code is absent from JavaScript masters.
type ErrorMessage struct {
	Message string `json:"message"`
	Code    Code   `json:"code,omitempty"`
}

// Cancel withdraws the request uid.
type Cancel struct {
	UID string `json:"uid"`
}

// Watch begins or ends an operator's watching.
type Watch struct {
	On bool `json:"on"`
}

// Observe tells a node to send reports, at most one in EveryMillis, or to stop. Said
// again, it makes the node begin with a full report.
type Observe struct {
	On          bool  `json:"on"`
	EveryMillis int64 `json:"every_ms,omitempty"`
}

// SchemaUpdate carries a master's changed schema, without handlers.
type SchemaUpdate struct {
	Revision int64           `json:"revision"`
	Schema   json.RawMessage `json:"schema"`
}

// DenyList carries a master's list of who is revoked.
type DenyList struct {
	Entries []string `json:"entries"`
}

// NodeInfo is one row of the master's list of nodes.
type NodeInfo struct {
	Worker  string `json:"worker" yaml:"worker"`
	Variant string `json:"variant" yaml:"variant"`
	IP      string `json:"ip" yaml:"ip"`
	Port    int    `json:"port" yaml:"port"`
	Kind    string `json:"kind" yaml:"kind"`
	// Link is what the node's link to the master is: "native" or "socketio".
	Link string `json:"link,omitempty" yaml:"link,omitempty"`
	// Native says that the node serves native links.
	Native  bool   `json:"native,omitempty" yaml:"native,omitempty"`
	Version string `json:"version,omitempty" yaml:"version,omitempty"`
	// Since is when the node was accepted, in milliseconds since 1970. That it comes back, or
	// to another of several masters, does not change it while the masters know the instance.
	Since int64 `json:"since" yaml:"since"`
	// UpMillis is how long ago that was by the master's clock.
	UpMillis int64 `json:"up_ms" yaml:"up_ms"`
	Draining bool  `json:"draining" yaml:"draining"`
	// Master is the master that it declared itself at, where there are several.
	Master string `json:"master,omitempty" yaml:"master,omitempty"`
	// Detached says that this master has gone, and that the node has not come to another yet.
	Detached bool `json:"detached,omitempty" yaml:"detached,omitempty"`
}
