package node

import (
	"log/slog"
	"time"

	"github.com/meshctl/meshctl/internal/mesh/certs"
	"github.com/meshctl/meshctl/internal/mesh/handler"
	"github.com/meshctl/meshctl/internal/mesh/identity"
	"github.com/meshctl/meshctl/internal/mesh/link"
	"github.com/meshctl/meshctl/internal/mesh/schema"
	"github.com/meshctl/meshctl/internal/mesh/seal"
	"github.com/meshctl/meshctl/internal/mesh/wire"
)

// DefaultDiscoveryPort is where a master answers nodes that know no port.
const DefaultDiscoveryPort = 8765

// Config is what a node or an operator is made of. The zero value of a field
// means its default.
type Config struct {
	Keys seal.Keys // required without Ring

	// Worker is what the node is (required for New). For Connect it is the worker
	// to appear as; "" is the operator identity.
	Worker  string
	Variant string // default: drawn at random ("host name-xxxx")

	// Master is HOST[:PORT], or several with commas between; default 127.0.0.1; no port asks
	// discovery. A name stands for all its addresses. One master is used at a time, drawn at
	// random, and another one when it goes.
	Master        string
	DiscoveryPort int // where to ask; default DefaultDiscoveryPort; below 0 nobody is asked

	Host      string // address that the mesh server binds; "" is every interface
	MeshPort  int    // 0 picks a free port
	Advertise string // host name or IP that other nodes reach this one by; default: the address the master sees

	// Schema defines the worker's commands and what answers them. A meshctl
	// master's schema decides about access and about the other workers; with a
	// JavaScript master this one does. Connect needs none with a meshctl master.
	Schema    *schema.Schema
	SchemaDir string // what relative paths of programs start from

	// Handlers answer commands in this process and go before the schema's methods.
	Handlers map[string]handler.Handler

	MaxPayload   int           // plaintext bytes in one message; default wire.DefaultMaxPayload
	MaxInFlight  int           // requests being answered at once; default 4096, more are overloaded
	QueueDepth   int           // queued requests waiting per command, unless the schema says; default 1000
	DrainTimeout time.Duration // how long Run waits for requests under way when it ends; default 10 s
	Timeout      time.Duration // of calls whose context has no deadline; default 3 s

	// Queue is where queued requests wait: QueueMemory (default) or QueueEmbedded.
	Queue string
	// Redis is the URL of the Redis that has the queues instead, of this worker and of those
	// that it calls; see queue.RedisConfig. Mesh tells meshes in one Redis apart. With it an operator
	// puts jobs into queues of workers that are not there.
	Redis, Mesh string
	QueueLease  time.Duration // how long what a lost node was working on waits for it in Redis; default 15 s
	// DataDir is the node's own folder for QueueEmbedded; default: one below StateDir by worker
	// and variant. New locks it, the end of Run releases it.
	DataDir, StateDir string

	// InspectPayloads lets the payloads of requests be seen by who watches the mesh, except
	// for what the schema calls sensitive.
	InspectPayloads bool

	Hooks   Hooks
	Version string       // shown to other meshctl peers
	Logger  *slog.Logger // default: discards

	// Heartbeat is the silence after which a peer is lost; over Socket.IO it may be twice as
	// long, and longer where a JavaScript server answers no WebSocket pings. Default
	// link.HeartbeatLAN.
	Heartbeat time.Duration

	// Link is which links may be used; default link.Auto.
	Link link.Mode

	// Token gives the token to present, and is asked whenever one is, so that a renewed
	// one needs no restart; nil or "": none.
	Token func() (identity.Token, error)
	// Issuer checks the tokens that peers present; nil cannot.
	Issuer *identity.Verifier

	// TLS makes all connections speak TLS, and nothing else; nil: plain TCP. Of a node
	// it needs a certificate.
	TLS *certs.Identity

	// Ring has the keys that are accepted, and keeps what becomes of them. Peers in one
	// process may share one, and then pay for its key derivations once and change keys
	// together; default: Keys alone, in memory.
	Ring *seal.Ring
}

// Hooks are told of the node's connections, one after another on a goroutine of
// their own: a slow hook delays the next, never the mesh.
type Hooks struct {
	OnConnected     func(self wire.Peer) // the master accepted this node (again)
	OnConnection    func(peer wire.Peer) // a link to another node came up
	OnDisconnection func(peer wire.Peer) // the last link to it went
}
