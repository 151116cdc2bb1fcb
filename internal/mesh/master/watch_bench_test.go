package master

import (
	"fmt"
	"strings"
	"testing"

	"golang.org/x/time/rate"

	"github.com/meshctl/meshctl/internal/mesh/link"
	"github.com/meshctl/meshctl/internal/mesh/wire"
)

// sink is a link that takes everything.
type sink struct{ link.Link }

func (sink) Send(wire.Message) error { return nil }

// BenchmarkRelay is what a report of 4 KiB costs a master.
func BenchmarkRelay(b *testing.B) {
	for _, watchers := range []int{1, 4} {
		b.Run(fmt.Sprint("watchers-", watchers), func(b *testing.B) {
			m := &Master{}
			var audience []*watcher
			for range watchers {
				audience = append(audience, &watcher{session: &session{link: sink{}}})
			}
			m.watching.audience.Store(&audience)
			s, r := &session{m: m}, newReporter("shop/s1")
			r.reports, r.bytes = rate.NewLimiter(rate.Inf, 0), rate.NewLimiter(rate.Inf, 0)
			s.reporter.Store(r)
			report := []byte(`{"commands":[` + strings.TrimSuffix(strings.Repeat(`{"command":"shop.status","started":12345,"ok":12345},`, 80), ",") + `]}`)
			b.ReportAllocs()
			b.SetBytes(int64(len(report)))
			for b.Loop() {
				s.telemetry(report)
			}
		})
	}
}
