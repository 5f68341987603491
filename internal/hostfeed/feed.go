// Package hostfeed measures the machine it runs on and publishes what it
// finds, so that a server started with nothing else has something real to show.
//
// Topics are host.<name>.<metric>, the metrics cpu, memory, load, network and
// disk, the payloads JSON objects. Every object has "time" (ms since the
// epoch), and every other number has its unit in its field's name.
package hostfeed

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"time"

	"github.com/prometheus/procfs"
)

// Namespace is that of all its topics.
const Namespace = "host"

// Feed publishes the measurements of one machine at an interval.
type Feed struct {
	// Static after New.
	interval time.Duration
	prefix   string // of every topic: "host.<name>."
	publish  func(topic string, payload []byte)
	log      *slog.Logger

	// Owned by Run.
	metrics []metric
}

// metric is one topic, and what says its values.
type metric struct {
	name    string // last token of the topic
	meter   meter
	refused bool // it failed before, and that was logged
}

// meter measures one thing. It returns the values to publish, or nil where
// there is nothing to say: a rate is reckoned from the measurement before, so
// the first has none. An error beside values means that some are left out.
type meter interface {
	measure(now time.Time) (values any, err error)
}

// New returns a feed of this machine that calls publish for each metric at
// each interval (above 0; a second suits an onlooker). What the machine does
// not tell, as in a container without all of /proc, is left out and logged
// once by the default logger. The error says why nothing can be measured.
func New(interval time.Duration, publish func(topic string, payload []byte)) (*Feed, error) {
	host, err := os.Hostname()
	if err != nil {
		return nil, fmt.Errorf("host feed: no host name to make a topic of: %w", err)
	}
	return newFeed(machine{
		host: host,
		proc: procfs.DefaultMountPoint,
		sys:  "/sys",
		root: "/",
	}, interval, publish, slog.Default())
}

// machine is where a feed finds what it measures.
type machine struct {
	host string
	proc string // mount point of procfs
	sys  string // mount point of sysfs
	root string // a path on the file system whose size is told
}

func newFeed(m machine, interval time.Duration, publish func(string, []byte), log *slog.Logger) (*Feed, error) {
	if interval <= 0 {
		return nil, fmt.Errorf("host feed: interval is %v; it must be above 0", interval)
	}
	proc, err := procfs.NewFS(m.proc)
	if err != nil {
		return nil, fmt.Errorf("host feed: %w", err)
	}
	f := &Feed{
		interval: interval,
		prefix:   Namespace + "." + topicToken(m.host) + ".",
		publish:  publish,
		log:      log,
		metrics: []metric{
			{name: "cpu", meter: &cpuMeter{proc: proc}},
			{name: "memory", meter: &memoryMeter{proc: proc}},
			{name: "load", meter: &loadMeter{proc: proc}},
			{name: "network", meter: &networkMeter{proc: proc}},
			{name: "disk", meter: &diskMeter{proc: m.proc, sys: m.sys, root: m.root}},
		},
	}
	// So that the first tick of Run has something to reckon rates from.
	f.measure(time.Now(), func(string, []byte) {})
	return f, nil
}

// Run publishes until ctx is done. Each payload is the publisher's to keep.
func (f *Feed) Run(ctx context.Context) {
	ticker := time.NewTicker(f.interval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			f.measure(time.Now(), f.publish)
		}
	}
}

// measure hands the values of every metric as of now to publish. What fails is
// tried again the next time, but logged only the first.
func (f *Feed) measure(now time.Time, publish func(topic string, payload []byte)) {
	for i := range f.metrics {
		m := &f.metrics[i]
		values, err := m.meter.measure(now)
		if err != nil && !m.refused {
			m.refused = true
			f.log.Warn("host feed leaves out what cannot be measured here", "metric", m.name, "error", err)
		}
		if values == nil {
			continue
		}
		payload, err := json.Marshal(values)
		if err != nil {
			panic(err) // values are structs of finite numbers
		}
		publish(f.prefix+m.name, payload)
	}
}

// topicToken makes a host name a single token of a topic. Its dots become
// dashes too: two hosts of one name in two domains stay apart.
func topicToken(host string) string {
	token := strings.Map(func(r rune) rune {
		switch {
		case 'a' <= r && r <= 'z', 'A' <= r && r <= 'Z', '0' <= r && r <= '9', r == '_', r == '-':
			return r
		}
		return '-'
	}, host)
	if token == "" {
		return "unnamed"
	}
	return token
}
