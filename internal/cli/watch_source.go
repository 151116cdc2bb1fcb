package cli

import (
	"context"

	"github.com/meshctl/meshctl/internal/config"
	"github.com/meshctl/meshctl/internal/mesh/node"
)

// watch opens the live source of a mesh, and what may be done to it. The caller closes it.
func (a *App) watch(ctx context.Context, cfg *config.Config) (*node.Watcher, error) {
	nc, err := a.operatorConfig(cfg)
	if err != nil {
		return nil, err
	}
	return node.Watch(ctx, nc)
}
