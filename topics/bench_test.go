package topics

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
)

// What one send costs beside the write itself: ns/op is for each member.
func BenchmarkFanOut(b *testing.B) {
	for _, members := range []int{10_000, 100_000} {
		for _, order := range []string{"slots", "shuffled"} {
			for _, patterns := range []int{1, 2} {
				b.Run(fmt.Sprintf("members=%d/order=%s/patterns=%d", members, order, patterns), func(b *testing.B) {
					c := newCosts(HubConfig{})
					slots := rand.New(rand.NewPCG(1, 1)).Perm(members)
					for i := range members {
						if order == "slots" {
							slots[i] = i
						}
						for _, pattern := range []string{"a.x", "a.*"}[:patterns] {
							c.subscribe(b, uint32(slots[i]), pattern)
						}
					}
					b.ReportAllocs()
					b.ResetTimer()
					for n := 0; n < b.N; n += members {
						c.publish("a.x")
					}
				})
			}
		}
	}
}

// What a message costs the hub, in batches of 64.
func BenchmarkDeliver(b *testing.B) {
	for _, topic := range []string{"heard", "heard.by.wildcard", "unheard", "nobody"} {
		b.Run(topic, func(b *testing.B) {
			c := newCosts(HubConfig{})
			c.subscribe(b, 0, "a.heard")
			c.subscribe(b, 1, "a.heard.by.>")
			batch := make([]Message, 64)
			for i := range batch {
				batch[i] = Message{Topic: "a." + topic, Data: []byte("data")}
				if topic == "nobody" {
					batch[i].Topic = "b"
				}
			}
			b.ReportAllocs()
			b.ResetTimer()
			for n := 0; n < b.N; n += len(batch) {
				c.hub.Deliver(batch)
				c.run()
			}
		})
	}
}

func BenchmarkJoinAndLeave(b *testing.B) {
	for _, topic := range []string{"existing", "new"} {
		b.Run(topic, func(b *testing.B) {
			c := newCosts(HubConfig{})
			for slot := range uint32(1000) {
				c.subscribe(b, slot, "a.existing")
			}
			b.ReportAllocs()
			pattern := "a." + topic
			for b.Loop() {
				c.subscribe(b, 1000, pattern)
				c.members.Leave(1000)
			}
		})
	}
}

// What an entry costs a connection that catches up with it.
func BenchmarkCatchUp(b *testing.B) {
	for _, patterns := range [][]string{{"a.x"}, {"a.*"}, {"a.x", "a.*", "a.>", "b"}} {
		b.Run(strings.Join(patterns, ","), func(b *testing.B) {
			c := newCosts(HubConfig{})
			for _, pattern := range patterns {
				c.subscribe(b, 0, pattern)
			}
			const behind = 1000
			b.ReportAllocs()
			for n := 0; n < b.N; n += behind {
				b.StopTimer()
				c.sink.answer = Blocked
				for range behind {
					c.publish("a.x")
				}
				c.sink.answer = Sent
				b.StartTimer()
				c.members.Drained(0)
				c.run()
			}
			if c.members.Behind(0) != 0 {
				b.Fatal("still behind")
			}
		})
	}
}
