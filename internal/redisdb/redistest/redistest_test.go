package redistest_test

import (
	"testing"
	"time"

	"github.com/meshctl/meshctl/internal/redisdb"
	"github.com/meshctl/meshctl/internal/redisdb/redistest"
)

func TestTopologies(t *testing.T) {
	redisdb.Quiet()
	began := time.Now()
	for name, url := range map[string]func() string{
		"one":      func() string { return redistest.Start(t).URL() },
		"cluster":  func() string { return redistest.StartCluster(t).URL() },
		"sentinel": func() string { return redistest.StartSentinel(t).URL() },
	} {
		t.Run(name, func(t *testing.T) {
			c, err := redisdb.Open(url())
			t.Log("started after", time.Since(began))
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			if err := redisdb.Supported(t.Context(), c); err != nil {
				t.Error(err)
			}
			if host, err := redisdb.LocalHost(t.Context(), c); err != nil || host != "127.0.0.1" {
				t.Errorf("this host is %q, %v", host, err)
			}
			for _, key := range []string{"a", "b", "c", "d", "e"} {
				if err := c.Set(t.Context(), key, 1, 0).Err(); err != nil {
					t.Error(err)
				}
			}
			if n, err := c.Get(t.Context(), "e").Int(); n != 1 || err != nil {
				t.Errorf("read %d, %v", n, err)
			}
		})
	}
}
