// Package publish sends the messages of a run to a server, in whichever way it
// takes them.
package publish

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"
)

// Publisher sends messages in order. Its methods belong to one goroutine.
type Publisher interface {
	// Publish sends a message, or keeps it until Flush; the payload is copied.
	Publish(topic int, payload []byte) error
	Flush() error
	Close() error
}

// Config says where messages go.
type Config struct {
	// URL is one of
	//
	//	nats://HOST:PORT/SUBJECT    SUBJECT has {topic}
	//	http://HOST:PORT/PATH       POST; PATH or Body has {topic}
	//	ws://HOST:PORT/PATH         a message on a connection of its own, Body has {topic}
	//	tcp://HOST:PORT             frames: u32 big-endian length of the rest, u8 length of the topic, topic, payload
	URL string
	// Body is the template of an HTTP body or a WebSocket message, with {topic} and {payload},
	// which is a JSON object. Empty: the payload alone.
	Body string
	// Header is lines "Name: value" of HTTP requests.
	Header []string
}

// Open connects. The topics are what {topic} stands for, by index.
func Open(ctx context.Context, c Config, topics []string) (Publisher, error) {
	u, err := url.Parse(c.URL)
	if err != nil {
		return nil, fmt.Errorf("--publish: %w", err)
	}
	var p Publisher
	switch u.Scheme {
	case "nats":
		p, err = openNATS(u, topics)
	case "http", "https":
		p, err = openHTTP(c, topics)
	case "ws":
		p, err = openWebSocket(ctx, c, topics)
	case "tcp":
		p, err = openTCP(ctx, u.Host, topics)
	default:
		err = errors.New("it must begin with nats://, http://, https://, ws:// or tcp://")
	}
	if err != nil {
		return nil, fmt.Errorf("--publish %s: %w", c.URL, err)
	}
	return p, nil
}

// fill returns a template with its topic.
func fill(template, topic string) string {
	return strings.ReplaceAll(template, "{topic}", topic)
}

// body is a template for each topic, cut at the payload.
type body struct{ before, after []byte }

func newBodies(template string, topics []string) []body {
	if template == "" {
		template = "{payload}"
	}
	bodies := make([]body, len(topics))
	for i, topic := range topics {
		before, after, _ := strings.Cut(fill(template, topic), "{payload}")
		bodies[i] = body{[]byte(before), []byte(after)}
	}
	return bodies
}

func (b body) with(into *bytes.Buffer, payload []byte) []byte {
	into.Reset()
	into.Write(b.before)
	into.Write(payload)
	into.Write(b.after)
	return into.Bytes()
}
