package native

import (
	"context"
	"errors"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/meshctl/meshctl/internal/mesh/link"
)

// Who says nothing is out of reach. That no native links are served there is not known, and
// would be a reason to try another kind, or to refuse.
func TestDialOfWhoIsSilent(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0") // connections come about without an Accept
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	var dials sync.WaitGroup
	for range 40 { // the deadline of the connection and that of the context race
		dials.Go(func() {
			ctx, cancel := context.WithTimeout(context.Background(), 200*time.Millisecond)
			defer cancel()
			_, err := Dial(ctx, l.Addr().String(), Config{Key: newKey("k"), Hello: Hello{Name: "left/x"}})
			if errors.Is(err, ErrNotServed) || !errors.Is(err, link.ErrUnreachable) {
				t.Errorf("dial: %v", err)
			}
		})
	}
	dials.Wait()
}
