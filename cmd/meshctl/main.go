// Command meshctl runs and uses a mesh: see "meshctl help".
package main

import (
	"context"
	"os"

	"github.com/meshctl/meshctl/internal/cli"
)

// Set by the release build with -ldflags -X.
var version, commit, date string

func main() {
	app := cli.NewApp(cli.Build{Version: version, Commit: commit, Date: date})
	os.Exit(cli.Main(context.Background(), app, os.Args[1:]))
}
