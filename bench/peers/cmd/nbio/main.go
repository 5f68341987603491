// Command nbio is the hub on lesismal/nbio: all connections in its epoll pollers, none with a goroutine. A message is one frame, encoded
// once and written to each connection by the publisher's goroutine; nbio keeps what a socket does not take at once.
package main

import (
	"flag"
	"net"
	"net/http"
	"time"

	"github.com/lesismal/nbio/logging"
	"github.com/lesismal/nbio/nbhttp"
	"github.com/lesismal/nbio/nbhttp/websocket"

	"github.com/pushd/pushd/bench/peers/hub"
)

type seat = hub.Member[*websocket.Conn]

type server struct {
	upgrader *websocket.Upgrader
	topics   hub.Topics[*websocket.Conn]
	compress bool
}

func main() {
	compress := flag.Bool("compress", false, "accept permessage-deflate, and compress at the library's default level, 1")
	hub.Main(func(clients net.Listener) (hub.Publish, error) {
		logging.SetLevel(logging.LevelNone)
		s := &server{upgrader: websocket.NewUpgrader(), compress: *compress}
		s.upgrader.EnableCompression(*compress)
		s.upgrader.KeepaliveTime = 0 // no deadlines, as in the author's benchmark, and as in the other peers
		s.upgrader.OnOpen(func(conn *websocket.Conn) { conn.SetSession(&seat{Conn: conn}) })
		s.upgrader.OnClose(func(conn *websocket.Conn, _ error) { s.topics.Leave(conn.Session().(*seat)) })
		s.upgrader.OnMessage(s.receive)
		// What the author advises for many connections: all in the pollers, level-triggered and as many as is its default.
		engine := nbhttp.NewEngine(nbhttp.Config{
			Network:                 "tcp",
			Addrs:                   []string{clients.Addr().String()},
			Listen:                  func(string, string) (net.Listener, error) { return clients, nil },
			Handler:                 s,
			IOMod:                   nbhttp.IOModNonBlocking,
			ReleaseWebsocketPayload: true,
		})
		return s.publish, engine.Start()
	})
}

func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	conn, err := s.upgrader.Upgrade(w, r, nil)
	if err != nil {
		return // Upgrade has answered
	}
	conn.SetReadDeadline(time.Time{}) // the one that its HTTP server has set
}

func (s *server) receive(conn *websocket.Conn, kind websocket.MessageType, text []byte) {
	if kind != websocket.TextMessage {
		return
	}
	if answer := s.topics.Obey(conn.Session().(*seat), text); answer != nil {
		conn.WriteMessage(websocket.TextMessage, answer)
	}
}

func (s *server) publish(topic string, payload []byte) {
	frame := hub.TextFrame(payload)
	if s.compress { // then all clients are taken to have offered it: the library does not say who did
		frame = hub.DeflatedFrame(payload)
	}
	s.topics.Each(topic, func(conn *websocket.Conn) {
		// The connection below the WebSocket one: WriteMessage would encode the frame again for each subscriber.
		conn.Conn.Write(frame)
	})
}
