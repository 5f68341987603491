package server

import (
	"encoding/json"
	"net/http"
	"testing"
	"time"

	"github.com/pushd/pushd/conn"
	"github.com/pushd/pushd/internal/handover"
	"github.com/pushd/pushd/internal/wire"
)

// What an operator orders while clients change hands, here or from another node, is
// not answered as if they were not there: who asks is told to ask again.
func TestHotUpgradeMeetsOrders(t *testing.T) {
	r, publisher := startUpgrading(t)
	s := r.dial("topic=chat.x")
	client := s.want("welcome").Client
	s.want("subscribed")
	answers, err := publisher.SubscribeSync("push._pushd.control.other")
	if err != nil {
		t.Fatal(err)
	}
	order := func(n note) {
		n.Version, n.From = noteVersion, "other"
		data, err := json.Marshal(n)
		if err != nil {
			t.Fatal(err)
		}
		if err := publisher.Publish("push._pushd.control."+r.name, data); err != nil {
			t.Fatal(err)
		}
	}
	ctx := t.Context()
	refused := make(chan *wire.Error, 2)
	acted := r.pretend(func(n *successor) error {
		if err := n.walk(len(steps)); err != nil {
			return err
		}
		go func() { // loops are held up
			_, err := r.disconnectAnywhere(ctx, client, conn.ReasonKicked)
			refused <- err
			_, _, err = r.disconnectEverywhere(ctx, "alice", conn.ReasonKicked)
			refused <- err
		}()
		order(note{ID: 1, Do: doDisconnectClient, Client: client})
		order(note{ID: 2, Do: doDisconnectIdentity, Identity: "alice"})
		if err := publisher.Flush(); err != nil {
			return err
		}
		time.Sleep(50 * time.Millisecond) // they have come to where loops are awaited
		if err := n.link.Send(handover.KindAdopted, nil); err != nil {
			return err
		}
		_, err := n.link.Expect(handover.KindCommit)
		return err
	})
	if _, err := r.Upgrade(); err != nil {
		t.Fatal(err)
	}
	if err := <-acted; err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := <-refused; err != errUpgraded {
			t.Errorf("an order was answered with %v, want %v", err, errUpgraded)
		}
	}
	for range 2 {
		m, err := answers.NextMsg(patience)
		if err != nil {
			t.Fatal(err)
		}
		var a note
		if err := json.Unmarshal(m.Data, &a); err != nil {
			t.Fatal(err)
		}
		if a.Error == nil || a.Error.Code != wire.Unavailable || a.Error.Message != errUpgraded.Message {
			t.Errorf("another node was answered %s", m.Data)
		}
	}
}

// A drain that comes too late to call the upgrade off is for the other process.
func TestDrainAfterHotUpgrade(t *testing.T) {
	r, _ := startUpgrading(t)
	r.next.gone.Store(true)
	defer r.next.gone.Store(false)
	for _, method := range []string{http.MethodPost, http.MethodDelete} {
		status, header, body := r.request(method, "http://"+r.AdminAddr()+"/drain?grace=3600", "", "")
		if status != http.StatusServiceUnavailable || header.Get("Retry-After") == "" {
			t.Errorf("%s: %d %s", method, status, body)
		}
	}
}
