package config

import (
	"strings"
	"testing"
	"time"
)

func TestNamespaces(t *testing.T) {
	kept := History{Messages: 10}
	// f checks namespaces a and b; what is wrong stands without "namespaces." in front.
	f := func(change func(c *Config, a, b *Namespace), want ...string) {
		t.Helper()
		c := Default()
		a, b := c.Default, c.Default
		change(&c, &a, &b)
		c.Namespaces = map[string]Namespace{"a": a, "b": b}
		got := ""
		if err := c.Validate(); err != nil {
			got = strings.TrimPrefix(strings.ReplaceAll(err.Error(), "\nnamespaces.", "\n"), "namespaces.")
		}
		if want := strings.Join(want, "\n"); got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	}
	type ns = *Namespace

	// What is kept.
	f(func(_ *Config, a, b ns) { a.History, b.History = kept, History{Age: time.Second} })
	f(func(_ *Config, a, b ns) { a.History, a.Interest, a.Delivery = kept, InterestTopic, DeliveryAll })
	f(func(_ *Config, a, _ ns) { a.History = History{Replicas: 1} }, "a.history would keep everything for ever: give age, bytes or messages")
	f(func(_ *Config, a, _ ns) { a.History.Age = time.Millisecond }, "a.history.age is 1ms, but must be 1s to 87600h0m0s")
	f(func(_ *Config, a, _ ns) { a.History.Age = -time.Hour }, "a.history.age is -1h0m0s, but must be 1s to 87600h0m0s")
	f(func(_ *Config, a, _ ns) { a.History.Bytes = 1 << 10 }, "a.history.bytes is 1KiB, but must be 64KiB to 1PiB") // one --max-message at least
	f(func(_ *Config, a, _ ns) { a.History.Messages = -1 }, "a.history.messages is -1, but must be 1 to 1000000000")
	f(func(c *Config, a, _ ns) { c.NATS, a.History = []string{"n"}, History{Messages: 1, Replicas: 6} }, "a.history.replicas is 6, but must be 1 to 5")
	f(func(c *Config, a, _ ns) { c.NATS, a.History = []string{"n"}, History{Messages: 1, Replicas: 3} })
	f(func(_ *Config, a, _ ns) { a.History = History{Messages: 1, Replicas: 3} },
		"a.history.replicas is 3, but the embedded NATS server is one alone: join a cluster with --nats, or leave it at 1")

	// Where it lies.
	f(func(c *Config, a, _ ns) { c.Store, a.History = "memory", History{Messages: 1, Storage: StorageMemory} })
	f(func(_ *Config, a, _ ns) { a.History = History{Messages: 1, Storage: "ssd"} }, `a.history.storage is "ssd", but must be file or memory`)
	f(func(c *Config, a, _ ns) { c.Store, a.History = "memory", History{Messages: 1, Storage: StorageFile} },
		`a.history.storage is "file", but --store memory keeps nothing on disk: give --store a directory, or leave storage out`)
	f(func(c *Config, a, _ ns) {
		c.Store, c.NATS, a.History = "memory", []string{"n"}, History{Messages: 1, Storage: StorageFile}
	})

	// Streams of others.
	f(func(_ *Config, a, b ns) { a.Stream, b.Stream = "ORDERS", "orders-2" })
	f(func(_ *Config, a, _ ns) { a.Stream, a.Delivery = "ORDERS", DeliveryLatest })
	f(func(_ *Config, a, _ ns) { a.Stream, a.History = "ORDERS", kept },
		"a.history is set, but stream ORDERS is its owner's and has bounds of its own: remove one of the two")
	f(func(_ *Config, a, _ ns) { a.Stream = "or.ders" }, `a.stream is "or.ders", but a stream's name cannot have '.'`)
	f(func(_ *Config, a, _ ns) { a.Stream = "or ders" }, `a.stream is "or ders", but a stream's name cannot have ' '`)
	f(func(_ *Config, a, _ ns) { a.Stream = strings.Repeat("x", 256) },
		`a.stream is "`+strings.Repeat("x", 256)+`", but a stream's name has at most 255 bytes`)
	f(func(_ *Config, a, b ns) { a.Stream, b.Stream = "ORDERS", "ORDERS" }, "namespaces a and b have the same stream, ORDERS: each needs its own")
	f(func(_ *Config, a, b ns) { a.History, b.Stream = kept, "push_a" }, "namespaces a and b have the same stream, push_a: each needs its own")

	// Subjects elsewhere.
	f(func(_ *Config, a, b ns) {
		a.Stream, a.Subject, b.History, b.Subject = "S", "shop.v1:eu", kept, "pushed"
	})
	f(func(_ *Config, a, _ ns) { a.Subject = "orders" },
		`a.subject is "orders", but only a namespace that keeps history can have its topics elsewhere than below --prefix: give history: or stream:`)
	for subject, problem := range map[string]string{
		"a.":        "it must be a NATS subject: tokens joined by dots, none of them empty",
		"a..b":      "it must be a NATS subject: tokens joined by dots, none of them empty",
		"a.*":       "it must be one NATS subject, and cannot have '*'",
		"a.>":       "it must be one NATS subject, and cannot have '>'",
		"a b":       "it must be one NATS subject, and cannot have ' '",
		"caf\u00e9": "it must be one NATS subject, and cannot have '\u00e9'",
		"$JS.x":     "what starts with $ or _INBOX belongs to NATS itself",
		"_INBOX":    "what starts with $ or _INBOX belongs to NATS itself",
	} {
		f(func(_ *Config, a, _ ns) { a.History, a.Subject = kept, subject }, `a.subject is "`+subject+`", but `+problem)
	}
	f(func(_ *Config, a, b ns) { a.History, b.History, a.Subject, b.Subject = kept, kept, "shop", "shop" },
		"namespaces a and b overlap: one has the subjects below shop, the other those below shop")
	f(func(_ *Config, a, b ns) { a.History, b.History, a.Subject, b.Subject = kept, kept, "shop.eu", "shop" },
		"namespaces a and b overlap: one has the subjects below shop.eu, the other those below shop")
	f(func(_ *Config, a, b ns) { a.History, b.History, a.Subject, b.Subject = kept, kept, "shop.eu", "shop.e" })
	f(func(_ *Config, a, _ ns) { a.History, a.Subject = kept, "push.a" }) // where it lies anyway
	f(func(_ *Config, a, _ ns) { a.History, a.Subject = kept, "push.c" },
		`a.subject is "push.c", which overlaps with --prefix push, below which the other namespaces lie`)
	f(func(c *Config, a, _ ns) { c.Prefix, a.History, a.Subject = "eu.push", kept, "eu" },
		`a.subject is "eu", which overlaps with --prefix eu.push, below which the other namespaces lie`)

	// Namespaces that nobody named.
	const named = "a stream is made for a namespace by its name: list those that keep history under namespaces:"
	f(func(c *Config, _, _ ns) { c.Default.History, c.Default.Stream, c.Default.Subject = kept, "S", "s" },
		"default.history is set, but "+named, "default.stream is set, but "+named, "default.subject is set, but "+named)
}

func TestWhereHistoryLies(t *testing.T) {
	c := Default()
	c.Prefix = "eu.push"
	c.Namespaces = map[string]Namespace{"a": {}, "b": {Stream: "B", Subject: "b.c"}}
	for name, want := range map[string][2]string{"a": {"eu_push_a", "eu.push.a"}, "b": {"B", "b.c"}} {
		if stream, subject := c.StreamOf(name), c.SubjectOf(name); stream != want[0] || subject != want[1] {
			t.Errorf("%s is stream %s of %s, want %q", name, stream, subject, want)
		}
	}
	f := func(store string, external bool, asked, want Storage) {
		t.Helper()
		c := Default()
		c.Store = store
		if external {
			c.NATS = []string{"n"}
		}
		if got := c.StorageOf(History{Storage: asked}); got != want {
			t.Errorf("--store %s, external %v, asked for %q: %q, want %q", store, external, asked, got, want)
		}
	}
	f("./data", false, "", StorageFile)
	f("./data", false, StorageMemory, StorageMemory)
	f("memory", false, "", StorageMemory)
	f("memory", true, "", StorageFile)
}
