package config

import (
	"math"
	"strings"
	"testing"
	"time"
)

// changed returns a function that changes the defaults, and wants Validate to say exactly these lines.
func changed(t *testing.T) func(change func(c *Config), want ...string) {
	return func(change func(c *Config), want ...string) {
		t.Helper()
		c := Default()
		change(&c)
		got := ""
		if err := c.Validate(); err != nil {
			got = err.Error()
		}
		if want := strings.Join(want, "\n"); got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	}
}

func TestValidate(t *testing.T) {
	const open = " can be reached from beyond this machine, without authentication: use 127.0.0.1, give --token-secret-file, --token-key, --jwks-url, --tls-client-ca or api_keys:, or add --open if that is meant"
	const bare = " can be reached from beyond this machine, and has no authentication: use 127.0.0.1, or add --open if that is meant"
	const address = ", but must be HOST:PORT with a port of 0 to 65535, for instance 127.0.0.1:8080"
	f := changed(t)

	// Addresses, and what is reachable.
	f(func(c *Config) { c.Listen, c.Admin, c.NATSListen = "localhost:0", "[::1]:0", "127.9.9.9:65535" })
	f(func(c *Config) { c.Listen = "8080" }, `--listen is "8080"`+address)
	f(func(c *Config) { c.Listen = "" }, `--listen is ""`+address)
	f(func(c *Config) { c.Listen = "localhost:65536" }, `--listen is "localhost:65536"`+address)
	f(func(c *Config) { c.Admin = "localhost:http" }, `--admin is "localhost:http"`+address)
	f(func(c *Config) { c.Admin = "::1:80" }, `--admin is "::1:80"`+address)
	f(func(c *Config) { c.Listen = ":8080" }, "--listen :8080"+open)
	f(func(c *Config) { c.Listen = "0.0.0.0:8080" }, "--listen 0.0.0.0:8080"+open)
	f(func(c *Config) { c.Listen = "[::]:8080" }, "--listen [::]:8080"+open)
	f(func(c *Config) { c.Listen = "192.0.2.1:8080" }, "--listen 192.0.2.1:8080"+open)
	f(func(c *Config) { c.Listen = "push.example.com:8080" }, "--listen push.example.com:8080"+open)
	const needsToken = " can be reached from beyond this machine: use 127.0.0.1, or name a token with --admin-token-file or PUSHD_ADMIN_TOKEN"
	f(func(c *Config) { c.Admin = ":8081" }, "--admin :8081"+needsToken)
	f(func(c *Config) { c.Admin, c.Open = "[::]:8081", true }, "--admin [::]:8081"+needsToken)
	f(func(c *Config) { c.Admin, c.AdminTokenFile = ":8081", "token" })
	f(func(c *Config) { c.Admin, c.AdminToken = ":8081", Secret(strings.Repeat("x", MinAdminToken)) })
	f(func(c *Config) { c.AdminToken = Secret(strings.Repeat("x", MinAdminToken-1)) },
		"the token has 31 characters, but must have at least 32: openssl rand -hex 32 makes a good one")
	f(func(c *Config) { c.AdminToken, c.AdminTokenFile = "short", "token" }, "--admin-token-file and PUSHD_ADMIN_TOKEN exclude each other: give one of them")
	f(func(c *Config) { c.NATSListen = ":4222" }, "--nats-listen :4222"+bare)
	f(func(c *Config) { c.NATSListen, c.NATS = ":4222", []string{"nats://a"} }) // unused
	f(func(c *Config) { c.Listen, c.NATSListen, c.Open = ":1", ":3", true })

	f(func(c *Config) { c.NodeName = "web-1_A" })
	f(func(c *Config) { c.NodeName = strings.Repeat("x", 64) })
	for _, name := range []string{"a.b", "*", ">", "a b", "ü", strings.Repeat("x", 65)} {
		f(func(c *Config) { c.NodeName = name }, `--node-name is "`+name+`", but must be one token of A-Z a-z 0-9 _ -, of at most 64`)
	}

	// NATS.
	f(func(c *Config) {
		c.NATS = []string{"nats://a:4222", "tls://u:p@b", "ws://c", "wss://d:443/path", "e:4222", "127.0.0.1"}
	})
	f(func(c *Config) { c.NATS = []string{"http://a:4222"} }, `--nats has "http://a:4222": its scheme must be nats, tls, ws or wss, not http`)
	f(func(c *Config) { c.NATS = []string{"nats://"} }, `--nats has "nats://": it must be a URL such as nats://127.0.0.1:4222`)
	f(func(c *Config) { c.NATS = []string{"a", ""} }, `--nats has "": it must be a URL such as nats://127.0.0.1:4222`)
	f(func(c *Config) { c.NATSCreds = "x" }, "--nats-creds is of no use to the embedded NATS server: name the servers it is for with --nats")
	f(func(c *Config) { c.NATS, c.NATSCreds, c.NATSNKey = []string{"a"}, "x", "y" },
		"--nats-creds and --nats-nkey exclude each other: give one of them")
	f(func(c *Config) { c.NATS, c.NATSCert = []string{"a"}, "x" }, "--nats-cert needs its private key: add --nats-key")
	f(func(c *Config) { c.NATS, c.NATSKey = []string{"a"}, "x" }, "--nats-key needs its certificate: add --nats-cert")
	f(func(c *Config) {
		c.NATS, c.NATSCert, c.NATSKey, c.NATSCA, c.NATSCreds = []string{"a"}, "x", "y", "z", "w"
	})
	f(func(c *Config) { c.Store = "memory" })
	f(func(c *Config) { c.Store = "" }, `--store is empty, but must be a directory, or "memory" to keep nothing on disk`)

	// TLS to clients.
	f(func(c *Config) { c.TLSCert, c.TLSKey, c.TLSClientCA = []string{"a", "b"}, []string{"c", "d"}, "e" })
	f(func(c *Config) { c.TLSCert, c.TLSKey = []string{"a"}, []string{"k", "l"} },
		"--tls-cert is there 1 times and --tls-key 2 times: give one key for each certificate, in the same order")
	f(func(c *Config) { c.TLSCert, c.TLSKey = []string{"a", "a"}, []string{"k", "l"} }, "--tls-cert has a twice: once is enough")
	f(func(c *Config) { c.TLSCert, c.TLSKey = []string{"a"}, []string{""} }, "--tls-key has an empty name, but must name a file")
	f(func(c *Config) { c.TLSClientCA = "ca" }, "--tls-client-ca needs TLS: add --tls-cert and --tls-key")
	f(func(c *Config) { c.MaxHandshakes = 0 }, "--max-handshakes is 0, but must be 1 to 1000000")

	// Traces.
	f(func(c *Config) {
		c.TraceEndpoint, c.TraceRatio, c.TraceLimit = "https://collector.example.com/v1/traces", 1, 0
	})
	for _, endpoint := range []string{"collector:4318", "ftp://collector", "http://", "/v1/traces", "http://%"} {
		f(func(c *Config) { c.TraceEndpoint = endpoint }, "--trace-endpoint: it must be an http:// or https:// URL, for instance http://127.0.0.1:4318")
	}
	f(func(c *Config) { c.TraceEndpoint = "http://u:secret@collector" },
		"--trace-endpoint: the URL has a user in it: put what the collector wants to see into OTEL_EXPORTER_OTLP_HEADERS")
	f(func(c *Config) { c.TraceRatio, c.TraceLimit = -0.1, -1 }, "--trace-ratio is -0.1, but must be 0 to 1", "--trace-limit is -1, but must be 0 to 1000000")
	f(func(c *Config) { c.TraceRatio = math.NaN() }, "--trace-ratio is no number, but must be 0 to 1")

	// The prefix.
	const subject = ", but must be a NATS subject of at most 16 tokens of A-Z a-z 0-9 _ - joined by dots"
	f(func(c *Config) { c.Prefix = "a.b-c.D_9" })
	f(func(c *Config) { c.Prefix = "" }, `--prefix is ""`+subject)
	f(func(c *Config) { c.Prefix = "a." }, `--prefix is "a."`+subject)
	f(func(c *Config) { c.Prefix = "a b" }, `--prefix is "a b"`+subject)
	f(func(c *Config) { c.Prefix = "a.*" }, `--prefix is "a.*"`+subject)
	f(func(c *Config) { c.Prefix = "a.>" }, `--prefix is "a.>"`+subject)
	f(func(c *Config) { c.Prefix = "$SYS" }, `--prefix is "$SYS"`+subject)
	f(func(c *Config) { c.Prefix = "_INBOX.x" }, `--prefix is "_INBOX.x", but what starts with _INBOX belongs to NATS itself`)

	// Bounds.
	f(func(c *Config) { c.Heartbeat = time.Second })
	f(func(c *Config) { c.Heartbeat = time.Second - 1 }, "--heartbeat is 999.999999ms, but must be 1s to 1h0m0s")
	f(func(c *Config) { c.HandshakeTimeout = 0 }, "--handshake-timeout is 0s, but must be 10ms to 1m0s")
	f(func(c *Config) { c.WriteTimeout = -1 }, "--write-timeout is -1ns, but must be 10ms to 1h0m0s")
	f(func(c *Config) { c.ShutdownTimeout = 2 * time.Hour }, "--shutdown-timeout is 2h0m0s, but must be 0s to 1h0m0s")
	f(func(c *Config) { c.DrainGrace = 2 * time.Hour }, "--drain-grace is 2h0m0s, but must be 0s to 1h0m0s")
	f(func(c *Config) { c.DrainWindow = 2 * time.Hour }, "--drain-window is 2h0m0s, but must be 0s to 1h0m0s")
	f(func(c *Config) { c.MaxMessage = 100 }, "--max-message is 100, but must be 1KiB to 64MiB")
	f(func(c *Config) { c.MaxConnections = -1 }, "--max-connections is -1, but must be 0 to 10000000")
	f(func(c *Config) { c.MaxSubscriptions = 0 }, "--max-subscriptions is 0, but must be 1 to 1000000")
	f(func(c *Config) { c.Shards = 64 })
	f(func(c *Config) { c.Shards = 65 }, "--shards is 65, but must be 0 to 64")
	f(func(c *Config) { c.Workers = 0 }, "--workers is 0, but must be 1 to 1024")
	f(func(c *Config) { c.RingMessages = 0 }, "--ring-messages is 0, but must be 1 to 1048576")
	f(func(c *Config) { c.PollMemory = 1 << 19 }, "--poll-memory is 512KiB, but must be 1MiB to 1TiB")
	f(func(c *Config) { c.ReceiveMemory = 1 << 19 }, "--receive-memory is 512KiB, but must be 1MiB to 1TiB")
	f(func(c *Config) { c.ReceiveMemory, c.MaxMessage = 15<<20, 4<<20 },
		"--receive-memory is 15MiB, but must be at least four times --max-message 4MiB, so that one has room for it")
	f(func(c *Config) { c.RingMemory = 1 << 19 }, "--ring-memory is 512KiB, but must be 1MiB to 1TiB")
	f(func(c *Config) { c.RingMemory, c.MaxMessage = 1<<20, 2<<20 },
		"--ring-memory is 1MiB, but must hold at least one message of --max-message 2MiB")

	f(func(c *Config) { c.CompressionMinSize, c.CompressionLevel = 0, 1 })
	f(func(c *Config) { c.CompressionMinSize = 65 << 20 }, "--compression-min-size is 65MiB, but must be 0 to 64MiB")
	f(func(c *Config) { c.CompressionLevel = 0 }, "--compression-level is 0, but must be 1 to 6")
	f(func(c *Config) { c.CompressionLevel = 7 }, "--compression-level is 7, but must be 1 to 6")

	// Words.
	f(func(c *Config) { c.Compression = "yes" }, `--compression is "yes", but must be on or off`)
	f(func(c *Config) { c.Poller = "kqueue" }, `--poller is "kqueue", but must be epoll or easygo`)
	f(func(c *Config) { c.LogLevel = "loud" }, `--log-level is "loud", but must be debug, info, warn or error`)
	f(func(c *Config) { c.LogFormat = "xml" }, `--log-format is "xml", but must be text or json`)

	// Namespaces.
	f(func(c *Config) { c.Default.BatchDelay = time.Second })
	f(func(c *Config) { c.Default.BatchDelay = -1 }, "default.batch_delay is -1ns, but must be 0s to 1s")
	f(func(c *Config) { c.Default.Interest = "all" }, `default.interest is "all", but must be namespace or topic`)
	f(func(c *Config) { c.Default.Compression = Off })
	f(func(c *Config) { c.Default.Compression = "auto" }, `default.compression is "auto", but must be on or off`)
	f(func(c *Config) {
		c.Namespaces = map[string]Namespace{"b": c.Default, "a": {Delivery: DeliveryAll, Interest: InterestTopic}, "": c.Default, "*": c.Default}
	},
		`"" under namespaces: is no namespace: it must be one token of A-Z a-z 0-9 _ -`,
		`"*" under namespaces: is no namespace: it must be one token of A-Z a-z 0-9 _ -`,
		`namespaces.a.delivery is "all", which needs history: give for instance history: {age: 24h}, or stream:`)

	// All that is wrong comes at once.
	f(func(c *Config) { c.Poller, c.Listen, c.Shards = "x", "y", 99 },
		`--poller is "x", but must be epoll or easygo`,
		`--listen is "y"`+address,
		"--shards is 99, but must be 0 to 64")
}
