package node

import (
	"crypto/tls"
	"errors"
	"net"

	"github.com/meshctl/meshctl/internal/mesh/certs"
)

// clientTLS is how a connection to addr (host:port) speaks TLS; nil: not at all.
func (c *core) clientTLS(addr string) *tls.Config {
	if c.cfg.TLS == nil {
		return nil
	}
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		host = addr
	}
	return c.cfg.TLS.Client(host)
}

// hintOf is the hint of what kept TLS from coming about, or otherwise.
func hintOf(err error, otherwise string) string {
	var failure *certs.Failure
	if errors.As(err, &failure) {
		return failure.Hint
	}
	return otherwise
}
