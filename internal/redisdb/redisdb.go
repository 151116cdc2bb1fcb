// Package redisdb opens the Redis that a URL names, for queues and for the registry of
// masters alike: one server, Sentinels or a Cluster, with bounded time-outs. What is kept
// there, and what becomes of it when Redis is away, is the callers' business.
package redisdb

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

// Timeout bounds one exchange with Redis, and connecting to it. A command that blocks has
// to bring its own on top.
const Timeout = 2 * time.Second

// Open makes a client of redis://, rediss:// or unix://. With master_name=NAME and further
// addr=HOST:PORT in its query the URL is about Sentinels, and its password theirs; that of the
// servers is password= in its query. With addr alone it is about a Cluster. It connects to
// nothing yet. A command is not tried twice, but in a Cluster: there one whose answer was lost
// may be, so that twice has to do no harm. Errors do not quote the URL: it may have a password.
func Open(text string) (redis.UniversalClient, error) {
	u, err := url.Parse(text)
	if err != nil {
		return nil, errors.New("the URL of Redis is malformed; write redis://HOST:PORT/0")
	}
	bad := func(err error) error {
		// What ParseURL says may quote parts of the URL.
		return fmt.Errorf("the URL of Redis is not one that can be used (%T); write redis://HOST:PORT/0, rediss://… or unix:///PATH", err)
	}
	switch query := u.Query(); {
	case query.Has("master_name"):
		o, err := redis.ParseFailoverURL(text)
		if err != nil {
			return nil, bad(err)
		}
		o.DialTimeout, o.ReadTimeout, o.WriteTimeout, o.MaxRetries, o.ContextTimeoutEnabled = Timeout, Timeout, Timeout, -1, true
		eachByName(o.TLSConfig)
		return redis.NewFailoverClient(o), nil
	case query.Has("addr"):
		o, err := redis.ParseClusterURL(text)
		if err != nil {
			return nil, bad(err)
		}
		o.DialTimeout, o.ReadTimeout, o.WriteTimeout, o.MaxRetries, o.ContextTimeoutEnabled = Timeout, Timeout, Timeout, -1, true
		eachByName(o.TLSConfig)
		o.NewClient = func(of *redis.Options) *redis.Client {
			of.DialerRetries = 1 // the client of a cluster goes to another by itself
			return redis.NewClient(of)
		}
		return redis.NewClusterClient(o), nil
	}
	o, err := redis.ParseURL(text)
	if err != nil {
		return nil, bad(err)
	}
	o.DialTimeout, o.ReadTimeout, o.WriteTimeout, o.MaxRetries, o.ContextTimeoutEnabled = Timeout, Timeout, Timeout, -1, true
	return redis.NewClient(o), nil
}

// eachByName has the certificate of each of several servers checked for the name or address
// that it is dialled by, and not all for the first one's.
func eachByName(c *tls.Config) {
	if c != nil {
		c.ServerName = ""
	}
}

// Supported fails when the server is older than 6.2, or does not answer.
func Supported(ctx context.Context, client redis.UniversalClient) error {
	info, err := client.Info(ctx, "server").Result()
	if err != nil {
		return err
	}
	for line := range strings.Lines(info) {
		version, ok := strings.CutPrefix(strings.TrimSpace(line), "redis_version:")
		var major, minor int
		if n, _ := fmt.Sscanf(version, "%d.%d", &major, &minor); ok && n == 2 && (major < 6 || major == 6 && minor < 2) {
			return fmt.Errorf("redis %s is too old: meshctl needs 6.2 or later", version)
		}
	}
	return nil
}

// LocalHost is the IP address of this end as the server sees it, and 127.0.0.1 over a
// socket of its machine. A network that translates addresses makes it useless to others.
func LocalHost(ctx context.Context, client redis.UniversalClient) (string, error) {
	info, err := client.Do(ctx, "CLIENT", "INFO").Text()
	if err != nil {
		return "", err
	}
	for field := range strings.FieldsSeq(info) {
		addr, ok := strings.CutPrefix(field, "addr=")
		if !ok {
			continue
		}
		host, _, err := net.SplitHostPort(addr)
		if err != nil || net.ParseIP(host) == nil {
			break
		}
		return host, nil
	}
	return "127.0.0.1", nil
}

// Away tells whether an exchange failed because the server cannot be reached or cannot
// store anything at present, and not because of what was asked.
func Away(err error) bool {
	if err == nil || errors.Is(err, redis.Nil) {
		return false
	}
	var told redis.Error
	if !errors.As(err, &told) {
		return true
	}
	for _, prefix := range []string{"MISCONF", "LOADING", "READONLY", "OOM", "NOREPLICAS", "MASTERDOWN", "CLUSTERDOWN", "TRYAGAIN"} {
		if strings.HasPrefix(told.Error(), prefix) {
			return true
		}
	}
	return false
}

// Quiet keeps the Redis client, which writes to stderr by itself, from doing so. What it says
// is in the errors. It is for the beginning of a process: it is not safe for concurrent use with
// anything about Redis.
func Quiet() { redis.SetLogger(quiet{}) }

type quiet struct{}

func (quiet) Printf(context.Context, string, ...any) {}
