package main

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"

	"github.com/pushd/pushd/internal/statistics"
)

type nodesCommand struct {
	adminFlags
}

// nodes asks a server which nodes it knows, itself first.
func (f adminFlags) nodes(ctx context.Context) ([]statistics.Node, error) {
	var list struct{ Nodes []statistics.Node }
	err := f.ask(ctx, http.MethodGet, nil, &list, "nodes")
	return list.Nodes, err
}

// Run prints a table.
func (c *nodesCommand) Run(ctx context.Context, p program) error {
	nodes, err := c.nodes(ctx)
	if err != nil {
		return err
	}
	w := tabwriter.NewWriter(p.stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "NODE\tSTATE\tCONNECTIONS\tMAX\tSUBSCRIPTIONS\tSLOW\tNATS\tUP\tVERSION")
	for _, n := range nodes {
		up := time.Duration(n.Time-n.Started) * time.Millisecond
		fmt.Fprintf(w, "%s\t%s\t%d\t%d\t%d\t%d\t%s\t%v\t%s\n", plain(n.Node), plain(n.State), n.Connections.Open, n.Connections.Max,
			n.Subscriptions.Open, n.Subscriptions.Behind, natsWord(&n), up.Round(time.Second), plain(n.Software))
	}
	return w.Flush()
}

func natsWord(n *statistics.Node) string {
	if n.NATS.Connected {
		return "connected"
	}
	return "away"
}

// plain is what other nodes said, without what a terminal would obey.
func plain(text string) string {
	return strings.Map(func(c rune) rune {
		if unicode.IsPrint(c) {
			return c
		}
		return '?'
	}, text)
}
