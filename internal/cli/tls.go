package cli

import (
	"log/slog"

	"github.com/meshctl/meshctl/internal/config"
	"github.com/meshctl/meshctl/internal/mesh/certs"
)

// loadTLS reads the files of the TLS settings; nil stands for plain TCP. Whoever serves
// needs a certificate.
func loadTLS(cfg *config.Config, serves bool, log *slog.Logger) (*certs.Identity, error) {
	identity, err := certs.Load(certs.Config{
		Cert: cfg.TLSCert, Key: cfg.TLSKey, CA: cfg.TLSCA, OptionalClients: cfg.TLSClients == "optional", Logger: log,
	})
	switch {
	case err != nil:
		return nil, usagef("look at --tls-cert, --tls-key and --tls-ca", "%v", err)
	case serves && identity != nil && !identity.Serves():
		return nil, usagef("give --tls-cert and --tls-key as well", "--tls-ca alone is for those who only call; this command also listens")
	}
	return identity, nil
}
