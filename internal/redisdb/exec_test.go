package redisdb_test

import (
	"path/filepath"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/meshctl/meshctl/internal/redisdb"
)

// What was never sent has not succeeded.
func TestExecWithoutServer(t *testing.T) {
	client, err := redisdb.Open("unix://" + filepath.Join(t.TempDir(), "nobody"))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	pipe := client.Pipeline()
	cmds := []redis.Cmder{
		pipe.XLen(t.Context(), "a"), pipe.XPending(t.Context(), "a", "g"), redis.NewScript("return 1").Eval(t.Context(), pipe, nil),
	}
	redisdb.Exec(t.Context(), pipe)
	for _, c := range cmds {
		if !redisdb.Away(c.Err()) {
			t.Errorf("%s: %v", c.Name(), c.Err())
		}
	}
}
