//go:build !unix

package chaos

import (
	"errors"
	"os"
	"os/exec"
)

// Without the signals of Unix no scenario runs: see runScenario.
var errNoSignals = errors.ErrUnsupported

func ownGroup(*exec.Cmd)          {}
func killGroup(cmd *exec.Cmd)     { _ = cmd.Process.Kill() }
func terminate(*os.Process) error { return errNoSignals }
func freeze(*os.Process) error    { return errNoSignals }
func thaw(*os.Process) error      { return errNoSignals }
