// Command gws is the hub on lxzan/gws: its own server, one goroutine in ReadLoop for each connection, and its Broadcaster, which
// encodes a message once and writes it from a task queue of each connection.
package main

import (
	"flag"
	"net"

	"github.com/lxzan/gws"

	"github.com/pushd/pushd/bench/peers/hub"
)

// seatKey is where a connection's session keeps its seat.
const seatKey = "seat"

type handler struct {
	gws.BuiltinEventHandler
	topics hub.Topics[*gws.Conn]
}

func main() {
	compress := flag.Bool("compress", false, "accept permessage-deflate, and compress as is the library's default: level 1, from 512 bytes, without context takeover")
	hub.Main(func(clients net.Listener) (hub.Publish, error) {
		h := &handler{}
		// The defaults of the library, which are no compression, no check of UTF-8 and no parallel handling; but 1 KiB to read
		// into instead of 4, since clients send little.
		server := gws.NewServer(h, &gws.ServerOption{
			ReadBufferSize:    1024,
			PermessageDeflate: gws.PermessageDeflate{Enabled: *compress},
		})
		server.OnError = func(conn net.Conn, _ error) { // its own logs, and leaves the connection open
			if conn != nil {
				conn.Close()
			}
		}
		go server.RunListener(clients)
		return h.publish, nil
	})
}

func (h *handler) OnOpen(conn *gws.Conn) {
	conn.Session().Store(seatKey, &hub.Member[*gws.Conn]{Conn: conn})
}

func (h *handler) OnClose(conn *gws.Conn, _ error) {
	h.topics.Leave(seatOf(conn))
}

func (h *handler) OnMessage(conn *gws.Conn, message *gws.Message) {
	defer message.Close()
	if message.Opcode != gws.OpcodeText {
		return
	}
	if answer := h.topics.Obey(seatOf(conn), message.Bytes()); answer != nil {
		conn.WriteAsync(gws.OpcodeText, answer, nil)
	}
}

func (h *handler) OnPing(conn *gws.Conn, payload []byte) {
	conn.WritePong(payload)
}

func (h *handler) publish(topic string, payload []byte) {
	message := gws.NewBroadcaster(gws.OpcodeText, payload)
	defer message.Close()
	h.topics.Each(topic, func(conn *gws.Conn) { message.Broadcast(conn) })
}

func seatOf(conn *gws.Conn) *hub.Member[*gws.Conn] {
	seat, _ := conn.Session().Load(seatKey)
	return seat.(*hub.Member[*gws.Conn])
}
