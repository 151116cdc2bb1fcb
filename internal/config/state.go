package config

import (
	"path/filepath"
	"runtime"
)

// StateDir is the folder for what meshctl keeps between runs: meshctl in $XDG_STATE_HOME or
// ~/.local/state, or as the operating system has it; "" where there is no home.
func (c *Config) StateDir() string {
	dir, _ := c.env.env("XDG_STATE_HOME")
	switch {
	case filepath.IsAbs(dir): // as the specification wants it
	case runtime.GOOS == "windows":
		if dir, _ = c.env.env("LOCALAPPDATA"); dir == "" {
			return ""
		}
	case runtime.GOOS == "darwin":
		config, err := c.env.UserConfigDir() // Application Support, which is for state as well
		if err != nil {
			return ""
		}
		dir = config
	default:
		home, _ := c.env.env("HOME")
		if home == "" {
			return ""
		}
		dir = filepath.Join(home, ".local", "state")
	}
	return filepath.Join(dir, appDir)
}
