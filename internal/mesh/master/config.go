package master

import (
	"log/slog"
	"time"

	"github.com/meshctl/meshctl/internal/mesh/certs"
	"github.com/meshctl/meshctl/internal/mesh/identity"
	"github.com/meshctl/meshctl/internal/mesh/link"
	"github.com/meshctl/meshctl/internal/mesh/schema"
	"github.com/meshctl/meshctl/internal/mesh/seal"
)

// Config is what a master is made of. The zero value of a field means its default.
type Config struct {
	Keys   seal.Keys      // required without Ring
	Schema *schema.Schema // required

	Host string // address to bind; "" is every interface
	Port int    // 0 picks a free port

	// DiscoveryPort answers nodes that know no port; 0 turns it off.
	// It is bound on Host.
	DiscoveryPort int
	// DiscoveryOptional lets the master run without discovery when that port is taken.
	DiscoveryOptional bool

	// Redis is the URL of the Redis that masters of one mesh share their registry in, as
	// redisdb.Open takes it; "": this master is alone. Mesh tells meshes in one Redis apart.
	Redis, Mesh string
	// Advertise is the host that other masters reach this one by; default: Host, or the
	// address that Redis sees.
	Advertise string

	MaxPayload int          // plaintext bytes in one message; default wire.DefaultMaxPayload
	Version    string       // shown to other meshctl peers
	Logger     *slog.Logger // default: discards

	// Heartbeat is the silence after which a node is lost; over Socket.IO it may be twice as
	// long. Default link.HeartbeatLAN.
	Heartbeat time.Duration

	// Link is which links may be used; default link.Auto.
	Link link.Mode

	// Issuer checks the tokens that peers present; nil checks none, and then the schema
	// may not require them.
	Issuer *identity.Verifier

	// TLS makes the port and discovery speak TLS, and nothing else; nil: plain TCP.
	// It needs a certificate.
	TLS *certs.Identity

	// Ring has the keys that are accepted, and keeps what becomes of them. Peers in one
	// process may share one, and then pay for its key derivations once and change keys
	// together; default: Keys alone, in memory.
	Ring *seal.Ring
}
