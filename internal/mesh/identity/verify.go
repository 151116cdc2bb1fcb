package identity

import (
	"crypto/ed25519"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// Verifier checks tokens. It is immutable and safe for concurrent use.
type Verifier struct{ issuers map[string]ed25519.PublicKey }

// NewVerifier takes the public keys of one or more issuers in PEM, as Key.Public gives
// them. Errors wrap ErrBadKey.
func NewVerifier(pem []byte) (*Verifier, error) {
	issuers, err := parseIssuers(pem)
	if err != nil {
		return nil, fmt.Errorf("read issuer's public key: %w", err)
	}
	return &Verifier{issuers}, nil
}

// Issuers names the issuers, sorted.
func (v *Verifier) Issuers() []string { return slices.Sorted(maps.Keys(v.issuers)) }

// Verify checks form, signature and time of a token of any origin, and gives what it
// says. Whether that fits its holder is for Gate.Admit to say.
func (v *Verifier) Verify(t Token, now time.Time) (*Claims, error) {
	if len(t) > MaxLen {
		return nil, fmt.Errorf("%w: longer than %d bytes", ErrMalformed, MaxLen)
	}
	var body tokenClaims
	parser := jwt.NewParser(
		jwt.WithValidMethods([]string{jwt.SigningMethodEdDSA.Alg()}), jwt.WithStrictDecoding(),
		jwt.WithExpirationRequired(), jwt.WithNotBeforeRequired(), jwt.WithIssuedAt(),
		jwt.WithLeeway(Leeway), jwt.WithTimeFunc(func() time.Time { return now }),
	)
	parsed, err := parser.ParseWithClaims(string(t), &body, func(parsed *jwt.Token) (any, error) {
		for name := range parsed.Header {
			if name != "alg" && name != "typ" {
				return nil, fmt.Errorf("%w: a header that is not known", ErrMalformed)
			}
		}
		public, ok := v.issuers[body.Issuer]
		if !ok {
			return nil, ErrIssuer
		}
		return public, nil
	})
	if err != nil {
		return nil, reason(parsed, err)
	}
	c := body.claims()
	switch {
	case c.Worker == "" || c.ID == "" || c.Issued.IsZero() || len(c.Variant) > maxVariant:
		return nil, fmt.Errorf("%w: a claim is missing", ErrMalformed)
	case c.Expires.Sub(c.Issued) > MaxTTL:
		return nil, fmt.Errorf("%w: valid for too long", ErrMalformed)
	}
	return c, nil
}

// reason tells the library's errors apart, and drops what they quote of the token.
func reason(parsed *jwt.Token, err error) error {
	for _, own := range []error{ErrIssuer, ErrMalformed} {
		if errors.Is(err, own) {
			return own
		}
	}
	switch {
	case errors.Is(err, jwt.ErrTokenMalformed):
		return ErrMalformed
	case parsed == nil || parsed.Method == nil || parsed.Method.Alg() != jwt.SigningMethodEdDSA.Alg():
		return ErrAlgorithm
	case errors.Is(err, jwt.ErrTokenSignatureInvalid):
		return ErrSignature
	case errors.Is(err, jwt.ErrTokenRequiredClaimMissing):
		return fmt.Errorf("%w: a claim is missing", ErrMalformed)
	case errors.Is(err, jwt.ErrTokenExpired):
		return ErrExpired
	case errors.Is(err, jwt.ErrTokenNotValidYet), errors.Is(err, jwt.ErrTokenUsedBeforeIssued):
		return ErrNotYet
	}
	return ErrMalformed
}

// Inspect gives what a token says without checking that anybody signed it, for its own
// holder to see. Errors wrap ErrMalformed.
func Inspect(t Token) (*Claims, error) {
	if len(t) > MaxLen {
		return nil, fmt.Errorf("%w: longer than %d bytes", ErrMalformed, MaxLen)
	}
	var body tokenClaims
	if _, _, err := jwt.NewParser(jwt.WithStrictDecoding()).ParseUnverified(string(t), &body); err != nil {
		return nil, ErrMalformed
	}
	c := body.claims()
	if c.Worker == "" || c.Expires.IsZero() {
		return nil, fmt.Errorf("%w: a claim is missing", ErrMalformed)
	}
	return c, nil
}
