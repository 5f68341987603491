// Command gorilla is the hub on gorilla/websocket, in the manner of its chat example: two goroutines and a channel for
// each connection, and a client whose channel is full is cut off. A message is a PreparedMessage: one frame, encoded once.
package main

import (
	"flag"
	"net"
	"net/http"
	"sync"

	"github.com/gorilla/websocket"

	"github.com/pushd/pushd/bench/peers/hub"
)

type server struct {
	upgrader websocket.Upgrader
	topics   hub.Topics[*conn]
	queue    int // messages
}

type conn struct {
	seat    hub.Member[*conn]
	ws      *websocket.Conn
	waiting chan *websocket.PreparedMessage // nil tells the writer to end
}

func main() {
	compress := flag.Bool("compress", false, "accept permessage-deflate, and compress at the library's default level, 1")
	queue := flag.Int("queue", 256, "`messages` that wait for a client before it is cut off; the default is the chat example's")
	hub.Main(func(clients net.Listener) (hub.Publish, error) {
		s := &server{
			upgrader: websocket.Upgrader{
				// The sizes of the chat example. The pool is the advice of the package documentation for many connections of which
				// few write at a time.
				ReadBufferSize:  1024,
				WriteBufferSize: 1024,
				WriteBufferPool: &sync.Pool{},

				EnableCompression: *compress,
			},
			queue: *queue,
		}
		go http.Serve(clients, s)
		return s.publish, nil
	})
}

func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	ws, err := s.upgrader.Upgrade(w, r, nil)
	if err != nil {
		return // Upgrade has answered
	}
	c := &conn{ws: ws, waiting: make(chan *websocket.PreparedMessage, s.queue)}
	c.seat.Conn = c
	// Two new goroutines, so that what net/http has on the stack of this one is freed.
	go c.write()
	go s.read(c)
}

func (s *server) read(c *conn) {
	defer func() {
		s.topics.Leave(&c.seat)
		c.ws.Close()
		select {
		case c.waiting <- nil:
		default: // the writer has messages left, and ends when it fails to write one
		}
	}()
	for {
		kind, text, err := c.ws.ReadMessage()
		if err != nil {
			return
		}
		if kind != websocket.TextMessage {
			continue
		}
		if answer := s.topics.Obey(&c.seat, text); answer != nil {
			c.send(prepare(answer))
		}
	}
}

func (c *conn) write() {
	for message := range c.waiting {
		if message == nil {
			return
		}
		if err := c.ws.WritePreparedMessage(message); err != nil {
			c.ws.Close()
			return
		}
	}
}

func (s *server) publish(topic string, payload []byte) {
	message := prepare(payload)
	s.topics.Each(topic, func(c *conn) { c.send(message) })
}

func (c *conn) send(message *websocket.PreparedMessage) {
	select {
	case c.waiting <- message:
	default:
		c.ws.Close() // the reader does the rest
	}
}

func prepare(payload []byte) *websocket.PreparedMessage {
	message, err := websocket.NewPreparedMessage(websocket.TextMessage, payload)
	if err != nil {
		panic(err) // it says so of an unknown message type alone
	}
	return message
}
