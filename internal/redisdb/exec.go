package redisdb

import (
	"context"
	"slices"

	"github.com/redis/go-redis/v9"
)

// Exec sends what a pipeline has, and gives its commands. Each has its result or its error then: the client itself
// leaves all of them without either where it could not connect.
func Exec(ctx context.Context, pipe redis.Pipeliner) []redis.Cmder {
	cmds, err := pipe.Exec(ctx)
	if err == nil || slices.ContainsFunc(cmds, func(c redis.Cmder) bool { return c.Err() != nil }) {
		return cmds
	}
	for _, c := range cmds {
		c.SetErr(err)
	}
	return cmds
}
