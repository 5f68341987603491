package config

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/alecthomas/kong"

	"github.com/pushd/pushd/topics"
)

// MemoryStore is the value of Store that keeps nothing on disk.
const MemoryStore = "memory"

// problem is one thing that is wrong with a Config.
type problem struct {
	key  string // the setting to change, as in a file: "heartbeat", "namespaces.stocks.delivery"
	text string
}

// Validate returns everything that is wrong with c, one line each, with the
// flag or the key that cures it; nil where nothing is. It looks at values
// alone: no file is opened, no name resolved.
func (c *Config) Validate() error {
	var errs []error
	for _, p := range c.problems() {
		errs = append(errs, errors.New(p.text))
	}
	return errors.Join(errs...)
}

func (c *Config) problems() []problem {
	v := validator{}
	v.enums("--", settings(c))
	v.addresses(c)
	v.nats(c)
	v.tls(c)
	v.prefix(c.Prefix)
	v.node(c.NodeName)
	v.bounds(c)
	v.limits(c)
	v.namespaces(c)
	v.authentication(c)
	v.traces(c)
	return v.found
}

type validator struct{ found []problem }

func (v *validator) addf(key, format string, args ...any) {
	v.found = append(v.found, problem{key, fmt.Sprintf(format, args...)})
}

// addresses checks the listeners: their syntax, and that nothing is offered to
// the network by oversight.
func (v *validator) addresses(c *Config) {
	v.address("listen", c.Listen, c.Open || c.Authenticates(), "without authentication: "+cureOpen+", give --token-secret-file, --token-key, --jwks-url, --tls-client-ca or api_keys:, or add --open if that is meant")
	v.admin(c)
	if len(c.NATS) == 0 {
		v.address("nats-listen", c.NATSListen, c.Open, "and has no authentication: "+cureOpen+", or add --open if that is meant")
	}
}

const cureOpen = "use 127.0.0.1"

// address checks a listener's address. danger says what is wrong with one that
// is reachable and not open.
func (v *validator) address(key, address string, open bool, danger string) {
	host, port, err := net.SplitHostPort(address)
	if err == nil {
		_, err = strconv.ParseUint(port, 10, 16)
	}
	if err != nil {
		v.addf(key, "--%s is %q, but must be HOST:PORT with a port of 0 to 65535, for instance 127.0.0.1:8080", key, address)
		return
	}
	if !open && !loopback(host) {
		v.addf(key, "--%s %s can be reached from beyond this machine, %s", key, address, danger)
	}
}

// loopback reports whether an address of this host is out of reach of other
// machines. A name other than localhost is taken for reachable: what it
// resolves to can change after the check.
func loopback(host string) bool {
	if strings.EqualFold(host, "localhost") {
		return true
	}
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback()
}

func (v *validator) nats(c *Config) {
	for _, server := range c.NATS {
		if err := checkNATSURL(server); err != nil {
			v.addf("nats", "--nats has %q: %v", server, err)
		}
	}
	if c.Store == "" {
		v.addf("store", "--store is empty, but must be a directory, or %q to keep nothing on disk", MemoryStore)
	}
	for _, file := range []struct{ key, path string }{
		{"nats-creds", c.NATSCreds}, {"nats-nkey", c.NATSNKey}, {"nats-ca", c.NATSCA}, {"nats-cert", c.NATSCert}, {"nats-key", c.NATSKey},
	} {
		if file.path != "" && len(c.NATS) == 0 {
			v.addf(file.key, "--%s is of no use to the embedded NATS server: name the servers it is for with --nats", file.key)
		}
	}
	if c.NATSCreds != "" && c.NATSNKey != "" {
		v.addf("nats-nkey", "--nats-creds and --nats-nkey exclude each other: give one of them")
	}
	if c.NATSCert != "" && c.NATSKey == "" {
		v.addf("nats-cert", "--nats-cert needs its private key: add --nats-key")
	}
	if c.NATSKey != "" && c.NATSCert == "" {
		v.addf("nats-key", "--nats-key needs its certificate: add --nats-cert")
	}
}

// checkNATSURL takes what the NATS client takes: a URL, or HOST:PORT alone.
func checkNATSURL(server string) error {
	if !strings.Contains(server, "://") {
		server = "nats://" + server
	}
	u, err := url.Parse(server)
	switch {
	case err != nil, u.Hostname() == "":
		return errors.New("it must be a URL such as nats://127.0.0.1:4222")
	case !slices.Contains([]string{"nats", "tls", "ws", "wss"}, u.Scheme):
		return fmt.Errorf("its scheme must be nats, tls, ws or wss, not %s", u.Scheme)
	}
	return nil
}

// prefix keeps the subjects of topics apart from those of NATS clients. The
// characters of a topic already exclude wildcards, and the $ of the system.
func (v *validator) prefix(prefix string) {
	const key = "prefix"
	if err := topics.CheckTopic(prefix); err != nil {
		v.addf(key, "--prefix is %q, but must be a NATS subject of at most %d tokens of A-Z a-z 0-9 _ - joined by dots", prefix, topics.MaxTokens)
	} else if strings.HasPrefix(prefix, "_INBOX") {
		v.addf(key, "--prefix is %q, but what starts with _INBOX belongs to NATS itself", prefix)
	}
}

func (v *validator) bounds(c *Config) {
	between(v, "max-connections", c.MaxConnections, 0, 10_000_000)
	between(v, "max-message", c.MaxMessage, 1<<10, 64<<20)
	between(v, "max-subscriptions", c.MaxSubscriptions, 1, 1_000_000)
	between(v, "handshake-timeout", c.HandshakeTimeout, 10*time.Millisecond, time.Minute)
	between(v, "heartbeat", c.Heartbeat, time.Second, time.Hour)
	between(v, "write-timeout", c.WriteTimeout, 10*time.Millisecond, time.Hour)
	between(v, "shutdown-timeout", c.ShutdownTimeout, 0, time.Hour)
	between(v, "drain-grace", c.DrainGrace, 0, MaxDrain)
	between(v, "drain-window", c.DrainWindow, 0, MaxDrain)
	between(v, "compression-min-size", c.CompressionMinSize, 0, 64<<20)
	between(v, "compression-level", c.CompressionLevel, 1, 6)
	between(v, "shards", c.Shards, 0, 64)
	between(v, "workers", c.Workers, 1, 1024)
	between(v, "presence-topics", c.PresenceTopics, 0, 100_000_000)
	between(v, "ring-messages", c.RingMessages, 1, 1<<20)
	between(v, "ring-memory", c.RingMemory, 1<<20, 1<<40)
	between(v, "receive-memory", c.ReceiveMemory, 1<<20, 1<<40)
	if least := 4 * c.MaxMessage; c.ReceiveMemory < least {
		v.addf("receive-memory", "--receive-memory is %v, but must be at least four times --max-message %v, so that one has room for it", c.ReceiveMemory, c.MaxMessage)
	}
	between(v, "poll-memory", c.PollMemory, 1<<20, 1<<40)
	if c.RingMemory < c.MaxMessage {
		v.addf("ring-memory", "--ring-memory is %v, but must hold at least one message of --max-message %v", c.RingMemory, c.MaxMessage)
	}
}

func between[T cmp.Ordered](v *validator, key string, value, low, high T) {
	if value < low || value > high {
		v.addf(key, "--%s is %v, but must be %v to %v", key, value, low, high)
	}
}

// MaxDrain bounds the grace of a drain, and its window.
const MaxDrain = time.Hour

// maxBatchDelay keeps live data live.
const maxBatchDelay = time.Second

// enums checks each setting that has a closed list of values. prefix is what
// stands before its name in a message: "--" where it is a flag, else the path
// of its key.
func (v *validator) enums(prefix string, settings []*kong.Flag) {
	for _, s := range settings {
		if s.Enum == "" || slices.Contains(s.EnumSlice(), s.Target.String()) {
			continue
		}
		words := s.EnumSlice()
		last := len(words) - 1
		v.addf(strings.TrimPrefix(prefix, "--")+s.Name, "%s%s is %q, but must be %s or %s",
			prefix, s.Name, s.Target.String(), strings.Join(words[:last], ", "), words[last])
	}
}
