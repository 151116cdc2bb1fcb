package identity

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/google/uuid"

	"github.com/meshctl/meshctl/internal/mesh/schema"
)

const (
	pemPrivate = "PRIVATE KEY"
	pemPublic  = "PUBLIC KEY"

	// maxIssuers is how many public keys one checker takes: the present one, and
	// former ones whose tokens are still about.
	maxIssuers = 16
	// MaxTTL is the longest that a token may be valid.
	MaxTTL = 10 * 365 * 24 * time.Hour

	maxVariant = 128
)

// Key signs tokens. Only the issuer holds it.
type Key struct{ private ed25519.PrivateKey }

// NewKey draws a key.
func NewKey() (*Key, error) {
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("draw an issuer key: %w", err)
	}
	return &Key{private}, nil
}

// ParseKey reads what Private gives. Errors wrap ErrBadKey and quote nothing of data.
func ParseKey(data []byte) (*Key, error) {
	block, rest := pem.Decode(data)
	if block == nil || block.Type != pemPrivate || len(bytes.TrimSpace(rest)) > 0 {
		return nil, fmt.Errorf("read issuer key: %w", ErrBadKey)
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	private, ok := parsed.(ed25519.PrivateKey)
	if err != nil || !ok {
		return nil, fmt.Errorf("read issuer key: %w", ErrBadKey)
	}
	return &Key{private}, nil
}

// Private is the key for its file (PKCS #8 in PEM).
func (k *Key) Private() ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(k.private)
	if err != nil {
		return nil, fmt.Errorf("encode issuer key: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: pemPrivate, Bytes: der}), nil
}

// Public is the public key for those who check tokens (PKIX in PEM).
func (k *Key) Public() ([]byte, error) {
	der, err := x509.MarshalPKIXPublicKey(k.private.Public())
	if err != nil {
		return nil, fmt.Errorf("encode issuer key: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: pemPublic, Bytes: der}), nil
}

// Issuer names the key, as tokens do.
func (k *Key) Issuer() string { return issuerName(k.private.Public().(ed25519.PublicKey)) }

func issuerName(public ed25519.PublicKey) string {
	sum := sha256.Sum256(public)
	return "meshctl:" + hex.EncodeToString(sum[:16])
}

// tokenClaims is the body of the JWT.
type tokenClaims struct {
	Variant string `json:"variant,omitempty"`
	jwt.RegisteredClaims
}

func (c *tokenClaims) claims() *Claims {
	out := &Claims{ID: c.ID, Issuer: c.Issuer, Worker: c.Subject, Variant: c.Variant}
	if c.IssuedAt != nil {
		out.Issued = c.IssuedAt.UTC()
	}
	if c.ExpiresAt != nil {
		out.Expires = c.ExpiresAt.UTC()
	}
	return out
}

// Issue signs a token for a worker or Operator, and for one variant of it unless
// variant is "". It is valid from now for ttl, counted in seconds, at most MaxTTL.
func (k *Key) Issue(worker, variant string, ttl time.Duration, now time.Time) (Token, *Claims, error) {
	if worker != Operator {
		if err := schema.ValidWorker(worker); err != nil {
			return "", nil, err
		}
	}
	switch {
	case len(variant) > maxVariant:
		return "", nil, fmt.Errorf("the variant is longer than %d bytes", maxVariant)
	case ttl < time.Second || ttl > MaxTTL:
		return "", nil, fmt.Errorf("a token is valid for 1s to %s, not %s", MaxTTL, ttl)
	}
	now = now.Truncate(time.Second)
	id, err := uuid.NewRandom()
	if err != nil {
		return "", nil, fmt.Errorf("draw a token's id: %w", err)
	}
	body := &tokenClaims{variant, jwt.RegisteredClaims{
		Issuer: k.Issuer(), Subject: worker, ID: id.String(),
		IssuedAt: jwt.NewNumericDate(now), NotBefore: jwt.NewNumericDate(now), ExpiresAt: jwt.NewNumericDate(now.Add(ttl)),
	}}
	text, err := jwt.NewWithClaims(jwt.SigningMethodEdDSA, body).SignedString(k.private)
	if err != nil {
		return "", nil, fmt.Errorf("sign token: %w", err)
	}
	return Token(text), body.claims(), nil
}

// parseIssuers reads the public keys of PEM text, by issuer.
func parseIssuers(data []byte) (map[string]ed25519.PublicKey, error) {
	keys := map[string]ed25519.PublicKey{}
	for len(bytes.TrimSpace(data)) > 0 {
		block, rest := pem.Decode(data)
		if block == nil {
			return nil, ErrBadKey
		}
		if block.Type == pemPrivate {
			return nil, fmt.Errorf("%w: this is the issuer's private key, which stays with the issuer; give the public one", ErrBadKey)
		}
		parsed, err := x509.ParsePKIXPublicKey(block.Bytes)
		public, ok := parsed.(ed25519.PublicKey)
		if err != nil || !ok || block.Type != pemPublic {
			return nil, ErrBadKey
		}
		if len(keys) == maxIssuers {
			return nil, fmt.Errorf("%w: more than %d keys", ErrBadKey, maxIssuers)
		}
		keys[issuerName(public)] = public
		data = rest
	}
	if len(keys) == 0 {
		return nil, ErrBadKey
	}
	return keys, nil
}
