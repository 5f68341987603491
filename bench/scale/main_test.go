package main

import (
	"strings"
	"testing"
	"time"
)

// TestScale holds that the simulation delivers everything and pings everybody,
// at a small size: run fails otherwise.
func TestScale(t *testing.T) {
	for _, topics := range []int{1, 10} {
		var out strings.Builder
		if err := run(&out, 10_000, 2, topics, 25*time.Second); err != nil {
			t.Error(err)
		}
		if !strings.Contains(out.String(), "| connections, subscriptions, topics, shards | 10000, 10000,") {
			t.Errorf("the result is\n%s", &out)
		}
	}
}
