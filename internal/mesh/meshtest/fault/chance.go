package fault

// chance is what is random about one thing: a function of the seed, the number of the
// connection and what it is for. It has no state, so that what happens to a byte depends on where it is
// in its stream, and on nothing that is a matter of time.
type chance uint64

// What chances are for.
const (
	forDrop chance = iota + 1
	forReset
	forCorrupt // and the one after it, for the other direction
	_
	forJitter // likewise
)

func newChance(seed, connection uint64, what chance) chance {
	return chance(mix(mix(seed+uint64(what)*odd) + connection*odd))
}

// draw gives the n-th number.
func (c chance) draw(n uint64) uint64 { return mix(uint64(c) + n*odd) }

// hits tells whether something of probability p happens at the n-th time.
func (c chance) hits(p float64, n uint64) bool { return share(c.draw(n)) < p }

// share makes a number from 0 to less than 1 of the upper bits.
func share(x uint64) float64 { return float64(x>>11) / (1 << 53) }

// corrupt flips one bit of each byte that is hit. offset is where b begins in its stream.
func (c chance) corrupt(b []byte, p float64, offset uint64) {
	if p <= 0 {
		return
	}
	for i := range b {
		if x := c.draw(offset + uint64(i)); share(x) < p {
			b[i] ^= 1 << (x & 7)
		}
	}
}

const odd = 0x9e3779b97f4a7c15 // 2^64 over the golden ratio

// mix is the finaliser of SplitMix64.
func mix(x uint64) uint64 {
	x ^= x >> 30
	x *= 0xbf58476d1ce4e5b9
	x ^= x >> 27
	x *= 0x94d049bb133111eb
	return x ^ x>>31
}
