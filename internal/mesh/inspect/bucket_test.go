package inspect

import (
	"math"
	"testing"
	"time"
)

func TestBuckets(t *testing.T) {
	var end time.Duration
	for i := range BucketCount {
		low, high := BucketBounds(i)
		if low != end {
			t.Fatalf("bucket %d begins at %s, the one before it ends at %s", i, low, end)
		}
		if BucketOf(low) != i {
			t.Fatalf("bucket %d: its lower bound %s is in %d", i, low, BucketOf(low))
		}
		if last := i == BucketCount-1; last {
			if high != low || BucketOf(math.MaxInt64) != i || low < 1000*time.Second {
				t.Errorf("the last bucket is from %s to %s", low, high)
			}
			break
		}
		if BucketOf(high-1) != i {
			t.Fatalf("bucket %d: %s, just under its upper bound, is in %d", i, high-1, BucketOf(high-1))
		}
		if i > 0 && float64(high-low) > 0.032*float64(low) {
			t.Errorf("bucket %d, from %s to %s, is too wide", i, low, high)
		}
		end = high
	}
	if BucketOf(-time.Second) != 0 || BucketOf(time.Microsecond) != 0 || BucketOf(1100*time.Nanosecond) == 0 {
		t.Error("the shortest are in the wrong buckets")
	}
}
