package certs

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/http"
)

// Failure says that two peers did not come to terms about TLS.
type Failure struct {
	Message string // what happened, in words
	Hint    string // what may be done about it
	Err     error  // nil when there is nothing more to say
}

func (f *Failure) Error() string {
	if f.Err == nil {
		return f.Message
	}
	return f.Message + ": " + f.Err.Error()
}

func (f *Failure) Unwrap() error { return f.Err }

// Diagnose makes a Failure of an error of dialling with TLS, or gives nil where the
// error is of another kind.
func Diagnose(err error) *Failure {
	var (
		known    *Failure
		record   tls.RecordHeaderError
		verify   *tls.CertificateVerificationError
		name     x509.HostnameError
		issuer   x509.UnknownAuthorityError
		fromPeer *net.OpError
	)
	switch {
	case errors.As(err, &known):
		return known
	case errors.As(err, &record), errors.Is(err, http.ErrSchemeMismatch):
		return &Failure{"the peer does not speak TLS", "a mesh speaks TLS as a whole or not at all: give every member --tls-cert and --tls-key, or none of them --tls-…", nil}
	case errors.As(err, &name):
		return &Failure{"the peer's certificate is for others", "name the master (--master) and nodes (--advertise) as their certificates do", name}
	case errors.As(err, &issuer):
		return &Failure{"the peer's certificate has an unknown signer", "--tls-ca names the CA that signed it", issuer}
	case errors.As(err, &verify):
		return &Failure{"the peer's certificate is not valid", "look at it with openssl x509 -noout -text -in FILE", verify.Err}
	case errors.As(err, &fromPeer) && fromPeer.Op == "remote error":
		return &Failure{"the peer refuses TLS with us", "it may ask for a certificate that its --tls-ca has signed, for client use: --tls-cert and --tls-key", fromPeer.Err}
	}
	return nil
}

// HungUp is the Failure of a connection that ended when its TLS stood and nothing had
// been answered.
func HungUp(err error) *Failure {
	return &Failure{"the peer hung up after the TLS handshake", "it may ask for a certificate that its --tls-ca has signed, for client use: --tls-cert and --tls-key", err}
}

// WantsTLS makes a Failure of the answer to a plain request if it came from a server
// that speaks TLS only, and else gives nil. It reads from the body and leaves it open.
func WantsTLS(resp *http.Response) *Failure {
	if resp == nil || resp.StatusCode != http.StatusBadRequest || resp.Body == nil {
		return nil
	}
	body, _ := io.ReadAll(io.LimitReader(resp.Body, 1024)) // what there is of it will do
	if !bytes.Contains(body, []byte("HTTPS")) {
		return nil
	}
	return &Failure{"the peer wants TLS", "give --tls-ca FILE, the CA of the mesh", nil}
}
