// Package internal_test holds the house to its plan: see docs/architecture.md.
package internal_test

import (
	"go/parser"
	"go/token"
	"io/fs"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/meshctl/meshctl/"

// layers are the packages from top to bottom. Imports point only downwards: neither up
// nor sideways to a package of the same layer.
var layers = [][]string{
	{"cmd/meshctl"},
	{"internal/cli"},
	{"internal/tui"},
	{"internal/tui/screen", "internal/tui/tuitest"},
	{"internal/demo", "internal/metrics", "internal/chaos"},
	{"internal/chaos/history"},
	{"internal/config", "internal/mesh/meshtest"},
	{"internal/mesh/master", "internal/mesh/node"},
	{"internal/mesh/inspect/query", "internal/mesh/inspect/record"},
	{"internal/mesh/inspect"},
	{"internal/mesh/route"},
	{"internal/mesh/rpc"},
	{"internal/mesh/handler"},
	{"internal/mesh/queue/queuetest"},
	{"internal/mesh/queue"},
	{"internal/mesh/registry"},
	{"internal/mesh/link/linktest"},
	{"internal/mesh/link/socketio", "internal/mesh/link/native"},
	{"internal/mesh/link"},
	{"internal/mesh/certs/certstest"},
	{"internal/mesh/certs"},
	{"internal/mesh/wire"},
	{"internal/mesh/seal", "internal/mesh/identity"},
	{"internal/mesh/seal/kdf"},
	{"internal/mesh/schema"},
	{"configs", "internal/mesh/meshtest/fault"},
	{"internal/redisdb/redistest"},
	{"internal/bounded", "internal/pause", "internal/procattr", "internal/redisdb"},
}

func TestImportsPointDownwards(t *testing.T) {
	rank := map[string]int{}
	for i, layer := range layers {
		for _, pkg := range layer {
			rank[pkg] = i
		}
	}
	checked := 0
	for from, imports := range packageImports(t) {
		level, ok := rank[from]
		if !ok {
			t.Errorf("%s has no place in the list of layers; give it one, and docs/architecture.md a line", from)
			continue
		}
		for to, file := range imports {
			below, ok := rank[to]
			checked++
			switch {
			case !ok:
				t.Errorf("%s imports %s, which has no place in the list of layers", file, to)
			case below <= level:
				t.Errorf("%s: %s imports %s, which is not below it", file, from, to)
			case strings.HasSuffix(to, "test"):
				t.Errorf("%s: %s imports the test package %s", file, from, to)
			}
		}
	}
	if checked < 20 {
		t.Errorf("only %d imports were checked: is this the right directory?", checked)
	}
}

// Viper has one importer, so that where a setting comes from is decided in one place.
func TestOnlyConfigImportsViper(t *testing.T) {
	walk(t, func(pkg, file, imported string) {
		if imported == "github.com/spf13/viper" && pkg != "internal/config" {
			t.Errorf("%s imports viper", file)
		}
	})
}

// packageImports maps each package to the packages of this module that it imports,
// and those to a file that does so. Tests may import upwards and are left out.
func packageImports(t *testing.T) map[string]map[string]string {
	all := map[string]map[string]string{}
	walk(t, func(pkg, file, imported string) {
		if all[pkg] == nil {
			all[pkg] = map[string]string{}
		}
		if to, ours := strings.CutPrefix(imported, module); ours {
			all[pkg][to] = file
		}
	})
	return all
}

func walk(t *testing.T, visit func(pkg, file, imported string)) {
	t.Helper()
	for _, root := range []string{"../cmd", "../internal", "../configs"} {
		err := filepath.WalkDir(root, func(name string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() && (d.Name() == "testdata" || d.Name() == "node_modules" || d.Name() == "examples") {
				if err == nil {
					err = filepath.SkipDir
				}
				return err
			}
			if d.IsDir() || !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go") {
				return nil
			}
			f, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ImportsOnly)
			if err != nil {
				return err
			}
			file := strings.TrimPrefix(filepath.ToSlash(name), "../")
			for _, spec := range f.Imports {
				imported, err := strconv.Unquote(spec.Path.Value)
				if err != nil {
					return err
				}
				visit(path.Dir(file), file, imported)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}
