// Package identity says who may appear as which worker: tokens that an issuer signs,
// the check of a token that a peer presents, and the list of those that were revoked.
// A token is a JSON Web Token, signed with Ed25519 (EdDSA). No I/O.
package identity

import (
	"errors"
	"log/slog"
	"time"

	"github.com/meshctl/meshctl/internal/mesh/schema"
)

// MaxLen is the longest token, in bytes.
const MaxLen = 4096

// Leeway is how far the clocks of issuer, holder and checker may differ.
const Leeway = time.Minute

// Operator is the worker that operators' tokens name.
const Operator = schema.Operator

// Why a token is not accepted. The errors of this package wrap one of them; none
// quotes a token.
var (
	ErrMissing     = errors.New("no token, and the schema requires one")
	ErrMalformed   = errors.New("malformed token")
	ErrAlgorithm   = errors.New("the token is not signed with Ed25519")
	ErrIssuer      = errors.New("the token is of another issuer")
	ErrSignature   = errors.New("the token's signature is wrong")
	ErrExpired     = errors.New("the token has expired")
	ErrNotYet      = errors.New("the token is not valid yet")
	ErrWorker      = errors.New("the token is of another worker")
	ErrVariant     = errors.New("the token is of another variant")
	ErrRevoked     = errors.New("revoked")
	ErrNoIssuer    = errors.New("tokens cannot be checked without the issuer's public key")
	ErrBadKey      = errors.New("not an Ed25519 key in PEM")
	ErrBadDenyList = errors.New("bad deny list")
)

// Token is a token as it travels. Whoever has it can present it, so that logs and
// formatted text show a placeholder. JSON has the token itself, for the wire.
type Token string

const placeholder = "[token]"

// String hides the token.
func (t Token) String() string {
	if t == "" {
		return ""
	}
	return placeholder
}

// GoString hides the token.
func (t Token) GoString() string { return t.String() }

// LogValue hides the token.
func (t Token) LogValue() slog.Value { return slog.StringValue(t.String()) }

// Claims is what a token says.
type Claims struct {
	ID      string    `json:"id" yaml:"id"` // drawn at random; a deny list may name it
	Issuer  string    `json:"issuer" yaml:"issuer"`
	Worker  string    `json:"worker" yaml:"worker"`                       // or Operator
	Variant string    `json:"variant,omitempty" yaml:"variant,omitempty"` // "": every variant
	Issued  time.Time `json:"issued" yaml:"issued"`
	Expires time.Time `json:"expires" yaml:"expires"`
}

// Until is when nobody accepts the token any more.
func (c *Claims) Until() time.Time { return c.Expires.Add(Leeway) }

// Name is "worker/variant", or the worker where every variant is meant.
func (c *Claims) Name() string {
	if c.Variant == "" {
		return c.Worker
	}
	return c.Worker + "/" + c.Variant
}
