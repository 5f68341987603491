package conn

import (
	"testing"

	"github.com/pushd/pushd/poller"
)

// An answer within Get is all that is sent, also where Hold and replies came before it.
func TestAnswerAfterHold(t *testing.T) {
	for _, keep := range []bool{true, false} {
		s := &script{}
		s.get = func(id poller.Token, _ *Request) *Refusal {
			s.table.Reply(id, []byte("of no use "))
			s.table.Hold(id)
			s.table.Reply(id, []byte("either "))
			s.table.Answer(id, response("all"), keep)
			return nil
		}
		sh := startShard(t, s, claiming)
		c := sh.connect()
		c.send(ask("/get"))
		c.wantBytes(string(response("all")))
		if keep {
			c.send(ask("/get"))
			c.wantBytes(string(response("all")))
		}
	}
}
