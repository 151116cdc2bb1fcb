package inspect

import (
	"encoding/json"
	"errors"
	"math/bits"
	"strconv"
	"time"
)

// Latency histograms are log-linear: from 1,024 ns to 2^40 ns (1,100 s) each doubling is
// split into 32 buckets of equal width, so that a bucket is at most 3.2% wide. One more
// bucket holds what is shorter, and one what is longer. Index and bounds never change:
// they are part of the protocol and of recordings.
//
// To feed another kind of histogram, record the middle of BucketBounds as often as
// Bucket.Count says.
const (
	minExp  = 10 // of the shortest latency that is told apart, in ns
	maxExp  = 40
	subBits = 5

	// BucketCount is how many buckets there are; indices are from 0 to BucketCount-1.
	BucketCount = (maxExp-minExp)<<subBits + 2
)

// BucketOf gives the index of the bucket that a latency falls into. What is negative
// counts as 0.
func BucketOf(d time.Duration) int {
	switch {
	case d < 1<<minExp:
		return 0
	case d >= 1<<maxExp:
		return BucketCount - 1
	}
	exp := bits.Len64(uint64(d)) - 1
	sub := int(d>>(exp-subBits)) & (1<<subBits - 1)
	return 1 + (exp-minExp)<<subBits + sub
}

// BucketBounds gives the latencies of a bucket: from low to just under high. The last
// bucket has no upper bound; its high is its low. It panics unless 0 ≤ index <
// BucketCount, which DecodeReport makes sure of.
func BucketBounds(index int) (low, high time.Duration) {
	switch {
	case index < 0 || index >= BucketCount:
		panic("inspect: no such bucket")
	case index == 0:
		return 0, 1 << minExp
	case index == BucketCount-1:
		return 1 << maxExp, 1 << maxExp
	}
	exp, sub := (index-1)>>subBits+minExp, (index-1)&(1<<subBits-1)
	width := time.Duration(1) << (exp - subBits)
	low = 1<<exp + time.Duration(sub)*width
	return low, low + width
}

// MarshalJSON writes [index, count, …].
func (b Buckets) MarshalJSON() ([]byte, error) {
	out := make([]byte, 0, 2+9*len(b))
	out = append(out, '[')
	for i, x := range b {
		if i > 0 {
			out = append(out, ',')
		}
		out = strconv.AppendInt(out, int64(x.Index), 10)
		out = append(out, ',')
		out = strconv.AppendUint(out, x.Count, 10)
	}
	return append(out, ']'), nil
}

// UnmarshalJSON reads what MarshalJSON writes. It fails unless indices exist and ascend.
func (b *Buckets) UnmarshalJSON(text []byte) error {
	var flat []uint64
	if err := json.Unmarshal(text, &flat); err != nil {
		return err
	}
	if len(flat)%2 != 0 || len(flat) > 2*BucketCount {
		return errors.New("buckets are not pairs of index and count")
	}
	*b = make(Buckets, 0, len(flat)/2)
	for i := 0; i < len(flat); i += 2 {
		if flat[i] >= BucketCount || i > 0 && flat[i] <= flat[i-2] {
			return errors.New("the index of a bucket does not exist, or does not ascend")
		}
		*b = append(*b, Bucket{int(flat[i]), flat[i+1]})
	}
	return nil
}
