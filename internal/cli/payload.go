package cli

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"unicode/utf8"
)

// checkJSON fails with a usage error that says where data stops being JSON.
func checkJSON(name string, data []byte) error {
	if len(bytes.TrimSpace(data)) == 0 {
		return usagef("a payload is JSON, such as {} or null", "%s is empty", name)
	}
	if !utf8.Valid(data) {
		return usagef("", "%s is not UTF-8", name)
	}
	var v json.RawMessage
	err := json.Unmarshal(data, &v)
	if err == nil {
		return nil
	}
	hint := "a payload is JSON; quote it for the shell: -d '{\"a\":1}'"
	if data[0] == '\'' {
		hint = "this shell keeps single quotes: use double quotes, with \\\" inside"
	}
	where := ""
	if syntax := (*json.SyntaxError)(nil); errors.As(err, &syntax) {
		line, column := position(data, int(syntax.Offset))
		where = fmt.Sprintf(" at line %d, column %d", line, column)
	}
	return usagef(hint, "%s is not JSON%s: %v", name, where, err)
}

// position gives the line and column, in characters from 1, of the byte that a JSON
// error's offset, which counts the bytes read, ends with.
func position(data []byte, offset int) (line, column int) {
	offset = min(max(offset-1, 0), len(data))
	before := data[:offset]
	line = 1 + bytes.Count(before, []byte("\n"))
	column = 1 + utf8.RuneCount(before[bytes.LastIndexByte(before, '\n')+1:])
	return line, column
}
