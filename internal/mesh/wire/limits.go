package wire

import (
	"time"

	"github.com/meshctl/meshctl/internal/mesh/schema"
)

// Limits on what a peer may write. Lengths are in bytes.
const (
	// DefaultMaxPayload is the largest plaintext of one message, unless configured.
	DefaultMaxPayload = 1 << 20
	// MaxDepth is how deeply arrays and objects may nest in one message.
	MaxDepth = 64
	// MaxNameLen is the longest worker or command name.
	MaxNameLen = schema.MaxName
	// MaxVariantLen is the longest variant.
	MaxVariantLen = 128
	// MaxUIDLen is the longest uid of a request.
	MaxUIDLen = 128
	// MaxHostLen is the longest host name (RFC 1035).
	MaxHostLen = 253
	// MaxNodesPerMessage is how many peers one addnode may name.
	MaxNodesPerMessage = 1 << 16
	// MaxMembers is how many members the object around a command, response or
	// declaration may have. Payloads may have any number.
	MaxMembers = 64
	// MaxErrorLen is the longest error message. A longer one is cut, not refused.
	MaxErrorLen = 4096
	// MaxTimeout is the longest a request may be waited for; CommandMeta.Timeout
	// never returns more.
	MaxTimeout = 24 * time.Hour
)
