package server

import "testing"

// In the reserved namespace also an operator may only listen.
func TestOperatorMayNotSpeakForNodes(t *testing.T) {
	r := start(t)
	s := r.operator()
	s.send(`{"type":"publish","id":1,"topic":"_pushd.nodes.evil","data":1}`)
	if m := s.receive(); m.Code != "forbidden" {
		t.Errorf("published: %+v", m)
	}
}

// A connection between two polls is not listed: it is nobody's.
func TestIdleConnectionIsNotListed(t *testing.T) {
	r := start(t)
	r.poller("chat.a").wants("wait=0")
	var list struct{ Connections []connectionInfo }
	eventually(t, "it is idle", func() bool { return r.quota.Open() == 0 })
	if r.do(200, "GET", "/connections", &list); len(list.Connections) != 0 {
		t.Errorf("listed: %+v", list.Connections)
	}
}
