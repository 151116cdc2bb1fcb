// Package cli is the command line: one file per subcommand, each of them thin. A
// newCmdX only parses into an options struct, a runX only works. Exit codes are
// decided in exitcode.go alone.
package cli
