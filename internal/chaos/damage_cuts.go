package chaos

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"os"
)

// cut is a file of which only the beginning is left.
type cut struct {
	class string
	size  int // of what is left
}

func (c cut) String() string { return fmt.Sprintf("%s (%d bytes left)", c.class, c.size) }

// least is how many of the jobs in a file, of which the first bytes are in use, have to be there after the cut: all
// where nothing in use is missing, and a fifth where more than half of it is left.
func (c cut) least(used, jobs int) int {
	switch {
	case c.size >= used:
		return jobs
	case c.size > used/2:
		return jobs / 5
	}
	return 0
}

// The pages of bbolt's files begin with an id (8 bytes), flags (2), a count (2) and the number of pages that
// they go on for (4).
const (
	pageBranch   = 0x01
	pageLeaf     = 0x02
	pageMeta     = 0x04
	pageFreelist = 0x10
)

// usedBytes is how much of a file of bbolt is in use: it grows by more than is needed. The later one of the two
// meta pages says so.
func usedBytes(file []byte) int {
	const end, transaction = 56, 64 // where in a meta page the first unused page and the number of the transaction are
	page := os.Getpagesize()
	later := file[:page]
	if second := file[page : 2*page]; binary.NativeEndian.Uint64(second[transaction:]) > binary.NativeEndian.Uint64(later[transaction:]) {
		later = second
	}
	return int(binary.NativeEndian.Uint64(later[end:])) * page
}

// cuts chooses where to cut a file of bbolt off: at every kind of place, each of them. The file as it is comes
// first.
func cuts(file []byte, each int, dice *rand.Rand) []cut {
	page := os.Getpagesize()
	whole := len(file)
	file = file[:usedBytes(file)]
	all := []cut{{"whole", whole}, {"the unused end", len(file)}, {"nothing left", 0}, {"first byte", 1}, {"before the first meta page's end", page - 1}, {"after the first meta page", page},
		{"before the second meta page's end", 2*page - 1}, {"after both meta pages", 2 * page}, {"last page", len(file) - page}, {"last byte", len(file) - 1}}
	inside := map[uint16][]int{} // where pages begin, by kind
	long := []int{}              // and those that go on for more than one
	for at := 2 * page; at+16 <= len(file); at += page {
		h := file[at:]
		if binary.NativeEndian.Uint64(h) != uint64(at/page) {
			continue // in the middle of a long one, or never used
		}
		flags := binary.NativeEndian.Uint16(h[8:])
		inside[flags] = append(inside[flags], at)
		if more := int(binary.NativeEndian.Uint32(h[12:])); more > 0 && at+(more+1)*page <= len(file) {
			long = append(long, at+page)
		}
	}
	pick := func(class string, places []int, offset func() int) {
		for range each {
			if len(places) > 0 {
				all = append(all, cut{class, places[dice.IntN(len(places))] + offset()})
			}
		}
	}
	within := func() int { return 1 + dice.IntN(page-1) }
	pick("inside the first meta page", []int{0}, within)
	pick("inside the second meta page", []int{page}, within)
	pick("inside the freelist", inside[pageFreelist], within)
	pick("inside a leaf", inside[pageLeaf], within)
	pick("inside a branch", inside[pageBranch], within)
	pick("at the end of a leaf", inside[pageLeaf], func() int { return page })
	pick("before a leaf", inside[pageLeaf], func() int { return 0 })
	pick("in the middle of an item longer than a page", long, func() int { return dice.IntN(2) * within() })
	pick("anywhere", []int{0}, func() int { return dice.IntN(len(file)) })
	return all
}
