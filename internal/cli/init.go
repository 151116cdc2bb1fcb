package cli

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/meshctl/meshctl/configs"
	"github.com/meshctl/meshctl/internal/config"
	"github.com/spf13/cobra"
)

const schemaFileName = "schema.yaml"

func newCmdInit(app *App) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "init [DIR]",
		Short: "Write a configuration, a schema and keys to start from",
		Long: `Write meshctl.yaml, schema.yaml and keys.yaml (new random keys, for you alone to read)
to DIR, or to the working directory. Files that exist are never overwritten: if one of
the three is there, nothing is written.`,
		Args: upToArgs(1),
	}
	cmd.ValidArgsFunction = func(*cobra.Command, []string, string) ([]cobra.Completion, cobra.ShellCompDirective) {
		return nil, cobra.ShellCompDirectiveFilterDirs
	}
	cmd.RunE = func(_ *cobra.Command, args []string) error {
		dir := "."
		if len(args) == 1 {
			dir = args[0]
		}
		return runInit(app, dir)
	}
	return cmd
}

func runInit(app *App, dir string) (err error) {
	names := []string{config.FileName, schemaFileName, config.KeysFileName}
	for _, name := range names {
		path := filepath.Join(dir, name)
		if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
			if err != nil {
				return fmt.Errorf("look for %s: %w", path, err)
			}
			return &hinted{fmt.Errorf("%s exists already; nothing was written", path), "meshctl init DIR writes to another directory"}
		}
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("create directory: %w", err)
	}
	var written []string
	defer func() {
		if err != nil { // a part of the files, such as a full disk leaves, would be in the way of the next init
			for _, path := range written {
				_ = os.Remove(path)
			}
		}
	}()
	write := func(name string, data []byte) error {
		path := filepath.Join(dir, name)
		created, err := writeNew(path, data)
		if created {
			written = append(written, path)
		}
		return err
	}
	sample := config.SampleFile(map[string]string{"schema": schemaFileName, "keys": config.KeysFileName})
	if err := write(config.FileName, sample); err != nil {
		return err
	}
	if err := write(schemaFileName, configs.StarterSchema); err != nil {
		return err
	}
	keysPath := filepath.Join(dir, config.KeysFileName)
	created, err := config.CreateKeysFile(keysPath)
	if err != nil {
		return err
	}
	if !created {
		return fmt.Errorf("create keys file: %s appeared meanwhile", keysPath)
	}
	flag := ""
	if filepath.Clean(dir) != "." {
		flag = " --config " + filepath.Join(dir, config.FileName)
	}
	for _, name := range names {
		fmt.Fprintln(app.Out, filepath.Join(dir, name))
	}
	app.notice("next: meshctl serve-master%s, and meshctl join worker%s in another terminal", flag, flag)
	return nil
}

// writeNew writes a file that must not exist, and tells whether it made one.
func writeNew(path string, data []byte) (created bool, err error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return false, fmt.Errorf("create file: %w", err)
	}
	_, err = f.Write(data)
	if err := errors.Join(err, f.Close()); err != nil {
		return true, fmt.Errorf("write %s: %w", path, err)
	}
	return true, nil
}
