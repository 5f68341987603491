package main

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"github.com/pushd/pushd/internal/server"
)

// upgradeTimeout is longer than the server gives the new process.
const upgradeTimeout = 2 * time.Minute

type upgradeCommand struct{ adminFlags }

// Run prints which process serves now, and how many clients were handed over.
func (c *upgradeCommand) Run(ctx context.Context, p program) error {
	var done server.Upgraded
	if err := c.askWithin(ctx, upgradeTimeout, http.MethodPost, nil, &done, "upgrade"); err != nil {
		return err
	}
	_, err := fmt.Fprintf(p.stdout, "process %d, version %s, serves: %d connections handed over, %d are drained; clients heard nothing for %v\n",
		done.PID, done.Version, done.Connections, done.Left, done.Paused.Round(time.Millisecond))
	return err
}
