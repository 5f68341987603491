package conn

import (
	"io"
	"strings"
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

// A refusal within the request that was held is all that is sent too.
func TestRefuseAfterHold(t *testing.T) {
	wrong := &Refusal{Status: 403, Code: "forbidden", Message: "not here", Header: "X-Mark: 1\r\n"}
	for name, request := range map[string]string{"GET": ask("/get"), "WebSocket": plainRequest} {
		t.Run(name, func(t *testing.T) {
			s := &script{}
			s.get = func(id poller.Token, r *Request) *Refusal {
				path := string([]byte(r.Path))
				s.table.Reply(id, []byte("of no use "))
				s.table.Hold(id)
				s.table.Reply(id, []byte("either "))
				s.table.Refuse(id, wrong)
				s.table.Reply(id, []byte("too late "))
				if r.Path != path {
					t.Errorf("Refuse has given the request away: its path is %q now", r.Path)
				}
				return nil
			}
			s.upgrade = s.get
			sh := startShard(t, s, claiming, quickly)
			c := sh.connect()
			c.send(request)
			c.wantBytes("HTTP/1.1 403 Forbidden\r\n")
			if rest, err := io.ReadAll(c.r); err != nil || strings.Contains(string(rest), "use") || !strings.HasSuffix(string(rest), `{"code":"forbidden","message":"not here"}`) {
				t.Errorf("the refusal goes on with %q, %v", rest, err)
			}
			sh.wantClosed(ReasonHandshakeRefused, 1)
			sh.wantEmpty()
			sh.do(sh.checkEmpty)
		})
	}
}
