package main

import (
	"strings"
	"testing"

	"github.com/gobwas/ws"

	"github.com/pushd/pushd/internal/peertest"
)

// Each subscription goes on from the last message that was its own, over
// connections that end wherever it hurts.
func TestSubscribeResumes(t *testing.T) {
	s, stdout, stderr := fastSubscriber(peertest.Start(t,
		func(p *peertest.Peer) {
			p.Greet()
			p.Want(`{"type":"subscribe","id":1,"topic":"a.b"}`)
			p.Want(`{"type":"subscribe","id":2,"topic":"a.*"}`)
			p.Want(`{"type":"subscribe","id":3,"topic":"n.x"}`)
			p.Send(`{"type":"subscribed","id":1,"topic":"a.b","cursor":"k.1"}`)
			p.Send(`{"type":"subscribed","id":2,"topic":"a.*","cursor":"k.1"}`)
			p.Send(`{"type":"subscribed","id":3,"topic":"n.x"}`) // keeps no history
			p.Keep("a.b", "k.2")
			p.Keep("a.c", "k.3")
			p.Send(`{"type":"message","topic":"n.x","time":0,"data":1}`)
			p.Close(1012, "")
		},
		func(p *peertest.Peer) {
			p.Greet()
			p.Want(`{"type":"subscribe","id":1,"topic":"a.b","cursor":"k.2"}`)
			p.Want(`{"type":"subscribe","id":2,"topic":"a.*","cursor":"k.3"}`)
			p.Want(`{"type":"subscribe","id":3,"topic":"n.x"}`)
			p.Send(`{"type":"subscribed","id":1,"topic":"a.b","cursor":"k.2","recovered":true}`)
			p.Keep("a.b", "k.4") // for a.b alone: the other does not stand yet
		},
		func(p *peertest.Peer) { // nothing has come of this one
			p.Greet()
			p.Want(`{"type":"subscribe","id":1,"topic":"a.b","cursor":"k.4"}`)
		},
		func(p *peertest.Peer) {
			p.Greet()
			p.Want(`{"type":"subscribe","id":1,"topic":"a.b","cursor":"k.4"}`)
			p.Want(`{"type":"subscribe","id":2,"topic":"a.*","cursor":"k.3"}`)
			p.Want(`{"type":"subscribe","id":3,"topic":"n.x"}`)
			p.Send(`{"type":"subscribed","id":1,"topic":"a.b","cursor":"k.4","recovered":true}`)
			p.Send(`{"type":"subscribed","id":2,"topic":"a.*","cursor":"j.0","recovered":false,"reason":"restarted"}`)
			p.Send(`{"type":"error","id":3,"code":"forbidden","message":"no"}`) // it is one of three
			p.Send(`{"type":"gap","topic":"a.b","from":"k.4","to":"j.0","reason":"restarted"}`)
			p.Close(1001, "")
		},
		func(p *peertest.Peer) {
			p.Greet()
			p.Want(`{"type":"subscribe","id":1,"topic":"a.b","cursor":"k.4"}`)
			p.Want(`{"type":"subscribe","id":2,"topic":"a.*","cursor":"j.0"}`)
			p.Want(`{"type":"subscribe","id":3,"topic":"n.x"}`)
			p.Send(`{"type":"subscribed","id":1,"topic":"a.b","cursor":"k.4","recovered":true}`)
			p.Keep("a.b", "j.1")
			p.WantClose(ws.StatusNormalClosure)
		},
	), 5)
	s.topics = positions([]string{"a.b", "a.*", "n.x"}, nil)
	if err := s.run(testContext(t)); err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(stdout.String(), "\n"); n != 5 {
		t.Errorf("%d messages, want 5: %s", n, stdout)
	}
	for _, want := range []string{
		"pushd: a.* cannot go on where it stopped: messages were lost (restarted)\n",
		"pushd: gap in a.b: messages were lost (restarted)\n",
		"pushd: forbidden: no\n",
	} {
		if strings.Count(stderr.String(), want) != 1 {
			t.Errorf("not told once %q: %s", want, stderr)
		}
	}
}

// Cursors, mode and rate go as they were given.
func TestSubscribeWants(t *testing.T) {
	url := peertest.Start(t,
		func(p *peertest.Peer) {
			p.Greet()
			p.Want(`{"type":"subscribe","id":1,"topic":"a.b","cursor":"k.7","mode":"latest","max_rate":0.5}`)
			p.Want(`{"type":"subscribe","id":2,"topic":"c","cursor":"k,9","mode":"latest","max_rate":0.5}`)
			p.Send(`{"type":"subscribed","id":1,"topic":"a.b","cursor":"k.7","recovered":true}`)
			p.Message(1)
			p.WantClose(ws.StatusNormalClosure)
		},
		func(p *peertest.Peer) {
			p.Greet()
			p.Want(`{"type":"subscribe","id":1,"topic":"a.b","mode":"all"}`)
			p.Send(`{"type":"error","id":1,"code":"no_history","message":"no"}`)
			p.WantClose(ws.StatusNormalClosure)
		},
	)
	got := runWith(testContext(t), "", "subscribe", "--server", url, "--count=1", "--cursor=k.7", "--cursor=k,9", "--mode=latest", "--max-rate=0.5", "a.b", "c")
	if got.code != 0 || got.stderr != "" || strings.Count(got.stdout, "\n") != 1 {
		t.Errorf("%+v", got)
	}
	if got, want := runWith(testContext(t), "", "subscribe", "--server", url, "--mode=all", "a.b"), (result{1, "", "pushd: no_history: no\n"}); got != want {
		t.Errorf("%+v", got)
	}
	for _, test := range []struct {
		args string
		want result
	}{
		{"--cursor=k.7 a b", result{1, "", "pushd: --cursor is there 1 times for 2 topics: give one for each, in the same order\n"}},
		{"--max-rate=-1 a", result{1, "", "pushd: --max-rate is -1, but must be 0 or more\n"}},
		{"--mode=newest a", result{80, "", "pushd: error: --mode must be one of \"\",\"all\",\"latest\",\"live\" but got \"newest\"\n"}},
	} {
		if got := runWith(testContext(t), "", append([]string{"subscribe"}, strings.Fields(test.args)...)...); got != test.want {
			t.Errorf("%s: %+v", test.args, got)
		}
	}
}
