package cli

import (
	"fmt"
	"log/slog"

	"github.com/meshctl/meshctl/internal/bounded"
	"github.com/meshctl/meshctl/internal/config"
	"github.com/meshctl/meshctl/internal/mesh/identity"
	"github.com/meshctl/meshctl/internal/mesh/link"
)

// linkMode is which links the settings allow.
func linkMode(cfg *config.Config) (link.Mode, error) {
	switch {
	case cfg.RequireNative && cfg.Link == string(link.SocketIO):
		return "", usagef("leave one of the two away", "--require-native refuses what --link socketio asks for")
	case cfg.RequireNative:
		return link.Native, nil
	}
	return link.Mode(cfg.Link), nil
}

// loadIssuer reads the public key that tokens are checked by; nil where none is set.
func loadIssuer(cfg *config.Config) (*identity.Verifier, error) {
	if cfg.TokenIssuer == "" {
		return nil, nil
	}
	return config.ReadIssuer(cfg.TokenIssuer)
}

// loadToken gives what a peer presents, nil without a token, and what it checks others
// by. The token's file has to be in order now; later it is read again each time.
func (a *App) loadToken(cfg *config.Config) (func() (identity.Token, error), *identity.Verifier, error) {
	issuer, err := loadIssuer(cfg)
	if err != nil || cfg.TokenFile == "" {
		return nil, issuer, err
	}
	_, warning, err := config.ReadToken(cfg.TokenFile)
	if err != nil {
		return nil, nil, err
	}
	if warning != "" {
		a.warn(warning)
	}
	return func() (identity.Token, error) {
		token, _, err := config.ReadToken(cfg.TokenFile)
		return token, err
	}, issuer, nil
}

// newDenyListWatcher puts a deny list into force, and again whenever its file changes
// and on SIGHUP. One that cannot be read at the start is an error; later the former one
// stays.
func newDenyListWatcher(path string, apply func(*identity.DenyList) error, log *slog.Logger) (*fileWatcher, error) {
	var seen string
	load := func() (changed bool, err error) {
		data, err := bounded.ReadFile(path, identity.MaxDenyListSize)
		if err != nil {
			return false, fmt.Errorf("read the deny list: %w", err)
		}
		if seen == string(data) {
			return false, nil
		}
		l, err := identity.ParseDenyList(data)
		if err == nil {
			err = apply(l)
		}
		if err != nil {
			return false, fmt.Errorf("%s: %w", path, err)
		}
		seen = string(data)
		log.Info("the deny list is in force", "file", path, "entries", len(l.Entries()))
		return true, nil
	}
	w := newFileWatcher(path, "deny list", log)
	w.reload = func(asked bool) {
		if changed, err := load(); err != nil {
			log.Error("cannot use the deny list; the old one stays", "error", err)
		} else if asked && !changed {
			log.Info("the deny list is unchanged", "file", path)
		}
	}
	if _, err := load(); err != nil {
		w.close()
		return nil, err
	}
	return w, nil
}
