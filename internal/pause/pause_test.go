package pause_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/meshctl/meshctl/internal/pause"
)

func TestFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		if !pause.For(t.Context(), time.Second) || time.Since(began) != time.Second {
			t.Errorf("ended after %s", time.Since(began))
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		began = time.Now()
		if pause.For(ctx, time.Hour) || time.Since(began) != time.Second {
			t.Errorf("outlasted its context: %s", time.Since(began))
		}
	})
}
