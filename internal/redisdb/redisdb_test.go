package redisdb_test

import (
	"crypto/tls"
	"errors"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/meshctl/meshctl/internal/redisdb"
)

// Of several servers each certificate is checked for the name that this server is dialled by.
func TestTLSNames(t *testing.T) {
	for kind, u := range map[string]string{
		"sentinel": "rediss://first.invalid:1/?master_name=m&addr=second.invalid:1", "cluster": "rediss://first.invalid:1/?addr=second.invalid:1",
	} {
		c, err := redisdb.Open(u)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		var o *tls.Config
		switch c := c.(type) {
		case *redis.ClusterClient:
			o = c.Options().TLSConfig
		case *redis.Client:
			o = c.Options().TLSConfig
		}
		if o == nil || o.ServerName != "" || o.InsecureSkipVerify {
			t.Errorf("%s: TLS %+v", kind, o)
		}
	}
}

func TestPasswordsOfSentinels(t *testing.T) {
	c, err := redisdb.Open("redis://:theirs@first.invalid:1/2?master_name=m&addr=second.invalid:1&username=u&password=servers")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if o := c.(*redis.Client).Options(); o.Username != "u" || o.Password != "servers" || o.DB != 2 {
		t.Errorf("user %q, password %q, database %d", o.Username, o.Password, o.DB)
	}
}

type told string

func (e told) Error() string { return string(e) }
func (told) RedisError()     {}

func TestAway(t *testing.T) {
	for _, c := range []struct {
		err  error
		away bool
	}{
		{nil, false}, {redis.Nil, false}, {errors.New("connection refused"), true}, {told("WRONGTYPE Operation"), false},
		{told("NOREPLICAS Not enough good replicas to write."), true}, {told("READONLY You can't write against a read only replica."), true},
		{told("MASTERDOWN Link with MASTER is down"), true}, {told("CLUSTERDOWN The cluster is down"), true},
	} {
		if got := redisdb.Away(c.err); got != c.away {
			t.Errorf("%v: away %v", c.err, got)
		}
	}
}
