package config

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// Bytes is a size. Its text is a number with B, KiB, MiB or GiB, or with KB, MB
// or GB (powers of 1000), or without a unit.
type Bytes int64

// ParseBytes reads a size. It accepts no sign, no fraction and nothing beyond int64.
func ParseBytes(text string) (Bytes, error) {
	digits := strings.TrimRightFunc(text, func(r rune) bool { return r < '0' || r > '9' })
	n, err := strconv.ParseUint(digits, 10, 63)
	unit, ok := unitSize(strings.TrimSpace(text[len(digits):]))
	if err != nil || !ok || n > math.MaxInt64/uint64(unit) {
		return 0, fmt.Errorf("%q is not a size such as 65536, 512KiB or 4MiB", text)
	}
	return Bytes(int64(n) * unit), nil
}

func unitSize(unit string) (int64, bool) {
	switch strings.ToLower(unit) {
	case "", "b":
		return 1, true
	case "kib", "k":
		return 1 << 10, true
	case "mib", "m":
		return 1 << 20, true
	case "gib", "g":
		return 1 << 30, true
	case "kb":
		return 1e3, true
	case "mb":
		return 1e6, true
	case "gb":
		return 1e9, true
	}
	return 0, false
}

// String writes the size in the largest unit that it is a whole number of.
func (b Bytes) String() string {
	for _, u := range []struct {
		name string
		size Bytes
	}{{"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}} {
		if b != 0 && b%u.size == 0 {
			return strconv.FormatInt(int64(b/u.size), 10) + u.name
		}
	}
	return strconv.FormatInt(int64(b), 10)
}
