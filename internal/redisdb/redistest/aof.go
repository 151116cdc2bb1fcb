package redistest

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
)

// Cut cuts the file to which a killed server appends, as if it had been killed while it wrote the last
// transaction that has marker in it: after n commands of that, its MULTI among them, and the first bytes
// of the next one. It reports false, and cuts nothing, when the transaction has no command after those.
func (s *Server) Cut(marker string, n int) bool {
	s.t.Helper()
	files, err := filepath.Glob(filepath.Join(s.dir, "appendonlydir", "*.incr.aof"))
	if err != nil || len(files) != 1 {
		s.t.Fatalf("the files appended to are %v, %v", files, err)
	}
	text, err := os.ReadFile(files[0])
	if err != nil {
		s.t.Fatal(err)
	}
	commands, err := splitAOF(text)
	if err != nil {
		s.t.Fatal(err)
	}
	begin, end := -1, -1
	for i, from := -1, 0; from < len(commands); from++ {
		switch c := commands[from]; {
		case c.is("MULTI"):
			i = from
		case c.is("EXEC"):
			if i >= 0 && bytes.Contains(text[commands[i].from:c.to], []byte(marker)) {
				begin, end = i, from
			}
			i = -1
		}
	}
	if begin < 0 {
		s.t.Fatalf("no transaction has %s", marker)
	}
	if begin+n > end {
		return false
	}
	if err := os.Truncate(files[0], int64(commands[begin+n].from+3)); err != nil {
		s.t.Fatal(err)
	}
	return true
}

// aofCommand is where a command is in the file, and its name.
type aofCommand struct {
	name     string
	from, to int
}

func (c aofCommand) is(name string) bool { return bytes.EqualFold([]byte(c.name), []byte(name)) }

// splitAOF finds the commands of a file, which are arrays of texts in the protocol of Redis.
func splitAOF(text []byte) (all []aofCommand, err error) {
	at := 0
	number := func(kind byte) (n int) {
		end := bytes.Index(text[at:], []byte("\r\n"))
		if err != nil || end < 1 || text[at] != kind {
			err = fmt.Errorf("no command at %d of %d", at, len(text))
			return 0
		}
		n, err = strconv.Atoi(string(text[at+1 : at+end]))
		at += end + 2
		return n
	}
	for at < len(text) && err == nil {
		c := aofCommand{from: at}
		for i := range number('*') {
			n := number('$')
			if err != nil || at+n+2 > len(text) {
				return nil, fmt.Errorf("the file is cut off at %d: %w", c.from, err)
			}
			if i == 0 {
				c.name = string(text[at : at+n])
			}
			at += n + 2
		}
		c.to = at
		all = append(all, c)
	}
	return all, err
}
