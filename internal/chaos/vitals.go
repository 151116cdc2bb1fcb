package chaos

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
)

// What processes use, from /proc where there is one, else from ps.

// residentMemory is the memory of a process that is in RAM, in bytes.
func residentMemory(pid int) (int64, error) {
	if text, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", pid)); err == nil {
		fields := strings.Fields(string(text))
		if len(fields) < 2 {
			return 0, errors.New("read the memory of a process: /proc has something else")
		}
		pages, err := strconv.ParseInt(fields[1], 10, 64)
		return pages * int64(os.Getpagesize()), err
	}
	out, err := exec.Command("ps", "-o", "rss=", "-p", strconv.Itoa(pid)).Output()
	if err != nil {
		return 0, fmt.Errorf("read the memory of a process with ps: %w", err)
	}
	kilobytes, err := strconv.ParseInt(strings.TrimSpace(string(out)), 10, 64)
	return kilobytes << 10, err
}

// openFiles is how many files, sockets and pipes this process has open.
func openFiles() (int, error) {
	entries, err := os.ReadDir("/dev/fd")
	return len(entries) - 1, err // without the folder itself
}

// openFilesOf is the same of another process; 0 where there is no /proc.
func openFilesOf(pid int) int {
	entries, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	if err != nil {
		return 0
	}
	return len(entries)
}

// processesAbout lists the running processes, other than this one, whose command line has text in it.
func processesAbout(text string) ([]string, error) {
	var found []string
	files, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		return nil, err
	}
	for _, f := range files {
		pid := filepath.Base(filepath.Dir(f))
		line, err := os.ReadFile(f)
		if err != nil || pid == strconv.Itoa(os.Getpid()) {
			continue // it has just ended
		}
		if bytes.Contains(line, []byte(text)) {
			found = append(found, pid+" "+string(bytes.ReplaceAll(bytes.TrimRight(line, "\x00"), []byte{0}, []byte{' '})))
		}
	}
	if len(files) > 0 {
		return found, nil
	}
	out, err := exec.Command("ps", "-axww", "-o", "pid=,command=").Output()
	if err != nil {
		return nil, fmt.Errorf("list the processes with ps: %w", err)
	}
	for line := range strings.Lines(string(out)) {
		line = strings.TrimSpace(line)
		if pid, _, _ := strings.Cut(line, " "); strings.Contains(line, text) && pid != strconv.Itoa(os.Getpid()) {
			found = append(found, line)
		}
	}
	return found, nil
}
