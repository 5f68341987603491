package main

import (
	"strings"
	"testing"

	"github.com/gobwas/ws"
)

// keep sends a message of a namespace that keeps history.
func (p *peer) keep(topic, cursor string) {
	p.send(`{"type":"message","topic":"%s","cursor":"%s","time":0,"data":1}`, topic, cursor)
}

// greet says welcome, with which the answer to the handshake leaves.
func (p *peer) greet() { p.send(`{"type":"welcome","protocol":1}`) }

// Each subscription goes on from the last message that was its own, over
// connections that end wherever it hurts.
func TestSubscribeResumes(t *testing.T) {
	s, stdout, stderr := fastSubscriber(newPeers(t,
		func(p *peer) {
			p.greet()
			p.want(`{"type":"subscribe","id":1,"topics":["a.b","a.*","n.x"]}`)
			p.send(`{"type":"subscribed","id":1,"topic":"a.b","cursor":"k.1"}`)
			p.send(`{"type":"subscribed","id":1,"topic":"a.*","cursor":"k.1"}`)
			p.send(`{"type":"subscribed","id":1,"topic":"n.x"}`) // keeps no history
			p.keep("a.b", "k.2")
			p.keep("a.c", "k.3")
			p.send(`{"type":"message","topic":"n.x","time":0,"data":1}`)
			p.close(1012, "")
		},
		func(p *peer) {
			p.greet()
			p.want(`{"type":"subscribe","id":1,"topic":"a.b","cursor":"k.2"}`)
			p.want(`{"type":"subscribe","id":2,"topic":"a.*","cursor":"k.3"}`)
			p.want(`{"type":"subscribe","id":3,"topic":"n.x"}`)
			p.send(`{"type":"subscribed","id":1,"topic":"a.b","cursor":"k.2","recovered":true}`)
			p.keep("a.b", "k.4") // for a.b alone: the other does not stand yet
		},
		func(p *peer) { // nothing has come of this one
			p.greet()
			p.want(`{"type":"subscribe","id":1,"topic":"a.b","cursor":"k.4"}`)
		},
		func(p *peer) {
			p.greet()
			p.want(`{"type":"subscribe","id":1,"topic":"a.b","cursor":"k.4"}`)
			p.want(`{"type":"subscribe","id":2,"topic":"a.*","cursor":"k.3"}`)
			p.want(`{"type":"subscribe","id":3,"topic":"n.x"}`)
			p.send(`{"type":"subscribed","id":1,"topic":"a.b","cursor":"k.4","recovered":true}`)
			p.send(`{"type":"subscribed","id":2,"topic":"a.*","cursor":"j.0","recovered":false,"reason":"restarted"}`)
			p.send(`{"type":"error","id":3,"code":"forbidden","message":"no"}`) // it is one of three
			p.send(`{"type":"gap","topic":"a.b","from":"k.4","to":"j.0","reason":"restarted"}`)
			p.close(1001, "")
		},
		func(p *peer) {
			p.greet()
			p.want(`{"type":"subscribe","id":1,"topic":"a.b","cursor":"k.4"}`)
			p.want(`{"type":"subscribe","id":2,"topic":"a.*","cursor":"j.0"}`)
			p.want(`{"type":"subscribe","id":3,"topic":"n.x"}`)
			p.keep("a.b", "j.1")
			p.wantClose(ws.StatusNormalClosure)
		},
	), 5)
	s.subs = newSubscriptions([]string{"a.b", "a.*", "n.x"}, nil)
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
	url := newPeers(t,
		func(p *peer) {
			p.greet()
			p.want(`{"type":"subscribe","id":1,"topic":"a.b","cursor":"k.7","mode":"latest","max_rate":0.5}`)
			p.want(`{"type":"subscribe","id":2,"topic":"c","cursor":"k,9","mode":"latest","max_rate":0.5}`)
			p.message(1)
			p.wantClose(ws.StatusNormalClosure)
		},
		func(p *peer) {
			p.greet()
			p.want(`{"type":"subscribe","id":1,"topics":["a.b"],"mode":"all"}`)
			p.send(`{"type":"error","id":1,"code":"no_history","message":"no"}`)
			p.wantClose(ws.StatusNormalClosure)
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
